import type { ChunkTable, TextPoint } from "../store/chunk-table.ts";
import type { PointColumns } from "../store/head.ts";
import { readFrom, SLICE_MS } from "./read.ts";
import type { Series } from "./series.ts";

/** Points of all series of a run, by the records they came in. */
export interface PointRows {
  length: number;
  ordinal: Float64Array;
  /** Place in the list of the run's series. */
  series: Uint32Array;
  step: Float64Array;
  time: Float64Array;
  value: Float64Array;
}

/** A value that is no number. */
export interface TextRow extends TextPoint {
  series: number;
}

/** Points read ahead, over all series: what bounds the memory. */
const AHEAD_POINTS = 1_600_000;
const MIN_AHEAD = 64;
/** Rows handed out at a time. */
const MAX_ROWS = 16_384;
const TEXTS_AHEAD = 200;

/** A series on its way through its points; `columns` are those read ahead, the first `taken` of them handed out. */
interface Cursor {
  series: Series;
  at: number;
  columns: PointColumns | undefined;
  taken: number;
}

/** Every point whose ordinal is below `before`, in the order of ordinals, those of a record in the order of the series. */
export async function* mergePoints(
  table: ChunkTable,
  list: readonly Series[],
  chunkPoints: number,
  before: number,
): AsyncGenerator<PointRows, void> {
  const ahead = Math.max(MIN_AHEAD, Math.min(chunkPoints, Math.floor(AHEAD_POINTS / list.length)));
  const cursors = list.map((series): Cursor => ({ series, at: 0, columns: undefined, taken: 0 }));
  const scratch = createRows(MAX_ROWS);
  for (;;) {
    let until = performance.now() + SLICE_MS;
    for (const cursor of cursors) {
      fill(cursor, table, chunkPoints, ahead);
      if (performance.now() <= until) continue;
      await new Promise((resolve) => setImmediate(resolve));
      until = performance.now() + SLICE_MS;
    }
    const window = windowOf(cursors, before);
    if (!window) return;
    yield takeRows(cursors, window, scratch);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function fill(cursor: Cursor, table: ChunkTable, chunkPoints: number, ahead: number): void {
  const { columns, series } = cursor;
  if (columns && cursor.taken < columns.ordinal.length) return;
  cursor.columns =
    cursor.at < series.count ? readFrom(table, series, chunkPoints, cursor.at, ahead) : undefined;
  cursor.at += cursor.columns?.ordinal.length ?? 0;
  cursor.taken = 0;
}

interface Window {
  first: number;
  /** Last ordinal. */
  last: number;
  rows: number;
}

/** Ordinals of which all points are read ahead, and not too many. */
function windowOf(cursors: readonly Cursor[], before: number): Window | undefined {
  let first = Infinity;
  let last = before - 1;
  for (const { columns, taken, at, series } of cursors) {
    if (!columns || columns.ordinal.length === 0) continue;
    first = Math.min(first, columns.ordinal[taken]!);
    if (at < series.count) last = Math.min(last, columns.ordinal.at(-1)!);
  }
  if (first > last) return undefined;
  const rowsUpTo = (last: number) => {
    let rows = 0;
    for (const cursor of cursors) rows += endOf(cursor, last) - cursor.taken;
    return rows;
  };
  let rows = rowsUpTo(last);
  while (rows > MAX_ROWS && last > first) {
    last = first + Math.floor((last - first) / 2);
    rows = rowsUpTo(last);
  }
  return { first, last, rows };
}

/** Place behind the last point up to this ordinal. */
function endOf({ columns, taken }: Cursor, last: number): number {
  if (!columns) return 0;
  let low = taken;
  let high = columns.ordinal.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (columns.ordinal[middle]! > last) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Sorted by counting where ordinals lie close together: every series is in order already. */
function takeRows(
  cursors: readonly Cursor[],
  { first, last, rows }: Window,
  /** Written anew each time: a megabyte a window is garbage faster than it is collected. */
  scratch: PointRows,
): PointRows {
  const gathered = rows <= scratch.length ? scratch : createRows(rows);
  let length = 0;
  cursors.forEach((cursor, index) => {
    const { columns, taken } = cursor;
    if (!columns) return;
    const end = endOf(cursor, last);
    gathered.ordinal.set(columns.ordinal.subarray(taken, end), length);
    gathered.step.set(columns.step.subarray(taken, end), length);
    gathered.time.set(columns.time.subarray(taken, end), length);
    gathered.value.set(columns.value.subarray(taken, end), length);
    gathered.series.fill(index, length, length + end - taken);
    length += end - taken;
    cursor.taken = end;
  });
  const order = orderOf(gathered.ordinal.subarray(0, rows), first, last);
  const sorted = createRows(rows);
  for (let to = 0; to < rows; to++) {
    const from = order[to]!;
    sorted.ordinal[to] = gathered.ordinal[from]!;
    sorted.series[to] = gathered.series[from]!;
    sorted.step[to] = gathered.step[from]!;
    sorted.time[to] = gathered.time[from]!;
    sorted.value[to] = gathered.value[from]!;
  }
  return sorted;
}

function orderOf(ordinal: Float64Array, first: number, last: number): Uint32Array {
  const order = new Uint32Array(ordinal.length);
  const span = last - first + 1;
  if (span > 4 * ordinal.length + 1024) {
    for (let i = 0; i < order.length; i++) order[i] = i;
    return order.sort((a, b) => ordinal[a]! - ordinal[b]! || a - b);
  }
  const places = new Uint32Array(span + 1);
  for (const at of ordinal) places[at - first + 1]!++;
  for (let i = 0; i < span; i++) places[i + 1]! += places[i]!;
  ordinal.forEach((at, i) => (order[places[at - first]!++] = i));
  return order;
}

const createRows = (length: number): PointRows => ({
  length,
  ordinal: new Float64Array(length),
  series: new Uint32Array(length),
  step: new Float64Array(length),
  time: new Float64Array(length),
  value: new Float64Array(length),
});

/** Every value that is no number, in the same order. */
export function* mergeTexts(
  table: ChunkTable,
  list: readonly Series[],
  before: number,
  from = 0,
): Generator<TextRow, void> {
  /** The one that comes next is the last. */
  const waiting: { row: TextRow; texts: Iterator<TextPoint, undefined> }[] = [];
  const isBefore = (a: TextRow, b: TextRow) =>
    a.ordinal < b.ordinal || (a.ordinal === b.ordinal && a.series < b.series);
  const advance = (series: number, texts: Iterator<TextPoint, undefined>) => {
    const { value } = texts.next();
    if (!value) return;
    const row = { ...value, series };
    let low = 0;
    let high = waiting.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(row, waiting[middle]!.row)) low = middle + 1;
      else high = middle;
    }
    waiting.splice(low, 0, { row, texts });
  };
  list.forEach((series, index) => advance(index, textsOf(table, series, from, before)));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    yield next.row;
    advance(next.row.series, next.texts);
  }
}

function* textsOf(
  table: ChunkTable,
  series: Series,
  from: number,
  before: number,
): Generator<TextPoint, undefined> {
  for (;;) {
    const stored = series.dead ? [] : table.textsFrom(series.id, from, TEXTS_AHEAD);
    const texts = stored.length > 0 ? stored : series.texts.filter(({ ordinal }) => ordinal >= from);
    if (texts.length === 0) return undefined;
    for (const { ordinal, step, time, json } of texts) {
      if (ordinal >= before) return undefined;
      yield { ordinal, step, time, json };
    }
    from = texts.at(-1)!.ordinal + 1;
  }
}
