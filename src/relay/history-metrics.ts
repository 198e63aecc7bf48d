import type { Collector } from "../collector.ts";
import { BATCH_VERSION, encodeBatch, type MetricBatch } from "../metric/batch.ts";
import type { TextRow } from "../metric/rows.ts";
import type { DeclaredSeries } from "../metric/summary.ts";
import { WINDOW, type RecordWindow, type SeriesSlice, type WindowSize } from "../metric/windows.ts";
import type { Frame } from "./contract.ts";
import { frameBytes } from "./frame.ts";
import { blankFrame, type HistoryPiece } from "./piece.ts";

/** Ordinals without a record of the same rank that a frame may span. */
const MAX_GAP = 1000;
const PIECE_BYTES = 1024 * 1024;

/**
 * Records of a run as entries of all its ranks. Ranks take turns, so that the ordinals of entries overlap. A series that is alone is
 * read by a chunk at a time: some of these make a piece, as each is a round trip.
 */
export async function* metricsHistory(
  collector: Collector,
  run: string,
  { from, before, size = WINDOW }: { from: number; before: number; size?: WindowSize | undefined },
): AsyncGenerator<HistoryPiece, void> {
  const series = collector.series.series(run);
  const time = collector.now();
  let piece: HistoryPiece = { from, to: from, frames: [] };
  let values = 0;
  let bytes = 0;
  for await (const window of collector.series.windows(run, { from, before, size })) {
    let next = window.from;
    for (const batch of batchesOf(window, series)) {
      const frame = frameOf(run, batch, time);
      piece.frames.push(frame);
      bytes += frameBytes(frame);
      next = Math.max(next, batch.ordinal + batch.count);
      // Each compresses for a few milliseconds.
      if (piece.frames.length % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    piece.to = window.to;
    for (const { value } of window.columns) values += value.length;
    values += window.texts.length;
    const isLast = window.to === before;
    if (!isLast && values < size.values / 2 && bytes < PIECE_BYTES && values > 0) continue;
    // Records without a value: their numbers are taken all the same.
    if (next < window.to) piece.frames.push(frameOf(run, emptyBatch(window.to - 1), time));
    yield piece;
    piece = { from: window.to, to: window.to, frames: [] };
    values = 0;
    bytes = 0;
  }
}

const frameOf = (run: string, batch: MetricBatch, time: number): Frame => ({
  ...blankFrame,
  kind: "metric.appended",
  version: BATCH_VERSION,
  run,
  ordinal: batch.ordinal,
  count: batch.count,
  time,
  ...encodeBatch(batch),
});

const emptyBatch = (ordinal: number): MetricBatch => ({
  ordinal,
  rank: 0,
  count: 1,
  step: Float64Array.of(NaN),
  time: Float64Array.of(0),
  numbers: [],
  texts: [],
  axes: [],
});

interface RankSlices {
  columns: SeriesSlice[];
  texts: Map<string, TextRow[]>;
}

function* batchesOf(
  { columns, texts }: RecordWindow,
  series: readonly DeclaredSeries[],
): Generator<MetricBatch> {
  const byRank = new Map<number, RankSlices>();
  const of = (rank: number) => {
    let slices = byRank.get(rank);
    if (!slices) byRank.set(rank, (slices = { columns: [], texts: new Map() }));
    return slices;
  };
  for (const column of columns) of(column.rank).columns.push(column);
  for (const text of texts) {
    const { key, rank } = series[text.series]!;
    const rows = of(rank).texts;
    const known = rows.get(key);
    if (known) known.push(text);
    else rows.set(key, [text]);
  }
  for (const [rank, slices] of byRank) yield* batchesOfRank(rank, slices);
}

/** Metrics that all have a value in each record are packed as they lie there. */
function* batchesOfRank(rank: number, slices: RankSlices): Generator<MetricBatch> {
  const { columns, texts } = slices;
  const [first] = columns;
  if (first && texts.size === 0 && columns.every(({ ordinal }) => ordinal === first.ordinal)) {
    const { ordinal, step, time } = first;
    const count = ordinal.length;
    if (ordinal.at(-1)! - ordinal[0]! + 1 === count) {
      const numbers = columns.map(({ key, value }) => ({ key, index: null, values: value }));
      return yield { ordinal: ordinal[0]!, rank, count, step, time, numbers, texts: [], axes: [] };
    }
  }
  for (const { start, end } of segmentsOf(slices)) yield sparseBatch(rank, slices, start, end);
}

interface Segment {
  start: number;
  end: number;
}

/** Ordinals of a rank's records, without the long gaps. */
function segmentsOf({ columns, texts }: RankSlices): Segment[] {
  const parts: Segment[] = [];
  let last: Float64Array | undefined;
  for (const { ordinal } of columns) {
    if (ordinal !== last) addParts(parts, ordinal.length, (i) => ordinal[i]!);
    last = ordinal;
  }
  for (const rows of texts.values()) addParts(parts, rows.length, (i) => rows[i]!.ordinal);
  parts.sort((a, b) => a.start - b.start);
  const segments: Segment[] = [];
  for (const part of parts) {
    const before = segments.at(-1);
    if (before && part.start - before.end <= MAX_GAP) before.end = Math.max(before.end, part.end);
    else segments.push({ ...part });
  }
  return segments;
}

function addParts(parts: Segment[], length: number, at: (i: number) => number): void {
  let start = at(0);
  for (let i = 1; i < length; i++) {
    if (at(i) - at(i - 1) <= MAX_GAP) continue;
    parts.push({ start, end: at(i - 1) + 1 });
    start = at(i);
  }
  parts.push({ start, end: at(length - 1) + 1 });
}

function sparseBatch(rank: number, slices: RankSlices, start: number, end: number): MetricBatch {
  const count = end - start;
  const batch: MetricBatch = {
    ordinal: start,
    rank,
    count,
    step: new Float64Array(count).fill(NaN),
    time: new Float64Array(count),
    numbers: [],
    texts: [],
    axes: [],
  };
  let shared: { of: Float64Array; from: number; to: number; index: Uint32Array | null } | undefined;
  for (const { key, ordinal, step, time, value } of slices.columns) {
    if (shared?.of !== ordinal) {
      const from = placeOf(ordinal, start);
      const to = placeOf(ordinal, end);
      const index = new Uint32Array(to - from);
      for (let i = from; i < to; i++) {
        const record = ordinal[i]! - start;
        index[i - from] = record;
        batch.step[record] = step[i]!;
        batch.time[record] = time[i]!;
      }
      shared = { of: ordinal, from, to, index: index.length === count ? null : index };
    }
    const { from, to, index } = shared;
    if (to > from) batch.numbers.push({ key, index, values: value.subarray(from, to) });
  }
  for (const [key, rows] of slices.texts) {
    const inside = rows.filter(({ ordinal }) => ordinal >= start && ordinal < end);
    if (inside.length === 0) continue;
    for (const { ordinal, step, time } of inside) {
      batch.step[ordinal - start] = step;
      batch.time[ordinal - start] = time;
    }
    batch.texts.push({
      key,
      index: Uint32Array.from(inside, ({ ordinal }) => ordinal - start),
      json: inside.map(({ json }) => json),
    });
  }
  return batch;
}

/** Place of the first ordinal that is not below. */
function placeOf(ordinal: Float64Array, below: number): number {
  let low = 0;
  let high = ordinal.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ordinal[middle]! < below) low = middle + 1;
    else high = middle;
  }
  return low;
}
