import type { Collector } from "../collector.ts";
import { isRunStream } from "../entry.ts";

/** Where a run's numbering stood. */
export interface RunBounds {
  nextOrdinal: number;
  nextLine: number;
  clients: { client: string; seq: number; nextStep: number }[];
}

/**
 * How far history reaches: what was durable in one tick. What came later the journal brings, whole: were a number of a client told
 * that belongs to a later batch, the platform would take that batch for a repetition.
 */
export interface HistoryBounds {
  /** The journal's last entry. */
  seq: number;
  /** The last event of devices. */
  event: number;
  /** ms since the epoch. */
  time: number;
  /** Only these runs, and what they use. */
  runs: ReadonlySet<string> | undefined;
  /** Of the runs that were in memory then. */
  byRun: ReadonlyMap<string, RunBounds>;
}

export function takeBounds(collector: Collector, runs?: readonly string[]): Promise<HistoryBounds> {
  const { journal, counters, connection, now } = collector;
  const only = runs && new Set(runs);
  return journal.atRest(() => {
    const byRun = new Map<string, RunBounds>();
    for (const { run, nextOrdinal, nextLine, writersByClient } of counters.loaded()) {
      if (!isRunStream(run) || only?.has(run) === false) continue;
      const clients = [...writersByClient].map(([client, writer]) => ({ client, ...writer }));
      byRun.set(run, { nextOrdinal, nextLine, clients });
    }
    const { event } = connection.prepare("SELECT coalesce(max(id), 0) AS event FROM device_event").get() as {
      event: number;
    };
    return { seq: journal.bounds().last, event, time: now(), runs: only, byRun };
  });
}

/** undefined: there is no such run, or it was deleted. */
export function boundsOf(
  { connection }: Collector,
  bounds: HistoryBounds,
  run: string,
): RunBounds | undefined {
  const row = connection
    .prepare("SELECT next_ordinal, next_line FROM run WHERE id = ? AND deleted = 0")
    .get(run) as { next_ordinal: number; next_line: number } | undefined;
  if (!row) return undefined;
  const known = bounds.byRun.get(run);
  if (known) return known;
  // Nothing of it was in the journal then: what these rows say, entries said that were deleted before.
  const clients = connection
    .prepare("SELECT client, seq, coalesce(next_step, 0) AS nextStep FROM counter WHERE run = ?")
    .all(run) as RunBounds["clients"];
  return { nextOrdinal: row.next_ordinal, nextLine: row.next_line, clients };
}
