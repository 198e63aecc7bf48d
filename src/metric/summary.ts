import { toWire } from "./batch.ts";
import type { MetricSummary } from "./schema.ts";
import type { Series } from "./series.ts";

export interface DeclaredSeries {
  key: string;
  rank: number;
  /** Custom x axis it was last logged with. */
  x: string | null;
  /** It served as an x axis itself. */
  axis: boolean;
  /** Ordinal that gives it its place among the series of its run; absent: before all records, in the order of the list. */
  first?: number | undefined;
}

export const declarationOf = ({ key, rank, firstOrdinal, stats: { x, axis } }: Series): DeclaredSeries => ({
  key,
  rank,
  x,
  axis,
  first: firstOrdinal,
});

/** What a list of metrics shows of one: its lowest rank's numbers. */
export function summarize(name: string, byRank: ReadonlyMap<number, Series>): MetricSummary {
  const ranks = [...byRank.keys()].sort((a, b) => a - b);
  const { stats, count, textCount } = byRank.get(ranks[0]!)!;
  const isText = stats.lastTextOrdinal > stats.lastOrdinal;
  return {
    name,
    count: count + textCount,
    last: isText ? (JSON.parse(stats.lastText!) as MetricSummary["last"]) : toWire(stats.last),
    min: count === 0 ? null : toWire(stats.min),
    max: count === 0 ? null : toWire(stats.max),
    ranks,
    x: stats.x,
    axis: stats.axis,
    last_step: Number.isNaN(stats.lastStep) ? null : stats.lastStep,
    last_time: Number.isNaN(stats.lastTime) ? null : stats.lastTime,
  };
}
