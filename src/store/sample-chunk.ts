/**
 * Rows of one subject in a chunk. Every column stands by itself, so that a chart of one reading decodes one; columns
 * without a gap are small, so that what a row has not is told apart (how many readings each row holds, once for all
 * columns that lack the same) and only what is there is encoded.
 */
import type { ReadingKey } from "../sample/reading.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { decodeColumns } from "./column-decode.ts";
import { encodeColumns } from "./column-encode.ts";
import type { SampleRows } from "./sample-block.ts";
import type { RolledColumn, RolledRows } from "./sample-rollup.ts";
import { compress, decompress } from "./zstd.ts";

const VERSION = 1;

/** Behind the version and this head's length: the times, the counts, the columns. */
interface ChunkHead {
  keys: ReadingKey[];
  /** For each key which of the counts is its own. */
  counts: number[];
  /** Bytes of the times, of each of the counts, of each column. */
  sizes: number[];
  /** Columns are float64 behind zstd, as they are in memory. */
  plain: boolean;
}

/** Encodes in small steps: the event loop may do something else between them. */
export type Encoding = Generator<void, Uint8Array, void>;

export function* encodeRaw({ times, columns }: SampleRows): Encoding {
  const writer = new ChunkWriter(times);
  for (const [key, column] of columns) {
    const count = new Float64Array(column.length);
    let present = 0;
    for (let row = 0; row < column.length; row++)
      if (column[row] === column[row]) {
        count[row] = 1;
        present++;
      }
    if (present === 0) continue;
    writer.put(key, count, [present === column.length ? column : column.filter((value) => value === value)]);
    yield;
  }
  return writer.finish();
}

/** `plain`: larger, and read without a step for each value; for rows so few that their size is no matter. */
export function* encodeRolled({ times, columns }: RolledRows, plain: boolean): Encoding {
  const writer = new ChunkWriter(times, plain);
  for (const [key, { count, min, mean, max }] of columns) {
    const present = (column: Float64Array) => column.filter((_, row) => count[row]! > 0);
    const isWhole = count.every((n) => n > 0);
    writer.put(key, count, isWhole ? [min, mean, max] : [present(min), present(mean), present(max)]);
    yield;
  }
  return writer.finish();
}

class ChunkWriter {
  private readonly times: Uint8Array;
  private readonly keys: ReadingKey[] = [];
  private readonly countOfKey: number[] = [];
  private readonly counts: Float64Array[] = [];
  private readonly bodies: Uint8Array[] = [];

  private readonly plain: boolean;

  constructor(times: Float64Array, plain = false) {
    this.times = encodeColumns([times]);
    this.plain = plain;
  }

  put(key: ReadingKey, count: Float64Array, columns: Float64Array[]): void {
    let index = this.counts.findIndex((known) => isSame(known, count));
    if (index < 0) index = this.counts.push(count) - 1;
    this.keys.push(key);
    this.countOfKey.push(index);
    this.bodies.push(
      this.plain ? encodePlain(columns) : encodeColumns(columns, { shared: columns.length > 1 }),
    );
  }

  finish(): Uint8Array {
    const parts = [this.times, ...this.counts.map((count) => encodeColumns([count])), ...this.bodies];
    const sizes = parts.map(({ length }) => length);
    const { keys, countOfKey: counts, plain } = this;
    const json = JSON.stringify({ keys, counts, sizes, plain } satisfies ChunkHead);
    const head = compress(new TextEncoder().encode(json));
    const writer = new ByteWriter(5 + head.length + sizes.reduce((sum, size) => sum + size, 0));
    writer.u8(VERSION);
    writer.u32(head.length);
    writer.put(head);
    for (const part of parts) writer.put(part);
    return writer.bytes();
  }
}

function encodePlain(columns: Float64Array[]): Uint8Array {
  const [{ byteLength }] = columns as [Float64Array];
  const bytes = new Uint8Array(columns.length * byteLength);
  columns.forEach(({ buffer, byteOffset }, i) =>
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), i * byteLength),
  );
  return compress(bytes);
}

function decodePlain(body: Uint8Array, count: number): Float64Array[] {
  // A copy where it does not begin where a float64 may.
  const bytes = decompress(body);
  const { buffer, byteOffset } = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const length = bytes.length / 8 / count;
  return Array.from(
    { length: count },
    (_, i) => new Float64Array(buffer, byteOffset + 8 * i * length, length),
  );
}

function isSame(a: Float64Array, b: Float64Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A chunk whose columns are decoded when they are asked for. */
export class SampleChunk {
  readonly keys: readonly ReadingKey[];
  private readonly head: ChunkHead;
  private readonly parts: Uint8Array[] = [];
  private readonly counts: Float64Array[] = [];

  constructor(bytes: Uint8Array) {
    const reader = new ByteReader(bytes, 0);
    const version = reader.u8();
    if (version !== VERSION) throw new Error(`Samples are stored in layout ${version}, which is unknown.`);
    this.head = JSON.parse(new TextDecoder().decode(decompress(reader.take(reader.u32())))) as ChunkHead;
    this.keys = this.head.keys;
    for (const size of this.head.sizes) this.parts.push(reader.take(size));
  }

  times(): Float64Array {
    return decodeColumns(this.parts[0]!, 1)[0]!;
  }

  /** How many readings stand behind each row of this column; 0 where it has none. */
  count(column: number): Float64Array {
    const index = this.head.counts[column]!;
    return (this.counts[index] ??= decodeColumns(this.parts[1 + index]!, 1)[0]!);
  }

  /** Only what is there: as many values as rows whose count is not 0. */
  raw = (column: number): Float64Array => decodeColumns(this.body(column), 1)[0]!;

  rolled(column: number): { min: Float64Array; mean: Float64Array; max: Float64Array } {
    const body = this.body(column);
    const [min, mean, max] = (this.head.plain ? decodePlain(body, 3) : decodeColumns(body, 3)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    return { min, mean, max };
  }

  private body = (column: number): Uint8Array => this.parts[this.parts.length - this.keys.length + column]!;
}

export function decodeRaw(bytes: Uint8Array): SampleRows {
  const chunk = new SampleChunk(bytes);
  const columns = new Map(
    chunk.keys.map((key, column) => [key, spread(chunk.raw(column), chunk.count(column))]),
  );
  return { times: chunk.times(), columns };
}

export function decodeRolled(bytes: Uint8Array): RolledRows {
  const chunk = new SampleChunk(bytes);
  const columns = new Map(
    chunk.keys.map((key, column): [ReadingKey, RolledColumn] => {
      const count = chunk.count(column);
      const { min, mean, max } = chunk.rolled(column);
      return [key, { count, min: spread(min, count), mean: spread(mean, count), max: spread(max, count) }];
    }),
  );
  return { times: chunk.times(), columns };
}

/** Values at the rows they belong to, NaN at the others. */
function spread(values: Float64Array, count: Float64Array): Float64Array {
  if (values.length === count.length) return values;
  const column = new Float64Array(count.length).fill(NaN);
  for (let row = 0, at = 0; row < count.length; row++) if (count[row]! > 0) column[row] = values[at++]!;
  return column;
}
