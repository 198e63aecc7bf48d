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

/** Which of a device's readings are asked for. */
interface Question {
  samples: SampleStore;
  device: string;
  subjects: Iterable<string>;
  wants: (key: ReadingKey) => boolean;
  /** Lets others have their turn once a slice is over. */
  pause: () => Promise<void> | undefined;
}

/** What a device read in a range of time, in buckets. Where the fine rows have expired, the coarser ones stand for all. */
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
  const wanted = readings && new Set(readings);
  const named = subjects?.map((subject) => (subject === "machine" ? MACHINE : subject));
  const question: Question = {
    samples,
    device,
    subjects: new Set(named ?? samples.subjects(device)),
    wants: (key) => wanted?.has(splitKey(key).name) ?? true,
    pause: createPause(),
  };
  let { tier, step } = resolutionOf(from, to, points);
  for (;;) {
    const buckets = new SampleBuckets(from, to, { step, row: 1000 * tier });
    const coarser = await gatherAll(question, tier, buckets);
    if (coarser === undefined) return { device, from, to, step, ...buckets.finish() };
    // Rows of two widths in one chart would look like gaps.
    ({ tier, step } = resolutionOf(from, to, points, coarser));
  }
}

/** The coarsest tier with enough rows, and a bucket of whole rows of it, so that no row stands in two. */
export function resolutionOf(
  from: number,
  to: number,
  points: number,
  atLeast: Tier = 1,
): { tier: Tier; step: number } {
  const width = (to - from) / points;
  const tier = TIERS.findLast((tier) => tier <= atLeast || tier * 1000 <= COARSER * width)!;
  const row = tier * 1000;
  let rows = Math.max(1, Math.ceil(width / row));
  // Buckets begin at multiples of their width, so a range can touch one more than it is long.
  while (countBuckets(from, to, rows * row) > points) rows = Math.max(rows + 1, Math.ceil(rows * 1.01));
  return { tier, step: rows * row };
}

/** The tier in which the rows are, should they be in a coarser one. */
async function gatherAll(question: Question, tier: Tier, buckets: SampleBuckets): Promise<Tier | undefined> {
  for (const subject of question.subjects) {
    const coarser = await gather(question, subject, tier, buckets);
    if (coarser !== undefined) return coarser;
  }
  return undefined;
}

async function gather(
  { samples, device, wants, pause }: Question,
  subject: string,
  finest: Tier,
  buckets: SampleBuckets,
): Promise<Tier | undefined> {
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
    starts: new Set(samples.starts(device, subject, tier, chunkStart(tier, buckets.from), buckets.to - 1)),
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
      if (tier !== finest) return tier;
      chunk.keys.forEach((key, column) => {
        if (!wants(key)) return;
        const count = chunk.count(column);
        if (tier === 1) buckets.addRaw(subject, key, placed.buckets, count, chunk.raw(column));
        else buckets.addRolled(subject, key, placed.buckets, { count, ...chunk.rolled(column) });
      });
    }
  }
  return undefined;
}

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
