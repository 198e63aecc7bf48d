import type { ChunkTable, TextPoint } from "../store/chunk-table.ts";
import { toWire } from "./batch.ts";
import { ascending, bucketsOf, toColumns, type BucketSet } from "./buckets.ts";
import { queryPyramid, type RangeAxis } from "./pyramid.ts";
import { chunkCount, readAll, readChunkOn, readParts } from "./read.ts";
import type { Buckets, Points } from "./schema.ts";
import type { Series } from "./series.ts";

export type Point = Points["points"][number];

export interface PointsQuery {
  /** Absent: the lowest rank that logs the metric. */
  rank?: number | undefined;
  /** "step", "time" or the name of another metric of the same records. */
  x?: string | undefined;
}

export interface BucketsQuery extends PointsQuery {
  points: number;
  from?: number | undefined;
  to?: number | undefined;
}

export interface CurveQuery extends PointsQuery {
  points: number;
}

/** A series to be drawn: its points, ascending in x, or its buckets where it has more than were asked for. */
export interface Curve {
  rank: number;
  /** Points behind it. */
  count: number;
  x: Float64Array;
  /** Values, or means of the buckets' finite values; NaN where there is none. */
  y: Float64Array;
  /** Extremes of the buckets; null where every point stands for itself. */
  min: Float64Array | null;
  max: Float64Array | null;
}

/** How what is stored of a series is read. undefined: no such metric. */
export interface SeriesReader {
  /** Every point in arrival order; points whose record lacks the x are left out. */
  points(
    run: string,
    key: string,
    query?: PointsQuery,
  ): Promise<{ rank: number; points: Point[] } | undefined>;
  /** The same a part at a time, for series that are too long to be held as points. */
  pointParts(
    run: string,
    key: string,
    query?: PointsQuery,
  ): { rank: number; parts: AsyncIterable<Point[]> } | undefined;
  buckets(run: string, key: string, query: BucketsQuery): Promise<Buckets | undefined>;
  /** Whether a value that is no number, as JSON, is among those of this very time: as far as the last records show. */
  hasText(run: string, key: string, time: number, json: string): boolean;
  curve(run: string, key: string, query: CurveQuery): Promise<Curve | undefined>;
  /** Another one whenever what a curve of this metric shows may be another. */
  version(run: string, key: string, x: string): string | undefined;
}

/** Records among which a text is looked for: nothing finds one by its time. */
const LAST_RECORDS = 100_000;

interface Joined {
  x: Float64Array;
  value: Float64Array;
  ordinal: Float64Array;
}

export function createReader(
  table: ChunkTable,
  chunkPoints: number,
  find: (run: string, key: string, rank: number | undefined) => Series | undefined,
): SeriesReader {
  /** Points of a series on an axis, in arrival order. */
  async function joined(series: Series, x: string): Promise<Joined> {
    const columns = await readAll(table, series, chunkPoints);
    if (isRangeAxis(x)) return { x: columns[x], value: columns.value, ordinal: columns.ordinal };
    const other = find(series.run, x, series.rank);
    const none = new Float64Array();
    if (!other) return { x: none, value: none, ordinal: none };
    return joinByOrdinal(columns, await readAll(table, other, chunkPoints));
  }

  /** Parts of a series on an axis, in arrival order. */
  async function* joinedParts(series: Series, x: string): AsyncGenerator<Joined, void> {
    if (!isRangeAxis(x)) {
      const whole = await joined(series, x);
      for (let at = 0; at < whole.value.length; at += chunkPoints) {
        const part = (column: Float64Array) => column.subarray(at, at + chunkPoints);
        yield { x: part(whole.x), value: part(whole.value), ordinal: part(whole.ordinal) };
      }
      return;
    }
    for await (const columns of readParts(table, series, chunkPoints))
      yield { x: columns[x], value: columns.value, ordinal: columns.ordinal };
  }

  async function* pointParts(series: Series, x: string): AsyncGenerator<Point[], void> {
    const texts = series.textCount > 0 ? await textsOn(series, x) : [];
    let next = 0;
    const textsBefore = (points: Point[], ordinal: number) => {
      for (; next < texts.length && texts[next]!.ordinal < ordinal; next++) points.push(texts[next]!.point);
    };
    for await (const part of joinedParts(series, x)) {
      const points: Point[] = [];
      for (let i = 0; i < part.value.length; i++) {
        if (next < texts.length) textsBefore(points, part.ordinal[i]!);
        points.push([toWire(part.x[i]!), toWire(part.value[i]!)]);
      }
      yield points;
    }
    const rest: Point[] = [];
    textsBefore(rest, Infinity);
    yield rest;
  }

  /** What is no number, where its record has the x. */
  async function textsOn(series: Series, x: string): Promise<{ ordinal: number; point: Point }[]> {
    const xOf = await xOfTexts(series, x);
    const stored = series.dead ? [] : table.texts(series.id);
    return [...stored, ...series.texts].flatMap((text) => {
      const at = xOf(text);
      return at === undefined
        ? []
        : [{ ordinal: text.ordinal, point: [toWire(at), JSON.parse(text.json) as Point[1]] }];
    });
  }

  async function xOfTexts(series: Series, x: string): Promise<(text: TextPoint) => number | undefined> {
    if (x === "step") return ({ step }) => step;
    if (x === "time") return ({ time }) => time;
    const other = find(series.run, x, series.rank);
    const xByOrdinal = new Map<number, number>();
    if (other) {
      const { ordinal, value } = await readAll(table, other, chunkPoints);
      ordinal.forEach((at, i) => xByOrdinal.set(at, value[i]!));
    }
    return ({ ordinal }) => xByOrdinal.get(ordinal);
  }

  async function bucketSet(
    series: Series,
    { x = "step", points, from = -Infinity, to = Infinity }: BucketsQuery,
  ): Promise<BucketSet> {
    if (isRangeAxis(x)) return queryPyramid(table, series, chunkPoints, { axis: x, points, from, to });
    const { x: xs, value } = await joined(series, x);
    return bucketsOf(xs, value, points, from, to);
  }

  /** Points of a short series without a detour over rows. */
  function shortCurve(series: Series, axis: RangeAxis): { x: Float64Array; y: Float64Array } {
    const x = new Float64Array(series.count);
    const y = new Float64Array(series.count);
    let at = 0;
    const put = (xs: Float64Array, values: Float64Array) => {
      x.set(xs, at);
      y.set(values, at);
      at += xs.length;
    };
    for (let position = 0; position < chunkCount(series, chunkPoints); position++) {
      const chunk = readChunkOn(table, series, position, axis);
      put(chunk.x, chunk.value);
    }
    for (const page of series.pages) {
      const columns = page.columns();
      put(columns[axis], columns.value);
    }
    return ascending(x, y);
  }

  return {
    async points(run, key, { rank, x = "step" } = {}) {
      const series = find(run, key, rank);
      if (!series) return undefined;
      const points: Point[] = [];
      for await (const part of pointParts(series, x)) for (const point of part) points.push(point);
      return { rank: series.rank, points };
    },

    pointParts(run, key, { rank, x = "step" } = {}) {
      const series = find(run, key, rank);
      return series && { rank: series.rank, parts: pointParts(series, x) };
    },

    async buckets(run, key, query) {
      const series = find(run, key, query.rank);
      if (!series) return undefined;
      const set = await bucketSet(series, query);
      return { run, metric: key, x: query.x ?? "step", rank: series.rank, ...toColumns(set) };
    },

    hasText(run, key, time, json) {
      const series = find(run, key, undefined);
      if (!series) return false;
      if (series.texts.some((text) => text.time === time && text.json === json)) return true;
      return (
        !series.dead && table.hasText(series.id, series.stats.lastTextOrdinal - LAST_RECORDS, time, json)
      );
    },

    async curve(run, key, { rank, x = "step", points }) {
      const series = find(run, key, rank);
      if (!series) return undefined;
      if (isRangeAxis(x) && series.count <= points)
        return { rank: series.rank, count: series.count, ...shortCurve(series, x), min: null, max: null };
      const { n, x0, x1, min, max, mean, first } = await bucketSet(series, { x, points });
      const single = n.every((n) => n === 1);
      return {
        rank: series.rank,
        count: n.reduce((sum, n) => sum + n, 0),
        x: x0.map((low, i) => low / 2 + x1[i]! / 2),
        y: single ? first : mean,
        min: single ? null : min,
        max: single ? null : max,
      };
    },

    version(run, key, x) {
      const series = find(run, key, undefined);
      if (!series) return undefined;
      const other = isRangeAxis(x) ? undefined : find(run, x, series.rank);
      return other ? `${versionOf(series)} ${versionOf(other)}` : versionOf(series);
    },
  };
}

/** Values are only ever added; the number of a series that is gone may be another's. */
const versionOf = ({ id, count, stats: { lastOrdinal, lastTime, last } }: Series) =>
  `${id}/${count}/${lastOrdinal}/${lastTime}/${last}`;

const isRangeAxis = (x: string): x is RangeAxis => x === "step" || x === "time";

interface Ordered {
  ordinal: Float64Array;
  value: Float64Array;
}

/** Points of `series` whose record also has a value of `axis`. Both ascend in ordinal. */
function joinByOrdinal(series: Ordered, axis: Ordered): Joined {
  const size = Math.min(series.ordinal.length, axis.ordinal.length);
  const x = new Float64Array(size);
  const value = new Float64Array(size);
  const ordinal = new Float64Array(size);
  let length = 0;
  for (let i = 0, j = 0; i < series.ordinal.length && j < axis.ordinal.length;) {
    const difference = series.ordinal[i]! - axis.ordinal[j]!;
    if (difference < 0) i++;
    else if (difference > 0) j++;
    else {
      x[length] = axis.value[j++]!;
      ordinal[length] = series.ordinal[i]!;
      value[length++] = series.value[i++]!;
    }
  }
  return { x: x.subarray(0, length), value: value.subarray(0, length), ordinal: ordinal.subarray(0, length) };
}
