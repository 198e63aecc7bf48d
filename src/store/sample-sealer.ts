import type { Connection } from "./open.ts";
import { BLOCK_MS, type SampleBlock } from "./sample-block.ts";
import type { SampleBlocks } from "./sample-blocks.ts";
import { decodeRolled, encodeRaw, encodeRolled } from "./sample-chunk.ts";
import { chunkStart, replaceRows, ROLLED_TIERS, rollRows, type Tier } from "./sample-rollup.ts";
import type { ChunkPlace, SampleTable } from "./sample-table.ts";

/** How long one turn may hold the event loop. */
const SLICE_MS = 6;
/** What charts of weeks are drawn from. */
export const PLAIN_TIER: Tier = 600;
/** A full disk is asked again so much later. */
const RETRY_MS = 1000;

export interface SampleSealer {
  /**
   * Writes a block's chunk in the background. `whole`: its span is over, so the tiers above take it up and it leaves memory;
   * else it stays, and the journal may forget it.
   */
  seal(block: SampleBlock, whole: boolean): void;
  /** Resolves when nothing is under way. */
  idle(): Promise<void>;
  close(): void;
}

export interface SampleSealerOptions {
  onFatal: (error: unknown) => void;
  /** The disk is full: asked again in a second, and told again. */
  onFull: () => void;
  /** Highest entry that was applied. */
  lastSeq: () => number;
  /** A block left memory, or its entries may leave the journal. */
  onSealed: () => void;
}

interface Chunk {
  place: ChunkPlace;
  times: Float64Array;
  data: Uint8Array;
}

/**
 * One block at a time: encoded in slices, then written with its rollups in one transaction. A block covers whole buckets of
 * every tier, so its rollups are made of it alone, and made again where a late row opens it again.
 */
export function createSampleSealer(
  connection: Connection,
  table: SampleTable,
  blocks: SampleBlocks,
  { onFatal, onFull, lastSeq, onSealed }: SampleSealerOptions,
): SampleSealer {
  /** Blocks in turn, and whether as a whole. */
  const queue = new Map<SampleBlock, boolean>();
  let running = false;
  let closed = false;
  let waiting: (() => void)[] = [];
  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");

  async function run(): Promise<void> {
    running = true;
    for (;;) {
      const next = queue.entries().next().value;
      if (!next || closed) break;
      const [block, whole] = next;
      queue.delete(block);
      try {
        await inSlices(sealBlock(block, whole));
      } catch (error) {
        if (closed) break;
        if ((error as { code?: string }).code !== "SQLITE_FULL") {
          closed = true;
          onFatal(error);
          break;
        }
        queue.set(block, whole);
        onFull();
        // Who waits for this is not kept until there is room.
        rest();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref());
      }
    }
    running = false;
    rest();
  }

  async function inSlices(work: Generator<void, void, void>): Promise<void> {
    let until = performance.now() + SLICE_MS;
    while (!work.next().done) {
      if (closed) {
        work.return();
        return;
      }
      if (performance.now() < until) continue;
      await new Promise((resolve) => setImmediate(resolve));
      until = performance.now() + SLICE_MS;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }

  function* sealBlock(block: SampleBlock, whole: boolean): Generator<void, void, void> {
    if (block.dead) return;
    const { version } = block;
    block.sealingSeq = block.firstSeq;
    block.firstSeq = undefined;
    let isWritten = false;
    try {
      const chunks = yield* chunksOf(block, whole);
      if (block.dead) return;
      write(block, chunks, whole);
      isWritten = true;
    } finally {
      // What came meanwhile is later than what was there before.
      if (!isWritten) block.firstSeq = block.sealingSeq ?? block.firstSeq;
      block.sealingSeq = undefined;
    }
    if (whole && block.version === version) blocks.remove(block);
    onSealed();
  }

  function* chunksOf(block: SampleBlock, whole: boolean): Generator<void, Chunk[], void> {
    const { device, subject, start } = block;
    const rows = block.rows();
    // Its only row had more readings than there is room for.
    if (rows.times.length === 0 || rows.columns.size === 0) return [];
    yield;
    const place: ChunkPlace = { device, subject, tier: 1, start };
    const chunks = [{ place, times: rows.times, data: yield* encodeRaw(rows) }];
    if (!whole) return chunks;
    for (const tier of ROLLED_TIERS) {
      const place: ChunkPlace = { device, subject, tier, start: chunkStart(tier, start) };
      const fresh = rollRows(rows, tier);
      const stored = table.data(place);
      yield;
      const rolled = stored ? replaceRows(decodeRolled(stored), fresh, start, start + BLOCK_MS) : fresh;
      yield;
      chunks.push({ place, times: rolled.times, data: yield* encodeRolled(rolled, tier === PLAIN_TIER) });
    }
    return chunks;
  }

  function write(block: SampleBlock, chunks: Chunk[], whole: boolean): void {
    begin.run();
    try {
      for (const { place, times, data } of chunks) table.put(place, times, place.tier === 1 && !whole, data);
      const { sealingSeq } = block;
      block.sealingSeq = undefined;
      table.putSealed((blocks.lowWater() ?? lastSeq() + 1) - 1);
      block.sealingSeq = sealingSeq;
      commit.run();
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      throw error;
    }
  }

  function rest(): void {
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
  }

  return {
    seal(block, whole) {
      queue.set(block, whole || queue.get(block) === true);
      if (!running && !closed) void run();
    },
    idle() {
      if (!running) return Promise.resolve();
      return new Promise((resolve) => waiting.push(resolve));
    },
    close() {
      closed = true;
      rest();
    },
  };
}
