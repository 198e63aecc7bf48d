import { CollectorError } from "../error.ts";
import type { ChunkTable } from "../store/chunk-table.ts";
import { decodeAxes, decodeAxis, decodeValues } from "../store/chunk.ts";
import type { PointColumns } from "../store/head.ts";
import { chunkCount } from "./read.ts";
import { mergeTexts, type TextRow } from "./rows.ts";
import type { Series } from "./series.ts";

/** What of a series lies in a window; columns of the same records are the same arrays. */
export interface SeriesSlice extends PointColumns {
  key: string;
  rank: number;
}

/** All that records from one ordinal to before another hold, by series. To be read before the next window is asked for. */
export interface RecordWindow {
  from: number;
  to: number;
  columns: SeriesSlice[];
  texts: TextRow[];
}

export interface WindowSize {
  /** Numbers, and characters of texts, in a window of more than one record. */
  values: number;
  characters: number;
  /** Records of a window, times the ranks there are. */
  cells: number;
}

export const WINDOW: WindowSize = { values: 131_072, characters: 1024 * 1024, cells: 524_288 };
/** What is read ahead over all series; above that no whole chunks are held. */
const AHEAD_BYTES = 32 * 1024 * 1024;
const MIN_AHEAD = 64;
/** Held decoded: ranks may take turns. */
const MAX_AXES = 8;
/** How long reading may hold the event loop at a time. */
const SLICE_MS = 8;

type Axis = Omit<PointColumns, "value">;

/** A series on its way: `columns` were read, the first `taken` of them handed out; `at`: how many of the series were read. */
interface Cursor {
  series: Series;
  at: number;
  columns: PointColumns | undefined;
  taken: number;
}

/**
 * The records of a run, a window at a time, as columns: what is to be columns again needs not be sorted by records in between.
 * Memory holds a chunk of each series, or a part of it where they are many.
 */
export async function* recordWindows(
  table: ChunkTable,
  list: readonly Series[],
  chunkPoints: number,
  { from, before, size = WINDOW }: { from: number; before: number; size?: WindowSize | undefined },
): AsyncGenerator<RecordWindow, void> {
  const ranks = new Set(list.map(({ rank }) => rank)).size;
  const span = Math.max(1, Math.floor(size.cells / Math.max(1, ranks)));
  const reader = createReader(table, chunkPoints, list.length, ranks);
  const cursors: Cursor[] = [];
  const pause = createPause();
  for (const series of list) {
    cursors.push(reader.begin(series, from));
    await pause();
  }
  const texts = mergeTexts(table, list, before, from);
  let text = texts.next().value ?? undefined;
  for (let start = from; start < before;) {
    for (const cursor of cursors) if (reader.fill(cursor)) await pause();
    let end = endOfWindow(cursors, start, Math.min(before, start + span), size.values);
    const taken: TextRow[] = [];
    for (let characters = 0; text && text.ordinal < end; text = texts.next().value ?? undefined) {
      // All of a record goes into one window.
      if (characters >= size.characters && text.ordinal > taken.at(-1)!.ordinal) {
        end = text.ordinal;
        break;
      }
      taken.push(text);
      characters += text.json.length;
    }
    const columns = takeColumns(cursors, end);
    // Records without a value leave nothing but their numbers.
    if (columns.length === 0 && taken.length === 0)
      end = Math.min(before, nextOrdinal(cursors), text?.ordinal ?? Infinity);
    yield { from: start, to: end, columns, texts: taken };
    start = end;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function createPause(): () => Promise<void> | undefined {
  let until = performance.now() + SLICE_MS;
  return () => {
    if (performance.now() <= until) return undefined;
    return new Promise((resolve) =>
      setImmediate(() => {
        until = performance.now() + SLICE_MS;
        resolve();
      }),
    );
  };
}

function createReader(table: ChunkTable, chunkPoints: number, seriesCount: number, ranks: number) {
  // A number for each series, and three that the metrics of a rank mostly share.
  const bytes = 8 * seriesCount + 24 * ranks;
  const ahead = Math.max(MIN_AHEAD, Math.min(chunkPoints, Math.floor(AHEAD_BYTES / bytes)));
  /** The newest first. */
  let decoded: { encoded: Uint8Array; axis: Axis }[] = [];
  let slice: { of: Axis; from: number; axis: Axis } | undefined;

  /** Metrics of the same records have the same of these, though chunks that are not full each store their own. */
  function axisOf(encoded: Uint8Array): Axis {
    const known = decoded.find((one) => one.encoded === encoded || isSame(one.encoded, encoded));
    if (known) return known.axis;
    const axis = decodeAxes(encoded);
    decoded = [{ encoded, axis }, ...decoded.slice(0, MAX_AXES - 1)];
    return axis;
  }

  function axisFrom(encoded: Uint8Array, from: number): Axis {
    const of = axisOf(encoded);
    if (from === 0 && ahead >= of.ordinal.length) return of;
    if (slice?.of !== of || slice.from !== from) {
      const part = (column: Float64Array) => column.slice(from, from + ahead);
      slice = { of, from, axis: { ordinal: part(of.ordinal), step: part(of.step), time: part(of.time) } };
    }
    return slice.axis;
  }

  function readChunk({ id }: Series, position: number, from: number): PointColumns {
    const axis = axisFrom(table.axis(id, position), from);
    const value = decodeValues(table.values(id, position));
    return {
      ...axis,
      value: axis.ordinal.length === value.length ? value : value.slice(from, from + axis.ordinal.length),
    };
  }

  /** A page's own arrays change under whoever holds them for longer than this turn. */
  function readPages({ pages }: Series, from: number): PointColumns | undefined {
    for (const page of pages) {
      if (from < page.length) {
        const { ordinal, step, time, value } = page.columns();
        const part = (column: Float64Array) => column.slice(from, from + ahead);
        return { ordinal: part(ordinal), step: part(step), time: part(time), value: part(value) };
      }
      from -= page.length;
    }
    return undefined;
  }

  /** True where something was read. */
  function fill(cursor: Cursor): boolean {
    const { series, columns, at } = cursor;
    if (columns && cursor.taken < columns.ordinal.length) return false;
    if (series.dead) throw new CollectorError("gone", `Run ${series.run} was deleted.`);
    const position = Math.floor(at / chunkPoints);
    cursor.columns =
      at < series.sealed
        ? readChunk(series, position, at - position * chunkPoints)
        : readPages(series, at - series.sealed);
    cursor.at += cursor.columns?.ordinal.length ?? 0;
    cursor.taken = 0;
    return true;
  }

  /** Behind the last full chunk that ends before. */
  function positionOf(series: Series, from: number): number {
    let low = 0;
    let high = from <= series.firstOrdinal ? 0 : chunkCount(series, chunkPoints);
    while (low < high) {
      const middle = (low + high) >> 1;
      if (decodeAxis(table.axis(series.id, middle), "ordinal").at(-1)! >= from) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  return {
    fill,
    begin(series: Series, from: number): Cursor {
      const at = Math.min(series.sealed, positionOf(series, from) * chunkPoints);
      const cursor: Cursor = { series, at, columns: undefined, taken: 0 };
      for (;;) {
        fill(cursor);
        const { columns } = cursor;
        if (!columns) return cursor;
        cursor.taken = placeOf(columns.ordinal, 0, from);
        if (cursor.taken < columns.ordinal.length) return cursor;
      }
    },
  };
}

const isSame = (a: Uint8Array, b: Uint8Array) => a.length === b.length && Buffer.compare(a, b) === 0;

/** The largest end up to `end` before which all is read, and not too much. */
function endOfWindow(cursors: readonly Cursor[], start: number, end: number, values: number): number {
  for (const { columns, at, series } of cursors)
    if (columns && at < series.count) end = Math.min(end, columns.ordinal.at(-1)! + 1);
  const valuesBefore = (end: number) => {
    let count = 0;
    for (const { columns, taken } of cursors)
      if (columns) count += placeOf(columns.ordinal, taken, end) - taken;
    return count;
  };
  let count = valuesBefore(end);
  while (count > values && end > start + 1) {
    end = start + Math.max(1, Math.min(end - start - 1, Math.floor(((end - start) * values) / count)));
    count = valuesBefore(end);
  }
  return end;
}

function takeColumns(cursors: readonly Cursor[], end: number): SeriesSlice[] {
  const slices: SeriesSlice[] = [];
  let last: { of: Float64Array; taken: number; axis: Axis } | undefined;
  for (const cursor of cursors) {
    const { columns, taken, series } = cursor;
    if (!columns) continue;
    const isSame = last !== undefined && last.of === columns.ordinal && last.taken === taken;
    const stop = isSame ? taken + last!.axis.ordinal.length : placeOf(columns.ordinal, taken, end);
    if (stop === taken) continue;
    const part = (column: Float64Array) => column.subarray(taken, stop);
    if (!isSame)
      last = {
        of: columns.ordinal,
        taken,
        axis: { ordinal: part(columns.ordinal), step: part(columns.step), time: part(columns.time) },
      };
    slices.push({ key: series.key, rank: series.rank, ...last!.axis, value: part(columns.value) });
    cursor.taken = stop;
  }
  return slices;
}

function nextOrdinal(cursors: readonly Cursor[]): number {
  let next = Infinity;
  for (const { columns, taken } of cursors)
    if (columns && taken < columns.ordinal.length) next = Math.min(next, columns.ordinal[taken]!);
  return next;
}

/** Place of the first ordinal that is not below. */
function placeOf(ordinal: Float64Array, from: number, below: number): number {
  let low = from;
  let high = ordinal.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ordinal[middle]! < below) low = middle + 1;
    else high = middle;
  }
  return low;
}
