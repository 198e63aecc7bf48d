import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { queryBuckets } from "../metric/query.ts";
import type { MetricRecord } from "../metric/schema.ts";

/**
 * Whether a record is in the database already. Asked where a client sends one again that a former life of ours may have stored
 * without coming to say so. Times have fractions of a ms: at the same one nothing else has the same value.
 */
export async function isStored(collector: Collector, run: string, record: MetricRecord): Promise<boolean> {
  const { time, metrics } = record;
  if (time === undefined) return false;
  const found = Object.entries(metrics).find(([, value]) => typeof value === "number");
  if (!found) return false;
  const [key, value] = found;
  try {
    // Buckets find a moment by the pyramid, where points would all be read.
    const { first, last, min, max } = await queryBuckets(collector, run, {
      key,
      x: "time",
      from: time,
      to: time,
      points: 1,
    });
    return [first, last, min, max].some((values) => values.includes(value as number));
  } catch (error) {
    if (error instanceof CollectorError && error.code === "not-found") return false;
    throw error;
  }
}
