/** Bytes one after another. `reserve` gives room that counts only once `length` is moved past it. */
export class ByteWriter {
  buffer: Uint8Array;
  length = 0;

  constructor(capacity: number) {
    this.buffer = new Uint8Array(capacity);
  }

  reserve(size: number): number {
    if (this.length + size > this.buffer.length) {
      const larger = new Uint8Array(2 * (this.length + size));
      larger.set(this.buffer.subarray(0, this.length));
      this.buffer = larger;
    }
    return this.length;
  }

  put(bytes: Uint8Array): void {
    // First the room: it may move the buffer.
    const at = this.reserve(bytes.length);
    this.buffer.set(bytes, at);
    this.length += bytes.length;
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.buffer[at] = value;
    this.length += 1;
  }

  u16(value: number): void {
    this.u8(value & 255);
    this.u8(value >> 8);
  }

  u32(value: number): void {
    this.u16(value & 65535);
    this.u16(value >>> 16);
  }

  f64(value: number): void {
    this.put(new Uint8Array(new Float64Array([value]).buffer));
  }

  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }
}

export class ByteReader {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
  }

  u8(): number {
    return this.bytes[this.at++]!;
  }

  u16(): number {
    this.at += 2;
    return this.view.getUint16(this.at - 2, true);
  }

  u32(): number {
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  f64(): number {
    this.at += 8;
    return this.view.getFloat64(this.at - 8, true);
  }

  take(size: number): Uint8Array {
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }
}
