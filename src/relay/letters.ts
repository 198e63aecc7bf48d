import type { Collector } from "../collector.ts";
import { bytesOf } from "../store/chunk-table.ts";
import type { Frame } from "./contract.ts";
import { decodeFrames, encodeFrames } from "./frame.ts";
import type { DeadLetter } from "./ports.ts";
import { GIVEN_UP } from "./reasons.ts";
import type { DeadLetter as ShownLetter } from "./schema.ts";

/** What a destination refused for good, kept whole until a person looks. */
export interface LetterBox {
  /** Within a transaction of the caller's. */
  put(letter: DeadLetter, epoch: number): void;
  /** Seqs among these that are here: they are not sent again by themselves. */
  seqs(first: number, last: number): Set<number>;
  count(): number;
  /** The oldest first, behind `after`. */
  list(limit: number, after?: number): ShownLetter[];
  /** Entries, the oldest first, behind `after`; of these letters alone where some are named. */
  frames(
    limit: number,
    after: number,
    ids?: readonly number[],
  ): { id: number; epoch: number; frame: Frame }[];
  /** They have arrived. */
  remove(ids: readonly number[]): void;
  /** They never will: counts what they held. Of all, where none are named. Returns how many there were. */
  discard(ids?: readonly number[]): number;
}

/** Beyond this they are counted as dropped: a platform that refuses everything must not fill the disk. */
const MAX_LETTERS = 10_000;
const MAX_BYTES = 256 * 1024 * 1024;
const PAGE = 100;

interface Row {
  id: number;
  epoch: number;
  seq: number;
  kind: string;
  run: string;
  time: number;
  records: number;
  bytes: number;
  type: string;
  detail: string;
  at: number;
}

export function createLetterBox({ connection, now }: Collector, destination: string): LetterBox {
  const insert = connection.prepare(
    `INSERT INTO dead_letter (destination, epoch, seq, kind, run, ordinal, time, records, frame, type, detail, at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (destination, epoch, seq, kind, run, ordinal, time)
     DO UPDATE SET type = excluded.type, detail = excluded.detail, at = excluded.at`,
  );
  const selectSize = connection
    .prepare("SELECT count(*), coalesce(sum(length(frame)), 0) FROM dead_letter WHERE destination = ?")
    .raw(true);
  const selectCount = connection.prepare("SELECT count(*) FROM dead_letter WHERE destination = ?").raw(true);
  const selectSeqs = connection
    .prepare("SELECT seq FROM dead_letter WHERE destination = ? AND seq BETWEEN ? AND ?")
    .raw(true);
  const selectRows = connection.prepare(
    `SELECT id, epoch, seq, kind, run, time, records, length(frame) AS bytes, type, detail, at FROM dead_letter
     WHERE destination = ? AND id > ? ORDER BY id LIMIT ?`,
  );
  const selectFrame = connection.prepare("SELECT frame FROM dead_letter WHERE id = ?");
  const remove = connection.prepare("DELETE FROM dead_letter WHERE id = ? AND destination = ?");
  const drop = connection.prepare(
    `INSERT INTO relay_drop (destination, stream, kind, first_seq, last_seq, first_time, last_time, records, bytes, reason, at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );

  function putDrop(
    { run, kind, seq, time, records, bytes }: Omit<Row, "id" | "epoch" | "type" | "detail" | "at">,
    reason: string,
  ): void {
    const at = seq === 0 ? null : seq;
    drop.run(destination, run, kind, at, at, time, time, records, bytes, reason, now());
  }

  function inTransaction(work: () => void): void {
    connection.exec("BEGIN IMMEDIATE");
    try {
      work();
      connection.exec("COMMIT");
    } catch (error) {
      if (connection.inTransaction) connection.exec("ROLLBACK");
      throw error;
    }
  }

  function rows(limit: number, after: number, ids?: readonly number[]): Row[] {
    if (!ids) return selectRows.all(destination, after, limit) as Row[];
    return ids
      .filter((id) => id > after)
      .toSorted((a, b) => a - b)
      .slice(0, limit)
      .flatMap((id) => (selectRows.all(destination, id - 1, 1) as Row[]).filter((row) => row.id === id));
  }

  const frameOf = (id: number): Frame =>
    decodeFrames(bytesOf((selectFrame.get(id) as { frame: Uint8Array }).frame))[0]!;

  return {
    put({ frame, type, detail }, epoch) {
      const { seq, kind, run, ordinal, count: records, payload, time } = frame;
      const [letters, bytes] = selectSize.get(destination) as [number, number];
      if (letters >= MAX_LETTERS || bytes + payload.length > MAX_BYTES)
        putDrop(
          { run, kind, seq, time, records, bytes: payload.length },
          "refused by the destination, and there were more dead letters already than are kept",
        );
      else
        insert.run(
          destination,
          epoch,
          seq,
          kind,
          run,
          ordinal ?? -1,
          time,
          records,
          encodeFrames([frame]),
          type,
          detail,
          now(),
        );
    },
    seqs: (first, last) =>
      new Set((selectSeqs.all(destination, first, last) as [number][]).map(([seq]) => seq)),
    count: () => (selectCount.get(destination) as [number])[0],
    list: (limit, after = 0) =>
      rows(limit, after).map(({ run, time: _, at, ...row }) => ({
        ...row,
        stream: run,
        at: new Date(at).toISOString(),
      })),
    frames: (limit, after, ids) =>
      rows(limit, after, ids).map(({ id, epoch }) => ({ id, epoch, frame: frameOf(id) })),
    remove(ids) {
      inTransaction(() => {
        for (const id of ids) remove.run(id, destination);
      });
    },
    discard(ids) {
      let discarded = 0;
      let after = 0;
      for (;;) {
        const page = rows(PAGE, after, ids);
        if (page.length === 0) return discarded;
        inTransaction(() => {
          for (const row of page) {
            putDrop(row, GIVEN_UP);
            remove.run(row.id, destination);
          }
        });
        discarded += page.length;
        after = page.at(-1)!.id;
      }
    },
  };
}
