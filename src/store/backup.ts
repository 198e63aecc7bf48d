import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { CollectorError } from "../error.ts";
import type { Connection } from "./open.ts";

const PIECE = 4 * 1024 * 1024;

/**
 * The file's own descriptors, one a database, never closed: closing any descriptor of a file drops all locks that the process
 * holds on it, SQLite's among them, and another collector could walk in.
 */
const descriptors = new Map<string, number>();

function descriptorOf(path: string): number {
  let descriptor = descriptors.get(path);
  if (descriptor === undefined) descriptors.set(path, (descriptor = openSync(path, "r")));
  return descriptor;
}

/**
 * Copies the database while it goes on working. Commits go to the WAL alone for as long as it takes, so the file itself stands
 * still; VACUUM INTO would hold everything up.
 */
export function backupDatabase(connection: Connection, path: string, target: string): Promise<void> {
  return whileStill(connection, async () => {
    const copy = startCopy(path, target);
    while (copy.next()) await new Promise((resolve) => setImmediate(resolve));
    copy.finish();
  });
}

const still = new WeakSet<Connection>();

/** The file stands still meanwhile. One at a time: the first to end would let it move under the other. */
export async function whileStill<T>(connection: Connection, work: () => Promise<T>): Promise<T> {
  if (still.has(connection))
    throw new CollectorError("busy", "The database is being copied or looked through already.", {
      hint: "Try again when that is done.",
    });
  still.add(connection);
  try {
    checkpoint(connection);
    connection.exec("PRAGMA wal_autocheckpoint=0");
    return await work();
  } finally {
    still.delete(connection);
    if (connection.open) connection.exec("PRAGMA wal_autocheckpoint=1000");
  }
}

/** The same at once, for a start that is about to upgrade the file. */
export function backupDatabaseNow(connection: Connection, path: string, target: string): void {
  checkpoint(connection);
  const copy = startCopy(path, target);
  while (copy.next());
  copy.finish();
}

function checkpoint(connection: Connection): void {
  const [busy] = connection.prepare("PRAGMA wal_checkpoint(TRUNCATE)").raw(true).get() as [number];
  if (busy !== 0) throw new CollectorError("busy", "The database could not be checkpointed for a copy.");
}

/** Writes beside the target, and renames over it what is complete and on disk. */
function startCopy(path: string, target: string): { next(): boolean; finish(): void } {
  const from = descriptorOf(path);
  const temporary = `${target}.part`;
  const to = openSync(temporary, "w", 0o600);
  const piece = Buffer.allocUnsafe(PIECE);
  let at = 0;
  const abandon = (error: unknown): never => {
    closeSync(to);
    rmSync(temporary, { force: true });
    throw error;
  };
  return {
    next() {
      try {
        const size = readSync(from, piece, 0, piece.length, at);
        if (size > 0) writeSync(to, piece, 0, size, at);
        at += size;
        return size > 0;
      } catch (error) {
        return abandon(error);
      }
    },
    finish() {
      try {
        fsyncSync(to);
      } catch (error) {
        abandon(error);
      }
      closeSync(to);
      renameSync(temporary, target);
      const folder = openSync(dirname(target), "r");
      fsyncSync(folder);
      closeSync(folder);
    },
  };
}
