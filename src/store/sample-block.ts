import type { ReadingKey } from "../sample/reading.ts";

/** Rows of a subject as they were read: ascending times, a column for each reading, NaN where a row has it not. */
export interface SampleRows {
  times: Float64Array;
  columns: Map<ReadingKey, Float64Array>;
}

/** A block is so many ms of the wall clock: what is read once a second fills it in 600 rows. */
export const BLOCK_MS = 600_000;
/** Ten readings a second: what floods beyond that is left out. */
const MAX_ROWS = 6000;
/** A machine of 256 processors with a hundred disks and interfaces stays below. */
const MAX_COLUMNS = 2000;

export const blockStart = (time: number): number => Math.floor(time / BLOCK_MS) * BLOCK_MS;

/** The rows of one subject within one span of time, in memory, in the order of their arrival. */
export class SampleBlock {
  readonly device: string;
  readonly subject: string;
  readonly start: number;
  /** Lowest entry with something that no chunk holds; undefined where chunks hold all. */
  firstSeq: number | undefined;
  /** What of `firstSeq` is on its way into a chunk. */
  sealingSeq: number | undefined;
  /** How far the journal had come, in bytes, when this block had something new after all had been sealed. */
  dirtyBytes = 0;
  /** Changes with each row: tells whether something came while a chunk was made. */
  version = 0;
  /** Of the last row's arrival; monotonic ms. */
  usedAt = 0;
  /** Its run was deleted: nothing of it is written any more. */
  dead = false;
  length = 0;
  private times: Float64Array = new Float64Array(16);
  private readonly columns = new Map<ReadingKey, Float64Array>();
  private readonly rowByTime = new Map<number, number>();
  private isSorted = true;

  private stored: (() => SampleRows | undefined) | undefined;

  /** `stored`: what a chunk holds of it already, read when it is first needed. */
  constructor(device: string, subject: string, start: number, stored?: () => SampleRows | undefined) {
    this.device = device;
    this.subject = subject;
    this.start = start;
    this.stored = stored;
  }

  get cells(): number {
    return this.times.length * (this.columns.size + 1);
  }

  /** A row of the same time takes these values in place of its own: what is put twice changes nothing. False: no room. */
  put(time: number, values: Readonly<Record<ReadingKey, number>>): boolean {
    this.load();
    const row = this.rowOf(time);
    if (row === undefined) return false;
    let isWhole = true;
    for (const key in values) {
      let column = this.columns.get(key);
      if (!column) {
        if (this.columns.size >= MAX_COLUMNS) {
          isWhole = false;
          continue;
        }
        this.columns.set(key, (column = new Float64Array(this.times.length).fill(NaN)));
      }
      column[row] = values[key]!;
    }
    this.version++;
    return isWhole;
  }

  private rowOf(time: number): number | undefined {
    const known = this.rowByTime.get(time);
    if (known !== undefined) return known;
    if (this.length >= MAX_ROWS) return undefined;
    if (this.length === this.times.length) this.grow();
    const row = this.length++;
    if (row > 0 && this.times[row - 1]! > time) this.isSorted = false;
    this.times[row] = time;
    this.rowByTime.set(time, row);
    return row;
  }

  private grow(): void {
    const capacity = 2 * this.times.length;
    const times = new Float64Array(capacity);
    times.set(this.times);
    this.times = times;
    for (const [key, column] of this.columns) {
      const larger = new Float64Array(capacity).fill(NaN);
      larger.set(column);
      this.columns.set(key, larger);
    }
  }

  private load(): void {
    const rows = this.stored?.();
    this.stored = undefined;
    if (!rows || rows.times.length === 0) return;
    rows.times.forEach((time, row) => this.rowByTime.set(time, row));
    this.length = rows.times.length;
    this.times = rows.times;
    for (const [key, column] of rows.columns) this.columns.set(key, column);
  }

  /** A copy of these readings, or of all, in the order of time. */
  rows(wants?: (key: ReadingKey) => boolean): SampleRows {
    this.load();
    const { length } = this;
    const keys = [...this.columns.keys()].filter((key) => wants?.(key) ?? true);
    if (this.isSorted)
      return {
        times: this.times.slice(0, length),
        columns: new Map(keys.map((key) => [key, this.columns.get(key)!.slice(0, length)])),
      };
    const order = Array.from({ length }, (_, row) => row).sort((a, b) => this.times[a]! - this.times[b]!);
    const sorted = (column: Float64Array) => Float64Array.from(order, (row) => column[row]!);
    return {
      times: sorted(this.times),
      columns: new Map(keys.map((key) => [key, sorted(this.columns.get(key)!)])),
    };
  }
}
