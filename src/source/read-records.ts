import { Encoding } from "../entry.ts";
import {
  BATCH_VERSION,
  unpackBatch,
  type AxisColumn,
  type MetricBatch,
  type NumberColumn,
  type TextColumn,
} from "../metric/batch.ts";
import { buildColumns } from "../metric/parse.ts";
import {
  MAX_RECORDS_PER_BATCH,
  MAX_SERIES_PER_RUN,
  MAX_STEP,
  MAX_TIME,
  MetricKey,
} from "../metric/schema.ts";
import type { Frame } from "../relay/contract.ts";
import { MAX_BODY_BYTES } from "../relay/contract.ts";
import { decompressWithin } from "../store/zstd.ts";
import { bad, reading } from "./refuse.ts";

const MAX_RANK = 1_000_000;
const MAX_AXES = 16;
/** Nested values are kept as text; deeper ones overflow the stack of whoever reads them. */
const MAX_DEPTH = 100;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The records of a frame that another installation has packed: what of it will be read later without a look is looked at here. */
export function readRecords(frame: Frame): MetricBatch {
  const { encoding, payload, ordinal, count, version } = frame;
  if (version !== BATCH_VERSION) throw bad(`Its version is ${version}.`);
  if (ordinal === null || !isCount(ordinal, Number.MAX_SAFE_INTEGER - count)) throw bad("It has no ordinal.");
  if (count > MAX_RECORDS_PER_BATCH)
    throw bad(`It has ${count} records, more than ${MAX_RECORDS_PER_BATCH}.`);
  const batch = reading("records", () => {
    const bytes =
      encoding === Encoding.columnsZstd || encoding === Encoding.jsonZstd
        ? decompressWithin(payload, MAX_BODY_BYTES)
        : payload;
    return encoding === Encoding.columns || encoding === Encoding.columnsZstd
      ? readPacked(bytes)
      : readJson(bytes);
  });
  if (batch.count !== count) throw bad(`It has ${batch.count} records and says ${count}.`);
  reading("records", () => checkRecords(batch));
  batch.ordinal = ordinal;
  return batch;
}

const isCount = (value: unknown, max: number): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;

function readJson(bytes: Uint8Array): MetricBatch {
  const { rank, items } = JSON.parse(utf8.decode(bytes)) as { rank: unknown; items: unknown };
  if (!isCount(rank, MAX_RANK) || !Array.isArray(items)) throw bad("It has no rank or no records.");
  if (items.length > MAX_RECORDS_PER_BATCH) throw bad(`It has ${items.length} records.`);
  return buildColumns(items, rank);
}

/** Its lengths before anything is taken for true that they say; see packBatch. */
function readPacked(bytes: Uint8Array): MetricBatch {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < 4 ? Infinity : view.getUint32(0, true);
  if (length > bytes.length - 4 || (4 + length) % 8 !== 0) throw bad("Its columns have no header.");
  checkHeader(JSON.parse(utf8.decode(bytes.subarray(4, 4 + length))), bytes.length - 4 - length);
  return unpackBatch(bytes, 0);
}

function checkHeader(header: unknown, size: number): void {
  const { rank, count, numbers, texts, axes } = header as Record<string, unknown>;
  if (!isCount(rank, MAX_RANK) || !isCount(count, MAX_RECORDS_PER_BATCH))
    throw bad("Its columns have an impossible rank or length.");
  if (!Array.isArray(numbers) || !Array.isArray(texts) || !Array.isArray(axes))
    throw bad("Its columns have no header.");
  if (numbers.length + texts.length > 2 * MAX_SERIES_PER_RUN || axes.length > count)
    throw bad("It has too many columns.");
  let floats = 2 * count;
  let indexes = 0;
  for (const column of numbers as unknown[]) {
    if (!Array.isArray(column) || column.length !== 2 || !isCount(column[1], count))
      throw bad("A column of numbers has no length.");
    floats += column[1];
    if (column[1] !== count) indexes += column[1];
  }
  for (const column of texts as unknown[])
    if (
      !Array.isArray(column) ||
      column.length !== 3 ||
      !Array.isArray(column[1]) ||
      !Array.isArray(column[2]) ||
      column[1].length !== column[2].length ||
      !column[1].every((index) => isCount(index, count - 1)) ||
      !column[2].every((text) => typeof text === "string")
    )
      throw bad("A column of texts is none.");
  for (const axis of axes as unknown[]) {
    if (!Array.isArray(axis) || axis.length !== 2 || !Array.isArray(axis[0]) || !isCount(axis[1], count))
      throw bad("An axis is none.");
    if (axis[0].length === 0 || axis[0].length > MAX_AXES || !axis[0].every((key) => isKey(key)))
      throw bad("An axis names no metrics, or too many.");
    if (axis[1] !== count) indexes += axis[1];
  }
  if (8 * floats + 4 * indexes !== size) throw bad("Its columns are not as long as they say.");
  checkKeys(numbers as NumberHeader[]);
  checkKeys(texts as NumberHeader[]);
}

type NumberHeader = [key: unknown, ...rest: unknown[]];

const isKey = (key: unknown): key is string => MetricKey.safeParse(key).success;

/** Keys that were seen to be right: a training names the same ones in each of its batches. */
const rightKeys = new Set<string>();
const MAX_RIGHT_KEYS = 10_000;

function checkKeys(columns: readonly NumberHeader[]): void {
  const seen = new Set<unknown>();
  for (const [key] of columns) {
    if (seen.has(key)) throw bad("It has two columns of one metric.");
    seen.add(key);
    if (rightKeys.has(key as string)) continue;
    if (!isKey(key)) throw bad(`${String(JSON.stringify(key)).slice(0, 80)} is no metric's name.`);
    if (rightKeys.size >= MAX_RIGHT_KEYS) rightKeys.clear();
    rightKeys.add(key);
  }
}

function checkRecords({ count, step, time, numbers, texts, axes }: MetricBatch): void {
  let gaps = 0;
  for (let i = 0; i < count; i++) {
    const at = step[i]!;
    // NaN: a record of these ordinals that is in another batch.
    if (at !== at) gaps++;
    else if (!(at >= -MAX_STEP && at <= MAX_STEP)) throw bad(`Record ${i} has an impossible step.`);
    if (!(time[i]! >= 0 && time[i]! <= MAX_TIME)) throw bad(`Record ${i} has an impossible time.`);
  }
  for (const column of [...numbers, ...texts, ...axes]) checkIndex(column, count);
  if (gaps > 0) for (const column of [...numbers, ...texts]) checkGaps(column, step);
  for (const { json } of texts)
    for (const text of json)
      if (!isShallow(JSON.parse(text), MAX_DEPTH)) throw bad("A value nests too deeply.");
}

function checkIndex({ index }: NumberColumn | TextColumn | AxisColumn, count: number): void {
  if (index === null) return;
  let last = -1;
  for (const record of index) {
    if (record <= last || record >= count) throw bad("A column's records are not in their order.");
    last = record;
  }
}

/** A value without a step would be drawn nowhere, and break what is sorted by it. */
function checkGaps({ index }: NumberColumn | TextColumn, step: Float64Array): void {
  if (index === null) throw bad("A record without a step has a value.");
  for (const record of index)
    if (Number.isNaN(step[record])) throw bad("A record without a step has a value.");
}

const isShallow = (value: unknown, depth: number): boolean =>
  typeof value !== "object" ||
  value === null ||
  (depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1)));

/** The records from the `from`-th on; where that is the first, the batch itself. */
export function recordsFrom(batch: MetricBatch, from: number): MetricBatch {
  if (from === 0) return batch;
  const indexOf = ({ index }: { index: Uint32Array | null }, length: number) =>
    index ?? Uint32Array.from({ length }, (_, i) => i);
  const kept = (index: Uint32Array) => {
    const at = index.findIndex((record) => record >= from);
    return at < 0 ? index.length : at;
  };
  const shifted = (index: Uint32Array, start: number) => index.subarray(start).map((record) => record - from);
  const numbers = batch.numbers.map((column): NumberColumn => {
    const index = indexOf(column, batch.count);
    const start = kept(index);
    const rest = shifted(index, start);
    return {
      key: column.key,
      index: rest.length === batch.count - from ? null : rest,
      values: column.values.slice(start),
    };
  });
  const texts = batch.texts.map(({ key, index, json }): TextColumn => {
    const start = kept(index);
    return { key, index: shifted(index, start), json: json.slice(start) };
  });
  const axes = batch.axes.map((axis): AxisColumn => {
    const index = indexOf(axis, batch.count);
    const rest = shifted(index, kept(index));
    return { keys: axis.keys, index: rest.length === batch.count - from ? null : rest };
  });
  return {
    ordinal: batch.ordinal + from,
    rank: batch.rank,
    count: batch.count - from,
    step: batch.step.slice(from),
    time: batch.time.slice(from),
    numbers: numbers.filter(({ values }) => values.length > 0),
    texts: texts.filter(({ json }) => json.length > 0),
    axes: axes.filter(({ index }) => index === null || index.length > 0),
  };
}
