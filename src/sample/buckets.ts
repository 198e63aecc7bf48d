import { CollectorError } from "../error.ts";
import { clampMean, type RolledColumn } from "../store/sample-rollup.ts";
import { meanRounder, splitKey, type ReadingKey } from "./reading.ts";
import type { SampleSeries } from "./schema.ts";

/** Buckets of all series together: 32 MB of memory, and as much again as an answer. */
const MAX_CELLS = 1_000_000;

/** One reading of one subject, bucket by bucket. */
interface Series {
  subject: string;
  key: ReadingKey;
  count: Float64Array;
  sum: Float64Array;
  min: Float64Array;
  max: Float64Array;
}

/** What a query gathers: the same buckets of time for all its series. */
export class SampleBuckets {
  private readonly series = new Map<string, Series>();
  private readonly first: number;
  private readonly length: number;
  private readonly step: number;
  /** ms of the first row that counts, and behind the last. */
  readonly from: number;
  readonly to: number;

  /** `row`: ms of a stored row; those that `from` and `to` fall into count as a whole. */
  constructor(from: number, to: number, { step, row }: { step: number; row: number }) {
    this.step = step;
    this.from = Math.floor(from / row) * row;
    this.to = (Math.floor(to / row) + 1) * row;
    this.first = Math.floor(from / step);
    this.length = countBuckets(from, to, step);
  }

  /** The bucket of each time; -1 where it is in none, or `skips` it. */
  place(times: Float64Array, skips: (time: number) => boolean): { buckets: Int32Array; any: boolean } {
    const buckets = new Int32Array(times.length);
    let any = false;
    for (let row = 0; row < times.length; row++) {
      const time = times[row]!;
      const isIn = time >= this.from && time < this.to && !skips(time);
      buckets[row] = isIn ? Math.floor(time / this.step) - this.first : -1;
      any ||= isIn;
    }
    return { buckets, any };
  }

  /** `values` has only what is there: as many as there are rows with a count. */
  addRaw(subject: string, key: ReadingKey, buckets: Int32Array, count: Float64Array, values: Float64Array) {
    const { count: counts, sum, min, max } = this.seriesOf(subject, key);
    for (let row = 0, at = 0; row < buckets.length; row++) {
      if (count[row] === 0) continue;
      const value = values[at++]!;
      const bucket = buckets[row]!;
      if (bucket < 0) continue;
      counts[bucket]!++;
      sum[bucket]! += value;
      if (!(value >= min[bucket]!)) min[bucket] = value;
      if (!(value <= max[bucket]!)) max[bucket] = value;
    }
  }

  addRolled(subject: string, key: ReadingKey, buckets: Int32Array, column: RolledColumn): void {
    const { count: counts, sum, min, max } = this.seriesOf(subject, key);
    const { count } = column;
    for (let row = 0, at = 0; row < buckets.length; row++) {
      const n = count[row]!;
      if (n === 0) continue;
      const index = at++;
      const bucket = buckets[row]!;
      if (bucket < 0) continue;
      counts[bucket]! += n;
      sum[bucket]! += n * column.mean[index]!;
      if (!(column.min[index]! >= min[bucket]!)) min[bucket] = column.min[index]!;
      if (!(column.max[index]! <= max[bucket]!)) max[bucket] = column.max[index]!;
    }
  }

  private seriesOf(subject: string, key: ReadingKey): Series {
    const id = `${subject}\n${key}`;
    let series = this.series.get(id);
    if (!series) {
      if ((this.series.size + 1) * this.length > MAX_CELLS)
        throw new CollectorError(
          "too-large",
          `${this.length} points of more than ${this.series.size} readings are too many for one answer.`,
          { hint: "Ask for fewer points, or name subjects and readings." },
        );
      const column = () => new Float64Array(this.length);
      series = {
        subject,
        key,
        count: column(),
        sum: column(),
        min: column().fill(NaN),
        max: column().fill(NaN),
      };
      this.series.set(id, series);
    }
    return series;
  }

  /** Buckets in which nothing was read at all are left out. */
  finish(): { times: number[]; series: SampleSeries[] } {
    const isUsed = new Uint8Array(this.length);
    const all: Series[] = [];
    for (const one of this.series.values()) {
      let any = false;
      for (let bucket = 0; bucket < this.length; bucket++)
        if (one.count[bucket]! > 0) {
          isUsed[bucket] = 1;
          any = true;
        }
      if (any) all.push(one);
    }
    const used: number[] = [];
    for (let bucket = 0; bucket < this.length; bucket++) if (isUsed[bucket] === 1) used.push(bucket);
    return {
      times: used.map((bucket) => (this.first + bucket) * this.step),
      series: all.map((one) => finishSeries(one, used)),
    };
  }
}

export const countBuckets = (from: number, to: number, step: number): number =>
  Math.floor(to / step) - Math.floor(from / step) + 1;

function finishSeries({ subject, key, count, sum, min, max }: Series, used: number[]): SampleSeries {
  const { name, part } = splitKey(key);
  const round = meanRounder(name);
  const mean: (number | null)[] = [];
  let isFlat = true;
  for (const bucket of used) {
    const n = count[bucket]!;
    const least = min[bucket]!;
    const most = max[bucket]!;
    if (n === 0) mean.push(null);
    else if (least === most) mean.push(least);
    else {
      mean.push(clampMean(least, round(sum[bucket]! / n), most));
      isFlat = false;
    }
  }
  const head = { subject, reading: name, part, mean };
  return isFlat ? head : { ...head, min: pick(min, count, used), max: pick(max, count, used) };
}

function pick(column: Float64Array, count: Float64Array, used: number[]): (number | null)[] {
  const values: (number | null)[] = [];
  for (const bucket of used) values.push(count[bucket] === 0 ? null : column[bucket]!);
  return values;
}
