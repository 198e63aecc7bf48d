import Database from "libsql";
import { drizzle, type SqliteRemoteDatabase } from "drizzle-orm/sqlite-proxy";
import { onFailure, watchFailures } from "./failure.ts";

/** The one connection. Synchronous: every call blocks the event loop for as long as it takes. */
export type Connection = Database.Database;
export type Statement = Database.Statement;
/** drizzle over the same connection, for the control plane's tables. */
export type Drizzle = SqliteRemoteDatabase<Record<string, never>>;

/**
 * Opens the database file for this process alone.
 *
 * EXCLUSIVE comes before the first access in WAL mode, so that no -shm file is made and every other
 * connection, in this process or another, is told "database is locked". That closes two holes of libSQL 0.5.29:
 * after one SQLITE_BUSY its autocommit writes report success and are never committed (libsql-client-ts #352), and its
 * SQLite 3.45.1 can lose commits when two connections checkpoint at once (libsql #2271).
 */
export function openConnection(path: string): Connection {
  const connection = new Database(path);
  try {
    // Takes effect only while the file holds no table yet; harmless later.
    connection.exec("PRAGMA auto_vacuum=INCREMENTAL");
    connection.exec("PRAGMA locking_mode=EXCLUSIVE");
    connection.exec("PRAGMA journal_mode=WAL");
    connection.exec("PRAGMA synchronous=FULL");
    connection.exec("PRAGMA foreign_keys=ON");
    connection.exec("PRAGMA wal_autocheckpoint=1000");
    connection.exec("PRAGMA journal_size_limit=67108864");
    connection.exec("PRAGMA busy_timeout=0");
    // Takes the lock now rather than at the first write, so that a second collector fails at its start.
    connection.exec("BEGIN IMMEDIATE; COMMIT");
  } catch (error) {
    connection.close();
    throw error;
  }
  watchFailures(connection);
  return connection;
}

/**
 * Closes it and lets go of the file. close() alone keeps the lock until the last prepared statement is collected; leaving
 * WAL first also folds everything into one file.
 */
export function closeConnection(connection: Connection): void {
  onFailure(connection, undefined);
  try {
    connection.exec("PRAGMA journal_mode=DELETE");
    connection.exec("PRAGMA locking_mode=NORMAL");
    connection.prepare("SELECT count(*) FROM sqlite_master").get();
  } catch {
    // A full disk, or a database that already failed: the next start recovers from the WAL.
  }
  connection.close();
}

/** A thin drizzle over the connection: its public proxy driver, since its own libSQL driver wants a client that pools. */
export function createDrizzle(connection: Connection): Drizzle {
  return drizzle(async (sql, params, method) => {
    const statement = connection.prepare(sql);
    if (method === "run") {
      statement.run(...params);
      return { rows: [] };
    }
    const rows = statement.raw(true).all(...params) as unknown[][];
    return { rows: method === "get" ? (rows[0] as unknown[]) : rows };
  });
}
