import { zstdDecompressSync } from "node:zlib";
import { zstdCompress, zstdDecompress } from "../runtime.ts";

/** Level 1: level 3 gains nothing on our columns and costs twice the time. */
export const compress = zstdCompress;

export const decompress = zstdDecompress;

/** What others have compressed: throws before it takes memory for more than `max` bytes. 32 KB can stand for a gigabyte. */
export function decompressWithin(bytes: Uint8Array, max: number): Uint8Array {
  const size = sizeOfFrame(bytes);
  if (size === undefined)
    // Written as a stream, or several frames: stops where it gets too long.
    return zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, max) });
  if (size > max) throw new RangeError(`It unpacks to ${size} bytes, more than ${max}.`);
  return zstdDecompress(bytes);
}

/**
 * What a single frame says that it unpacks to (RFC 8878, 3.1.1); undefined where it does not, or where more follows it: only of the
 * first frame is the size known beforehand.
 */
function sizeOfFrame(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 9 || view.getUint32(0, true) !== 0xfd2fb528) return undefined;
  const descriptor = bytes[4]!;
  const isSingle = (descriptor & 0x20) !== 0;
  const flag = descriptor >> 6;
  if (flag === 0 && !isSingle) return undefined;
  let at = 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  const width = [1, 2, 4, 8][flag]!;
  if (at + width > bytes.length) return undefined;
  const size =
    flag === 0
      ? bytes[at]!
      : flag === 1
        ? view.getUint16(at, true) + 256
        : flag === 2
          ? view.getUint32(at, true)
          : Number(view.getBigUint64(at, true));
  at += width;
  for (let isLast = false; !isLast;) {
    if (at + 3 > bytes.length) return undefined;
    const block = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    isLast = (block & 1) === 1;
    // Of a run of one byte only that byte is there.
    at += 3 + ((block >> 1) % 4 === 1 ? 1 : block >> 3);
  }
  if ((descriptor & 4) !== 0) at += 4;
  return at === bytes.length ? size : undefined;
}
