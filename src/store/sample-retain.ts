import type { Connection } from "./open.ts";
import { SampleChunk } from "./sample-chunk.ts";
import { TIERS, type Tier } from "./sample-rollup.ts";
import type { OldChunk, SampleTable } from "./sample-table.ts";

const DAY_MS = 24 * 3600 * 1000;
const HOUR_MS = 3_600_000;
const SWEEP_MS = 600_000;
/** What is still being read must not expire, however short a time was asked for. */
const MIN_KEEP_MS = HOUR_MS;
/** After so many days rows of a tier go, unless told otherwise; what a run read goes at the latest with the run. */
const KEEP_DAYS: Record<Tier, number> = { 1: 3, 10: 30, 60: 365, 600: 5 * 365 };
/** While the disk is short of room, the finest go after so long, the oldest first; minutes stay for charts of any run. */
const THIN: { tier: Tier; keepMs: number }[] = [
  { tier: 1, keepMs: 3 * HOUR_MS },
  { tier: 10, keepMs: DAY_MS },
];

/** Nothing longer than so many days; what is kept for less stays so. */
export const keepWithin = (days: number): Record<Tier, number> => ({
  1: Math.min(KEEP_DAYS[1], days),
  10: Math.min(KEEP_DAYS[10], days),
  60: Math.min(KEEP_DAYS[60], days),
  600: days,
});

/** Rows as they were read that are removed; coarser ones of their time stay. */
export interface RemovedRows {
  device: string;
  /** Of the first row, and of the last. */
  first: number;
  last: number;
  count: number;
  /** Of all of them. */
  times(): Float64Array;
}

/** They were too old, or the disk was short of room. */
export type RemovalReason = "expired" | "thinned";

export interface SampleRetentionOptions {
  /** By seconds between two rows. A tier is kept for as long as the one below it, at the least. */
  keepDays?: Partial<Record<Tier, number>> | undefined;
  /** ms since the epoch. */
  now: () => number;
  /** ms that only ever go forward. */
  monotonic?: (() => number) | undefined;
  onFatal: (error: unknown) => void;
  /** Something went: pages are free. */
  onExpired?: (() => void) | undefined;
  /** In the transaction that removes them. */
  onRemoved?: ((rows: RemovedRows, reason: RemovalReason) => void) | undefined;
}

export interface SampleRetention {
  /** Removes what is too old, in small transactions. */
  expire(): Promise<void>;
  /** Removes the finest of what is hours old, until there is enough room; false where nothing could go. */
  thin(isEnough: () => boolean): Promise<boolean>;
  close(): void;
}

/**
 * Events go with the last tier. Ages are taken by whichever clock says less: after the wall clock was set forward, or the
 * machine slept, that is the time that was counted since the start; after it was set back, the wall clock.
 */
export function createSampleRetention(
  connection: Connection,
  table: SampleTable,
  {
    keepDays,
    now,
    monotonic = () => performance.now(),
    onFatal,
    onExpired,
    onRemoved,
  }: SampleRetentionOptions,
): SampleRetention {
  const offset = now() - monotonic();
  const removeEvents = connection.prepare(
    "DELETE FROM device_event WHERE id IN (SELECT id FROM device_event WHERE time < ? LIMIT 500)",
  );
  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");
  let closed = false;
  const timer = setInterval(() => void expire(), SWEEP_MS);
  timer.unref();

  const time = () => Math.min(now(), offset + monotonic());

  function expire(): Promise<void> {
    return guard(async () => {
      let any = false;
      let keep = MIN_KEEP_MS;
      const at = time();
      for (const tier of TIERS) {
        keep = Math.max(keep, DAY_MS * (keepDays?.[tier] ?? KEEP_DAYS[tier]));
        const before = at - keep;
        any = (await repeat(() => removeOld(tier, before, "expired"))) || any;
      }
      const before = at - keep;
      await repeat(() => removeEvents.run(before).changes > 0);
      if (any) onExpired?.();
    });
  }

  async function thin(isEnough: () => boolean): Promise<boolean> {
    let any = false;
    await guard(async () => {
      const at = time();
      for (const { tier, keepMs } of THIN)
        any = (await repeat(() => !isEnough() && removeOld(tier, at - keepMs, "thinned"))) || any;
    });
    return any;
  }

  async function guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // A full disk can't even delete: the next sweep tries again.
      if (closed || (error as { code?: string }).code === "SQLITE_FULL") return;
      closed = true;
      onFatal(error);
    }
  }

  function removeOld(tier: Tier, before: number, reason: RemovalReason): boolean {
    const chunks = table.old(tier, before);
    if (chunks.length === 0) return false;
    begin.run();
    try {
      for (const chunk of chunks) {
        if (tier === 1) onRemoved?.(rowsOf(chunk), reason);
        table.remove(chunk);
      }
      commit.run();
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      throw error;
    }
    return true;
  }

  function rowsOf(chunk: OldChunk): RemovedRows {
    const times = () => new SampleChunk(table.data(chunk)!).times();
    const { device, last, count } = chunk;
    return {
      device,
      get first() {
        return times()[0] ?? last;
      },
      last,
      count,
      times,
    };
  }

  /** Others have their turn in between. */
  async function repeat(step: () => boolean): Promise<boolean> {
    let any = false;
    while (!closed && step()) {
      any = true;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return any;
  }

  return {
    expire,
    thin,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}
