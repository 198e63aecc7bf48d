import { eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { Encoding, type EntryKind } from "../entry.ts";
import type { Write } from "../store/journal-rows.ts";
import { runSource } from "../store/source-label.ts";
import { run as runTable } from "../store/tables.ts";
import type { Run } from "./schema.ts";
import { writeOfWriter, type WriterChange } from "./writer-change.ts";

export type RunRow = typeof runTable.$inferSelect;

const rfc3339 = (time: number | null) => (time === null ? null : new Date(time).toISOString());

/** A run as listings and live events show it. */
export function toRun({ connection }: Pick<Collector, "connection">, row: RunRow): Run {
  return {
    id: row.id,
    name: row.name,
    project: row.project,
    status: row.status,
    reason: row.reason,
    created: new Date(row.created).toISOString(),
    started: rfc3339(row.started),
    finished: rfc3339(row.finished),
    device: row.device,
    exit_code: row.exitCode,
    source: runSource(connection, row),
    deleted_at_source: rfc3339(row.deletedAtSource),
  };
}

/** Writes a change of a run's row with its journal entry and tells listeners of the run as it is now. */
export async function changeRun(
  collector: Collector,
  row: RunRow,
  change: Partial<RunRow>,
  writers: WriterChange[] = [],
  beside: Write[] = [],
): Promise<RunRow> {
  const changed = { ...row, ...change };
  const update =
    Object.keys(change).length === 0
      ? []
      : [collector.db.update(runTable).set(change).where(eq(runTable.id, row.id)).toSQL()];
  await appendRunEntry(collector, "run.changed", changed, withWriters(change, writers), [
    ...update,
    ...writers.map((writer) => writeOfWriter(collector, row.id, writer)),
    ...beside,
  ]);
  return changed;
}

/** An entry's payload: what changed of the row, and of the writers if anything did. */
export const withWriters = (change: object, writers: WriterChange[]): object =>
  writers.length === 0 ? change : { ...change, writers };

export async function appendRunEntry(
  collector: Collector,
  kind: EntryKind,
  row: RunRow,
  payload: unknown,
  writes: Write[],
): Promise<void> {
  await collector.journal.append(
    {
      kind,
      version: 1,
      run: row.id,
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: 1,
      time: collector.now(),
      encoding: Encoding.json,
      payload: new TextEncoder().encode(JSON.stringify(payload)),
    },
    toRun(collector, row),
    writes,
  );
}

const turns = new WeakMap<Collector, Map<string, Promise<unknown>>>();

/**
 * Runs the verbs of one run one after another: each reads the row and then writes it, and eight ranks that
 * create the same run at the same moment would else all find it missing.
 */
export async function inTurn<T>(collector: Collector, run: string, verb: () => Promise<T>): Promise<T> {
  let turnByRun = turns.get(collector);
  if (!turnByRun) turns.set(collector, (turnByRun = new Map()));
  const previous = turnByRun.get(run) ?? Promise.resolve();
  const turn = previous.then(verb, verb);
  turnByRun.set(run, turn);
  try {
    return await turn;
  } finally {
    if (turnByRun.get(run) === turn) turnByRun.delete(run);
  }
}
