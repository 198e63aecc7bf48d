/** Protocol buffers as far as OTLP needs them: https://protobuf.dev/programming-guides/encoding. */

const START_BYTES = 1024;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

const utf8 = new TextEncoder();

/** A message as it is written, field by field. What has its default value is left out by whoever writes. */
export class ProtobufWriter {
  #bytes = new Uint8Array(START_BYTES);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  /** As it stands: the next write may overwrite it. */
  bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length);
  }

  clear(): void {
    this.length = 0;
  }

  #room(size: number): void {
    if (this.length + size <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.length + size));
    grown.set(this.bytes());
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  #varint(value: number): void {
    this.#room(10);
    for (; value > 0x7f; value = Math.floor(value / 128)) this.#bytes[this.length++] = (value % 128) | 0x80;
    this.#bytes[this.length++] = value;
  }

  #tag(field: number, type: number): void {
    this.#varint(field * 8 + type);
  }

  /** A whole number from 0 to 2^53. */
  uint(field: number, value: number): this {
    this.#tag(field, VARINT);
    this.#varint(value);
    return this;
  }

  double(field: number, value: number): this {
    this.#tag(field, FIXED64);
    this.#room(8);
    this.#view.setFloat64(this.length, value, true);
    this.length += 8;
    return this;
  }

  /** A time as fixed64: ns since the epoch are more than a number can hold. */
  time(field: number, { ms, ns }: Time): this {
    this.#tag(field, FIXED64);
    this.#room(8);
    // ms × 1,000,000 in two halves, none of which reaches 2^53.
    const upper = Math.floor(ms / 0x100000) * 1_000_000;
    const low = (upper % 0x1000) * 0x100000 + (ms % 0x100000) * 1_000_000 + ns;
    this.#view.setUint32(this.length, low % 0x1_0000_0000, true);
    this.#view.setUint32(this.length + 4, Math.floor(upper / 0x1000) + Math.floor(low / 0x1_0000_0000), true);
    this.length += 8;
    return this;
  }

  string(field: number, text: string): this {
    return this.message(field, utf8.encode(text));
  }

  message(field: number, bytes: Uint8Array): this {
    this.#tag(field, BYTES);
    this.#varint(bytes.length);
    return this.raw(bytes);
  }

  /** Fields that are written already. */
  raw(bytes: Uint8Array): this {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
    return this;
  }
}

/** ms since the epoch, whole, and the ns within it. */
export interface Time {
  ms: number;
  ns: number;
}

/**
 * The fields of a message by their numbers: numbers of varints, bytes of what has a length. Throws where it is none. For answers,
 * which are small.
 */
export function readProtobuf(bytes: Uint8Array): Map<number, number | Uint8Array> {
  const fields = new Map<number, number | Uint8Array>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length || scale > 2 ** 63) throw new RangeError("The message ends within a number.");
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const type = tag % 8;
    const field = Math.floor(tag / 8);
    if (type === VARINT) {
      fields.set(field, varint());
      continue;
    }
    const size = type === BYTES ? varint() : type === FIXED64 ? 8 : type === 5 ? 4 : Infinity;
    if (at + size > bytes.length) throw new RangeError("The message ends within a field.");
    if (type === BYTES) fields.set(field, bytes.subarray(at, at + size));
    at += size;
  }
  return fields;
}
