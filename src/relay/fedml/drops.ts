import type { Connection } from "../../store/open.ts";
import type { Frame } from "../contract.ts";

interface Left {
  name: string;
  frames: readonly Frame[];
  reason: string;
  at: number;
}

/** What the platform has no words for: a row for each kind and reason, however often. */
export function putLeft(connection: Connection, { name, frames, reason, at }: Left): void {
  for (const { kind, seq, time, count, payload } of frames) {
    const { changes } = connection
      .prepare(
        `UPDATE relay_drop SET last_seq = ?, last_time = ?, records = records + ?, bytes = bytes + ?, at = ?
         WHERE destination = ? AND stream = '' AND kind = ? AND reason = ?`,
      )
      .run(seq, time, count, payload.length, at, name, kind, reason);
    if (changes > 0) continue;
    connection
      .prepare(
        `INSERT INTO relay_drop
         (destination, stream, kind, first_seq, last_seq, first_time, last_time, records, bytes, reason, at)
         VALUES (?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(name, kind, seq, seq, time, time, count, payload.length, reason, at);
  }
}
