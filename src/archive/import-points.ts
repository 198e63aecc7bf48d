import type { Collector } from "../collector.ts";
import { BATCH_VERSION, encodeBatch, type MetricBatch } from "../metric/batch.ts";
import { MAX_STEP, MAX_TIME } from "../metric/schema.ts";
import { lineOf, linesOf } from "./check.ts";
import { free } from "./free.ts";
import { readParquet } from "./parquet-read.ts";
import { ArchivedText, type ArchivedRun } from "./schema.ts";
import { halvesOf, pointColumns } from "./tables.ts";
import { createTurns } from "./turns.ts";
import { damaged, type ArchiveEntry } from "./zip-read.ts";

/** Records and values of one journal entry. */
const MAX_RECORDS = 16_384;
const MAX_VALUES = 16_384;
const MAX_TEXT_LENGTH = 1024 * 1024;
/** Ordinals without a record that an entry may span. */
const MAX_GAP = 1000;
/** A record's text values, as long as a request may be. */
const MAX_TEXT_LINE = 64 * 1024 * 1024;

/** Numbers on their way into an entry. As lists of JavaScript's they would be garbage faster than it is collected. */
class Numbers<T extends Float64Array | Uint32Array> {
  length = 0;
  private array: T;
  private readonly create: new (buffer: ArrayBuffer) => T;

  constructor(create: new (buffer: ArrayBuffer) => T) {
    this.create = create;
    this.array = new create(new ArrayBuffer(1024));
  }

  push(value: number): void {
    if (this.length === this.array.length) {
      const buffer = this.array.buffer as ArrayBuffer;
      this.array = new this.create(buffer.transfer(2 * buffer.byteLength));
    }
    this.array[this.length++] = value;
  }

  at(place: number): number {
    return this.array[place]!;
  }

  set(place: number, value: number): void {
    this.array[place] = value;
  }

  /** What was gathered; there is no more to come. */
  take(): T {
    const taken = this.array.slice(0, this.length) as T;
    free(this.array);
    return taken;
  }
}

interface Column {
  index: Numbers<Uint32Array>;
  values: Numbers<Float64Array>;
}

interface TextColumn {
  index: Numbers<Uint32Array>;
  values: string[];
}

/** Records of one rank on their way into an entry. */
interface Gathered {
  ordinal: number;
  step: Numbers<Float64Array>;
  time: Numbers<Float64Array>;
  numbers: Map<string, Column>;
  texts: Map<string, TextColumn>;
  values: number;
  textLength: number;
}

/** Takes the values of an archive into the journal, each with its ordinal; resolves with how many there were. */
export async function importPoints(
  collector: Collector,
  run: string,
  { points, texts, run: archived }: { points: string; texts: ArchiveEntry; run: ArchivedRun },
): Promise<{ points: number; texts: number }> {
  const known = new Set(archived.series.map(({ metric, rank }) => `${rank} ${metric}`));
  const gatheredByRank = new Map<number, Gathered>();
  const counts = { points: 0, texts: 0 };
  const waitingTexts = textRows(texts);
  let text = (await waitingTexts.next()).value ?? undefined;
  const pause = createTurns();
  let lastOrdinal = 0;

  async function takeTexts(before: number): Promise<void> {
    for (; text && text.ordinal < before; text = (await waitingTexts.next()).value ?? undefined) {
      const { ordinal, rank, step, time, metric, value } = text;
      if (isFull(rank, ordinal)) await flush(rank);
      const gathered = at(ordinal, rank, step, time, metric);
      const json = JSON.stringify(value);
      put(gathered.texts, newTextColumn, metric, ordinal - gathered.ordinal, json);
      gathered.textLength += json.length;
      counts.texts++;
    }
  }

  /** The entry that a value goes into, with its record in place. */
  function at(ordinal: number, rank: number, step: number, time: number, metric: string): Gathered {
    if (!(ordinal >= 0 && ordinal < archived.next_ordinal)) throw damaged(`it has no record ${ordinal}`);
    if (!(Math.abs(step) <= MAX_STEP && time >= 0 && time <= MAX_TIME))
      throw damaged(`record ${ordinal} has an impossible step or time`);
    if (!known.has(`${rank} ${metric}`)) throw damaged(`run.json does not name all of its metrics`);
    let gathered = gatheredByRank.get(rank);
    if (!gathered) {
      gathered = {
        ordinal,
        step: new Numbers(Float64Array),
        time: new Numbers(Float64Array),
        numbers: new Map(),
        texts: new Map(),
        values: 0,
        textLength: 0,
      };
      gatheredByRank.set(rank, gathered);
    }
    const record = ordinal - gathered.ordinal;
    while (gathered.step.length <= record) {
      gathered.step.push(NaN);
      gathered.time.push(0);
    }
    if (Number.isNaN(gathered.step.at(record))) {
      // As from a client: no -0.
      gathered.step.set(record, step + 0);
      gathered.time.set(record, time + 0);
    } else if (gathered.step.at(record) !== step || gathered.time.at(record) !== time)
      throw damaged(`record ${ordinal} has two steps or times`);
    gathered.values++;
    return gathered;
  }

  function isFull(rank: number, ordinal: number): boolean {
    const gathered = gatheredByRank.get(rank);
    return gathered !== undefined && isFullFor(gathered, ordinal);
  }

  async function flush(rank: number): Promise<void> {
    const gathered = gatheredByRank.get(rank);
    gatheredByRank.delete(rank);
    if (gathered) await append(collector, run, toBatch(rank, gathered));
  }

  for await (const group of readParquet(points, pointColumns)) {
    const { ordinal, rank, step, time, metric, value } = group as {
      ordinal: BigInt64Array;
      rank: Int32Array;
      step: Float64Array;
      time: Float64Array;
      metric: string[];
      value: Float64Array;
    };
    const halves = halvesOf(ordinal);
    for (let i = 0; i < ordinal.length; i++) {
      const record = halves[2 * i]! + halves[2 * i + 1]! * 2 ** 32;
      if (record < lastOrdinal) throw damaged("its points are not in the order of their records");
      lastOrdinal = record;
      if (text && text.ordinal < record) await takeTexts(record);
      const key = metric[i]!;
      if (isFull(rank[i]!, record)) await flush(rank[i]!);
      const gathered = at(record, rank[i]!, step[i]!, time[i]!, key);
      put(gathered.numbers, newColumn, key, record - gathered.ordinal, value[i]!);
    }
    counts.points += ordinal.length;
    for (const column of [ordinal, rank, step, time, value]) free(column);
    await pause();
  }
  await takeTexts(Infinity);
  for (const rank of gatheredByRank.keys()) await flush(rank);
  return counts;
}

async function* textRows(entry: ArchiveEntry): AsyncGenerator<ArchivedText, void> {
  let last = 0;
  for await (const line of linesOf(entry, MAX_TEXT_LINE)) {
    const row = lineOf(entry, ArchivedText, line);
    if (row.ordinal < last) throw damaged("its texts are not in the order of their records");
    last = row.ordinal;
    yield row;
  }
}

function isFullFor({ ordinal: first, step, values, textLength }: Gathered, ordinal: number): boolean {
  const record = ordinal - first;
  // All of a record goes into one entry.
  if (record < step.length) return false;
  return (
    record >= MAX_RECORDS ||
    record - step.length > MAX_GAP ||
    values >= MAX_VALUES ||
    textLength >= MAX_TEXT_LENGTH
  );
}

const newColumn = (): Column => ({ index: new Numbers(Uint32Array), values: new Numbers(Float64Array) });
const newTextColumn = (): TextColumn => ({ index: new Numbers(Uint32Array), values: [] });

function put<T, C extends { index: Numbers<Uint32Array>; values: { push(value: T): unknown } }>(
  columns: Map<string, C>,
  create: () => C,
  key: string,
  record: number,
  value: T,
): void {
  let column = columns.get(key);
  if (!column) columns.set(key, (column = create()));
  const { index } = column;
  if (index.length > 0 && index.at(index.length - 1) === record)
    throw damaged("a record has two values of the same metric");
  index.push(record);
  column.values.push(value);
}

const toBatch = (rank: number, { ordinal, step, time, numbers, texts }: Gathered): MetricBatch => {
  const count = step.length;
  return {
    ordinal,
    rank,
    count,
    step: step.take(),
    time: time.take(),
    numbers: [...numbers].map(([key, { index, values }]) => {
      const records = index.take();
      return { key, index: records.length === count ? null : records, values: values.take() };
    }),
    texts: [...texts].map(([key, { index, values }]) => ({ key, index: index.take(), json: values })),
    axes: [],
  };
};

async function append(collector: Collector, run: string, batch: MetricBatch): Promise<void> {
  await collector.series.room();
  await collector.journal.append(
    {
      kind: "metric.appended",
      version: BATCH_VERSION,
      run,
      client: null,
      clientSeq: null,
      ordinal: batch.ordinal,
      nextStep: null,
      count: batch.count,
      time: collector.now(),
      ...encodeBatch(batch),
    },
    batch,
  );
}
