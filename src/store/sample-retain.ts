import type { Connection } from "./open.ts";
import { TIERS, type Tier } from "./sample-rollup.ts";
import type { SampleTable } from "./sample-table.ts";

const DAY_MS = 24 * 3600 * 1000;
const SWEEP_MS = 600_000;
/** What is still being read must not expire, however short a time was asked for. */
const MIN_KEEP_MS = 3_600_000;
/** After so many days rows of a tier go, unless told otherwise; what a run read goes at the latest with the run. */
const KEEP_DAYS: Record<Tier, number> = { 1: 3, 10: 30, 60: 365, 600: 5 * 365 };

/** Nothing longer than so many days; what is kept for less stays so. */
export const keepWithin = (days: number): Record<Tier, number> => ({
  1: Math.min(KEEP_DAYS[1], days),
  10: Math.min(KEEP_DAYS[10], days),
  60: Math.min(KEEP_DAYS[60], days),
  600: days,
});

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
}

export interface SampleRetention {
  /** Removes what is too old, in small transactions. */
  expire(): Promise<void>;
  close(): void;
}

/**
 * Events go with the last tier. Ages are taken by whichever clock says less: after the wall clock was set forward, or the
 * machine slept, that is the time that was counted since the start; after it was set back, the wall clock.
 */
export function createSampleRetention(
  connection: Connection,
  table: SampleTable,
  { keepDays, now, monotonic = () => performance.now(), onFatal, onExpired }: SampleRetentionOptions,
): SampleRetention {
  const offset = now() - monotonic();
  const removeEvents = connection.prepare(
    "DELETE FROM device_event WHERE id IN (SELECT id FROM device_event WHERE time < ? LIMIT 500)",
  );
  let closed = false;
  const timer = setInterval(() => void expire(), SWEEP_MS);
  timer.unref();

  async function expire(): Promise<void> {
    const time = Math.min(now(), offset + monotonic());
    let any = false;
    let keep = MIN_KEEP_MS;
    try {
      for (const tier of TIERS) {
        keep = Math.max(keep, DAY_MS * (keepDays?.[tier] ?? KEEP_DAYS[tier]));
        const before = time - keep;
        any = (await repeat(() => table.removeOld(tier, before))) || any;
      }
      const before = time - keep;
      await repeat(() => removeEvents.run(before).changes > 0);
    } catch (error) {
      // A full disk can't even delete: the next sweep tries again.
      if (closed || (error as { code?: string }).code === "SQLITE_FULL") return;
      closed = true;
      onFatal(error);
    }
    if (any) onExpired?.();
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
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}
