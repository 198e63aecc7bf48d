import { randomBytes } from "node:crypto";
import type { Connection } from "../store/open.ts";

/** Who this database is to the platforms it relays to. */
export interface Installation {
  readonly id: string;
  readonly epoch: number;
  /** Of this opening of the database. */
  readonly nonce: string;
  /** Highest seq when it was opened. */
  readonly openedAt: number;
  /** Begins an epoch newer than this one and than `above`. Durable when it returns. */
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

/** Called once for each opening of the database: its nonce is new then. */
export function openInstallation(connection: Connection, now: () => number): Installation {
  const select = connection.prepare("SELECT id, epoch, nonce FROM installation");
  if (select.get()) connection.prepare("UPDATE installation SET nonce = ?").run(newId());
  else
    connection
      .prepare("INSERT INTO installation (id, epoch, nonce, created) VALUES (?, 1, ?, ?)")
      .run(newId(), newId(), now());
  let row = select.get() as Row;
  let openedAt = lastSeq(connection);

  return {
    get id() {
      return row.id;
    },
    get epoch() {
      return row.epoch;
    },
    get nonce() {
      return row.nonce;
    },
    get openedAt() {
      return openedAt;
    },
    newEpoch(above) {
      connection.prepare("UPDATE installation SET epoch = max(epoch, ?) + 1").run(above);
      row = select.get() as Row;
    },
    newSource() {
      connection.exec("BEGIN IMMEDIATE");
      try {
        connection.prepare("UPDATE installation SET id = ?, epoch = 1, nonce = ?").run(newId(), newId());
        connection.prepare("UPDATE destination SET epoch = 0, acked = 0, nonces = '[]'").run();
        connection.exec("COMMIT");
      } catch (error) {
        if (connection.inTransaction) connection.exec("ROLLBACK");
        throw error;
      }
      row = select.get() as Row;
      openedAt = lastSeq(connection);
    },
  };
}

const lastSeq = (connection: Connection): number =>
  (
    connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").get() as
      | { seq: number }
      | undefined
  )?.seq ?? 0;
