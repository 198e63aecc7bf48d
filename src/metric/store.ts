import type { Entry } from "../entry.ts";
import type { Applier } from "../store/journal.ts";
import { toWire, type MetricBatch } from "./batch.ts";
import { bucketsOf, emptyColumns } from "./buckets.ts";
import { decodeBatch } from "./decode.ts";
import { tooManySeries } from "./parse.ts";
import { MAX_SERIES_PER_RUN, type Buckets, type MetricSummary, type Points } from "./schema.ts";
import { Series } from "./series.ts";

export type Point = Points["points"][number];

export interface PointsQuery {
  /** Absent: the lowest rank that logs the metric. */
  rank?: number | undefined;
  /** "step", "time" or the name of another metric of the same records. */
  x?: string | undefined;
}

export interface BucketsQuery extends PointsQuery {
  points: number;
  from?: number | undefined;
  to?: number | undefined;
}

/** The metrics of all runs: heads in memory, chunks on disk. */
export interface SeriesStore {
  /** Refuses a batch that would bring more series than a run may have; else its new series count from now on. */
  admit(run: string, batch: MetricBatch): void;
  list(run: string): MetricSummary[];
  /** Every point in arrival order; points whose record lacks the x are left out. undefined: no such metric. */
  points(run: string, key: string, query?: PointsQuery): { rank: number; points: Point[] } | undefined;
  buckets(run: string, key: string, query: BucketsQuery): Buckets | undefined;
  /** Largest step a run, or one rank of it, has seen; null before the first record. */
  lastStep(run: string, rank?: number): number | null;
}

interface RunSeries {
  /** Series by rank, by key. */
  byKey: Map<string, Map<number, Series>>;
  /** "rank key" of every series, also those whose first batch is still on its way to disk. */
  admitted: Set<string>;
}

export function createSeriesStore(): SeriesStore & { applier: Applier } {
  const runs = new Map<string, RunSeries>();

  function seriesOf(run: string): RunSeries {
    let series = runs.get(run);
    if (!series) runs.set(run, (series = { byKey: new Map(), admitted: new Set() }));
    return series;
  }

  function open(run: string, key: string, rank: number): Series {
    const { byKey, admitted } = seriesOf(run);
    let byRank = byKey.get(key);
    if (!byRank) byKey.set(key, (byRank = new Map()));
    let series = byRank.get(rank);
    if (!series) {
      byRank.set(rank, (series = new Series(run, key, rank)));
      admitted.add(`${rank} ${key}`);
    }
    return series;
  }

  function find(run: string, key: string, rank: number | undefined): Series | undefined {
    const byRank = seriesOf(run).byKey.get(key);
    if (!byRank) return undefined;
    return byRank.get(rank ?? Math.min(...byRank.keys()));
  }

  function apply(entry: Entry, data: unknown): MetricBatch {
    const batch = (data as MetricBatch | undefined) ?? decodeBatch(entry);
    const { run, seq } = entry;
    const { rank } = batch;
    for (const column of batch.numbers) open(run, column.key, rank).append(batch, column, seq);
    for (const column of batch.texts) open(run, column.key, rank).appendTexts(batch, column);
    applyAxes(run, batch);
    return batch;
  }

  function applyAxes(run: string, batch: MetricBatch): void {
    if (batch.axes.length === 0) return;
    const axisByRecord = new Map<number, string>();
    for (const { keys, index } of batch.axes) {
      for (const key of keys) {
        const byRank = seriesOf(run).byKey.get(key);
        const series = byRank?.get(batch.rank);
        if (series) series.stats.axis = true;
      }
      for (let i = 0; i < (index?.length ?? batch.count); i++)
        axisByRecord.set(index ? index[i]! : i, keys[0]!);
    }
    for (const { key, index } of [...batch.numbers, ...batch.texts]) {
      const record = index ? index.at(-1)! : batch.count - 1;
      const { stats } = open(run, key, batch.rank);
      const x = axisByRecord.get(record) ?? null;
      // The axis itself is drawn over what it was drawn over before.
      if (x !== key) stats.x = x;
    }
  }

  function joined(
    series: Series,
    x: string,
  ): { x: Float64Array; value: Float64Array; ordinal: Float64Array } {
    const columns = series.columns();
    if (x === "step" || x === "time")
      return { x: columns[x], value: columns.value, ordinal: columns.ordinal };
    const other = find(series.run, x, series.rank)?.columns();
    if (!other) return { x: new Float64Array(), value: new Float64Array(), ordinal: new Float64Array() };
    return joinByOrdinal(columns, other);
  }

  return {
    applier: { kind: "metric.appended", apply },

    admit(run, { rank, numbers, texts }) {
      const { admitted } = seriesOf(run);
      const fresh: string[] = [];
      for (const { key } of numbers) if (!admitted.has(`${rank} ${key}`)) fresh.push(`${rank} ${key}`);
      for (const { key } of texts) if (!admitted.has(`${rank} ${key}`)) fresh.push(`${rank} ${key}`);
      if (fresh.length === 0) return;
      if (admitted.size + fresh.length > MAX_SERIES_PER_RUN) throw tooManySeries();
      for (const id of fresh) admitted.add(id);
    },

    list(run) {
      return [...seriesOf(run).byKey].map(([name, byRank]) => summarize(name, byRank));
    },

    points(run, key, { rank, x = "step" } = {}) {
      const series = find(run, key, rank);
      if (!series) return undefined;
      const { x: xs, value, ordinal } = joined(series, x);
      const points: Point[] = Array.from(value, (y, i) => [toWire(xs[i]!), toWire(y)]);
      if (series.texts.length === 0) return { rank: series.rank, points };
      const xOf = xOfTexts(series, x);
      const merged = points.map((point, i) => ({ ordinal: ordinal[i]!, point }));
      for (const text of series.texts) {
        const at = xOf(text);
        if (at !== undefined)
          merged.push({ ordinal: text.ordinal, point: [toWire(at), JSON.parse(text.json) as Point[1]] });
      }
      merged.sort((a, b) => a.ordinal - b.ordinal);
      return { rank: series.rank, points: merged.map(({ point }) => point) };
    },

    buckets(run, key, { rank, x = "step", points, from, to }) {
      const series = find(run, key, rank);
      if (!series) return undefined;
      const { x: xs, value } = joined(series, x);
      const columns = xs.length === 0 ? emptyColumns() : bucketsOf(xs, value, points, from, to);
      return { run, metric: key, x, rank: series.rank, ...columns };
    },

    lastStep(run, only) {
      let last = -Infinity;
      for (const byRank of seriesOf(run).byKey.values())
        for (const [rank, { stats }] of byRank)
          if (only === undefined || rank === only) last = Math.max(last, stats.maxStep);
      return last === -Infinity ? null : last;
    },
  };

  function xOfTexts(
    series: Series,
    x: string,
  ): (text: { ordinal: number; step: number; time: number }) => number | undefined {
    if (x === "step") return ({ step }) => step;
    if (x === "time") return ({ time }) => time;
    const other = find(series.run, x, series.rank)?.columns();
    const xByOrdinal = new Map<number, number>();
    other?.ordinal.forEach((ordinal, i) => xByOrdinal.set(ordinal, other.value[i]!));
    return ({ ordinal }) => xByOrdinal.get(ordinal);
  }
}

function summarize(name: string, byRank: Map<number, Series>): MetricSummary {
  const ranks = [...byRank.keys()].sort((a, b) => a - b);
  const { stats } = byRank.get(ranks[0]!)!;
  const isText = stats.lastTextOrdinal > stats.lastOrdinal;
  return {
    name,
    count: stats.count + stats.texts,
    last: isText ? (JSON.parse(stats.lastText!) as MetricSummary["last"]) : toWire(stats.last),
    min: stats.count === 0 ? null : toWire(stats.min),
    max: stats.count === 0 ? null : toWire(stats.max),
    ranks,
    x: stats.x,
    axis: stats.axis,
    last_step: Number.isNaN(stats.lastStep) ? null : stats.lastStep,
    last_time: Number.isNaN(stats.lastTime) ? null : stats.lastTime,
  };
}

interface Ordered {
  ordinal: Float64Array;
  value: Float64Array;
}

/** Points of `series` whose record also has a value of `axis`. Both ascend in ordinal. */
export function joinByOrdinal(
  series: Ordered,
  axis: Ordered,
): { x: Float64Array; value: Float64Array; ordinal: Float64Array } {
  const size = Math.min(series.ordinal.length, axis.ordinal.length);
  const x = new Float64Array(size);
  const value = new Float64Array(size);
  const ordinal = new Float64Array(size);
  let length = 0;
  for (let i = 0, j = 0; i < series.ordinal.length && j < axis.ordinal.length;) {
    const difference = series.ordinal[i]! - axis.ordinal[j]!;
    if (difference < 0) i++;
    else if (difference > 0) j++;
    else {
      x[length] = axis.value[j++]!;
      ordinal[length] = series.ordinal[i]!;
      value[length++] = series.value[i++]!;
    }
  }
  return { x: x.subarray(0, length), value: value.subarray(0, length), ordinal: ordinal.subarray(0, length) };
}
