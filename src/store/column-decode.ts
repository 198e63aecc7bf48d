import { ByteReader } from "./bytes.ts";
import { HALF, Mode, Plane, type Order } from "./column-format.ts";
import { decompressWithin } from "./zstd.ts";

/** `wanted`: indexes of the columns to decode; the others come back empty. */
export function decodeColumns(bytes: Uint8Array, count: number, wanted?: readonly number[]): Float64Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = view.getUint16(0, true);
  const frameLength = view.getUint16(2, true);
  const header = new ByteReader(bytes, 4);
  const planes = new ByteReader(bytes, 4 + headerLength + frameLength);
  const length = header.u32();
  const frame = bytes.subarray(4 + headerLength, 4 + headerLength + frameLength);
  const shared = frameLength > 0 ? new ByteReader(decompressWithin(frame, 8 * length * count), 0) : undefined;
  const columns: Float64Array[] = [];
  for (let index = 0; index < count; index++) {
    if (length === 0) columns.push(EMPTY);
    else
      columns.push(
        decodeColumn(header, planes, shared, length, wanted === undefined || wanted.includes(index)),
      );
  }
  return columns;
}

const EMPTY = new Float64Array(0);

// Room for the largest column so far: decoding allocates only what it returns.
let low = new Uint32Array(4096);
let high = new Uint32Array(4096);

function reserve(length: number): void {
  if (low.length >= length) return;
  low = new Uint32Array(length);
  high = new Uint32Array(length);
}

function decodeColumn(
  header: ByteReader,
  planes: ByteReader,
  shared: ByteReader | undefined,
  length: number,
  wanted: boolean,
): Float64Array {
  const mode = header.u8();
  if (mode === Mode.constant) {
    const value = header.f64();
    return wanted ? new Float64Array(length).fill(value) : EMPTY;
  }
  const order = header.u8();
  if (mode === Mode.integer) {
    const first = header.f64();
    const slope = (order & 3) === 2 ? header.f64() : 0;
    const stored = takePlanes(length, 8, header, planes, shared);
    return wanted ? decodeIntegers(stored, length, order >> 2, (order & 3) as Order, first, slope) : EMPTY;
  }
  const stored = takePlanes(length, mode === Mode.float32 ? 4 : 8, header, planes, shared);
  if (!wanted) return EMPTY;
  return mode === Mode.float32 ? decodeFloat32(stored, length, order) : decodeFloat64(stored, length, order);
}

/** A plane as it lies there: one byte for all, or bytes, behind zstd or not. */
type StoredPlane = number | { bytes: Uint8Array; isFrame: boolean };

function takePlanes(
  length: number,
  width: number,
  header: ByteReader,
  planes: ByteReader,
  shared: ByteReader | undefined,
): StoredPlane[] {
  const stored: StoredPlane[] = [];
  for (let plane = 0; plane < width; plane++) {
    const kind = header.u8();
    if (kind === Plane.zero) stored.push(0);
    else if (kind === Plane.constant) stored.push(header.u8());
    else if (kind === Plane.frame) stored.push({ bytes: planes.take(header.u16()), isFrame: true });
    else stored.push({ bytes: (kind === Plane.shared ? shared! : planes).take(length), isFrame: false });
  }
  return stored;
}

/** Whoever packed it: it unpacks to a byte for each value, and no more. */
const bytesOfPlane = (plane: StoredPlane, length: number) =>
  typeof plane === "number" ? undefined : plane.isFrame ? decompressWithin(plane.bytes, length) : plane.bytes;

/** Four planes as 32-bit words. */
function readWords(words: Uint32Array, stored: StoredPlane[], from: number, length: number): void {
  let constant = 0;
  const shifts: number[] = [];
  const planes: Uint8Array[] = [];
  for (let plane = 0; plane < 4; plane++) {
    const at = stored[from + plane]!;
    if (typeof at === "number") constant |= at << (8 * plane);
    else {
      planes.push(bytesOfPlane(at, length)!);
      shifts.push(8 * plane);
    }
  }
  // Noise fills all four: one pass over the words instead of five.
  if (planes.length === 4) {
    const [a, b, c, d] = planes as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
    for (let i = 0; i < length; i++) words[i] = a[i]! | (b[i]! << 8) | (c[i]! << 16) | (d[i]! << 24);
    return;
  }
  words.fill(constant, 0, length);
  planes.forEach((bytes, index) => {
    const shift = shifts[index]!;
    for (let i = 0; i < length; i++) words[i]! |= bytes[i]! << shift;
  });
}

function decodeIntegers(
  stored: StoredPlane[],
  length: number,
  decimals: number,
  order: Order,
  first: number,
  slope: number,
): Float64Array {
  reserve(length);
  readWords(low, stored, 0, length);
  const isShort = stored.slice(4).every((plane) => plane === 0);
  if (!isShort) readWords(high, stored, 4, length);
  const scale = 10 ** decimals;
  const column = new Float64Array(length);
  let previous = first;
  let delta = slope;
  for (let i = 0; i < length; i++) {
    const word = low[i]!;
    let integer: number;
    if (order === 0) integer = first + (isShort ? word : high[i]! * HALF + word);
    else {
      let difference: number;
      if (isShort) difference = (word >>> 1) ^ -(word & 1);
      else {
        const rest = high[i]! * HALF + word;
        difference = (word & 1) === 1 ? -(rest + 1) / 2 : rest / 2;
      }
      if (order === 1) integer = previous + difference;
      else {
        delta += difference;
        // The first value's difference is the slope itself: it stands for no move.
        integer = i === 0 ? first : previous + delta;
      }
      previous = integer;
    }
    column[i] = integer;
  }
  if (scale !== 1) for (let i = 0; i < length; i++) column[i]! /= scale;
  return column;
}

function decodeFloat32(stored: StoredPlane[], length: number, order: number): Float64Array {
  reserve(length);
  readWords(low, stored, 0, length);
  if (order > 0) for (let i = order; i < length; i++) low[i] = (low[i]! >>> 1) ^ -(low[i]! & 1);
  for (let pass = order - 1; pass >= 0; pass--)
    for (let i = pass + 1; i < length; i++) low[i] = low[i]! + low[i - 1]!;
  return Float64Array.from(new Float32Array(low.buffer, 0, length));
}

function decodeFloat64(stored: StoredPlane[], length: number, order: number): Float64Array {
  const column = new Float64Array(length);
  if (order === 0) {
    // Plane by plane into the column itself.
    const target = new Uint8Array(column.buffer);
    for (let plane = 0; plane < 8; plane++) {
      const at = stored[plane]!;
      const bytes = bytesOfPlane(at, length);
      if (bytes) for (let i = 0, to = plane; i < length; i++, to += 8) target[to] = bytes[i]!;
      else if (at !== 0) for (let to = plane; to < target.length; to += 8) target[to] = at as number;
    }
    return column;
  }
  reserve(length);
  readWords(low, stored, 0, length);
  readWords(high, stored, 4, length);
  for (let i = order; i < length; i++) {
    const sign = -(low[i]! & 1);
    low[i] = ((low[i]! >>> 1) | (high[i]! << 31)) ^ sign;
    high[i] = (high[i]! >>> 1) ^ sign;
  }
  for (let pass = order - 1; pass >= 0; pass--)
    for (let i = pass + 1; i < length; i++) {
      const sum = low[i]! + low[i - 1]!;
      low[i] = sum;
      high[i] = high[i]! + high[i - 1]! + (sum >= HALF ? 1 : 0);
    }
  const words = new Uint32Array(column.buffer);
  for (let i = 0; i < length; i++) {
    words[2 * i] = low[i]!;
    words[2 * i + 1] = high[i]!;
  }
  return column;
}
