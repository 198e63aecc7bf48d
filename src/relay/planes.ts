/**
 * Numbers as planes: all lowest bytes, all second bytes, and so on. Noise keeps to the lower planes, which nothing makes smaller; in the
 * upper ones, and where a number is the one before and a bit, next to nothing is left.
 */
import { compress, decompressWithin } from "../store/zstd.ts";

export const PLANES = 8;
/** zstd makes nothing of less. */
const MIN_COMPRESSED = 64;
const IS_COMPRESSED = 0x8000_0000;

/** In the place of numbers their differences, where those are smaller and lead back exactly; then true. */
export function toDifferences(column: Float64Array): boolean {
  let size = 0;
  let difference = 0;
  for (let i = 1; i < column.length; i++) {
    const step = column[i]! - column[i - 1]!;
    if (!Object.is(column[i - 1]! + step, column[i]!)) return false;
    size += Math.abs(column[i]!);
    difference += Math.abs(step);
  }
  // Also where it is NaN.
  if (!(2 * difference < size)) return false;
  for (let i = column.length - 1; i > 0; i--) column[i]! -= column[i - 1]!;
  return true;
}

export function fromDifferences(column: Float64Array): void {
  for (let i = 1; i < column.length; i++) column[i]! += column[i - 1]!;
}

export function toPlanes(numbers: Float64Array): Uint8Array[] {
  const { length } = numbers;
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  const planes = Array.from({ length: PLANES }, () => new Uint8Array(length));
  const [p0, p1, p2, p3, p4, p5, p6, p7] = planes as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  for (let i = 0, at = 0; i < length; i++, at += PLANES) {
    p0[i] = bytes[at]!;
    p1[i] = bytes[at + 1]!;
    p2[i] = bytes[at + 2]!;
    p3[i] = bytes[at + 3]!;
    p4[i] = bytes[at + 4]!;
    p5[i] = bytes[at + 5]!;
    p6[i] = bytes[at + 6]!;
    p7[i] = bytes[at + 7]!;
  }
  return planes;
}

/** Its memory goes now, not when the collector of garbage comes by. Never of a view. */
export function release(bytes: Uint8Array | Float64Array): void {
  if (bytes.byteLength === bytes.buffer.byteLength && bytes.buffer instanceof ArrayBuffer)
    bytes.buffer.transfer(0);
}

/** All of one length; their memory is let go. */
export function fromPlanes(planes: readonly Uint8Array[]): Float64Array {
  const numbers = new Float64Array(planes[0]!.length);
  const bytes = new Uint8Array(numbers.buffer);
  planes.forEach((plane, index) => {
    for (let i = 0, at = index; i < plane.length; i++, at += PLANES) bytes[at] = plane[i]!;
    release(plane);
  });
  return numbers;
}

/** u32 size, u32 size as it is stored, with a bit for whether that is packed; then it. */
export function packSection(bytes: Uint8Array): Uint8Array[] {
  const packed = bytes.length < MIN_COMPRESSED ? bytes : compress(bytes);
  const isPacked = packed.length < bytes.length;
  const stored = isPacked ? packed : bytes;
  const sizes = new DataView(new ArrayBuffer(8));
  sizes.setUint32(0, bytes.length, true);
  sizes.setUint32(4, isPacked ? (stored.length | IS_COMPRESSED) >>> 0 : stored.length, true);
  return [new Uint8Array(sizes.buffer), stored];
}

/** What is wrong with bytes that others sent. */
export class Unreadable extends Error {}

/** Sections one after another, from others: never more than `max` bytes together. */
export function createSectionReader(bytes: Uint8Array, start: number, max: number) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = start;
  let left = max;
  return {
    next(): Uint8Array {
      if (bytes.length - at < 8) throw new Unreadable("it ends in the middle");
      const size = view.getUint32(at, true);
      const word = view.getUint32(at + 4, true);
      const stored = word & ~IS_COMPRESSED;
      at += 8;
      if (stored > bytes.length - at) throw new Unreadable("it ends in the middle");
      left -= size;
      if (left < 0) throw new Unreadable("it unpacks to too much");
      const section = bytes.subarray(at, at + stored);
      at += stored;
      const plain = (word & IS_COMPRESSED) === 0 ? section : unpack(section, size);
      if (plain.length !== size) throw new Unreadable("a part of it has another size than it says");
      return plain;
    },
    end(): void {
      if (at !== bytes.length) throw new Unreadable("something follows its end");
    },
  };
}

function unpack(section: Uint8Array, size: number): Uint8Array {
  try {
    return decompressWithin(section, size);
  } catch {
    throw new Unreadable("a part of it does not unpack");
  }
}
