import { CollectorError } from "../error.ts";
import type { AxisColumn, MetricBatch, NumberColumn, TextColumn } from "./batch.ts";
import {
  MAX_KEY_LENGTH,
  MAX_KEYS_PER_RECORD,
  MAX_RECORDS_PER_BATCH,
  MAX_SERIES_PER_RUN,
  MAX_STEP,
  MAX_TIME,
} from "./schema.ts";

/** A request's body, checked and turned into columns in one pass. */
export interface ParsedRecords {
  client: string;
  seq: number;
  rank: number;
  /** Steps that the collector has to count are NaN, and so are the times of its own clock. */
  batch: MetricBatch;
}

const CLIENT = /^[A-Za-z0-9][A-Za-z0-9._:-]*$/;
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
const MAX_CLIENT_LENGTH = 128;
const MAX_RANK = 1_000_000;
export const MAX_AXES = 16;
/** Nested values are kept as text; deeper ones overflow the stack of whoever reads them. */
const MAX_DEPTH = 100;

function fail(path: string, problem: string): never {
  throw new CollectorError("invalid", `${path}: ${problem}`, {
    hint: "Nothing of this batch was stored. Correct it and send it again under the same number.",
    details: { path },
  });
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isIntBetween = (value: unknown, min: number, max: number): value is number =>
  Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max;

const isNumberBetween = (value: unknown, min: number, max: number): value is number =>
  typeof value === "number" && value >= min && value <= max;

/**
 * The same rules as the schema AppendRecords, by hand: checking a batch of 1,000 records with zod takes eight times as
 * long as this takes to check it and build its columns. A property test holds the two together.
 */
export function parseRecords(body: unknown): ParsedRecords {
  if (!isObject(body)) fail("body", "must be an object {client, seq, items}");
  const { client, seq, rank = 0, items } = body;
  if (typeof client !== "string" || client.length > MAX_CLIENT_LENGTH || !CLIENT.test(client))
    fail("client", "must be 1 to 128 letters, digits, '.', '_', ':' or '-'");
  if (!isIntBetween(seq, 1, Number.MAX_SAFE_INTEGER)) fail("seq", "must be an integer from 1");
  if (!isIntBetween(rank, 0, MAX_RANK)) fail("rank", `must be an integer from 0 to ${MAX_RANK}`);
  if (!Array.isArray(items)) fail("items", "must be a list of records");
  if (items.length > MAX_RECORDS_PER_BATCH)
    fail("items", `holds ${items.length} records, more than ${MAX_RECORDS_PER_BATCH}: send smaller batches`);
  return { client, seq, rank, batch: buildColumns(items, rank) };
}

/** Columns of records; `ordinal` is still to be set. */
export function buildColumns(items: unknown[], rank: number): MetricBatch {
  const count = items.length;
  const step = new Float64Array(count);
  const time = new Float64Array(count);
  const columns: ColumnBuilder[] = [];
  const columnsByKey = new Map<string, ColumnBuilder>();
  const axesById = new Map<string, { keys: string[]; index: number[] }>();

  for (let i = 0; i < count; i++) {
    const item: unknown = items[i];
    if (!isObject(item)) fail(`items[${i}]`, "must be an object {step?, time?, x?, metrics}");
    // -0 + 0 is 0: SQLite has no -0, so a text would stand at another step than a number of the same record.
    if (item.step === undefined) step[i] = NaN;
    else if (isNumberBetween(item.step, -MAX_STEP, MAX_STEP)) step[i] = item.step + 0;
    else fail(`items[${i}].step`, `must be a number from -(2^53-1) to 2^53-1`);
    if (item.time === undefined) time[i] = NaN;
    else if (isNumberBetween(item.time, 0, MAX_TIME)) time[i] = item.time + 0;
    else fail(`items[${i}].time`, "must be milliseconds since 1970, before the year 10000");
    if (item.x !== undefined) addAxis(item.x, i);
    const { metrics } = item;
    if (!isObject(metrics)) fail(`items[${i}].metrics`, "must be an object {key: value}");
    let position = 0;
    for (const key in metrics) {
      // Records of a batch mostly have the same keys in the same order.
      let column = columns[position++];
      if (column === undefined || column.key !== key) column = columnsByKey.get(key) ?? addColumn(key, i);
      const value = metrics[key];
      if (typeof value === "number") {
        // JSON.parse reads 1e400 as Infinity.
        if (!(value - value === 0)) fail(`items[${i}].metrics`, `${quote(key)} is too large for a float64`);
        column.add(i, value);
      } else if (value === "NaN") column.add(i, NaN);
      else if (value === "Infinity") column.add(i, Infinity);
      else if (value === "-Infinity") column.add(i, -Infinity);
      else if (isJson(value, 0)) column.addText(i, JSON.stringify(value));
      else fail(`items[${i}].metrics`, `${quote(key)} holds what JSON cannot, or nests too deeply`);
    }
    if (position > MAX_KEYS_PER_RECORD)
      fail(`items[${i}].metrics`, `has ${position} keys, more than ${MAX_KEYS_PER_RECORD}`);
  }

  function addColumn(key: string, record: number): ColumnBuilder {
    const problem = keyProblem(key);
    if (problem) fail(`items[${record}].metrics`, `${quote(key)} ${problem}`);
    if (columns.length >= MAX_SERIES_PER_RUN) throw tooManySeries();
    // Room for all only where that is surely used: many keys times many records would be far more than was sent.
    const column = new ColumnBuilder(key, columns.length < 1000 ? Math.min(count, 1024) : 1);
    columns.push(column);
    columnsByKey.set(key, column);
    return column;
  }

  function addAxis(x: unknown, record: number): void {
    const keys: unknown[] = Array.isArray(x) ? x : [x];
    if (keys.length > MAX_AXES) fail(`items[${record}].x`, `names more than ${MAX_AXES} metrics`);
    for (const key of keys) {
      const problem = typeof key === "string" ? keyProblem(key) : "must be a metric's name";
      if (problem) fail(`items[${record}].x`, problem);
    }
    if (keys.length === 0) return;
    const id = keys.join("\u0000");
    const axis = axesById.get(id);
    if (axis) axis.index.push(record);
    else axesById.set(id, { keys: keys as string[], index: [record] });
  }

  const numbers: NumberColumn[] = [];
  const texts: TextColumn[] = [];
  for (const column of columns) {
    if (column.length > 0) numbers.push(column.numbers(count));
    if (column.texts) texts.push(column.texts.column(column.key));
  }
  const axes: AxisColumn[] = [...axesById.values()].map(({ keys, index }) => ({
    keys,
    index: index.length === count ? null : Uint32Array.from(index),
  }));
  return { ordinal: 0, rank, count, step, time, numbers, texts, axes };
}

export function tooManySeries(): CollectorError {
  return new CollectorError(
    "invalid",
    `A run has at most ${MAX_SERIES_PER_RUN} series (metrics times ranks).`,
    {
      hint: "Use fewer metric names: put what varies (an id, a step) into a value instead of the name.",
      details: { path: "items" },
    },
  );
}

/** What is wrong with a metric's name; undefined where nothing is. */
export function keyProblem(key: string): string | undefined {
  if (key.length === 0) return "must not be empty";
  if (key.length > MAX_KEY_LENGTH) return `is longer than ${MAX_KEY_LENGTH} characters`;
  if (CONTROL.test(key)) return "must not contain control characters";
  // Half a surrogate pair would come back from UTF-8 as another name.
  if (!key.isWellFormed()) return "must be well-formed Unicode";
  return undefined;
}

const quote = (key: string) => JSON.stringify(key.length > 60 ? `${key.slice(0, 60)}…` : key);

function isJson(value: unknown, depth: number): boolean {
  if (depth > MAX_DEPTH) return false;
  if (value === null) return true;
  switch (typeof value) {
    case "string":
    case "boolean":
      return true;
    case "number":
      return Number.isFinite(value);
    case "object":
      return (Array.isArray(value) ? value : Object.values(value as object)).every((inner: unknown) =>
        isJson(inner, depth + 1),
      );
    default:
      return false;
  }
}

class TextBuilder {
  index: number[] = [];
  json: string[] = [];

  column(key: string): TextColumn {
    return { key, index: Uint32Array.from(this.index), json: this.json };
  }
}

class ColumnBuilder {
  readonly key: string;
  length = 0;
  texts: TextBuilder | undefined;
  private values: Float64Array;
  /** undefined as long as value i is record i's. */
  private index: Uint32Array | undefined;

  constructor(key: string, capacity: number) {
    this.key = key;
    this.values = new Float64Array(capacity);
  }

  add(record: number, value: number): void {
    if (this.length === this.values.length) this.grow();
    if (record !== this.length && this.index === undefined) this.startIndex();
    if (this.index !== undefined) this.index[this.length] = record;
    this.values[this.length++] = value;
  }

  addText(record: number, json: string): void {
    this.texts ??= new TextBuilder();
    this.texts.index.push(record);
    this.texts.json.push(json);
  }

  numbers(count: number): NumberColumn {
    if (this.length < count && this.index === undefined) this.startIndex();
    return {
      key: this.key,
      values: this.values.subarray(0, this.length),
      index: this.index === undefined ? null : this.index.subarray(0, this.length),
    };
  }

  private startIndex(): void {
    const index = new Uint32Array(this.values.length);
    for (let i = 0; i < this.length; i++) index[i] = i;
    this.index = index;
  }

  private grow(): void {
    const capacity = 2 * this.values.length;
    const values = new Float64Array(capacity);
    values.set(this.values);
    this.values = values;
    if (this.index === undefined) return;
    const index = new Uint32Array(capacity);
    index.set(this.index);
    this.index = index;
  }
}
