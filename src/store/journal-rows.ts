import type { Entry, NewEntry } from "../entry.ts";
import { bytesOf } from "./chunk-table.ts";
import type { Connection, Statement } from "./open.ts";

/** A control-plane write that must stand or fall with its entry; what drizzle's `.toSQL()` gives. */
export interface Write {
  sql: string;
  params: unknown[];
}

/** The statements by which the journal reads and writes its table. Who calls begins and commits. */
export interface JournalRows {
  insert(entries: readonly NewEntry[]): void;
  write(write: Write): void;
  /** Entries with seq > after, ascending. */
  read(after: number, limit: number): Entry[];
  /** Lowest seq that is still here. */
  first(): number | null;
  /** Highest seq that was ever given out; 0 before the first. */
  lastGiven(): number;
}

/** Rows per INSERT: a power of two each, so that any group is a few prepared statements. */
const INSERT_SIZES = [128, 64, 32, 16, 8, 4, 2, 1] as const;
const COLUMNS = "kind, version, run, client, client_seq, ordinal, next_step, count, time, encoding, payload";

export function createJournalRows(connection: Connection): JournalRows {
  const inserts = new Map<number, Statement>();
  const writes = new Map<string, Statement>();
  const select = connection.prepare(`SELECT seq, ${COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?`);
  const selectFirst = connection.prepare("SELECT min(seq) AS seq FROM journal");
  const selectLast = connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'journal'");

  function insertOf(size: number): Statement {
    let statement = inserts.get(size);
    if (!statement) {
      const row = `(${COLUMNS.replace(/\w+/g, "?")})`;
      statement = connection.prepare(
        `INSERT INTO journal (${COLUMNS}) VALUES ${Array(size).fill(row).join(", ")}`,
      );
      inserts.set(size, statement);
    }
    return statement;
  }

  return {
    insert(entries) {
      let at = 0;
      for (const size of INSERT_SIZES)
        for (; entries.length - at >= size; at += size)
          insertOf(size).run(...entries.slice(at, at + size).flatMap(valuesOf));
    },
    write({ sql, params }) {
      let statement = writes.get(sql);
      if (!statement) {
        statement = connection.prepare(sql);
        writes.set(sql, statement);
      }
      statement.run(...params);
    },
    read: (after, limit) => (select.all(after, limit) as EntryRow[]).map(toEntry),
    first: () => (selectFirst.get() as { seq: number | null }).seq,
    lastGiven: () => (selectLast.get() as { seq: number } | undefined)?.seq ?? 0,
  };
}

const valuesOf = (entry: NewEntry): unknown[] => [
  entry.kind,
  entry.version,
  entry.run,
  entry.client,
  entry.clientSeq,
  entry.ordinal,
  entry.nextStep,
  entry.count,
  entry.time,
  entry.encoding,
  entry.payload,
];

type EntryRow = Omit<Entry, "clientSeq" | "nextStep"> & {
  client_seq: number | null;
  next_step: number | null;
};

function toEntry({ client_seq, next_step, ...row }: EntryRow): Entry {
  return { ...row, payload: bytesOf(row.payload), clientSeq: client_seq, nextStep: next_step };
}
