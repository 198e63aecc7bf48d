import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { queryBuckets } from "../metric/query.ts";
import type { MetricRecord, MetricValue } from "../metric/schema.ts";

/**
 * Whether a record is in the database already. Asked where a client sends one again that a former life of ours may have stored
 * without coming to say so. Times have fractions of a ms: at the same one nothing else has the same value.
 */
export async function isStored(
  collector: Collector,
  run: string,
  { time, metrics }: MetricRecord,
): Promise<boolean> {
  if (time === undefined) return false;
  const values = Object.entries(metrics);
  const number = values.find(([, value]) => isNumber(value));
  if (number) return isNumberStored(collector, run, time, number);
  return (
    values.length > 0 &&
    values.every(([key, value]) => collector.series.hasText(run, key, time, JSON.stringify(value)))
  );
}

async function isNumberStored(
  collector: Collector,
  run: string,
  time: number,
  [key, value]: [string, MetricValue],
): Promise<boolean> {
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

/** Those that JSON has no numbers for are words. */
const isNumber = (value: MetricValue) =>
  typeof value === "number" || value === "NaN" || value === "Infinity" || value === "-Infinity";
