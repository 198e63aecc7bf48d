import type { Nodes } from "../store/rollup.ts";
import { toWire } from "./batch.ts";
import type { Buckets } from "./schema.ts";

/** Buckets as columns of numbers, ascending in x. */
export interface BucketSet {
  n: Float64Array;
  nan: Float64Array;
  inf: Float64Array;
  ninf: Float64Array;
  x0: Float64Array;
  x1: Float64Array;
  /** Infinity where no value is finite. */
  min: Float64Array;
  /** -Infinity where no value is finite. */
  max: Float64Array;
  /** Of finite values; NaN where there is none. */
  mean: Float64Array;
  first: Float64Array;
  last: Float64Array;
}

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
    this.scale = high > low ? Math.min(size / (high / 2 - low / 2), Number.MAX_VALUE) : 0;
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
    // Of halves: between two numbers of this size it is further than float64 goes, and Infinity times 0 is no bucket.
    const bucket = Math.floor((x / 2 - this.low / 2) * this.scale);
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

  build(): BucketSet {
    const kept = new Uint32Array(this.size);
    let length = 0;
    for (let i = 0; i < this.size; i++) if (this.n[i]! > 0) kept[length++] = i;
    const filled = kept.subarray(0, length);
    return {
      n: gather(this.n, filled),
      nan: gather(this.nan, filled),
      inf: gather(this.inf, filled),
      ninf: gather(this.ninf, filled),
      x0: gather(this.x0, filled),
      x1: gather(this.x1, filled),
      min: gather(this.min, filled),
      max: gather(this.max, filled),
      mean: Float64Array.from(filled, (bucket) => this.mean(bucket)),
      first: gather(this.first, filled),
      last: gather(this.last, filled),
    };
  }

  private mean(bucket: number): number {
    const finite = this.n[bucket]! - this.nan[bucket]! - this.inf[bucket]! - this.ninf[bucket]!;
    if (finite === 0) return NaN;
    const mean = this.sum[bucket]! / finite;
    // The sum of large numbers may overflow where their mean does not.
    return Number.isFinite(mean) ? mean : this.min[bucket]! / 2 + this.max[bucket]! / 2;
  }
}

/** Every point a bucket of its own, ascending in x; equal x keep the order of arrival. */
function singleBuckets(xs: Float64Array, values: Float64Array): BucketSet {
  const { x, y } = ascending(xs, values);
  const count = (is: (value: number) => boolean) => Float64Array.from(y, (value) => (is(value) ? 1 : 0));
  const finiteOr = (other: number) => y.map((value) => (Number.isFinite(value) ? value : other));
  return {
    n: new Float64Array(x.length).fill(1),
    nan: count(Number.isNaN),
    inf: count((value) => value === Infinity),
    ninf: count((value) => value === -Infinity),
    x0: x,
    x1: x,
    min: finiteOr(Infinity),
    max: finiteOr(-Infinity),
    mean: finiteOr(NaN),
    first: y,
    last: y,
  };
}

/** Points in the order of their x; equal x keep the order of arrival. */
export function ascending(x: Float64Array, y: Float64Array): { x: Float64Array; y: Float64Array } {
  let ascends = true;
  for (let i = 1; i < x.length && ascends; i++) ascends = x[i]! >= x[i - 1]!;
  if (ascends) return { x, y };
  const order = Uint32Array.from(x, (_, i) => i).sort((a, b) => x[a]! - x[b]! || a - b);
  return { x: gather(x, order), y: gather(y, order) };
}

/** As JSON carries them. */
export function toColumns(set: BucketSet): Omit<Buckets, "run" | "metric" | "x" | "rank"> {
  const orNull = (column: Float64Array) =>
    Array.from(column, (value) => (Number.isFinite(value) ? value : null));
  const wire = (column: Float64Array) => Array.from(column, toWire);
  return {
    count: set.n.reduce((sum, n) => sum + n, 0),
    x0: Array.from(set.x0),
    x1: Array.from(set.x1),
    min: orNull(set.min),
    max: orNull(set.max),
    mean: orNull(set.mean),
    first: wire(set.first),
    last: wire(set.last),
    n: Array.from(set.n),
    nan: Array.from(set.nan),
    inf: Array.from(set.inf),
    ninf: Array.from(set.ninf),
  };
}

/** Buckets of points held in memory. Points whose x is not finite have no place on an axis. */
export function bucketsOf(
  x: Float64Array,
  values: Float64Array,
  points: number,
  from = -Infinity,
  to = Infinity,
): BucketSet {
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

function gather(column: Float64Array, indexes: Uint32Array): Float64Array {
  const gathered = new Float64Array(indexes.length);
  for (let i = 0; i < indexes.length; i++) gathered[i] = column[indexes[i]!]!;
  return gathered;
}
