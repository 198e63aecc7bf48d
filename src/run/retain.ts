import { and, asc, eq, isNotNull, lt, notInArray } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { run as runTable } from "../store/tables.ts";
import { inTurn } from "./change.ts";
import { buryRun } from "./delete.ts";
import { findRow } from "./find.ts";
import { isLive } from "./schema.ts";

const DAY_MS = 24 * 3600 * 1000;
const SWEEP_MS = 60_000;
/** The wall clock may drift and be set right by so much; more is a jump. */
const MAX_DRIFT_MS = 5 * 60_000;
/** Once above the limit, this much of it is left, so that not every run that ends takes another away. */
const KEEP_SHARE = 0.95;

export interface Retention {
  /** Ended runs go after so many days. */
  keepDays?: number | undefined;
  /** The oldest ended runs go while more than this is stored. */
  keepBytes?: number | undefined;
}

export interface Clock {
  /** ms since the epoch. */
  wall(): number;
  /** ms that only ever go forward. */
  monotonic(): number;
}

/**
 * Tells whether the wall clock has kept pace with the monotonic one since the first look. After a jump nobody knows which
 * of the two times was right, so ages mean nothing until the next start.
 */
export function createJumpWatch({ wall, monotonic }: Clock): () => boolean {
  const offset = wall() - monotonic();
  let jumped = false;
  return () => (jumped ||= Math.abs(wall() - monotonic() - offset) > MAX_DRIFT_MS);
}

/**
 * Removes ended runs that are too old or too much, and only where a person asked for it. Never a live one. A platform upstream keeps
 * what it has: the entry is "run.pruned", not "run.deleted".
 */
export async function pruneRuns(
  collector: Collector,
  { keepDays, keepBytes }: Retention,
  jumped: boolean,
): Promise<string[]> {
  const pruned: string[] = [];
  if (keepDays !== undefined && !jumped)
    for (const { id } of await endedRuns(collector, collector.now() - keepDays * DAY_MS))
      if (await pruneRun(collector, id)) pruned.push(id);
  if (keepBytes !== undefined && collector.pruner.usedBytes() > keepBytes)
    for (const { id } of await endedRuns(collector, Infinity)) {
      if (collector.pruner.usedBytes() <= KEEP_SHARE * keepBytes) break;
      if (await pruneRun(collector, id)) pruned.push(id);
    }
  if (pruned.length > 0) await collector.pruner.vacuum();
  return pruned;
}

/** Ended runs, the one that ended first in front. */
function endedRuns({ db }: Collector, before: number): Promise<{ id: string }[]> {
  return db
    .select({ id: runTable.id })
    .from(runTable)
    .where(
      and(
        eq(runTable.deleted, false),
        isNotNull(runTable.finished),
        lt(runTable.finished, Math.min(before, Number.MAX_SAFE_INTEGER)),
        notInArray(runTable.status, ["QUEUED", "STARTING", "RUNNING", "STOPPING"]),
      ),
    )
    .orderBy(asc(runTable.finished));
}

function pruneRun(collector: Collector, id: string): Promise<boolean> {
  return inTurn(collector, id, async () => {
    const row = await findRow(collector, id);
    // Somebody resumed it meanwhile.
    if (!row || row.deleted || isLive(row.status)) return false;
    await buryRun(collector, row, "run.pruned");
    await collector.pruner.purge(id);
    return true;
  });
}

/** Looks each minute; returns the function that ends it. */
export function watchRetention(
  collector: Collector,
  retention: Retention,
  { onPruned, onError }: { onPruned: (runs: string[]) => void; onError: (error: unknown) => void },
): () => void {
  if (retention.keepDays === undefined && retention.keepBytes === undefined) return () => {};
  const hasJumped = createJumpWatch({ wall: collector.now, monotonic: () => performance.now() });
  let busy = false;
  const timer = setInterval(async () => {
    if (busy) return;
    busy = true;
    try {
      const pruned = await pruneRuns(collector, retention, hasJumped());
      if (pruned.length > 0) onPruned(pruned);
    } catch (error) {
      onError(error);
    } finally {
      busy = false;
    }
  }, SWEEP_MS);
  timer.unref();
  return () => clearInterval(timer);
}
