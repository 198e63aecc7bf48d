import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { blockStart } from "../store/sample-block.ts";
import { chunkStart, TIERS, type Tier } from "../store/sample-rollup.ts";
import type { SampleStore } from "../store/sample-store.ts";
import { countBuckets, SampleBuckets } from "./buckets.ts";
import { splitKey, type ReadingKey } from "./reading.ts";
import { MACHINE, type QuerySamples, type SamplePage } from "./schema.ts";

const HOUR_MS = 3_600_000;
/** A tier may have so much fewer rows than points are asked for: nobody sees that, and a tenth is read. */
const COARSER = 1.5;
/** How long a query may hold the event loop. */
const SLICE_MS = 8;

/** What a device read in a range of time, in buckets. Where the fine rows have expired, the coarser ones stand in. */
export async function querySamples(
  collector: Collector,
  device: string,
  { from: asked, to = collector.now(), points, subjects, readings }: QuerySamples,
): Promise<SamplePage> {
  const from = asked ?? to - HOUR_MS;
  if (from > to)
    throw new CollectorError("invalid", `from (${from}) is after to (${to}).`, {
      hint: "Both are ms since the epoch.",
    });
  const { samples } = collector;
  const { tier, step } = resolutionOf(from, to, points);
  const buckets = new SampleBuckets(from, to, step);
  const wanted = readings && new Set(readings);
  const wants = (key: ReadingKey) => wanted?.has(splitKey(key).name) ?? true;
  const pause = createPause();
  const named = subjects?.map((subject) => (subject === "machine" ? MACHINE : subject));
  for (const subject of new Set(named ?? samples.subjects(device)))
    await gather(samples, device, subject, tier, wants, buckets, pause);
  return { device, from, to, step, ...buckets.finish() };
}

/** The coarsest tier with enough rows, and a bucket of whole rows of it, so that no row stands in two. */
export function resolutionOf(from: number, to: number, points: number): { tier: Tier; step: number } {
  const width = (to - from) / points;
  const tier = TIERS.findLast((tier) => tier * 1000 <= COARSER * width) ?? TIERS[0];
  const row = tier * 1000;
  let rows = Math.max(1, Math.ceil(width / row));
  // Buckets begin at multiples of their width, so a range can touch one more than it is long.
  while (countBuckets(from, to, rows * row) > points) rows = Math.max(rows + 1, Math.ceil(rows * 1.01));
  return { tier, step: rows * row };
}

async function gather(
  samples: SampleStore,
  device: string,
  subject: string,
  finest: Tier,
  wants: (key: ReadingKey) => boolean,
  buckets: SampleBuckets,
  pause: () => Promise<void> | undefined,
): Promise<void> {
  // All that says what there is in one tick: blocks that are sealed meanwhile must not count twice.
  const inMemory = new Set<number>();
  for (const block of samples.blocks(device, subject)) {
    inMemory.add(block.start);
    const { times, columns } = block.rows(wants);
    const placed = buckets.place(times, () => false);
    if (!placed.any) continue;
    for (const [key, column] of columns) {
      const count = column.map((value) => (Number.isNaN(value) ? 0 : 1));
      buckets.addRaw(
        subject,
        key,
        placed.buckets,
        count,
        column.filter((value) => !Number.isNaN(value)),
      );
    }
  }
  const tiers = TIERS.filter((tier) => tier >= finest).map((tier) => ({
    tier,
    starts: new Set(
      samples.starts(device, subject, tier, chunkStart(tier, buckets.from), Math.max(0, buckets.to - 1)),
    ),
  }));
  for (const [index, { tier, starts }] of tiers.entries()) {
    const finer = tiers.slice(0, index);
    const skips = (time: number) =>
      inMemory.has(blockStart(time)) || finer.some(({ tier, starts }) => starts.has(chunkStart(tier, time)));
    for (const start of starts) {
      await pause();
      const chunk = samples.chunk({ device, subject, tier, start });
      if (!chunk) continue;
      const placed = buckets.place(chunk.times(), skips);
      if (!placed.any) continue;
      chunk.keys.forEach((key, column) => {
        if (!wants(key)) return;
        const count = chunk.count(column);
        if (tier === 1) buckets.addRaw(subject, key, placed.buckets, count, chunk.raw(column));
        else buckets.addRolled(subject, key, placed.buckets, { count, ...chunk.rolled(column) });
      });
    }
  }
}

/** Lets others have their turn once a slice is over. */
function createPause(): () => Promise<void> | undefined {
  let until = performance.now() + SLICE_MS;
  return () => {
    if (performance.now() < until) return undefined;
    return new Promise((resolve) =>
      setImmediate(() => {
        until = performance.now() + SLICE_MS;
        resolve();
      }),
    );
  };
}
