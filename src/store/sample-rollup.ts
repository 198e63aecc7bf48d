import { meanRounder, splitKey, type ReadingKey } from "../sample/reading.ts";
import type { SampleRows } from "./sample-block.ts";

/** Seconds between two rows: as they were read, then what is left of older ones. */
export const TIERS = [1, 10, 60, 600] as const;
export type Tier = (typeof TIERS)[number];
export const ROLLED_TIERS = [10, 60, 600] as const satisfies Tier[];

/** Rows of a chunk that is full, where one is read a second. */
export const CHUNK_ROWS = 600;

/** Where the chunk begins that holds this time. */
export const chunkStart = (tier: Tier, time: number): number => {
  const span = tier * CHUNK_ROWS * 1000;
  return Math.floor(time / span) * span;
};

/** One reading over some buckets of time. NaN where `count` is 0. */
export interface RolledColumn {
  /** Readings in the bucket. */
  count: Float64Array;
  min: Float64Array;
  mean: Float64Array;
  max: Float64Array;
}

export interface RolledRows {
  /** Where each bucket begins, ascending. */
  times: Float64Array;
  columns: Map<ReadingKey, RolledColumn>;
}

/** Min, mean and max of each reading in buckets of so many seconds; buckets without a row are left out. */
export function rollRows({ times, columns }: SampleRows, tier: Tier): RolledRows {
  const width = tier * 1000;
  const starts: number[] = [];
  const bucketOfRow = new Uint32Array(times.length);
  for (let row = 0; row < times.length; row++) {
    const start = Math.floor(times[row]! / width) * width;
    if (start !== starts.at(-1)) starts.push(start);
    bucketOfRow[row] = starts.length - 1;
  }
  const rolled = new Map<ReadingKey, RolledColumn>();
  for (const [key, column] of columns) {
    const { count, min, mean, max } = createColumn(starts.length);
    let sum = 0;
    for (let row = 0; row < column.length; row++) {
      const value = column[row]!;
      if (Number.isNaN(value)) continue;
      const bucket = bucketOfRow[row]!;
      if (count[bucket]!++ === 0) sum = min[bucket] = max[bucket] = value;
      else {
        sum += value;
        if (value < min[bucket]!) min[bucket] = value;
        if (value > max[bucket]!) max[bucket] = value;
      }
      mean[bucket] = sum / count[bucket]!;
    }
    const round = meanRounder(splitKey(key).name);
    for (let bucket = 0; bucket < starts.length; bucket++)
      mean[bucket] = clampMean(min[bucket]!, round(mean[bucket]!), max[bucket]!);
    rolled.set(key, { count, min, mean, max });
  }
  return { times: Float64Array.from(starts), columns: rolled };
}

/** `rows` with everything in [from, to) replaced. */
export function replaceRows(rows: RolledRows, fresh: RolledRows, from: number, to: number): RolledRows {
  const before = rows.times.findIndex((time) => time >= from);
  const head = before < 0 ? rows.times.length : before;
  const after = rows.times.findIndex((time) => time >= to);
  const tail = after < 0 ? rows.times.length : after;
  const length = head + fresh.times.length + rows.times.length - tail;
  const join = (to: Float64Array, old: Float64Array | undefined, young: Float64Array | undefined) => {
    if (old) {
      to.set(old.subarray(0, head));
      to.set(old.subarray(tail), head + fresh.times.length);
    }
    if (young) to.set(young, head);
    return to;
  };
  const columns = new Map<ReadingKey, RolledColumn>();
  for (const key of new Set([...rows.columns.keys(), ...fresh.columns.keys()])) {
    const old = rows.columns.get(key);
    const young = fresh.columns.get(key);
    const column = createColumn(length);
    for (const name of ["count", "min", "mean", "max"] as const)
      join(column[name], old?.[name], young?.[name]);
    // A reading that was only in what is replaced.
    if (column.count.some((count) => count > 0)) columns.set(key, column);
  }
  return { times: join(new Float64Array(length), rows.times, fresh.times), columns };
}

/** `rows` with those of `others` whose times are not there; `rows` itself where there are none. Both ascend. */
export function addRows(rows: RolledRows, others: RolledRows): RolledRows {
  const here = new Set(rows.times);
  const fresh = [...others.times.keys()].filter((row) => !here.has(others.times[row]!));
  if (fresh.length === 0) return rows;
  const from = [
    ...[...rows.times.keys()].map((row) => ({ time: rows.times[row]!, of: rows, row })),
    ...fresh.map((row) => ({ time: others.times[row]!, of: others, row })),
  ].sort((a, b) => a.time - b.time);
  const columns = new Map<ReadingKey, RolledColumn>();
  for (const key of new Set([...rows.columns.keys(), ...others.columns.keys()])) {
    const column = createColumn(from.length);
    from.forEach(({ of, row }, to) => {
      const old = of.columns.get(key);
      if (old)
        for (const name of ["count", "min", "mean", "max"] as const) column[name][to] = old[name][row]!;
    });
    columns.set(key, column);
  }
  return { times: Float64Array.from(from, ({ time }) => time), columns };
}

function createColumn(length: number): RolledColumn {
  return {
    count: new Float64Array(length),
    min: new Float64Array(length).fill(NaN),
    mean: new Float64Array(length).fill(NaN),
    max: new Float64Array(length).fill(NaN),
  };
}

/** Rounding must not take a mean past what it is the mean of; the mean of one value is that value. */
export function clampMean(min: number, mean: number, max: number): number {
  return mean < min ? min : mean > max ? max : mean;
}
