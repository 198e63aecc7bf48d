import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import type { Buckets, MetricSummary, Points, QueryPoints } from "./schema.ts";

/** The metrics of a run, in the order of their first appearance. */
export async function listMetrics(
  collector: Collector,
  run: string,
): Promise<{ run: string; metrics: MetricSummary[] }> {
  collector.counters.get(run);
  return { run, metrics: collector.series.list(run) };
}

/** Every point of a metric, or its buckets where `points` bounds them. */
export async function queryPoints(
  collector: Collector,
  run: string,
  { key, x, rank, points, from, to }: QueryPoints,
): Promise<Points | Buckets> {
  collector.counters.get(run);
  if (points !== undefined) {
    const buckets = await collector.series.buckets(run, key, { rank, x, points, from, to });
    return buckets ?? notLogged(collector, run, key, rank);
  }
  const found = await collector.series.points(run, key, { rank, x });
  if (!found) return notLogged(collector, run, key, rank);
  const inRange = ([at]: Points["points"][number]) =>
    (from === undefined || Number(at) >= from) && (to === undefined || Number(at) <= to);
  const kept = from === undefined && to === undefined ? found.points : found.points.filter(inRange);
  return { run, metric: key, x, rank: found.rank, points: kept };
}

function notLogged(collector: Collector, run: string, key: string, rank: number | undefined): never {
  const metrics = collector.series.list(run);
  const known = metrics.find(({ name }) => name === key);
  if (known)
    throw new CollectorError("not-found", `Rank ${rank} of run ${run} never logged ${key}.`, {
      hint: `These ranks did: ${known.ranks.slice(0, 20).join(", ")}.`,
    });
  const names = metrics.slice(0, 10).map(({ name }) => name);
  throw new CollectorError("not-found", `Run ${run} has no metric ${key}.`, {
    hint: names.length > 0 ? `It has: ${names.join(", ")}.` : "Nothing was logged to it yet.",
  });
}
