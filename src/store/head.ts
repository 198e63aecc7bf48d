/** Points of a chunk. The last chunk of a series is rewritten until it holds so many. */
export const CHUNK_POINTS = 4096;

const SMALLEST = 16;

/** Four equal columns of a series' points, in arrival order. */
export interface PointColumns {
  ordinal: Float64Array;
  step: Float64Array;
  time: Float64Array;
  value: Float64Array;
}

/** Points of one chunk-to-be that are not sealed yet. */
export class Page implements PointColumns {
  /** Points of the same chunk that are already on disk; those here follow them. */
  prefix: number;
  /** Seq of the journal entry that brought the first point here: entries from it on are needed. */
  firstSeq = 0;
  length = 0;
  /** Its points are being compressed: as the whole chunk, or those it had so far; what is appended meanwhile stays. */
  sealing: "no" | "part" | "whole" = "no";
  ordinal: Float64Array = new Float64Array(SMALLEST);
  step: Float64Array = new Float64Array(SMALLEST);
  time: Float64Array = new Float64Array(SMALLEST);
  value: Float64Array = new Float64Array(SMALLEST);
  /** Points it may still hold besides the prefix. */
  private room: number;

  constructor(prefix: number, chunkPoints: number) {
    this.prefix = prefix;
    this.room = chunkPoints - prefix;
  }

  get full(): boolean {
    return this.length >= this.room;
  }

  /** Takes what fits of the column's values from `from` on; returns how many it took. */
  take(batch: BatchColumns, column: BatchColumn, from: number, seq: number): number {
    const { index, values } = column;
    const taken = Math.min(this.room - this.length, values.length - from);
    if (this.length === 0) this.firstSeq = seq;
    this.reserve(this.length + taken);
    const at = this.length;
    if (index === null) {
      for (let i = 0; i < taken; i++) this.ordinal[at + i] = batch.ordinal + from + i;
      copy(this.step, at, batch.step, from, taken);
      copy(this.time, at, batch.time, from, taken);
    } else {
      for (let i = 0; i < taken; i++) {
        const record = index[from + i]!;
        this.ordinal[at + i] = batch.ordinal + record;
        this.step[at + i] = batch.step[record]!;
        this.time[at + i] = batch.time[record]!;
      }
    }
    copy(this.value, at, values, from, taken);
    this.length += taken;
    return taken;
  }

  /** The first `count` points are on disk now; what came later stays. */
  drop(count: number, nextSeq: number): void {
    for (const column of [this.ordinal, this.step, this.time, this.value])
      column.copyWithin(0, count, this.length);
    this.length -= count;
    this.prefix += count;
    this.room -= count;
    this.firstSeq = nextSeq;
  }

  columns(): PointColumns {
    return {
      ordinal: this.ordinal.subarray(0, this.length),
      step: this.step.subarray(0, this.length),
      time: this.time.subarray(0, this.length),
      value: this.value.subarray(0, this.length),
    };
  }

  private reserve(length: number): void {
    let capacity = this.value.length;
    if (length <= capacity) return;
    while (capacity < length) capacity *= 4;
    capacity = Math.min(capacity, Math.max(this.room, SMALLEST));
    const larger = (capacity === CHUNK_POINTS ? spares.pop() : undefined) ?? createArrays(capacity);
    larger.ordinal.set(this.ordinal);
    larger.step.set(this.step);
    larger.time.set(this.time);
    larger.value.set(this.value);
    Object.assign(this, larger);
  }

  /** Its points are in a chunk, and nobody reads them here any more. */
  release(): void {
    const { ordinal, step, time, value } = this;
    if (value.length === CHUNK_POINTS && spares.length < MAX_SPARES)
      spares.push({ ordinal, step, time, value });
  }
}

/** What a page needs to know of a batch. */
export interface BatchColumns {
  ordinal: number;
  step: Float64Array;
  time: Float64Array;
}

export interface BatchColumn {
  index: Uint32Array | null;
  values: Float64Array;
}

/** Arrays of pages that were full: a million points a second would leave 30 MB of garbage a second. */
const spares: PointColumns[] = [];
const MAX_SPARES = 32;

/** Shared memory: the worker reads a page where it lies. (A copy of every page cost a tenth of the event loop.) */
function createArrays(capacity: number): PointColumns {
  const memory = new SharedArrayBuffer(4 * 8 * capacity);
  const column = (index: number) => new Float64Array(memory, 8 * capacity * index, capacity);
  return { ordinal: column(0), step: column(1), time: column(2), value: column(3) };
}

function copy(to: Float64Array, at: number, from: Float64Array, start: number, count: number): void {
  // Below this size the view that set() needs costs more than the loop.
  if (count < 32) for (let i = 0; i < count; i++) to[at + i] = from[start + i]!;
  else to.set(from.subarray(start, start + count), at);
}

export const copyColumns = ({ ordinal, step, time, value }: PointColumns): PointColumns => ({
  ordinal: ordinal.slice(),
  step: step.slice(),
  time: time.slice(),
  value: value.slice(),
});

/** Pages one after another, as one set of columns. */
export function concatColumns(parts: PointColumns[]): PointColumns {
  if (parts.length === 1) return parts[0]!;
  const length = parts.reduce((sum, part) => sum + part.value.length, 0);
  const whole: PointColumns = {
    ordinal: new Float64Array(length),
    step: new Float64Array(length),
    time: new Float64Array(length),
    value: new Float64Array(length),
  };
  let at = 0;
  for (const part of parts) {
    whole.ordinal.set(part.ordinal, at);
    whole.step.set(part.step, at);
    whole.time.set(part.time, at);
    whole.value.set(part.value, at);
    at += part.value.length;
  }
  return whole;
}
