/** The values of a chart's lines over one common time axis: put together from an answer, grown by live samples. Pure. */
import { keyOf, type ReadingName } from "../sample/reading.ts";
import type { Sample, SamplePage, SampleSeries } from "../sample/schema.ts";
import type { HardwareChart, Line } from "./hardware-charts.ts";
import { keyOfSeries } from "./hardware-charts.ts";

type Value = number | null;

export interface Column {
  mean: Value[];
  /** As long as `mean`; the same arrays where no bucket holds more than one value. */
  min: Value[];
  max: Value[];
}

export interface Table {
  /** ms since the epoch, ascending: where each bucket begins. */
  times: number[];
  /** Width of a bucket, ms. */
  step: number;
  /** By the key of their line, limits among them. */
  columns: Map<string, Column>;
  /** Rows that came from the collector, not live. */
  queried: number;
}

export const emptyTable = (): Table => ({ times: [], step: 1000, columns: new Map(), queried: 0 });

/** What an answer, which may hold the series of many charts, has for this one. */
export function tableOf(chart: HardwareChart, page: SamplePage): Table {
  const byKey = new Map(page.series.map((series) => [keyOfSeries(series), series]));
  const columns = new Map<string, Column>();
  for (const { key } of chart.limits) if (byKey.has(key)) columns.set(key, columnFrom(byKey.get(key)!));
  // A line without values has its hole to show.
  for (const { key } of chart.lines) {
    const series = byKey.get(key);
    columns.set(key, series ? columnFrom(series) : emptyColumn(page.times.length));
  }
  return { times: [...page.times], step: page.step, columns, queried: page.times.length };
}

const columnFrom = ({ mean, min, max }: SampleSeries): Column => ({
  mean: [...mean],
  min: [...(min ?? mean)],
  max: [...(max ?? mean)],
});

const emptyColumn = (length: number): Column => {
  const empty = () => Array.from({ length }, (): Value => null);
  return { mean: empty(), min: empty(), max: empty() };
};

/** Adds what one tick brought. False where it holds nothing for this chart, or is older than what is there. */
export function appendSamples(table: Table, chart: HardwareChart, samples: readonly Sample[]): boolean {
  let changed = false;
  for (const { subject, time, values } of samples) {
    // Two sources of one tick may read a few ms apart: one row.
    const second = Math.floor(time / 1000) * 1000;
    for (const line of [...chart.lines, ...chart.limits]) {
      if (line.subject !== subject) continue;
      const value = values[keyOf(line.reading as ReadingName, line.part ?? undefined)];
      if (value === undefined) continue;
      const row = rowAt(table, second);
      if (row === undefined) continue;
      const column = columnOf(table, line.key);
      column.mean[row] = value;
      column.min[row] = value;
      column.max[row] = value;
      changed = true;
    }
  }
  return changed;
}

/** The last row, or a new one; undefined for the past. What is in its bucket already came with the answer. */
function rowAt(table: Table, time: number): number | undefined {
  const last = table.times.length - 1;
  const end = last < 0 ? -Infinity : table.times[last]!;
  if (last >= table.queried && time === end) return last;
  if (time < end + (last < table.queried ? table.step : 0)) return undefined;
  table.times.push(time);
  for (const { mean, min, max } of table.columns.values()) {
    mean.push(null);
    min.push(null);
    max.push(null);
  }
  return last + 1;
}

function columnOf(table: Table, key: string): Column {
  let column = table.columns.get(key);
  if (!column) {
    table.columns.set(key, (column = emptyColumn(table.times.length)));
  }
  return column;
}

/** Forgets rows before a time, but for one, so that the line comes in from the edge. */
export function dropBefore(table: Table, time: number): void {
  let drop = 0;
  while (drop + 1 < table.times.length && table.times[drop + 1]! < time) drop++;
  if (drop === 0) return;
  table.times.splice(0, drop);
  table.queried = Math.max(0, table.queried - drop);
  for (const { mean, min, max } of table.columns.values())
    for (const values of new Set([mean, min, max])) values.splice(0, drop);
}

/** The highest limit that was in force; undefined where none was read. */
export function limitOf(table: Table, limits: readonly Line[]): number | undefined {
  let most: number | undefined;
  for (const { key } of limits)
    for (const value of table.columns.get(key)?.max ?? [])
      if (value !== null && (most === undefined || value > most)) most = value;
  return most;
}

/** The columns as they are drawn: counters from the start of the window, use as a share of what there is. */
export function shaped(table: Table, chart: HardwareChart): Map<string, Column> {
  if (chart.shape === "since")
    return new Map([...table.columns].map(([key, column]) => [key, sinceStart(column)]));
  if (chart.shape !== "share") return table.columns;
  const columns = new Map<string, Column>();
  for (const line of chart.lines) {
    const column = table.columns.get(line.key);
    const limit = chart.limits.find(({ subject, part }) => subject === line.subject && part === line.part);
    const whole = limit && table.columns.get(limit.key)?.mean;
    if (column && whole)
      columns.set(line.key, {
        mean: divided(column.mean, whole),
        min: divided(column.min, whole),
        max: divided(column.max, whole),
      });
  }
  return columns;
}

const divided = (values: readonly Value[], whole: readonly Value[]): Value[] =>
  values.map((value, i) => {
    const total = whole[i];
    return value === null || !total ? null : value / total;
  });

/** A counter that was set back, as by a new driver, goes on from where it was. */
function sinceStart({ mean }: Column): Column {
  let before: number | undefined;
  let total = 0;
  const values = mean.map((value) => {
    if (value === null) return null;
    if (before !== undefined) total += value >= before ? value - before : value;
    before = value;
    return total;
  });
  return { mean: values, min: values, max: values };
}

/** A time in which a line has no value, though it had before or after. */
export interface Hole {
  from: number;
  to: number;
}

/** A line as it is drawn. `undefined`: nothing to break the line for, as between the rare readings of a fan. */
export interface DrawnLine {
  mean: (Value | undefined)[];
  min: (Value | undefined)[];
  max: (Value | undefined)[];
  holes: Hole[];
}

export interface Drawn {
  x: number[];
  lines: Map<string, DrawnLine>;
}

export interface HoleOptions {
  from: number;
  to: number;
  /** Silence at its end, before that counts as a hole. */
  patience: number;
  /** The same at its beginning. */
  delay?: number;
}

/** Live samples are not stored at once: between what is and what came live there may be so much nobody could know. */
const SEAM_MS = 15_000;
const LEAST_HOLE_MS = 3000;

/** Rows and columns for drawing: lines break where values are missing, and only there. */
export function drawnOf(
  table: Table,
  columns: ReadonlyMap<string, Column>,
  lines: readonly Line[],
  window: HoleOptions,
): Drawn {
  const { times, step, queried } = table;
  const wide = Math.max(2.5 * step, LEAST_HOLE_MS);
  // A row for each hole in the rows: a place for the break.
  const rows: number[] = [];
  const x: number[] = [];
  times.forEach((time, i) => {
    const before = times[i - 1];
    if (before !== undefined && time - before > wide) {
      rows.push(-1);
      x.push(before + Math.min(step, (time - before) / 2));
    }
    rows.push(i);
    x.push(i < queried && step > 1000 ? time + step / 2 : time);
  });
  const drawn = new Map<string, DrawnLine>();
  for (const { key } of lines) {
    const column = columns.get(key);
    if (!column) continue;
    const holes: Hole[] = [];
    const present = times.flatMap((_, i) =>
      column.mean[i] === null || column.mean[i] === undefined ? [] : [i],
    );
    const tolerance = Math.max(
      wide,
      2.5 * median(present.map((i, n) => (n === 0 ? 0 : times[i]! - times[present[n - 1]!]!))),
    );
    const isHole = (from: number, to: number) => {
      const isSeam = from < queried && to >= queried;
      return times[to]! - times[from]! > (isSeam ? Math.max(tolerance, SEAM_MS + step) : tolerance);
    };
    const broken = new Set<number>();
    present.forEach((to, n) => {
      const from = present[n - 1];
      if (from === undefined || !isHole(from, to)) return;
      broken.add(from);
      holes.push({ from: times[from]! + (from < queried ? step : 0), to: times[to]! });
    });
    const first = present[0];
    const last = present.at(-1);
    if (first === undefined || last === undefined) holes.push({ from: window.from, to: window.to });
    else {
      if (times[first]! - window.from > Math.max(tolerance, window.delay ?? 0))
        holes.unshift({ from: window.from, to: times[first]! });
      const end = times[last]! + (last < queried ? step : 0);
      if (window.to - end > Math.max(tolerance, window.patience)) holes.push({ from: end, to: window.to });
    }
    drawn.set(key, { ...cut(rows, column, broken, first, last), holes });
  }
  return { x, lines: drawn };
}

function cut(
  rows: readonly number[],
  column: Column,
  broken: ReadonlySet<number>,
  first: number | undefined,
  last: number | undefined,
): Omit<DrawnLine, "holes"> {
  const drawn: Omit<DrawnLine, "holes"> = { mean: [], min: [], max: [] };
  let open = false;
  let at = -1;
  for (const row of rows) {
    if (row >= 0) at = row;
    const value = row < 0 ? null : (column.mean[row] ?? null);
    if (value !== null) {
      open = broken.has(row);
      drawn.mean.push(value);
      drawn.min.push(column.min[row] ?? value);
      drawn.max.push(column.max[row] ?? value);
      continue;
    }
    const outside = first === undefined || last === undefined || at < first || at >= last;
    const nothing = open || outside ? null : undefined;
    drawn.mean.push(nothing);
    drawn.min.push(nothing);
    drawn.max.push(nothing);
  }
  return drawn;
}

/** How far apart values usually are: some are read once a minute. */
function median(intervals: readonly number[]): number {
  const sorted = intervals.slice(1).sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

export interface Summary {
  last: number | null;
  mean: number | null;
  min: number | null;
  max: number | null;
}

export function summaryOf(column: Column | undefined): Summary {
  const summary: Summary = { last: null, mean: null, min: null, max: null };
  if (!column) return summary;
  let sum = 0;
  let count = 0;
  column.mean.forEach((value, i) => {
    if (value === null || value === undefined) return;
    summary.last = value;
    sum += value;
    count++;
    const low = column.min[i] ?? value;
    const high = column.max[i] ?? value;
    if (summary.min === null || low < summary.min) summary.min = low;
    if (summary.max === null || high > summary.max) summary.max = high;
  });
  if (count > 0) summary.mean = sum / count;
  return summary;
}

/** Index of the row nearest to a time, in an ascending list; -1 in an empty one. */
export function nearestRow(times: readonly number[], time: number): number {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! < time) low = middle + 1;
    else high = middle;
  }
  return low > 0 && time - times[low - 1]! < times[low]! - time ? low - 1 : low < times.length ? low : -1;
}
