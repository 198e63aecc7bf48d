import { and, asc, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { deviceStream, Encoding } from "../entry.ts";
import { MACHINE, subjectOfRun } from "../sample/schema.ts";
import { packRows, SAMPLE_BATCH_VERSION } from "../store/sample-batch.ts";
import { BLOCK_MS, blockStart, type SampleRows } from "../store/sample-block.ts";
import type { SampleChunk } from "../store/sample-chunk.ts";
import { chunkStart, ROLLED_TIERS, TIERS, type Tier } from "../store/sample-rollup.ts";
import { run as runTable, runDevice } from "../store/tables.ts";
import { compress } from "../store/zstd.ts";
import type { HistoryBounds } from "./bounds.ts";
import type { Frame } from "./contract.ts";
import { frameBytes } from "./frame.ts";
import { blankFrame, type HistoryPiece } from "./piece.ts";

const PIECE_BYTES = 1024 * 1024;
const PIECE_FRAMES = 500;

/** A chunk on disk, or a block in memory. */
interface Place {
  subject: string;
  tier: Tier;
  start: number;
}

/** Times of the rows that are wanted, both included. */
interface Range {
  from: number;
  to: number;
}

/** What travels of one subject, tier and chunk. */
interface RolledPayload {
  device: string;
  subject: string;
  tier: Tier;
  rows: [time: number, row: Record<string, { count: number; mean: number; min: number; max: number }>][];
}

/**
 * What a device has read: rows as they were read where they are still kept, coarser ones before. Chunk by chunk in the order of their
 * beginnings: where the next one begins at `to`, all rows before are sent. Late rows may have come into a block that was sent
 * already: the one before `from` goes again.
 */
export async function* samplesHistory(
  collector: Collector,
  device: string,
  {
    from,
    run,
    bounds,
    single = false,
  }: { from: number; run?: string | undefined; bounds: HistoryBounds; single?: boolean },
): AsyncGenerator<HistoryPiece, void> {
  const range =
    run === undefined ? { from: from - BLOCK_MS, to: Infinity } : await rangeOf(collector, device, run);
  if (!range) return;
  const places = await placesOf(collector, device, await subjectsOf(collector, device, run), range);
  const kept = new Set(places.filter(({ tier }) => tier === 1).map(keyOf));
  let begun = run === undefined ? from : 0;
  let frames: Frame[] = [];
  let bytes = 0;
  for (const [i, place] of places.entries()) {
    for (const frame of framesOf(collector, device, place, range, kept)) {
      frames.push(frame);
      bytes += frameBytes(frame);
    }
    await new Promise((resolve) => setImmediate(resolve));
    const next = places[i + 1];
    if (single) {
      while (frames.length > 1) yield { from: begun, to: begun, frames: [frames.shift()!] };
    } else if (next && bytes < PIECE_BYTES && frames.length < PIECE_FRAMES) continue;
    // What a run alone has of it says nothing of where the device stands.
    const upTo = run === undefined ? Math.min(next?.start ?? Infinity, bounds.time) : 0;
    const to = Math.max(begun, upTo);
    if (frames.length > 0 || to > begun) yield { from: begun, to, frames };
    begun = to;
    frames = [];
    bytes = 0;
  }
}

/** The time that an export of a run speaks of. */
async function rangeOf({ db, now }: Collector, device: string, run: string): Promise<Range | undefined> {
  const [row] = await db
    .select({ use: runDevice, started: runTable.started, finished: runTable.finished })
    .from(runDevice)
    .innerJoin(runTable, eq(runTable.id, runDevice.run))
    .where(and(eq(runDevice.run, run), eq(runDevice.device, device), eq(runTable.deleted, false)));
  if (!row) return undefined;
  const { use, started, finished } = row;
  return {
    from: Math.min(use.from, started ?? use.from),
    to: Math.max(use.to ?? now(), finished ?? use.to ?? now()),
  };
}

async function subjectsOf(
  { db, samples }: Collector,
  device: string,
  run: string | undefined,
): Promise<string[]> {
  const own = new Set([MACHINE, ...samples.subjects(device)]);
  if (run !== undefined) return [...own, subjectOfRun(run)];
  const rows = await db
    .select({ run: runDevice.run })
    .from(runDevice)
    .innerJoin(runTable, eq(runTable.id, runDevice.run))
    .where(and(eq(runDevice.device, device), eq(runTable.deleted, false)))
    .orderBy(asc(runDevice.from));
  return [...own, ...rows.map(({ run }) => subjectOfRun(run))];
}

async function placesOf(
  { samples }: Collector,
  device: string,
  subjects: readonly string[],
  { from, to }: Range,
): Promise<Place[]> {
  const places: Place[] = [];
  for (const [i, subject] of subjects.entries()) {
    // Blocks first: one that is sealed meanwhile is found again as a chunk.
    const starts = new Set(
      samples
        .blocks(device, subject)
        .map(({ start }) => start)
        .filter((start) => start + BLOCK_MS > from && start <= to),
    );
    for (const tier of TIERS) {
      const first = chunkStart(tier, Math.max(0, from - 1000 * tier));
      const onDisk = samples.starts(device, subject, tier, first, Math.min(to, Number.MAX_SAFE_INTEGER));
      if (tier === 1) for (const start of onDisk) starts.add(start);
      else for (const start of onDisk) places.push({ subject, tier, start });
    }
    for (const start of starts) places.push({ subject, tier: 1, start });
    if (i % 64 === 63) await new Promise((resolve) => setImmediate(resolve));
  }
  return places.sort((a, b) => a.start - b.start || b.tier - a.tier);
}

const keyOf = ({ subject, start }: { subject: string; start: number }) => `${start} ${subject}`;

/** `kept`: blocks whose rows are there as they were read; they stand for the coarser ones of their time. */
function* framesOf(
  collector: Collector,
  device: string,
  { subject, tier, start }: Place,
  range: Range,
  kept: ReadonlySet<string>,
): Generator<Frame> {
  if (tier > 1) {
    const isWanted = (time: number) =>
      time > range.from - 1000 * tier &&
      time <= range.to &&
      !kept.has(keyOf({ subject, start: blockStart(time) }));
    const frame = rolledFrame(collector, device, { subject, tier, start }, isWanted);
    if (frame) yield frame;
    return;
  }
  const rows = rawRows(collector, device, subject, start);
  if (rows) {
    const frame = rawFrame(device, subject, rowsWithin(rows, range));
    if (frame) yield frame;
    return;
  }
  // It was kept until just now: its coarser rows were passed over for its sake.
  for (const tier of ROLLED_TIERS) {
    const isWanted = (time: number) => blockStart(time) === start && time <= range.to;
    const frame = rolledFrame(collector, device, { subject, tier, start: chunkStart(tier, start) }, isWanted);
    if (frame) yield frame;
  }
}

function rawRows(
  { samples }: Collector,
  device: string,
  subject: string,
  start: number,
): SampleRows | undefined {
  const block = samples.blocks(device, subject).find((block) => block.start === start);
  return block && !block.dead ? block.rows() : samples.rawRows({ device, subject, tier: 1, start });
}

function rowsWithin({ times, columns }: SampleRows, { from, to }: Range): SampleRows {
  const isInside = (time: number) => time >= from && time <= to;
  if (times.every(isInside)) return { times, columns };
  const keep = [...times.keys()].filter((row) => isInside(times[row]!));
  const part = (column: Float64Array) => Float64Array.from(keep, (row) => column[row]!);
  return { times: part(times), columns: new Map([...columns].map(([key, column]) => [key, part(column)])) };
}

function rawFrame(device: string, subject: string, { times, columns }: SampleRows): Frame | undefined {
  if (times.length === 0) return undefined;
  return {
    ...blankFrame,
    kind: "sample.appended",
    version: SAMPLE_BATCH_VERSION,
    run: deviceStream(device),
    count: times.length,
    time: times.at(-1)!,
    ...packRows([{ subject, times, columns }]),
  };
}

function rolledFrame(
  { samples }: Collector,
  device: string,
  place: Place,
  isWanted: (time: number) => boolean,
): Frame | undefined {
  const chunk = samples.chunk({ device, ...place });
  if (!chunk) return undefined;
  const rows = rolledRows(chunk, isWanted);
  if (rows.length === 0) return undefined;
  const { subject, tier } = place;
  const payload: RolledPayload = { device, subject, tier, rows };
  return {
    ...blankFrame,
    kind: "sample.rolled",
    version: 1,
    run: deviceStream(device),
    count: rows.length,
    time: rows.at(-1)![0],
    encoding: Encoding.jsonZstd,
    payload: compress(new TextEncoder().encode(JSON.stringify(payload))),
  };
}

function rolledRows(chunk: SampleChunk, isWanted: (time: number) => boolean): RolledPayload["rows"] {
  const times = chunk.times();
  const rows: RolledPayload["rows"][number][1][] = Array.from(times, () => ({}));
  for (const [column, key] of chunk.keys.entries()) {
    const count = chunk.count(column);
    const { min, mean, max } = chunk.rolled(column);
    // A column has values for the rows alone that have the reading.
    for (let row = 0, place = 0; row < count.length; row++) {
      if (count[row] === 0) continue;
      rows[row]![key] = { count: count[row]!, mean: mean[place]!, min: min[place]!, max: max[place]! };
      place++;
    }
  }
  const wanted: RolledPayload["rows"] = [];
  times.forEach((time, row) => {
    if (isWanted(time) && Object.keys(rows[row]!).length > 0) wanted.push([time, rows[row]!]);
  });
  return wanted;
}
