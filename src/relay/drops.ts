import type { Connection } from "../store/open.ts";
import type { Destination } from "./destinations.ts";
import { BUSY, EXPIRED, NO_ROOM, PRUNED, REJECTED, REMOVED, THINNED } from "./reasons.ts";
import type { RelayDrop } from "./schema.ts";

const MAX_SHOWN = 100;

/** What will never arrive at a destination. */
export function countDropped(
  connection: Connection,
  destination: string,
): { records: number; bytes: number } {
  // libSQL puts words of its own into a row.
  const { records, bytes } = connection
    .prepare(
      `SELECT coalesce(sum(records), 0) AS records, coalesce(sum(bytes), 0) AS bytes FROM relay_drop
       WHERE destination IN (?, '')`,
    )
    .get(destination) as { records: number; bytes: number };
  return { records, bytes };
}

/** What may come of itself: counted from the first look on, so that its beginning shows as a rise. */
const AWAITED = [NO_ROOM, BUSY, THINNED, EXPIRED, PRUNED];

/** The same by reason. What a backend says of what it rejects is endless, and told together. */
export function countByReason(connection: Connection, destination: string): Map<string, number> {
  const rows = connection
    .prepare(
      `SELECT CASE WHEN substr(reason, 1, ?1) = ?2 THEN ?2 ELSE reason END AS why, sum(records) AS records FROM relay_drop
       WHERE destination IN (?3, '') GROUP BY why ORDER BY why`,
    )
    .raw(true)
    .all(REJECTED.length, REJECTED, destination) as [string, number][];
  return new Map([...AWAITED.map((reason): [string, number] => [reason, 0]), ...rows]);
}

/** The newest first. */
export function listDrops(connection: Connection): RelayDrop[] {
  const rows = connection
    .prepare(`SELECT * FROM relay_drop ORDER BY id DESC LIMIT ${MAX_SHOWN}`)
    .all() as DropRow[];
  return rows.map(({ destination, first_time, last_time, at, ...row }) => ({
    ...row,
    destination: destination === "" ? null : destination,
    first_time: time(first_time),
    last_time: time(last_time),
    at: time(at)!,
  }));
}

type DropRow = Omit<RelayDrop, "destination" | "first_time" | "last_time" | "at"> & {
  destination: string;
  first_time: number | null;
  last_time: number | null;
  at: number;
};

const time = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

/** What waited for a destination that is removed, by stream and kind. */
export function putDropOfDestination(
  connection: Connection,
  { name, acked, skip }: Pick<Destination, "name" | "acked" | "skip">,
  at: number,
): void {
  connection
    .prepare(
      `INSERT INTO relay_drop (destination, stream, kind, first_seq, last_seq, first_time, last_time, records, bytes, reason, at)
       SELECT ?, run, kind, min(seq), max(seq), min(time), max(time), sum(count), sum(length(payload)),
         ?, ?
       FROM journal WHERE seq > ? GROUP BY run, kind`,
    )
    .run(name, REMOVED, at, Math.max(acked, skip));
  // Their entries have arrived, their files have not. Of history they have no seq.
  connection
    .prepare(
      `INSERT INTO relay_drop (destination, stream, kind, first_seq, last_seq, records, bytes, reason, at)
       SELECT ?1, '', 'artifact.logged', nullif(max(min(seq), 0), 0), nullif(max(max(seq), 0), 0), count(*), sum(bytes), ?2, ?3
       FROM relay_upload WHERE destination = ?1 GROUP BY seq > 0`,
    )
    .run(name, REMOVED, at);
}

/** It is there again, and gets what comes after `skip`: of that nothing was dropped after all. */
export function forgetRemoved(
  connection: Connection,
  { name, skip }: Pick<Destination, "name" | "skip">,
): void {
  connection
    .prepare("DELETE FROM relay_drop WHERE destination = ? AND reason = ? AND first_seq > ?")
    .run(name, REMOVED, skip);
}
