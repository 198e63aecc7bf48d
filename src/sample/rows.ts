import { CollectorError } from "../error.ts";
import { blockStart, type SampleRows } from "../store/sample-block.ts";
import { chunkStart, TIERS, type Tier } from "../store/sample-rollup.ts";
import type { SampleStore } from "../store/sample-store.ts";
import type { ReadingKey } from "./reading.ts";

/** One reading of a subject over some rows of equal width. */
export interface SampleColumn {
  subject: string;
  key: ReadingKey;
  /** Seconds that a row stands for; 1: as it was read, and then min, mean and max are that. */
  tier: Tier;
  times: Float64Array;
  count: Float64Array;
  min: Float64Array;
  mean: Float64Array;
  max: Float64Array;
}

/** Rows handed on at a time, of one subject. */
interface Part {
  tier: Tier;
  /** Rows of these times are there as they were read. */
  skips: (time: number) => boolean;
  start: number;
}

/**
 * All that is stored of a subject between two times: rows as they were read, and where those are kept no more, those of every
 * width that is. What is read first are the blocks in memory: a block that is sealed meanwhile counts once.
 */
export async function* readSamples(
  samples: SampleStore,
  device: string,
  subject: string,
  from: number,
  to: number,
): AsyncGenerator<SampleColumn, void> {
  const inMemory = new Set<number>();
  const tiers = TIERS.map((tier) => ({
    tier,
    starts: new Set(samples.starts(device, subject, tier, chunkStart(tier, firstRow(tier, from)), to)),
  }));
  const blocks = samples.blocks(device, subject).sort((a, b) => a.start - b.start);
  for (const block of blocks) inMemory.add(block.start);
  for (const block of blocks) {
    if (block.dead) throw new CollectorError("gone", "The run was deleted.");
    yield* rawColumns(subject, block.rows(), from, to);
  }
  const read = tiers[0]!.starts;
  for (const { tier, starts } of tiers) {
    const skips = (time: number) =>
      inMemory.has(blockStart(time)) || (tier > 1 && read.has(blockStart(time)));
    for (const start of starts) {
      yield* chunkColumns(samples, device, subject, { tier, start, skips }, from, to);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

function* rawColumns(
  subject: string,
  { times, columns }: SampleRows,
  from: number,
  to: number,
): Generator<SampleColumn> {
  for (const [key, column] of columns) {
    const keep = rowsOf(times, (time, row) => time >= from && time <= to && !Number.isNaN(column[row]));
    if (keep.length === 0) continue;
    const values = Float64Array.from(keep, (row) => column[row]!);
    yield {
      subject,
      key,
      tier: 1,
      times: Float64Array.from(keep, (row) => times[row]!),
      count: new Float64Array(keep.length).fill(1),
      min: values,
      mean: values,
      max: values,
    };
  }
}

function* chunkColumns(
  samples: SampleStore,
  device: string,
  subject: string,
  { tier, start, skips }: Part,
  from: number,
  to: number,
): Generator<SampleColumn> {
  const chunk = samples.chunk({ device, subject, tier, start });
  if (!chunk) return;
  const times = chunk.times();
  const first = firstRow(tier, from);
  const wanted = times.map((time) => (time >= first && time <= to && !skips(time) ? 1 : 0));
  if (!wanted.includes(1)) return;
  for (const [column, key] of chunk.keys.entries()) {
    const count = chunk.count(column);
    const raw = tier === 1 ? chunk.raw(column) : undefined;
    const { min, mean, max } = raw ? { min: raw, mean: raw, max: raw } : chunk.rolled(column);
    // A column has values for the rows alone that have the reading.
    const places: number[] = [];
    const rows: number[] = [];
    for (let row = 0, place = 0; row < count.length; row++) {
      if (count[row] === 0) continue;
      if (wanted[row] === 1) {
        rows.push(row);
        places.push(place);
      }
      place++;
    }
    if (rows.length === 0) continue;
    const at = (values: Float64Array) => Float64Array.from(places, (place) => values[place]!);
    yield {
      subject,
      key,
      tier,
      times: Float64Array.from(rows, (row) => times[row]!),
      count: Float64Array.from(rows, (row) => count[row]!),
      min: at(min),
      mean: at(mean),
      max: at(max),
    };
  }
}

/** A row that is a mean begins before what it is the mean of. */
const firstRow = (tier: Tier, from: number): number => (tier === 1 ? from : from - 1000 * tier + 1);

function rowsOf(times: Float64Array, keep: (time: number, row: number) => boolean): number[] {
  const rows: number[] = [];
  times.forEach((time, row) => {
    if (keep(time, row)) rows.push(row);
  });
  return rows;
}
