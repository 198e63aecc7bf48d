import { deviceOfStream, type Entry } from "../entry.ts";
import { runOfSubject, subjectOfRun, type Sample } from "../sample/schema.ts";
import type { Applier } from "./journal.ts";
import type { Write } from "./journal-rows.ts";
import type { Connection } from "./open.ts";
import { unpackSamples } from "./sample-batch.ts";
import { BLOCK_MS, blockStart, SampleBlock, type SampleRows } from "./sample-block.ts";
import { SampleBlocks } from "./sample-blocks.ts";
import { decodeRaw, decodeRolled, encodeRolled, SampleChunk } from "./sample-chunk.ts";
import { createSampleRetention, type SampleRetentionOptions } from "./sample-retain.ts";
import { addRows, chunkStart, ROLLED_TIERS, type RolledRows, type Tier } from "./sample-rollup.ts";
import { createSampleSealer, PLAIN_TIER } from "./sample-sealer.ts";
import { createSampleTable, writeOfChunk, type ChunkPlace } from "./sample-table.ts";

const TICK_MS = 1000;
/** A block whose successor is there is finished after so long without a row: rows come in batches of ten seconds. */
const GRACE_MS = 20_000;
/** So is the last one of a subject that is no longer read. */
const IDLE_MS = 660_000;
/** Blocks, and numbers in them, above which the oldest are finished though their span is not over. 8 bytes a number. */
const MAX_BLOCKS = 1000;
const MAX_CELLS = 2_000_000;
/** So many times that, and who appends waits; for so long. */
const HARD_FACTOR = 2;
const MAX_WAIT_MS = 5000;
/** What a start has to replay because of a block that is still open. */
const MAX_REPLAY_ENTRIES = 5000;
const MAX_REPLAY_BYTES = 32 * 1024 * 1024;

/** The samples of all devices: open blocks in memory, chunks on disk. */
export interface SampleStore {
  readonly applier: Applier;
  /** Samples left out since the start because there was no room for them, on disk or in memory. */
  readonly dropped: number;
  /** `why`: "full" where the disk has no room, "busy" where memory has none. */
  drop(device: string, samples: readonly { time: number }[], why: DropReason): void;
  /** Samples that had a fault of their own: after their time had expired, in a flood, or without a number or a time. */
  readonly refused: number;
  refuse(samples: number): void;
  /** False where memory is full for so long that what is to come must be left out. */
  room(): Promise<boolean>;
  /** Subjects of a device, but for runs. */
  subjects(device: string): string[];
  /** What of a subject is in memory: it stands for whatever chunks hold of the same time. */
  blocks(device: string, subject: string): SampleBlock[];
  /** Where the chunks of a tier between two times begin. */
  starts(device: string, subject: string, tier: Tier, from: number, to: number): number[];
  chunk(place: ChunkPlace): SampleChunk | undefined;
  /** All rows of a chunk that holds them as they were read. */
  rawRows(place: ChunkPlace): SampleRows | undefined;
  /** Times of the rows that are kept as they were read in the block that begins at `start`. */
  rowTimes(device: string, subject: string, start: number): Float64Array;
  /** What is to be written so that these rows are in a finished chunk, too; those that are there stay as they are. */
  mergeRolled(place: ChunkPlace, rows: RolledRows): Write | undefined;
  /** Writes everything that is only in memory (and in the journal) into chunks. */
  seal(): Promise<void>;
  /** The same, as if every block's span were over. */
  finish(): Promise<void>;
  /** Removes what is older than its tier is kept. */
  expire(): Promise<void>;
  /** Removes the finest of what is hours old, until there is enough room; false where nothing could go. */
  thin(isEnough: () => boolean): Promise<boolean>;
  /** Forgets what a run's processes read, on every device. */
  purge(run: string): Promise<void>;
  /** Forgets all that a device read. */
  purgeDevice(device: string): Promise<void>;
  close(): void;
}

export type DropReason = "full" | "busy";

export interface SampleStoreOptions extends SampleRetentionOptions {
  /** Sealing met a full disk. */
  onFull: () => void;
  /** How far the journal has come, entries of other kinds included: those are held up by ours, too. */
  journalPosition: () => { seq: number; bytes: number };
  /** Samples of a device were left out: so many, from one time to another. */
  onDropped?:
    | ((device: string, range: { first: number; last: number; count: number }, why: DropReason) => void)
    | undefined;
  /** What of a deleted run is still in the journal is not taken up again. */
  isDeleted: (run: string) => boolean;
  graceMs?: number | undefined;
  idleMs?: number | undefined;
  tickMs?: number | undefined;
  maxBlocks?: number | undefined;
  maxCells?: number | undefined;
  maxReplayEntries?: number | undefined;
}

export function createSampleStore(
  connection: Connection,
  {
    onFatal,
    onFull,
    journalPosition,
    isDeleted,
    keepDays,
    now,
    monotonic,
    onExpired,
    onRemoved,
    onDropped = () => {},
    graceMs = GRACE_MS,
    idleMs = IDLE_MS,
    tickMs = TICK_MS,
    maxBlocks = MAX_BLOCKS,
    maxCells = MAX_CELLS,
    maxReplayEntries = MAX_REPLAY_ENTRIES,
  }: SampleStoreOptions,
): SampleStore {
  const table = createSampleTable(connection);
  const blocks = new SampleBlocks();
  const sealedBefore = table.sealed();
  let lastSeq = sealedBefore;
  let dropped = 0;
  let refused = 0;
  let waiting = new Set<() => void>();
  let closed = false;
  const sealer = createSampleSealer(connection, table, blocks, {
    onFatal,
    onFull,
    lastSeq: () => lastSeq,
    onSealed: () => {
      if (hasRoom()) admitWaiting();
    },
  });
  const retention = createSampleRetention(connection, table, {
    keepDays,
    now,
    monotonic,
    onFatal,
    onExpired,
    onRemoved,
  });
  for (const { device, subject, start } of table.open()) open(device, subject, start);

  const timer = setInterval(tick, tickMs);
  timer.unref();

  function apply(entry: Entry, data: unknown): Sample[] {
    // On replay, most is in chunks.
    if (data === undefined && entry.seq <= sealedBefore) return [];
    const samples = (data as Sample[] | undefined) ?? unpackSamples(entry);
    const device = deviceOfStream(entry.run) ?? entry.run;
    lastSeq = Math.max(lastSeq, entry.seq);
    const gone = new Set<string>();
    for (const subject of new Set(samples.map(({ subject }) => subject))) {
      const run = runOfSubject(subject);
      if (run !== undefined && isDeleted(run)) gone.add(subject);
    }
    for (const sample of samples) if (!gone.has(sample.subject)) put(device, sample, entry.seq);
    return samples;
  }

  function put(device: string, { subject, time, values }: Sample, seq: number): void {
    const start = blockStart(time);
    const block = blocks.get(device, subject, start) ?? reopen(device, subject, start);
    if (!block) {
      refused++;
      return;
    }
    if (!block.put(time, values)) refused++;
    block.usedAt = performance.now();
    if (block.firstSeq !== undefined) return;
    block.firstSeq = seq;
    block.dirtyBytes = journalPosition().bytes;
  }

  /** A block that is new, or was in a chunk already; undefined where only rollups are left of its time. */
  function reopen(device: string, subject: string, start: number): SampleBlock | undefined {
    if (table.data({ device, subject, tier: 1, start }) !== undefined) return open(device, subject, start);
    return hasExpired(device, subject, start)
      ? undefined
      : blocks.add(new SampleBlock(device, subject, start));
  }

  function open(device: string, subject: string, start: number): SampleBlock {
    const block = new SampleBlock(device, subject, start, () => {
      const data = table.data({ device, subject, tier: 1, start });
      return data && decodeRaw(data);
    });
    block.usedAt = performance.now();
    return blocks.add(block);
  }

  /** Its rows are gone and its rollups are not: those would be lost to a single late row. */
  function hasExpired(device: string, subject: string, start: number): boolean {
    return ROLLED_TIERS.some((tier) => {
      const data = table.data({ device, subject, tier, start: chunkStart(tier, start) });
      return data && new SampleChunk(data).times().some((time) => time >= start && time < start + BLOCK_MS);
    });
  }

  function tick(): void {
    if (closed) return;
    const now = performance.now();
    const { seq, bytes } = journalPosition();
    for (const block of blocks.all()) {
      const rested = now - block.usedAt;
      if (rested >= idleMs || (rested >= graceMs && blocks.isFollowed(block))) sealer.seal(block, true);
      else if (
        block.firstSeq !== undefined &&
        (seq - block.firstSeq > maxReplayEntries || bytes - block.dirtyBytes > MAX_REPLAY_BYTES)
      )
        sealer.seal(block, false);
    }
    relieveMemory();
  }

  /** The blocks that were longest without a row first. */
  function relieveMemory(): void {
    let cells = blocks.cells();
    let { size } = blocks;
    if (size <= maxBlocks && cells <= maxCells) return;
    for (const block of [...blocks.all()].sort((a, b) => a.usedAt - b.usedAt)) {
      if (size <= 0.75 * maxBlocks && cells <= 0.75 * maxCells) return;
      size--;
      cells -= block.cells;
      sealer.seal(block, true);
    }
  }

  const hasRoom = () => blocks.size <= HARD_FACTOR * maxBlocks && blocks.cells() <= HARD_FACTOR * maxCells;

  function admitWaiting(): void {
    const admitted = waiting;
    waiting = new Set();
    for (const admit of admitted) admit();
  }

  return {
    applier: { kind: "sample.appended", apply, lowWater: () => blocks.lowWater() },
    get dropped() {
      return dropped;
    },
    drop(device, samples, why) {
      if (samples.length === 0) return;
      dropped += samples.length;
      const { first, last } = rangeOf(samples);
      onDropped(device, { first, last, count: samples.length }, why);
    },
    get refused() {
      return refused;
    },
    refuse(samples) {
      refused += samples;
    },
    room() {
      if (hasRoom() || closed) return Promise.resolve(true);
      relieveMemory();
      return new Promise((resolve) => {
        const admit = () => {
          clearTimeout(timer);
          waiting.delete(admit);
          resolve(hasRoom());
        };
        const timer = setTimeout(admit, MAX_WAIT_MS);
        timer.unref();
        waiting.add(admit);
      });
    },
    subjects(device) {
      const inMemory = blocks.subjects(device).filter((subject) => runOfSubject(subject) === undefined);
      return [...new Set([...table.subjects(device), ...inMemory])].sort();
    },
    blocks: (device, subject) => blocks.of(device, subject),
    starts: table.starts,
    chunk(place) {
      const data = table.data(place);
      return data && new SampleChunk(data);
    },
    rawRows(place) {
      const data = table.data(place);
      return data && decodeRaw(data);
    },
    async seal() {
      for (const block of blocks.all()) if (block.firstSeq !== undefined) sealer.seal(block, false);
      await sealer.idle();
    },
    async finish() {
      for (const block of blocks.all()) sealer.seal(block, true);
      await sealer.idle();
    },
    expire: retention.expire,
    thin: retention.thin,
    rowTimes(device, subject, start) {
      const block = blocks.get(device, subject, start);
      if (block) return block.rows(() => false).times;
      const data = table.data({ device, subject, tier: 1, start });
      return data ? new SampleChunk(data).times() : new Float64Array();
    },
    mergeRolled(place, rows) {
      const data = table.data(place);
      const stored = data && decodeRolled(data);
      const merged = stored ? addRows(stored, rows) : rows;
      if (merged === stored) return undefined;
      const encoding = encodeRolled(merged, place.tier === PLAIN_TIER);
      let step = encoding.next();
      while (!step.done) step = encoding.next();
      return writeOfChunk(place, merged.times, step.value);
    },
    async purgeDevice(device) {
      for (const block of blocks.all())
        if (block.device === device) {
          block.dead = true;
          blocks.remove(block);
        }
      while (!closed && table.removeDevice(device)) await new Promise((resolve) => setImmediate(resolve));
    },
    async purge(run) {
      const subject = subjectOfRun(run);
      for (const block of blocks.all())
        if (block.subject === subject) {
          block.dead = true;
          blocks.remove(block);
        }
      while (!closed && table.removeSubject(subject)) await new Promise((resolve) => setImmediate(resolve));
    },
    close() {
      closed = true;
      clearInterval(timer);
      sealer.close();
      retention.close();
      admitWaiting();
    },
  };
}

function rangeOf(samples: readonly { time: number }[]): { first: number; last: number } {
  let first = Infinity;
  let last = -Infinity;
  for (const { time } of samples) {
    first = Math.min(first, time);
    last = Math.max(last, time);
  }
  return { first, last };
}
