import { concatColumns, CHUNK_POINTS, Page, type PointColumns } from "../store/head.ts";
import type { NumberColumn, MetricBatch, TextColumn } from "./batch.ts";

/** A value that is no number, with its place. */
export interface TextPoint {
  ordinal: number;
  step: number;
  time: number;
  json: string;
}

/** What is known of a series without reading its points. */
export interface SeriesStats {
  /** Numbers, NaN and infinities among them. */
  count: number;
  texts: number;
  /** Over all numbers but NaN; NaN where there was none. */
  min: number;
  max: number;
  last: number;
  lastOrdinal: number;
  lastText: string | null;
  lastTextOrdinal: number;
  lastStep: number;
  lastTime: number;
  maxStep: number;
  /** Custom x axis it was last logged with. */
  x: string | null;
  /** It served as an x axis itself. */
  axis: boolean;
}

export const emptyStats = (): SeriesStats => ({
  count: 0,
  texts: 0,
  min: NaN,
  max: NaN,
  last: NaN,
  lastOrdinal: -1,
  lastText: null,
  lastTextOrdinal: -1,
  lastStep: NaN,
  lastTime: NaN,
  maxStep: -Infinity,
  x: null,
  axis: false,
});

/** The values of one metric of a run, as one rank logged them. */
export class Series {
  readonly run: string;
  readonly key: string;
  readonly rank: number;
  readonly stats: SeriesStats = emptyStats();
  pages: Page[] = [];
  texts: TextPoint[] = [];
  private readonly chunkPoints: number;

  constructor(run: string, key: string, rank: number, chunkPoints = CHUNK_POINTS) {
    this.run = run;
    this.key = key;
    this.rank = rank;
    this.chunkPoints = chunkPoints;
  }

  append(batch: MetricBatch, column: NumberColumn, seq: number): void {
    const { values, index } = column;
    if (values.length === 0) return;
    let from = 0;
    while (from < values.length) {
      let page = this.pages.at(-1);
      if (!page || page.full) this.pages.push((page = new Page(0, this.chunkPoints)));
      from += page.take(batch, column, from, seq);
    }
    const { stats } = this;
    let { min, max, maxStep } = stats;
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      // Written so that NaN, as the start, gives way and, as a value, changes nothing.
      if (!(value >= min)) min = Number.isNaN(value) ? min : value;
      if (!(value <= max)) max = Number.isNaN(value) ? max : value;
      const step = batch.step[index ? index[i]! : i]!;
      if (step > maxStep) maxStep = step;
    }
    stats.count += values.length;
    stats.min = min;
    stats.max = max;
    stats.maxStep = maxStep;
    stats.last = values.at(-1)!;
    const record = index ? index.at(-1)! : batch.count - 1;
    stats.lastOrdinal = batch.ordinal + record;
    this.sawRecord(batch, record);
  }

  appendTexts(batch: MetricBatch, { index, json }: TextColumn): void {
    const { stats } = this;
    json.forEach((text, i) => {
      const record = index[i]!;
      const step = batch.step[record]!;
      this.texts.push({ ordinal: batch.ordinal + record, step, time: batch.time[record]!, json: text });
      stats.maxStep = Math.max(stats.maxStep, step);
    });
    const record = index.at(-1)!;
    stats.texts += json.length;
    stats.lastText = json.at(-1)!;
    stats.lastTextOrdinal = batch.ordinal + record;
    this.sawRecord(batch, record);
  }

  /** Its newest record so far: numbers and texts of a batch come one after the other. */
  private sawRecord(batch: MetricBatch, record: number): void {
    const { stats } = this;
    if (batch.ordinal + record < Math.max(stats.lastOrdinal, stats.lastTextOrdinal)) return;
    stats.lastStep = batch.step[record]!;
    stats.lastTime = batch.time[record]!;
  }

  columns(): PointColumns {
    return concatColumns(this.pages.map((page) => page.columns()));
  }
}
