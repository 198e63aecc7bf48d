/** The points of one rank as a chart draws them. Pure; the browser's charts stand on it. */
import type { Buckets } from "../metric/schema.ts";
import { isWireNumber, toNumber } from "./format.ts";

export interface Series {
  /** Ascending. */
  x: number[];
  /** null where a bucket has no finite value: the line breaks there. */
  mean: (number | null)[];
  min: (number | null)[];
  max: (number | null)[];
  /** Values that have no place on the axis, by bucket. */
  nan: number[];
  inf: number[];
  ninf: number[];
  /** Points behind the buckets. */
  count: number;
  /** The last point: a bucket's place on the axis is its middle, which says less. */
  end: { x: number; value: number } | undefined;
}

export const emptySeries = (): Series => ({
  x: [],
  mean: [],
  min: [],
  max: [],
  nan: [],
  inf: [],
  ninf: [],
  count: 0,
  end: undefined,
});

/** A bucket stands in the middle of its range; `shift` is taken off x, for times since the start. */
export function fromBuckets(buckets: Buckets, shift = 0): Series {
  const x = buckets.x0.map((x0, i) => {
    const low = toNumber(x0);
    const high = toNumber(buckets.x1[i]!);
    return low + (high - low) / 2 - shift;
  });
  const last = x.length - 1;
  return {
    x,
    mean: [...buckets.mean],
    min: [...buckets.min],
    max: [...buckets.max],
    nan: [...buckets.nan],
    inf: [...buckets.inf],
    ninf: [...buckets.ninf],
    count: buckets.count,
    end:
      last < 0 ? undefined : { x: toNumber(buckets.x1[last]!) - shift, value: toNumber(buckets.last[last]!) },
  };
}

/** Adds a point at the end. False where it belongs further back: only the collector can sort it in. */
export function appendPoint(series: Series, x: number, value: number): boolean {
  if (!Number.isFinite(x)) return true;
  if (series.end && x < series.end.x) return false;
  const finite = Number.isFinite(value) ? value : null;
  series.x.push(x);
  series.mean.push(finite);
  series.min.push(finite);
  series.max.push(finite);
  series.nan.push(Number.isNaN(value) ? 1 : 0);
  series.inf.push(value === Infinity ? 1 : 0);
  series.ninf.push(value === -Infinity ? 1 : 0);
  series.count++;
  series.end = { x, value };
  return true;
}

/**
 * What to make of a live point that came while buckets were on their way, and may be in them: "in", "after" them, or "ask" again,
 * where a step is repeated and only the collector can tell.
 */
export function placeLate({ end }: Series, x: number, value: number): "in" | "after" | "ask" {
  if (!end || x > end.x) return "after";
  return x < end.x || Object.is(value, end.value) ? "in" : "ask";
}

/**
 * Exponential moving average, debiased: without the division the first values would be drawn towards zero. What is not
 * finite is passed over. `weight` 0 leaves all as it is.
 */
export function smooth(values: readonly (number | null)[], weight: number): (number | null)[] {
  let average = 0;
  let remaining = 1;
  return values.map((value) => {
    if (value === null) return null;
    average = average * weight + (1 - weight) * value;
    remaining *= weight;
    return average / (1 - remaining);
  });
}

/** A logarithmic axis has no place for zero and below. */
export const positive = (values: readonly (number | null)[]): (number | null)[] =>
  values.map((value) => (value !== null && value > 0 ? value : null));

/** Whether a bucket anywhere stands for more than its mean: else there is no band to draw. */
export const hasSpread = (series: Series): boolean =>
  series.min.some((min, i) => min !== null && min !== series.max[i]);

export interface Mark {
  x: number;
  kind: "NaN" | "+∞" | "−∞";
  count: number;
}

/** Where values were not finite, in order. */
export function marksOf(series: Series): Mark[] {
  const marks: Mark[] = [];
  for (let i = 0; i < series.x.length; i++) {
    const x = series.x[i]!;
    if (series.nan[i]) marks.push({ x, kind: "NaN", count: series.nan[i]! });
    if (series.inf[i]) marks.push({ x, kind: "+∞", count: series.inf[i]! });
    if (series.ninf[i]) marks.push({ x, kind: "−∞", count: series.ninf[i]! });
  }
  return marks;
}

/** New points of one series, as a live event brings them. */
export interface LiveSeries {
  key: string;
  rank: number;
  /** Custom x axis; null: the step. */
  x: string | null;
  /** Points since the last event; `points` are those of them that a chart needs. */
  n: number;
  /** [ordinal, step, time, value], and with a custom axis its value. */
  points: unknown[][];
}

/**
 * A live point as [x, y] on an axis; undefined where it has no place there. Axes other than the series' own do not come with the
 * event: `null` says that only the collector can tell.
 */
export function placeOn(
  axis: string,
  series: LiveSeries,
  point: unknown[],
  started: number,
): [number, number] | undefined | null {
  const [, step, time, value, custom] = point as [number, number, number, unknown, unknown];
  const y = isWireNumber(value) ? toNumber(value) : undefined;
  if (y === undefined) return undefined;
  if (axis === "step") return [step, y];
  if (axis === "time") return [time, y];
  if (axis === "relative") return [time - started, y];
  if (axis === series.key) return [y, y];
  if (axis !== series.x) return null;
  return typeof custom === "number" ? [custom, y] : undefined;
}
