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
  query: QueryPoints,
): Promise<Points | Buckets> {
  if (query.points !== undefined) return queryBuckets(collector, run, { ...query, points: query.points });
  const { rank, parts } = findParts(collector, run, query);
  const points: Points["points"] = [];
  for await (const part of parts) for (const point of part) points.push(point);
  return { run, metric: query.key, x: query.x, rank, points };
}

export async function queryBuckets(
  collector: Collector,
  run: string,
  { key, ...query }: QueryPoints & { points: number },
): Promise<Buckets> {
  collector.counters.get(run);
  const buckets = await collector.series.buckets(run, key, query);
  if (!buckets) return notLogged(collector, run, key, query.rank);
  checkAxis(collector, run, query.x);
  return buckets;
}

/** The JSON of Points, a part at a time: ten million points are never in memory at once. */
export function streamPoints(
  collector: Collector,
  run: string,
  query: QueryPoints,
): ReadableStream<Uint8Array> {
  const { key, x } = query;
  const { rank, parts } = findParts(collector, run, query);
  const encoder = new TextEncoder();
  async function* write(): AsyncGenerator<Uint8Array, void> {
    const head = JSON.stringify({ run, metric: key, x, rank, points: [] });
    yield encoder.encode(head.slice(0, -"]}".length));
    let separator = "";
    for await (const part of parts) {
      if (part.length === 0) continue;
      yield encoder.encode(separator + JSON.stringify(part).slice(1, -1));
      separator = ",";
    }
    yield encoder.encode("]}");
  }
  const source = write();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value, done } = await source.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await source.return();
    },
  });
}

function findParts(
  collector: Collector,
  run: string,
  { key, x, rank, from, to }: QueryPoints,
): { rank: number; parts: AsyncIterable<Points["points"]> } {
  collector.counters.get(run);
  const found = collector.series.pointParts(run, key, { rank, x });
  if (!found) return notLogged(collector, run, key, rank);
  checkAxis(collector, run, x);
  if (from === undefined && to === undefined) return found;
  const isInRange = ([at]: Points["points"][number]) =>
    (from === undefined || Number(at) >= from) && (to === undefined || Number(at) <= to);
  return { rank: found.rank, parts: filtered(found.parts, isInRange) };
}

async function* filtered<T>(
  parts: AsyncIterable<T[]>,
  keep: (item: T) => boolean,
): AsyncGenerator<T[], void> {
  for await (const part of parts) yield part.filter(keep);
}

function notLogged(collector: Collector, run: string, key: string, rank: number | undefined): never {
  const metrics = collector.series.list(run);
  const known = metrics.find(({ name }) => name === key);
  if (known)
    throw new CollectorError("not-found", `Rank ${rank} of run ${run} never logged ${key}.`, {
      hint: `These ranks did: ${known.ranks.slice(0, 20).join(", ")}.`,
    });
  throw unknownMetric(run, key, metrics);
}

/** An axis that a record named without having it is known, and has no points: a chart may ask for it. */
function checkAxis(collector: Collector, run: string, axis: string): void {
  if (axis === "step" || axis === "time") return;
  const metrics = collector.series.list(run);
  if (!metrics.some(({ name, x }) => name === axis || x === axis)) throw unknownMetric(run, axis, metrics);
}

function unknownMetric(run: string, key: string, metrics: MetricSummary[]): CollectorError {
  const names = metrics.slice(0, 10).map(({ name }) => name);
  return new CollectorError("not-found", `Run ${run} has no metric ${key}.`, {
    hint: names.length > 0 ? `It has: ${names.join(", ")}.` : "Nothing was logged to it yet.",
  });
}
