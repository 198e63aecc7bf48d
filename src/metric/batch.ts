import { Encoding } from "../entry.ts";
import { compress } from "../store/zstd.ts";

/** Numbers of one metric in a batch. */
export interface NumberColumn {
  key: string;
  /** Record each value belongs to, ascending; null where every record has one. */
  index: Uint32Array | null;
  values: Float64Array;
}

/** What a metric was given that is no number, as JSON text. */
export interface TextColumn {
  key: string;
  index: Uint32Array;
  json: string[];
}

/** Records that named these metrics as their x axis. */
export interface AxisColumn {
  keys: string[];
  index: Uint32Array | null;
}

/** One accepted batch of records, as columns. */
export interface MetricBatch {
  /** Ordinal of the first record; the others follow without a gap. */
  ordinal: number;
  rank: number;
  count: number;
  /** NaN for a record of these ordinals that is in another batch: imports bring records by ordinals, not as writers did. */
  step: Float64Array;
  /** ms since the epoch. */
  time: Float64Array;
  numbers: NumberColumn[];
  texts: TextColumn[];
  axes: AxisColumn[];
}

/** A record as it came, for those who want rows: live updates, relays, exports. Non-finite numbers are strings. */
export interface BatchRecord {
  ordinal: number;
  step: number;
  time: number;
  x?: string[];
  metrics: Record<string, unknown>;
}

export const BATCH_VERSION = 1;
/** Bytes below which zstd costs more time than it is worth. */
const MIN_COMPRESSED = 4096;
const WORTH = 0.75;

interface Header {
  rank: number;
  count: number;
  numbers: [key: string, length: number][];
  texts: [key: string, index: number[], json: string[]][];
  axes: [keys: string[], length: number][];
}

export const pointsOf = (batch: MetricBatch): number =>
  batch.numbers.reduce((sum, column) => sum + column.values.length, 0);

/**
 * The journal's payload for a batch. Noise that zstd makes little less of stays as it is, and so does what is short: a relay sends
 * the numbers of many batches column by column (relay/frame.ts), which it can't where they are packed.
 */
export function encodeBatch(batch: MetricBatch): { encoding: Encoding; payload: Uint8Array } {
  const packed = packBatch(batch);
  if (packed.length >= MIN_COMPRESSED) {
    const payload = compress(packed);
    if (payload.length < WORTH * packed.length) return { encoding: Encoding.columnsZstd, payload };
  }
  return { encoding: Encoding.columns, payload: packed };
}

/**
 * Packed layout, little-endian: u32 length of the header; the header as JSON, padded with spaces so that what follows is aligned
 * to 8; float64 steps and times; float64 values of each number column; then u32 indexes of the number and axis columns that
 * are shorter than the batch.
 */
export function packBatch(batch: MetricBatch): Uint8Array {
  const { rank, count, numbers, axes } = batch;
  const header: Header = {
    rank,
    count,
    numbers: numbers.map(({ key, values }) => [key, values.length]),
    texts: batch.texts.map(({ key, index, json }) => [key, [...index], json]),
    axes: axes.map(({ keys, index }) => [keys, index ? index.length : count]),
  };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const start = (4 + json.length + 7) & ~7;
  const floats = 2 * count + pointsOf(batch);
  const indexes = [...numbers, ...axes].reduce((sum, { index }) => sum + (index?.length ?? 0), 0);
  const bytes = new Uint8Array(start + 8 * floats + 4 * indexes);
  bytes.fill(0x20, 4, start);
  new DataView(bytes.buffer).setUint32(0, start - 4, true);
  bytes.set(json, 4);
  const values = new Float64Array(bytes.buffer, start, floats);
  values.set(batch.step, 0);
  values.set(batch.time, count);
  let at = 2 * count;
  for (const column of numbers) {
    values.set(column.values, at);
    at += column.values.length;
  }
  const index = new Uint32Array(bytes.buffer, start + 8 * floats, indexes);
  at = 0;
  for (const column of [...numbers, ...axes]) {
    if (!column.index) continue;
    index.set(column.index, at);
    at += column.index.length;
  }
  return bytes;
}

export function unpackBatch(packed: Uint8Array, ordinal: number): MetricBatch {
  // A view of float64 needs an aligned start; a buffer out of a pool may not have one, and its own slice() copies nothing.
  const bytes = packed.byteOffset % 8 === 0 ? packed : new Uint8Array(packed);
  const { buffer, byteOffset } = bytes;
  const length = new DataView(buffer, byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as Header;
  const { rank, count } = header;
  let at = byteOffset + 4 + length;
  const floats = (size: number) => {
    const column = new Float64Array(buffer, at, size);
    at += 8 * size;
    return column;
  };
  const indexes = (size: number) => {
    if (size === count) return null;
    const column = new Uint32Array(buffer, at, size);
    at += 4 * size;
    return column;
  };
  const step = floats(count);
  const time = floats(count);
  const values = header.numbers.map(([, size]) => floats(size));
  return {
    ordinal,
    rank,
    count,
    step,
    time,
    numbers: header.numbers.map(([key, size], i) => ({ key, index: indexes(size), values: values[i]! })),
    texts: header.texts.map(([key, index, json]) => ({ key, index: Uint32Array.from(index), json })),
    axes: header.axes.map(([keys, size]) => ({ keys, index: indexes(size) })),
  };
}

/** A number as JSON can carry it. */
export const toWire = (value: number): number | "NaN" | "Infinity" | "-Infinity" =>
  Number.isFinite(value) ? value : Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";

/** The batch as records again. */
export function toRecords(batch: MetricBatch): BatchRecord[] {
  const records: BatchRecord[] = [];
  for (let i = 0; i < batch.count; i++)
    records.push({ ordinal: batch.ordinal + i, step: batch.step[i]!, time: batch.time[i]!, metrics: {} });
  const put = (record: number, key: string, value: unknown) =>
    // Plain assignment would call the setter of a metric named __proto__.
    Object.defineProperty(records[record]!.metrics, key, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
  for (const { key, index, values } of batch.numbers)
    values.forEach((value, i) => put(index ? index[i]! : i, key, toWire(value)));
  for (const { key, index, json } of batch.texts)
    json.forEach((text, i) => put(index[i]!, key, JSON.parse(text)));
  for (const { keys, index } of batch.axes) {
    if (index) for (const i of index) records[i]!.x = keys;
    else for (const record of records) record.x = keys;
  }
  return records.filter(({ step }) => !Number.isNaN(step));
}
