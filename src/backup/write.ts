import { randomBytes } from "node:crypto";
import {
  constants,
  copyFileSync,
  linkSync,
  mkdirSync,
  openSync,
  closeSync,
  readSync,
  rmSync,
  statSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { createArchiveWriter } from "../archive/zip-write.ts";
import { blobPath } from "../blob/path.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { migrations } from "../generated.ts";
import { backupDatabase } from "../store/backup.ts";
import { VERSION } from "../version.ts";
import { BACKUP_FORMAT, BACKUP_VERSION, backupPaths, type BackupDescription } from "./schema.ts";

const PIECE = 256 * 1024;
/** Names given to files in one turn of the event loop. */
const LINKS_A_TURN = 200;
/** Beside the database's own size, which its copy takes until it is sent. */
const ROOM_BYTES = 64 * 1024 * 1024;

const busy = new WeakSet<Collector>();

/**
 * Everything the collector keeps, as of one moment, as one zip; it goes on working meanwhile. The database is copied aside first:
 * were it sent as it lies there, a slow receiver would hold back every checkpoint. Files never change, so a second name each is
 * a copy. Secrets are not in it: tokens stay where they are.
 */
export async function backUp(collector: Collector): Promise<ReadableStream<Uint8Array>> {
  if (busy.has(collector))
    throw new CollectorError("busy", "A backup is being made already.", {
      hint: "Try again when it is done.",
    });
  busy.add(collector);
  const folder = join(collector.dataDir, "backups", randomBytes(8).toString("hex"));
  const end = () => {
    rmSync(folder, { recursive: true, force: true });
    busy.delete(collector);
  };
  try {
    requireRoom(collector);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const snapshot = await takeSnapshot(collector, folder);
    const aborted = new AbortController();
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(
      {},
      { highWaterMark: 4 },
      { highWaterMark: 4 },
    );
    void write(collector, folder, snapshot, writable, aborted.signal)
      .catch(async (error: unknown) => {
        aborted.abort(error);
        await writable.abort(error).catch(() => {});
      })
      .finally(end);
    return readable;
  } catch (error) {
    end();
    throw error;
  }
}

function requireRoom({ dataDir, quota }: Collector): void {
  const needed = statSync(join(dataDir, "binnacle.db")).size + ROOM_BYTES;
  const { freeBytes } = quota.status();
  if (needed <= freeBytes) return;
  throw new CollectorError("disk-full", "There is no room for a copy of the database.", {
    hint: `It needs ${Math.ceil(needed / 1024 ** 2)} MiB for a while beside the original: free some space and try again.`,
  });
}

interface Snapshot {
  last: number;
  files: { sha256: string; size: number }[];
  missing: string[];
}

async function takeSnapshot(collector: Collector, folder: string): Promise<Snapshot> {
  const { connection, dataDir, journal } = collector;
  await journal.settled();
  const linked = new Map<string, number>();
  const missing = new Set<string>();
  // Before the copy and after it: what the copy has was there then, or came while it was made.
  await linkFiles(collector, folder, linked, missing);
  const { last } = journal.bounds();
  await backupDatabase(connection, join(dataDir, "binnacle.db"), join(folder, "binnacle.db"));
  missing.clear();
  await linkFiles(collector, folder, linked, missing);
  return { last, files: [...linked].map(([sha256, size]) => ({ sha256, size })), missing: [...missing] };
}

async function linkFiles(
  { connection, dataDir }: Collector,
  folder: string,
  linked: Map<string, number>,
  missing: Set<string>,
): Promise<void> {
  const select = connection
    .prepare(
      "SELECT sha256, size FROM blob WHERE data IS NULL AND pending = 0 AND sha256 > ? ORDER BY sha256 LIMIT ?",
    )
    .raw(true);
  for (let after = ""; ;) {
    const rows = select.all(after, LINKS_A_TURN) as [string, number][];
    if (rows.length === 0) return;
    for (const [sha256, size] of rows) {
      if (linked.has(sha256)) continue;
      if (link(blobPath(join(dataDir, "blobs"), sha256), join(folder, sha256))) linked.set(sha256, size);
      else missing.add(sha256);
    }
    after = rows.at(-1)![0];
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** False where the file is gone. */
function link(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return false;
    // A file system without links, or one name too many.
    copyFileSync(from, to, constants.COPYFILE_FICLONE);
    return true;
  }
}

async function write(
  collector: Collector,
  folder: string,
  { last, files, missing }: Snapshot,
  sink: WritableStream<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const created = new Date(collector.now());
  const out = createArchiveWriter(sink, created, signal);
  await out.add(backupPaths.database, pieces(join(folder, "binnacle.db")));
  const database = out.files[0]!;
  rmSync(join(folder, "binnacle.db"));
  let bytes = database.size;
  const damaged = [...missing];
  for (const { sha256, size } of files) {
    await out.add(backupPaths.file(sha256), pieces(join(folder, sha256)));
    rmSync(join(folder, sha256));
    bytes += size;
    // Kept all the same, as it is all there is of it; the restore says so.
    if (out.files.at(-1)!.sha256 !== sha256) damaged.push(sha256);
  }
  const description: BackupDescription = {
    format: BACKUP_FORMAT,
    version: BACKUP_VERSION,
    binnacle: VERSION,
    created: created.toISOString(),
    host: hostname(),
    migrations: migrations.map(({ name }) => name),
    last,
    database: { size: database.size, sha256: database.sha256 },
    files: files.length,
    bytes,
    missing: damaged,
  };
  await out.add(backupPaths.description, [
    new TextEncoder().encode(`${JSON.stringify(description, null, 2)}\n`),
  ]);
  await out.close();
}

async function* pieces(path: string): AsyncGenerator<Uint8Array, void> {
  const descriptor = openSync(path, "r");
  try {
    for (let at = 0; ;) {
      const piece = new Uint8Array(PIECE);
      const count = readSync(descriptor, piece, 0, PIECE, at);
      if (count === 0) return;
      at += count;
      yield piece.subarray(0, count);
    }
  } finally {
    closeSync(descriptor);
  }
}
