import type { Nodes } from "../store/rollup.ts";
import { toWire } from "./batch.ts";
import type { Buckets } from "./schema.ts";

export type BucketColumns = Omit<Buckets, "run" | "metric" | "x" | "rank">;

/**
 * Gathers points into at most `size` buckets of equal width over [low, high]. A bucket's `first` and `last` are in
 * arrival order; x0 and x1 are its smallest and largest x.
 */
export class BucketBuilder {
  private readonly size: number;
  private readonly low: number;
  private readonly scale: number;
  private readonly n: Float64Array;
  private readonly nan: Float64Array;
  private readonly inf: Float64Array;
  private readonly ninf: Float64Array;
  private readonly x0: Float64Array;
  private readonly x1: Float64Array;
  private readonly min: Float64Array;
  private readonly max: Float64Array;
  private readonly sum: Float64Array;
  private readonly first: Float64Array;
  private readonly last: Float64Array;

  constructor(size: number, low: number, high: number) {
    this.size = size;
    this.low = low;
    this.scale = high > low ? size / (high - low) : 0;
    const column = (value: number) => new Float64Array(size).fill(value);
    this.n = column(0);
    this.nan = column(0);
    this.inf = column(0);
    this.ninf = column(0);
    this.x0 = column(Infinity);
    this.x1 = column(-Infinity);
    this.min = column(Infinity);
    this.max = column(-Infinity);
    this.sum = column(0);
    this.first = column(NaN);
    this.last = column(NaN);
  }

  bucketOf(x: number): number {
    const bucket = Math.floor((x - this.low) * this.scale);
    return bucket >= this.size ? this.size - 1 : bucket;
  }

  /** Points come in arrival order. */
  add(bucket: number, x: number, value: number): void {
    if (this.n[bucket]!++ === 0) this.first[bucket] = value;
    this.last[bucket] = value;
    if (x < this.x0[bucket]!) this.x0[bucket] = x;
    if (x > this.x1[bucket]!) this.x1[bucket] = x;
    if (value - value === 0) {
      if (value < this.min[bucket]!) this.min[bucket] = value;
      if (value > this.max[bucket]!) this.max[bucket] = value;
      this.sum[bucket]! += value;
    } else if (value > 0) this.inf[bucket]!++;
    else if (value < 0) this.ninf[bucket]!++;
    else this.nan[bucket]!++;
  }

  /** A node of the pyramid, in its turn. */
  addNode(bucket: number, low: number, high: number, nodes: Nodes, index: number): void {
    if (this.n[bucket] === 0) this.first[bucket] = nodes.first[index]!;
    this.n[bucket]! += nodes.n[index]!;
    this.last[bucket] = nodes.last[index]!;
    if (low < this.x0[bucket]!) this.x0[bucket] = low;
    if (high > this.x1[bucket]!) this.x1[bucket] = high;
    if (nodes.min[index]! < this.min[bucket]!) this.min[bucket] = nodes.min[index]!;
    if (nodes.max[index]! > this.max[bucket]!) this.max[bucket] = nodes.max[index]!;
    this.sum[bucket]! += nodes.sum[index]!;
    this.nan[bucket]! += nodes.nan[index]!;
    this.inf[bucket]! += nodes.inf[index]!;
    this.ninf[bucket]! += nodes.ninf[index]!;
  }

  build(): BucketColumns {
    const columns: BucketColumns = emptyColumns();
    for (let i = 0; i < this.size; i++) {
      const n = this.n[i]!;
      if (n === 0) continue;
      const finite = n - this.nan[i]! - this.inf[i]! - this.ninf[i]!;
      columns.count += n;
      columns.x0.push(this.x0[i]!);
      columns.x1.push(this.x1[i]!);
      columns.min.push(finite > 0 ? this.min[i]! : null);
      columns.max.push(finite > 0 ? this.max[i]! : null);
      // The sum of large numbers may overflow where their mean does not.
      const mean = this.sum[i]! / finite;
      columns.mean.push(
        finite === 0 ? null : Number.isFinite(mean) ? mean : this.min[i]! / 2 + this.max[i]! / 2,
      );
      columns.first.push(toWire(this.first[i]!));
      columns.last.push(toWire(this.last[i]!));
      columns.n.push(n);
      columns.nan.push(this.nan[i]!);
      columns.inf.push(this.inf[i]!);
      columns.ninf.push(this.ninf[i]!);
    }
    return columns;
  }
}

export const emptyColumns = (): BucketColumns => ({
  count: 0,
  x0: [],
  x1: [],
  min: [],
  max: [],
  mean: [],
  first: [],
  last: [],
  n: [],
  nan: [],
  inf: [],
  ninf: [],
});

/** Every point a bucket of its own, ascending in x; equal x keep the order of arrival. */
export function singleBuckets(x: Float64Array, values: Float64Array): BucketColumns {
  const order = Uint32Array.from(x, (_, i) => i).sort((a, b) => x[a]! - x[b]! || a - b);
  const columns = emptyColumns();
  columns.count = x.length;
  for (const i of order) {
    const value = values[i]!;
    const finite = Number.isFinite(value) ? value : null;
    columns.x0.push(x[i]!);
    columns.x1.push(x[i]!);
    columns.min.push(finite);
    columns.max.push(finite);
    columns.mean.push(finite);
    columns.first.push(toWire(value));
    columns.last.push(toWire(value));
    columns.n.push(1);
    columns.nan.push(Number.isNaN(value) ? 1 : 0);
    columns.inf.push(value === Infinity ? 1 : 0);
    columns.ninf.push(value === -Infinity ? 1 : 0);
  }
  return columns;
}

/** Buckets of points held in memory. Points whose x is not finite have no place on an axis. */
export function bucketsOf(
  x: Float64Array,
  values: Float64Array,
  points: number,
  from = -Infinity,
  to = Infinity,
): BucketColumns {
  const kept = new Uint32Array(x.length);
  let n = 0;
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < x.length; i++) {
    const at = x[i]!;
    if (!(at >= from && at <= to && at - at === 0)) continue;
    kept[n++] = i;
    if (at < low) low = at;
    if (at > high) high = at;
  }
  const indexes = kept.subarray(0, n);
  if (n <= points) return singleBuckets(gather(x, indexes), gather(values, indexes));
  const builder = new BucketBuilder(points, low, high);
  for (const i of indexes) builder.add(builder.bucketOf(x[i]!), x[i]!, values[i]!);
  return builder.build();
}

const gather = (column: Float64Array, indexes: Uint32Array) =>
  Float64Array.from(indexes, (index) => column[index]!);
