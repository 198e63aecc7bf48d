import type { Connection } from "../../store/open.ts";
import type { Frame } from "../contract.ts";
import { REJECTED } from "../reasons.ts";

const INSERT = `INSERT INTO relay_drop
  (destination, stream, kind, first_seq, last_seq, first_time, last_time, records, bytes, reason, at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

interface Rejection {
  name: string;
  /** Of the request: the backend doesn't say which. */
  frames: readonly Frame[];
  records: number;
  message: string;
  at: number;
}

/** What a backend did not take of a request that it took. One that says so of every request is told in one row. */
export function putRejected(connection: Connection, { name, frames, records, message, at }: Rejection): void {
  const [first] = frames;
  const last = frames.at(-1);
  if (!first || !last) return;
  const of = (member: "run" | "kind") =>
    frames.every((frame) => frame[member] === first[member]) ? first[member] : "";
  const reason = `${REJECTED}${message === "" ? "" : `: ${message}`}`;
  const { changes } = connection
    .prepare(
      `UPDATE relay_drop SET last_seq = ?, last_time = ?, records = records + ?, at = ?
       WHERE destination = ? AND stream = ? AND kind = ? AND reason = ?`,
    )
    .run(last.seq, last.time, records, at, name, of("run"), of("kind"), reason);
  if (changes === 0)
    connection
      .prepare(INSERT)
      .run(name, of("run"), of("kind"), first.seq, last.seq, first.time, last.time, records, 0, reason, at);
}

/** Entries that the journal could keep no longer. */
export function putCut(
  connection: Connection,
  { name, after, first, at }: { name: string; after: number; first: number; at: number },
): void {
  const reason = "the journal was cut before the backend had them";
  const entries = first - 1 - after;
  connection.prepare(INSERT).run(name, "", "", after + 1, first - 1, null, null, entries, 0, reason, at);
}
