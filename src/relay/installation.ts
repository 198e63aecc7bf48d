import { randomBytes } from "node:crypto";
import type { Connection } from "../store/open.ts";
import { withOpening, type KeptOpening } from "./openings.ts";

/** Who this database is to the platforms it relays to. */
export interface Installation {
  readonly id: string;
  readonly epoch: number;
  /** Of this opening of the database. */
  readonly nonce: string;
  /** Begins an epoch newer than this one and than `above`, and an opening. Durable when it returns. */
  newEpoch(above: number): void;
  /** This is a copy of a database that goes on elsewhere: from now on a source of its own. Durable when it returns. */
  newSource(): void;
}

interface Row {
  id: string;
  epoch: number;
  nonce: string;
}

const newId = () => randomBytes(16).toString("hex");

/** Called once for each opening of the database, which ends the one before. */
export function openInstallation(connection: Connection, now: () => number): Installation {
  const select = connection.prepare("SELECT id, epoch, nonce FROM installation");
  const selectOpenings = connection.prepare("SELECT name, acked, openings, answered FROM destination");
  const putOpenings = connection.prepare("UPDATE destination SET openings = ? WHERE name = ?");
  let row = select.get() as Row | undefined;

  /**
   * Each destination keeps what it may know of the opening that has ended. `isDoubtful`: the machine may have gone back to a snapshot
   * of itself, and have written other entries under the same nonce; only what has arrived is vouched for.
   */
  function endOpening(nonce: string, isDoubtful: boolean): void {
    const last = lastSeq(connection);
    for (const { name, acked, openings, answered } of selectOpenings.all() as {
      name: string;
      acked: number;
      openings: string;
      answered: string | null;
    }[]) {
      const kept = withOpening(JSON.parse(openings) as KeptOpening[], {
        nonce,
        last: isDoubtful ? Math.min(last, acked) : last,
        answered: answered === nonce,
      });
      putOpenings.run(JSON.stringify(kept), name);
    }
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
    row = select.get() as Row;
  }

  const ended = row;
  inTransaction(() => {
    if (ended) {
      endOpening(ended.nonce, false);
      connection.prepare("UPDATE installation SET nonce = ?").run(newId());
    } else
      connection
        .prepare("INSERT INTO installation (id, epoch, nonce, created) VALUES (?, 1, ?, ?)")
        .run(newId(), newId(), now());
  });

  return {
    get id() {
      return row!.id;
    },
    get epoch() {
      return row!.epoch;
    },
    get nonce() {
      return row!.nonce;
    },
    newEpoch(above) {
      inTransaction(() => {
        endOpening(row!.nonce, true);
        connection
          .prepare("UPDATE installation SET epoch = max(epoch, ?) + 1, nonce = ?")
          .run(above, newId());
      });
    },
    newSource() {
      inTransaction(() => {
        connection.prepare("UPDATE installation SET id = ?, epoch = 1, nonce = ?").run(newId(), newId());
        // Other backends know nothing of sources: what they have they have.
        connection
          .prepare(
            `UPDATE destination SET epoch = 0, acked = 0, openings = '[]', answered = NULL
             WHERE kind = 'platform'`,
          )
          .run();
      });
    },
  };
}

const lastSeq = (connection: Connection): number =>
  (
    connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").get() as
      | { seq: number }
      | undefined
  )?.seq ?? 0;
