import type { SeriesRow, SeriesStats, TextPoint } from "../store/chunk-table.ts";
import { Page } from "../store/head.ts";
import type { SealedSeries } from "../store/seal.ts";
import type { MetricBatch, NumberColumn, TextColumn } from "./batch.ts";

const emptyStats = (): SeriesStats => ({
  min: NaN,
  max: NaN,
  last: NaN,
  lastOrdinal: -1,
  lastText: null,
  lastTextOrdinal: -1,
  lastStep: NaN,
  lastTime: NaN,
  minStep: Infinity,
  maxStep: -Infinity,
  minTime: Infinity,
  maxTime: -Infinity,
  x: null,
  axis: false,
});

/** A text that is only in memory, with the journal entry that has it. */
interface PendingText extends TextPoint {
  seq: number;
}

/** The values of one metric of a run, as one rank logged them: the newest in memory, the others in chunks. */
export class Series implements SealedSeries {
  readonly id: number;
  readonly run: string;
  readonly key: string;
  readonly rank: number;
  readonly firstOrdinal: number;
  readonly stats: SeriesStats;
  /** Numbers in all, NaN and infinities among them. */
  count: number;
  textCount: number;
  /** Numbers in chunks; those above `sealedOrdinal` are in `pages`. */
  sealed: number;
  sealedOrdinal: number;
  sealedTexts: number;
  sealedTextOrdinal: number;
  /** Chunks to be: the first goes on where the last chunk on disk ends. */
  pages: Page[] = [];
  texts: PendingText[] = [];
  dead = false;

  constructor(row: SeriesRow) {
    this.id = row.id;
    this.run = row.run;
    this.key = row.key;
    this.rank = row.rank;
    this.firstOrdinal = row.firstOrdinal;
    this.stats = row.stats;
    this.count = this.sealed = row.sealed;
    this.textCount = this.sealedTexts = row.sealedTexts;
    this.sealedOrdinal = row.sealedOrdinal;
    this.sealedTextOrdinal = row.sealedTextOrdinal;
  }

  static create(id: number, run: string, key: string, rank: number, firstOrdinal: number): Series {
    return new Series({
      id,
      run,
      key,
      rank,
      firstOrdinal,
      sealed: 0,
      sealedOrdinal: -1,
      sealedTexts: 0,
      sealedTextOrdinal: -1,
      stats: emptyStats(),
    });
  }

  rowAt(sealed: number, sealedOrdinal: number): SeriesRow {
    const { id, run, key, rank, firstOrdinal, sealedTexts, sealedTextOrdinal, stats } = this;
    return { id, run, key, rank, firstOrdinal, sealed, sealedOrdinal, sealedTexts, sealedTextOrdinal, stats };
  }

  /** Entry with the oldest value that is only in memory; undefined where all is in chunks. */
  get firstSeq(): number | undefined {
    const pageSeq = this.pages[0]?.firstSeq;
    const textSeq = this.texts[0]?.seq;
    if (textSeq === undefined) return pageSeq;
    return pageSeq === undefined ? textSeq : Math.min(pageSeq, textSeq);
  }

  /** Takes the values that are not in chunks yet (on replay some are); returns how many. `onFull` is called after each page filled. */
  append(
    batch: MetricBatch,
    column: NumberColumn,
    seq: number,
    chunkPoints: number,
    onFull: () => void,
  ): number {
    const { values, index } = column;
    const start = firstAbove(batch.ordinal, index, values.length, this.sealedOrdinal);
    let from = start;
    while (from < values.length) {
      let page = this.pages.at(-1);
      if (!page || page.full) {
        const prefix = this.pages.length === 0 ? this.sealed % chunkPoints : 0;
        this.pages.push((page = new Page(prefix, chunkPoints)));
      }
      from += page.take(batch, column, from, seq);
      if (page.full) onFull();
    }
    const taken = values.length - start;
    if (taken > 0) this.count += taken;
    this.measure(batch, column, start);
    return taken;
  }

  private measure(batch: MetricBatch, { values, index }: NumberColumn, start: number): void {
    if (start >= values.length) return;
    const { stats } = this;
    let { min, max } = stats;
    for (let i = start; i < values.length; i++) {
      const value = values[i]!;
      // Written so that NaN, as the start, gives way and, as a value, changes nothing.
      if (!(value >= min) && value === value) min = value;
      if (!(value <= max) && value === value) max = value;
      const record = index === null ? i : index[i]!;
      const step = batch.step[record]!;
      const time = batch.time[record]!;
      if (step < stats.minStep) stats.minStep = step;
      if (step > stats.maxStep) stats.maxStep = step;
      if (time < stats.minTime) stats.minTime = time;
      if (time > stats.maxTime) stats.maxTime = time;
    }
    stats.min = min;
    stats.max = max;
    stats.last = values.at(-1)!;
    const record = index === null ? values.length - 1 : index.at(-1)!;
    stats.lastOrdinal = batch.ordinal + record;
    this.sawRecord(batch, record);
  }

  appendTexts(batch: MetricBatch, { index, json }: TextColumn, seq: number): number {
    const { stats } = this;
    const start = firstAbove(batch.ordinal, index, json.length, this.sealedTextOrdinal);
    if (start >= json.length) return 0;
    for (let i = start; i < json.length; i++) {
      const record = index[i]!;
      const step = batch.step[record]!;
      const time = batch.time[record]!;
      this.texts.push({ ordinal: batch.ordinal + record, step, time, json: json[i]!, seq });
      stats.maxStep = Math.max(stats.maxStep, step);
    }
    const record = index.at(-1)!;
    this.textCount += json.length - start;
    stats.lastText = json.at(-1)!;
    stats.lastTextOrdinal = batch.ordinal + record;
    this.sawRecord(batch, record);
    return json.length - start;
  }

  /** The first `count` texts are on disk now. */
  dropTexts(count: number): void {
    this.sealedTexts += count;
    this.sealedTextOrdinal = this.texts[count - 1]!.ordinal;
    this.texts = this.texts.slice(count);
  }

  /** Its newest record so far: numbers and texts of a batch come one after the other. */
  private sawRecord(batch: MetricBatch, record: number): void {
    const { stats } = this;
    if (batch.ordinal + record < Math.max(stats.lastOrdinal, stats.lastTextOrdinal)) return;
    stats.lastStep = batch.step[record]!;
    stats.lastTime = batch.time[record]!;
  }
}

/** Position of the first value whose record's ordinal is above `sealed`. */
function firstAbove(first: number, index: Uint32Array | null, length: number, sealed: number): number {
  if (first > sealed) return 0;
  if (index === null) return Math.min(length, sealed - first + 1);
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (first + index[middle]! > sealed) high = middle;
    else low = middle + 1;
  }
  return low;
}
