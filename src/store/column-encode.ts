import { ByteWriter } from "./bytes.ts";
import { HALF, Mode, Plane, type Order } from "./column-format.ts";
import { compress } from "./zstd.ts";

const MAX_DECIMALS = 9;
/** Differences of differences of integers up to here, with their sign bit, are still exact in float64. */
const MAX_INTEGER = 2 ** 49;

/** `shared`: all planes in one frame, for columns too short to pay for many. */
export interface ColumnOptions {
  shared?: boolean;
}

export function encodeColumns(columns: Float64Array[], { shared = false }: ColumnOptions = {}): Uint8Array {
  const length = columns[0]?.length ?? 0;
  const header = new ByteWriter(256);
  const planes = new ByteWriter(columns.length * length * 8 + 64);
  const sharedPlanes = shared ? new ByteWriter(columns.length * length * 8 + 64) : undefined;
  header.u32(length);
  if (length > 0) for (const column of columns) encodeColumn(column, header, planes, sharedPlanes);
  const frame = sharedPlanes && sharedPlanes.length > 0 ? compress(sharedPlanes.bytes()) : undefined;
  const out = new Uint8Array(4 + header.length + (frame?.length ?? 0) + planes.length);
  const view = new DataView(out.buffer);
  view.setUint16(0, header.length, true);
  // Several short columns make a frame of less than 64 KiB.
  view.setUint16(2, frame?.length ?? 0, true);
  out.set(header.bytes(), 4);
  if (frame) out.set(frame, 4 + header.length);
  out.set(planes.bytes(), 4 + header.length + (frame?.length ?? 0));
  return out;
}

// Room for the largest column so far: encoding allocates only what it returns.
let low = new Uint32Array(4096);
let high = new Uint32Array(4096);
let integers = new Float64Array(4096);

function reserve(length: number): void {
  if (low.length >= length) return;
  low = new Uint32Array(length);
  high = new Uint32Array(length);
  integers = new Float64Array(length);
}

function encodeColumn(
  column: Float64Array,
  header: ByteWriter,
  planes: ByteWriter,
  shared: ByteWriter | undefined,
): void {
  reserve(column.length);
  if (isConstant(column)) {
    header.u8(Mode.constant);
    header.f64(column[0]!);
    return;
  }
  const decimals = findDecimals(column);
  if (decimals >= 0) return encodeIntegers(column, decimals, header, planes, shared);
  if (isFloat32(column)) return encodeFloat32(column, header, planes, shared);
  encodeFloat64(column, header, planes, shared);
}

function isConstant(column: Float64Array): boolean {
  const first = column[0]!;
  for (let i = 1; i < column.length; i++) if (!Object.is(column[i], first)) return false;
  return true;
}

/** Fewest decimals that write every value exactly; -1 where there are none. Fills `integers`. */
function findDecimals(column: Float64Array): number {
  const sample = Math.min(column.length, 32);
  for (let decimals = 0; decimals <= MAX_DECIMALS; decimals++) {
    const scale = 10 ** decimals;
    if (scaleColumn(column, scale, sample) && scaleColumn(column, scale, column.length)) return decimals;
  }
  return -1;
}

function scaleColumn(column: Float64Array, scale: number, length: number): boolean {
  const base = Math.floor(column[0]! * scale + 0.5);
  if (!(Math.abs(base) <= Number.MAX_SAFE_INTEGER)) return false;
  for (let i = 0; i < length; i++) {
    const value = column[i]!;
    const integer = Math.floor(value * scale + 0.5);
    // Also false for NaN and infinities; -0 would come back as 0.
    if (integer / scale !== value || Math.abs(integer) > Number.MAX_SAFE_INTEGER) return false;
    if (value === 0 && 1 / value < 0) return false;
    const offset = integer - base;
    if (!(Math.abs(offset) <= MAX_INTEGER)) return false;
    integers[i] = integer;
  }
  return true;
}

function encodeIntegers(
  column: Float64Array,
  decimals: number,
  header: ByteWriter,
  planes: ByteWriter,
  shared: ByteWriter | undefined,
): void {
  const { length } = column;
  let smallest = Infinity;
  for (let i = 0; i < length; i++) if (integers[i]! < smallest) smallest = integers[i]!;
  const order = orderOfIntegers(length, smallest);
  const first = order === 0 ? smallest : integers[0]!;
  const slope = order === 2 ? integers[1]! - integers[0]! : 0;
  let previous = first;
  let delta = slope;
  for (let i = 0; i < length; i++) {
    const integer = integers[i]!;
    let rest: number;
    if (order === 0) rest = integer - smallest;
    else {
      // The first two of order 2 are in the header already.
      const difference = i === 0 ? delta : integer - previous;
      rest = zigzag(order === 2 ? difference - delta : i === 0 ? 0 : difference);
      delta = difference;
      previous = integer;
    }
    high[i] = rest / HALF;
    low[i] = rest;
  }
  header.u8(Mode.integer);
  header.u8(decimals * 4 + order);
  header.f64(first);
  if (order === 2) header.f64(slope);
  writePlanes(length, 8, header, planes, shared);
}

const zigzag = (value: number) => (value < 0 ? -2 * value - 1 : 2 * value);

/** The order that leaves the least, by the mean of what is left; a sign costs a bit. */
function orderOfIntegers(length: number, smallest: number): Order {
  let plain = 0;
  let deltas = 0;
  let bends = 0;
  let previous = integers[0]!;
  let delta = length > 1 ? integers[1]! - previous : 0;
  for (let i = 0; i < length; i++) {
    const integer = integers[i]!;
    plain += integer - smallest;
    if (i > 0) {
      const difference = integer - previous;
      deltas += Math.abs(difference);
      bends += Math.abs(difference - delta);
      delta = difference;
    }
    previous = integer;
  }
  if (bends < deltas && 2 * bends < plain) return 2;
  return 2 * deltas < plain ? 1 : 0;
}

function isFloat32(column: Float64Array): boolean {
  for (let i = 0; i < column.length; i++) {
    const value = column[i]!;
    if (Math.fround(value) !== value && !Number.isNaN(value)) return false;
  }
  return true;
}

function encodeFloat32(
  column: Float64Array,
  header: ByteWriter,
  planes: ByteWriter,
  shared: ByteWriter | undefined,
): void {
  const { length } = column;
  const bits = new Uint32Array(new Float32Array(column).buffer);
  const order = orderOf(length, (i) => bits[i]!);
  for (let i = 0; i < length; i++) low[i] = bits[i]!;
  for (let pass = 0; pass < order; pass++)
    for (let i = length - 1; i > pass; i--) low[i] = low[i]! - low[i - 1]!;
  if (order > 0)
    for (let i = order; i < length; i++) {
      const signed = low[i]! | 0;
      low[i] = (signed << 1) ^ (signed >> 31);
    }
  header.u8(Mode.float32);
  header.u8(order);
  writePlanes(length, 4, header, planes, shared);
}

function encodeFloat64(
  column: Float64Array,
  header: ByteWriter,
  planes: ByteWriter,
  shared: ByteWriter | undefined,
): void {
  const { length } = column;
  // A copy: a part of a larger column may not start where a word does.
  const words = new Uint32Array(column.slice().buffer);
  const order = orderOf(length, (i) => words[2 * i + 1]! * HALF + words[2 * i]!);
  for (let i = 0; i < length; i++) {
    low[i] = words[2 * i]!;
    high[i] = words[2 * i + 1]!;
  }
  for (let pass = 0; pass < order; pass++)
    for (let i = length - 1; i > pass; i--) {
      const borrow = low[i]! < low[i - 1]! ? 1 : 0;
      low[i] = low[i]! - low[i - 1]!;
      high[i] = high[i]! - high[i - 1]! - borrow;
    }
  if (order > 0)
    for (let i = order; i < length; i++) {
      const sign = (high[i]! | 0) >> 31;
      high[i] = ((high[i]! << 1) | (low[i]! >>> 31)) ^ sign;
      low[i] = (low[i]! << 1) ^ sign;
    }
  header.u8(Mode.float64);
  header.u8(order);
  writePlanes(length, 8, header, planes, shared);
}

/** Order for bits, by the mean length of what is left over a few hundred values. */
function orderOf(length: number, bitsAt: (index: number) => number): Order {
  const sample = Math.min(length, 256);
  if (sample < 4) return 0;
  let plain = 0;
  let deltas = 0;
  let bends = 0;
  let previous = bitsAt(0);
  let delta = bitsAt(1) - previous;
  const first = previous;
  for (let i = 1; i < sample; i++) {
    const bits = bitsAt(i);
    const difference = bits - previous;
    plain += Math.log2(1 + Math.abs(bits - first));
    deltas += Math.log2(1 + Math.abs(difference));
    bends += Math.log2(1 + Math.abs(difference - delta));
    delta = difference;
    previous = bits;
  }
  // Noise has differences as long as itself; only what is clearly smoother is worth them.
  const worth = 3 * sample;
  if (bends + worth < plain && bends < deltas) return 2;
  return deltas + worth < plain ? 1 : 0;
}

const counts = new Uint32Array(256);

function mixedBits(words: Uint32Array, length: number): number {
  const first = words[0]!;
  let mixed = 0;
  for (let i = 1; i < length; i++) mixed |= words[i]! ^ first;
  return mixed;
}

function writePlanes(
  length: number,
  width: number,
  header: ByteWriter,
  planes: ByteWriter,
  shared: ByteWriter | undefined,
): void {
  // Bits that are not the same in every word: most planes of smooth columns have none.
  const mixedLow = mixedBits(low, length);
  const mixedHigh = width > 4 ? mixedBits(high, length) : 0;
  for (let plane = 0; plane < width; plane++) {
    const words = plane < 4 ? low : high;
    const shift = 8 * (plane & 3);
    if ((((plane < 4 ? mixedLow : mixedHigh) >>> shift) & 255) === 0) {
      const byte = (words[0]! >>> shift) & 255;
      header.u8(byte === 0 ? Plane.zero : Plane.constant);
      if (byte !== 0) header.u8(byte);
      continue;
    }
    const target = shared ?? planes;
    const at = target.reserve(length);
    const { buffer } = target;
    counts.fill(0);
    for (let i = 0; i < length; i++) {
      const byte = (words[i]! >>> shift) & 255;
      buffer[at + i] = byte;
      counts[byte]!++;
    }
    if (isNoise(length)) {
      header.u8(Plane.raw);
      if (shared) planes.put(buffer.subarray(at, at + length));
      else planes.length += length;
    } else if (shared) {
      header.u8(Plane.shared);
      shared.length += length;
    } else {
      const frame = compress(buffer.subarray(at, at + length));
      if (frame.length >= length) {
        header.u8(Plane.raw);
        planes.length += length;
      } else {
        header.u8(Plane.frame);
        header.u16(frame.length);
        planes.put(frame);
      }
    }
  }
}

/** Whether the counted bytes are so evenly spread that no code could be shorter. */
function isNoise(length: number): boolean {
  let entropy = 0;
  for (let byte = 0; byte < 256; byte++) {
    const count = counts[byte]!;
    if (count > 0) entropy -= count * Math.log2(count / length);
  }
  return entropy > 0.96 * length * Math.min(8, Math.log2(length));
}
