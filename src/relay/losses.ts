import type { Connection } from "../store/open.ts";
import { prepared } from "../store/prepared.ts";
import type { Journal } from "../store/journal.ts";
import type { RemovalReason, RemovedRows } from "../store/sample-retain.ts";
import { deviceStream } from "../entry.ts";
import { EXPIRED, PRUNED, THINNED } from "./reasons.ts";

/** Ranges no further apart than this are told as one. */
const GAP_MS = 3_600_000;
/** Rows of one reason and kind for one destination; more are told as one with the last. */
const MAX_ROWS = 50;
/** Readings come in batches of so long. */
const BATCH_MS = 10_000;
/** The table as a whole: beyond that the streams are told together. */
const MAX_STREAMS = 1000;

/** What is lost, of one stream. */
export interface Loss {
  /** "": it never gets anywhere. */
  destination: string;
  stream: string;
  kind: string;
  first: number;
  last: number;
  records: number;
  reason: string;
}

/** Counts what destinations will never get. */
export interface Losses {
  put(loss: Loss): void;
  /** Entries between go from the journal: whoever has not got them is to have what history still knows then. */
  cut(first: number, last: number): void;
  /** Rows as they were read go; within a transaction. */
  removed(rows: RemovedRows, reason: RemovalReason): void;
  /** A run of so many records and lines goes. */
  pruned(run: string, records: number): void;
  /** Takes up what a full disk could not. */
  flush(): void;
}

interface Behind {
  name: string;
  kind: string;
  /** What was recorded since this time has not arrived. */
  from: number;
}

export function createLosses(connection: Connection, journal: Journal, now: () => number): Losses {
  // Prepared when it is first needed: most collectors relay nothing.
  const prepare = (sql: string) => () => prepared(connection, sql);
  // Nothing but the journal goes to OpenTelemetry, and of what is gone of it its lane counts.
  const selectBehind = prepare(
    `SELECT name, kind, max(acked, skip) AS reached, lacks_after, lacks_from, "from", created FROM destination
     WHERE kind <> 'otlp' AND max(acked, skip) + 1 < ?`,
  );
  const markCut = prepare(
    `UPDATE destination SET lacks_after = max(acked, skip), lacks_from =
       (SELECT min(time) FROM journal WHERE seq > max(acked, skip) AND seq <= ?2)
     WHERE max(acked, skip) >= ?1 - 1 AND max(acked, skip) < ?2`,
  );
  const selectLast = prepare(
    `SELECT id, first_time, last_time, count(*) OVER () AS rows FROM relay_drop
     WHERE destination = ? AND stream = ? AND kind = ? AND reason = ? ORDER BY last_time DESC LIMIT 1`,
  );
  const countStreams = prepare("SELECT count(*) AS rows FROM relay_drop");
  const widen = prepare(
    `UPDATE relay_drop SET first_time = min(first_time, ?), last_time = max(last_time, ?), records = records + ?, at = ?
     WHERE id = ?`,
  );
  const insert = prepare(
    `INSERT INTO relay_drop (destination, stream, kind, first_time, last_time, records, bytes, reason, at)
     VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)`,
  );
  const selectRun = prepare("SELECT created, started, finished FROM run WHERE id = ?");
  const countInJournal = prepare(
    "SELECT coalesce(sum(count), 0) AS records FROM journal WHERE run = ? AND ordinal IS NOT NULL",
  );
  let waiting: Loss[] = [];

  /** Destinations of which the journal no longer has all that they lack. */
  function behind(): Behind[] {
    const rows = selectBehind().all(journal.bounds().first) as {
      name: string;
      kind: string;
      reached: number;
      lacks_after: number | null;
      lacks_from: number | null;
      from: "history" | "now";
      created: number;
    }[];
    return rows.map(({ name, kind, reached, lacks_after, lacks_from, from, created }) => ({
      name,
      kind,
      from:
        lacks_after === reached && lacks_from !== null
          ? lacks_from - BATCH_MS
          : from === "now"
            ? created
            : -Infinity,
    }));
  }

  function write({ destination, stream, kind, first, last, records, reason }: Loss): void {
    const at = now();
    let row = selectLast().get(destination, stream, kind, reason) as Row | undefined;
    if (!row && stream !== "" && (countStreams().get() as { rows: number }).rows >= MAX_STREAMS)
      return write({ destination, stream: "", kind, first, last, records, reason });
    if (
      row &&
      row.rows < MAX_ROWS &&
      stream !== "" &&
      (first > row.last_time + GAP_MS || last < row.first_time - GAP_MS)
    )
      row = undefined;
    if (row) widen().run(first, last, records, at, row.id);
    else insert().run(destination, stream, kind, first, last, records, reason, at);
  }

  function put(loss: Loss): void {
    const before = waiting.at(-1);
    const isSame =
      before?.destination === loss.destination &&
      before.stream === loss.stream &&
      before.kind === loss.kind &&
      before.reason === loss.reason;
    if (before && isSame) {
      before.first = Math.min(before.first, loss.first);
      before.last = Math.max(before.last, loss.last);
      before.records += loss.records;
    } else waiting.push({ ...loss });
    flush();
  }

  function flush(): void {
    while (waiting.length > 0) {
      try {
        write(waiting[0]!);
      } catch (error) {
        // It is told once there is room. What is read while the collector ends is nobody's.
        if ((error as { code?: string }).code === "SQLITE_FULL" || !connection.open) return;
        throw error;
      }
      waiting = waiting.slice(1);
    }
  }

  return {
    put,
    flush,
    cut: (first, last) => void markCut().run(first, last),
    removed(rows, reason) {
      for (const { name, kind, from } of behind()) {
        // FedML gets no readings of before, and its lane has counted that.
        if (kind !== "platform" || rows.last < from) continue;
        const times = rows.first >= from ? undefined : rows.times().filter((time) => time >= from);
        write({
          destination: name,
          stream: deviceStream(rows.device),
          kind: "sample.appended",
          first: times?.[0] ?? rows.first,
          last: rows.last,
          records: times?.length ?? rows.count,
          reason: reason === "thinned" ? THINNED : EXPIRED,
        });
      }
    },
    pruned(run, records) {
      const row = selectRun().get(run) as
        | { created: number; started: number | null; finished: number | null }
        | undefined;
      if (!row) return;
      for (const { name, from } of behind()) {
        const last = row.finished ?? now();
        if (last < from) continue;
        // The platform knows a run that began before; what of it is still in the journal gets there.
        const isKnown = row.created < from;
        const coming = isKnown ? (countInJournal().get(run) as { records: number }).records : 0;
        const lost = Math.max(records - coming, isKnown ? 0 : 1);
        if (lost === 0) continue;
        put({
          destination: name,
          stream: "",
          kind: "run",
          first: Math.max(row.started ?? row.created, isKnown ? from : -Infinity),
          last,
          records: lost,
          reason: PRUNED,
        });
      }
    },
  };
}

interface Row {
  id: number;
  first_time: number;
  last_time: number;
  rows: number;
}
