import { CollectorError } from "../error.ts";
import { isRunStream, type EntryKind } from "../entry.ts";
import type { Connection } from "./open.ts";
import { sourceLabel } from "./source-label.ts";

/** What a writer's next batch must be. */
export interface WriterCounter {
  /** Last batch number accepted. */
  seq: number;
  /** Step of its next record that brings none. */
  nextStep: number;
}

/** Where a run's numbering stands, in memory: a batch takes its numbers in the same tick in which it is queued. */
export interface RunCounter {
  run: string;
  deleted: boolean;
  /** The source that relays it: nobody else writes to it. null: it is logged here. */
  source: string | null;
  /** Ordinal of the next record, from 0. */
  nextOrdinal: number;
  /** Number of the next log line, from 1. */
  nextLine: number;
  writersByClient: Map<string, WriterCounter>;
}

export interface Counters {
  /** The run's counter; undefined where there is no such run. */
  find(run: string): RunCounter | undefined;
  /** The run's counter, or the error a writer should see. */
  get(run: string): RunCounter;
  /** The same for who writes to it here, which nobody may where a source relays it. */
  own(run: string): RunCounter;
  /** A run just created: called when its entry is queued, so that batches may follow at once. */
  create(run: string): RunCounter;
  delete(run: string): void;
  /** Those in memory: all that took a number since the start, or of which entries were in the journal then. */
  loaded(): Iterable<RunCounter>;
  /** Puts runs together again from what is durable: batches that had taken numbers were rejected. */
  reload(runs: Iterable<string>): void;
}

/** What an entry says of the counters. */
export interface JournalRow {
  kind: EntryKind;
  run: string;
  client: string | null;
  client_seq: number | null;
  ordinal: number | null;
  next_step: number | null;
  count: number;
}

/**
 * The counters are not written with every batch: the journal carries them, and rows of `run` and `counter` take them
 * over when entries are deleted (trim.ts). On start both are put together again.
 */
export function createCounters(connection: Connection): Counters {
  const selectRun = connection.prepare(
    "SELECT deleted, source, next_ordinal, next_line FROM run WHERE id = ?",
  );
  const selectWriters = connection.prepare("SELECT client, next_step FROM writer WHERE run = ?");
  const selectCounters = connection.prepare("SELECT client, seq, next_step FROM counter WHERE run = ?");
  const countersByRun = new Map<string, RunCounter>();

  function find(run: string): RunCounter | undefined {
    const counter = countersByRun.get(run);
    // Asked for each entry, those of devices and artifacts too, which have no run's numbers.
    if (counter || !isRunStream(run)) return counter;
    return load(run);
  }

  function load(run: string): RunCounter | undefined {
    const row = selectRun.get(run) as
      | { deleted: number; source: string | null; next_ordinal: number; next_line: number }
      | undefined;
    if (!row) return undefined;
    const counter = create(run);
    counter.deleted = row.deleted === 1;
    counter.source = row.source;
    counter.nextOrdinal = row.next_ordinal;
    counter.nextLine = row.next_line;
    for (const writer of selectWriters.all(run) as {
      client: string;
      next_step: number;
    }[])
      counter.writersByClient.set(writer.client, { seq: 0, nextStep: writer.next_step });
    for (const { client, seq, next_step } of selectCounters.all(run) as {
      client: string;
      seq: number;
      next_step: number | null;
    }[]) {
      const writer = writerOf(counter, client);
      writer.seq = Math.max(writer.seq, seq);
      writer.nextStep = next_step ?? writer.nextStep;
    }
    return counter;
  }

  function create(run: string): RunCounter {
    const counter: RunCounter = {
      run,
      deleted: false,
      source: null,
      nextOrdinal: 0,
      nextLine: 1,
      writersByClient: new Map(),
    };
    countersByRun.set(run, counter);
    return counter;
  }

  function readJournal(only?: Set<string>): void {
    const rows = connection.prepare(
      "SELECT kind, run, client, client_seq, ordinal, next_step, count FROM journal ORDER BY seq",
    );
    for (const row of rows.iterate() as Iterable<JournalRow>) {
      if (only && !only.has(row.run)) continue;
      const counter = find(row.run);
      if (!counter) continue;
      if (row.ordinal !== null) {
        const next = row.ordinal + row.count;
        if (row.kind === "metric.appended") counter.nextOrdinal = Math.max(counter.nextOrdinal, next);
        if (row.kind === "log.appended") counter.nextLine = Math.max(counter.nextLine, next);
      }
      if (row.client === null || row.client_seq === null) continue;
      const writer = writerOf(counter, row.client);
      writer.seq = Math.max(writer.seq, row.client_seq);
      if (row.next_step !== null) writer.nextStep = row.next_step;
    }
  }

  function get(run: string): RunCounter {
    const counter = find(run);
    if (!counter)
      throw new CollectorError("not-found", `There is no run ${run}.`, {
        hint: "Create it first: POST /api/v1/runs, or binnacle.init(run_id=…).",
      });
    if (counter.deleted)
      throw new CollectorError("gone", `Run ${run} was deleted.`, {
        hint: "Stop the process that still writes to it.",
      });
    return counter;
  }

  readJournal();

  return {
    find,
    get,
    own(run) {
      const counter = get(run);
      if (counter.source !== null) throw relayed(run, sourceLabel(connection, counter.source)!);
      return counter;
    },
    create,
    delete(run) {
      const counter = find(run);
      if (counter) counter.deleted = true;
    },
    loaded: () => countersByRun.values(),
    reload(runs) {
      const only = new Set([...runs].filter(isRunStream));
      if (only.size === 0) return;
      for (const run of only) countersByRun.delete(run);
      readJournal(only);
    },
  };
}

export function writerOf(counter: RunCounter, client: string): WriterCounter {
  let writer = counter.writersByClient.get(client);
  if (!writer) {
    writer = { seq: 0, nextStep: 0 };
    counter.writersByClient.set(client, writer);
  }
  return writer;
}

/**
 * Takes a batch's number: true where it is new, false where it is a repetition, which is to be answered like the first time
 * once that one is durable. A gap is refused: accepting it would turn the missing batch into a "repetition" when it comes.
 */
export function claimBatch(counter: RunCounter, client: string, seq: number): boolean {
  const writer = writerOf(counter, client);
  if (seq <= writer.seq) return false;
  if (seq > writer.seq + 1)
    throw new CollectorError(
      "sequence-gap",
      `Batch ${seq} of client ${client} came before batch ${writer.seq + 1}.`,
      { hint: "Send the missing batches first.", details: { expected: writer.seq + 1 } },
    );
  writer.seq = seq;
  return true;
}

export const relayed = (run: string, source: string): CollectorError =>
  new CollectorError("conflict", `Run ${run} belongs to the source ${source}, which relays it here.`, {
    hint: `Do this at ${source}: what happens there comes here.`,
    details: { source },
  });
