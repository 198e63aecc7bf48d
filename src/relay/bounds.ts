import type { Collector } from "../collector.ts";
import { isRunStream } from "../entry.ts";
import { prepared } from "../store/prepared.ts";

/** Where a run's numbering stood. */
export interface RunBounds {
  nextOrdinal: number;
  nextLine: number;
}

/** How far history reaches: what was durable in one tick. What came later the journal brings, each batch whole. */
export interface HistoryBounds {
  /** The journal's last entry. */
  seq: number;
  /** The last event of devices. */
  event: number;
  /** ms since the epoch. */
  time: number;
  /** Only these runs, and what they use. */
  runs: ReadonlySet<string> | undefined;
  /** ms: what happened to devices before is not told. */
  since: number;
  /** Of the runs that were in memory then. */
  byRun: ReadonlyMap<string, RunBounds>;
}

export function takeBounds(
  collector: Collector,
  runs?: readonly string[],
  since = -Infinity,
): Promise<HistoryBounds> {
  const { journal, counters, connection, now } = collector;
  const only = runs && new Set(runs);
  return journal.atRest(() => {
    const byRun = new Map<string, RunBounds>();
    for (const { run, nextOrdinal, nextLine } of counters.loaded())
      if (isRunStream(run) && only?.has(run) !== false) byRun.set(run, { nextOrdinal, nextLine });
    const { event } = connection.prepare("SELECT coalesce(max(id), 0) AS event FROM device_event").get() as {
      event: number;
    };
    return { seq: journal.bounds().last, event, time: now(), runs: only, since, byRun };
  });
}

/** undefined: there is no such run, or it was deleted. */
export function boundsOf(
  { connection }: Collector,
  bounds: HistoryBounds,
  run: string,
): RunBounds | undefined {
  const row = prepared(
    connection,
    "SELECT next_ordinal, next_line FROM run WHERE id = ? AND deleted = 0",
  ).get(run) as { next_ordinal: number; next_line: number } | undefined;
  if (!row) return undefined;
  // Nothing of one that was not in memory stood in the journal then: its row says what entries said that were deleted before.
  return bounds.byRun.get(run) ?? { nextOrdinal: row.next_ordinal, nextLine: row.next_line };
}
