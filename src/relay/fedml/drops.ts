import { deviceStream } from "../../entry.ts";
import type { Connection } from "../../store/open.ts";
import type { Frame } from "../contract.ts";

const INSERT = `INSERT INTO relay_drop
  (destination, stream, kind, first_seq, last_seq, first_time, last_time, records, bytes, reason, at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

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
    connection.prepare(INSERT).run(name, "", kind, seq, seq, time, time, count, payload.length, reason, at);
  }
}

/** Readings of a machine from before: once for each, as nobody has counted them. */
export function putLeftPart(
  connection: Connection,
  { name, device, at }: { name: string; device: string; at: number },
): void {
  const stream = deviceStream(device);
  const known = connection
    .prepare("SELECT 1 FROM relay_drop WHERE destination = ? AND stream = ? AND reason = ?")
    .get(name, stream, OLD_READINGS);
  if (!known)
    connection
      .prepare(INSERT)
      .run(name, stream, "sample.appended", null, null, null, null, 1, 0, OLD_READINGS, at);
}

const OLD_READINGS = "readings of before do not go to FedML, whose platform takes them for those of now";
