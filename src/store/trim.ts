import { isRunStream } from "../entry.ts";
import type { JournalRow } from "./counters.ts";
import type { Journal } from "./journal.ts";
import type { Connection } from "./open.ts";

/** Entries kept though nobody needs them: a browser that reconnects asks for what it missed. */
const KEEP_ENTRIES = 1000;
const KEEP_BYTES = 8 * 1024 * 1024;
const BATCH = 200;
/** So much of that comes before a pass looks again, where nothing else could go. */
const LOOK_SHARE = 0.02;
/** How long one pass may hold the event loop. */
const SLICE_MS = 4;
const EVERY_MS = 1000;
/** Between two passes while there is more to do. */
const PAUSE_MS = 5;

export interface Trimmer {
  /** One pass; true where more could go at once. */
  trim(): boolean;
  /** Everything that nobody needs, what is kept for browsers too. */
  trimAll(): Promise<void>;
  close(): void;
}

export interface TrimmerOptions {
  onFatal: (error: unknown) => void;
  keepEntries?: number | undefined;
  keepBytes?: number | undefined;
  everyMs?: number | undefined;
  /** In the transaction that removes the entries between. */
  onCut?: ((first: number, last: number) => void) | undefined;
}

interface Row extends JournalRow {
  seq: number;
}

/** Deletes journal entries that are sealed. The numbers they carried move to `run` and `counter` in the same transaction. */
export function createTrimmer(
  connection: Connection,
  journal: Journal,
  { onFatal, keepEntries = KEEP_ENTRIES, keepBytes = KEEP_BYTES, everyMs = EVERY_MS, onCut }: TrimmerOptions,
): Trimmer {
  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");
  const selectSizes = connection
    .prepare("SELECT seq, length(payload) FROM journal ORDER BY seq DESC LIMIT ?")
    .raw(true);
  const selectOldest = connection.prepare(
    `SELECT seq, kind, run, client, client_seq, ordinal, next_step, count FROM journal
     WHERE seq < ? ORDER BY seq LIMIT ${BATCH}`,
  );
  const updateRun = connection.prepare(
    "UPDATE run SET next_ordinal = max(next_ordinal, ?), next_line = max(next_line, ?) WHERE id = ?",
  );
  const putCounter = connection.prepare(
    `INSERT INTO counter (run, client, seq, next_step) VALUES (?, ?, ?, ?) ON CONFLICT (run, client)
     DO UPDATE SET seq = max(seq, excluded.seq), next_step = coalesce(excluded.next_step, next_step)`,
  );
  const remove = connection.prepare("DELETE FROM journal WHERE seq <= ?");
  let closed = false;
  let seen = { last: -1, bytes: 0, needed: -1 };

  let timer = setTimeout(look, everyMs);
  timer.unref();

  function look(): void {
    timer = setTimeout(look, trim() ? PAUSE_MS : everyMs);
    timer.unref();
  }

  function trim(): boolean {
    const { seq: last, bytes } = journal.position();
    const needed = journal.needed();
    // An idle collector, or one that only takes samples, asks no more than this.
    if (
      needed === seen.needed &&
      last - seen.last <= LOOK_SHARE * keepEntries &&
      bytes - seen.bytes <= LOOK_SHARE * keepBytes
    )
      return false;
    const { first } = journal.bounds();
    const before = Math.min(needed, Math.max(last - keepEntries + 1, firstWithin(first)));
    const more = removeBefore(before);
    if (!more) seen = { last, bytes, needed };
    return more;
  }

  /** For as long as a slice lasts; true where more is to be removed. */
  function removeBefore(before: number): boolean {
    const until = performance.now() + SLICE_MS;
    while (!closed) {
      const rows = selectOldest.all(before) as Row[];
      if (rows.length === 0 || !removeBatch(rows)) return false;
      if (performance.now() > until) return true;
    }
    return false;
  }

  /** First of the newest entries that together stay below `keepBytes`. */
  function firstWithin(first: number): number {
    let bytes = 0;
    let seq = first;
    for (const [at, size] of selectSizes.all(keepEntries) as [number, number][]) {
      bytes += size;
      if (bytes > keepBytes) return at + 1;
      seq = at;
    }
    return seq;
  }

  function removeBatch(rows: Row[]): boolean {
    const runs = new Map<string, { ordinal: number; line: number }>();
    const writers = new Map<string, { run: string; client: string; seq: number; nextStep: number | null }>();
    for (const row of rows) {
      // Devices and artifacts have no numbers to keep.
      if (!isRunStream(row.run)) continue;
      let numbers = runs.get(row.run);
      if (!numbers) runs.set(row.run, (numbers = { ordinal: 0, line: 1 }));
      if (row.ordinal !== null) {
        const next = row.ordinal + row.count;
        if (row.kind === "metric.appended") numbers.ordinal = Math.max(numbers.ordinal, next);
        else numbers.line = Math.max(numbers.line, next);
      }
      if (row.client === null || row.client_seq === null) continue;
      const id = `${row.run} ${row.client}`;
      const before = writers.get(id);
      writers.set(id, {
        run: row.run,
        client: row.client,
        seq: Math.max(before?.seq ?? 0, row.client_seq),
        nextStep: row.next_step ?? before?.nextStep ?? null,
      });
    }
    try {
      begin.run();
      for (const [run, { ordinal, line }] of runs) updateRun.run(ordinal, line, run);
      for (const { run, client, seq, nextStep } of writers.values())
        putCounter.run(run, client, seq, nextStep);
      onCut?.(rows[0]!.seq, rows.at(-1)!.seq);
      remove.run(rows.at(-1)!.seq);
      commit.run();
      return true;
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      // A full disk: the entries stay until there is room.
      if ((error as { code?: string }).code !== "SQLITE_FULL") {
        closed = true;
        onFatal(error);
      }
      return false;
    }
  }

  return {
    trim,
    async trimAll() {
      while (removeBefore(journal.needed())) await new Promise((resolve) => setImmediate(resolve));
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
