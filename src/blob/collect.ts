import { existsSync, readdirSync, renameSync, statSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Connection } from "../store/open.ts";
import { blobPath, goingPath, partOfName } from "./path.ts";

/** What nothing refers to stays so long: its upload may be done, and what will refer to it under way. */
const KEEP_MS = 24 * 3600 * 1000;
/** Uploads that nobody has touched for so long are given up. */
const KEEP_INCOMING_MS = 7 * 24 * 3600 * 1000;
/** Rows looked at in one turn of the event loop. */
const BATCH = 500;

export interface CollectorOfBlobs {
  connection: Connection;
  folder: string;
  now: () => number;
  transaction: (write: () => void) => void;
  /** An upload that is open. */
  isIncoming: (sha256: string) => boolean;
  /** A part that is being written. */
  isWriting: (id: string) => boolean;
}

/** Deletes what nothing refers to, and what no row knows of; resolves with the number of blobs. */
export function createCollect({
  connection,
  folder,
  now,
  transaction,
  isIncoming,
  isWriting,
}: CollectorOfBlobs) {
  const select = connection
    .prepare(
      `SELECT sha256, data IS NULL, touched < ? AND NOT EXISTS
         (SELECT 1 FROM artifact_file WHERE artifact_file.sha256 = blob.sha256) AND NOT EXISTS
         (SELECT 1 FROM object WHERE object.sha256 = blob.sha256)
       FROM blob WHERE sha256 > ? ORDER BY sha256 LIMIT ${BATCH}`,
    )
    .raw(true);
  const exists = connection.prepare("SELECT 1 FROM blob WHERE sha256 = ?").raw(true);
  const remove = connection.prepare("DELETE FROM blob WHERE sha256 = ?");
  const removeUnreferred = connection.prepare(
    `DELETE FROM blob WHERE sha256 = ?1 AND NOT EXISTS (SELECT 1 FROM artifact_file WHERE sha256 = ?1)
       AND NOT EXISTS (SELECT 1 FROM object WHERE sha256 = ?1)`,
  );
  const forgetUploads = connection.prepare("DELETE FROM object_upload WHERE touched < ?");
  const isPart = connection.prepare("SELECT 1 FROM object_part WHERE file = ?").raw(true);

  async function removeUnused(): Promise<number> {
    let count = 0;
    for (let after = ""; ;) {
      const rows = select.all(now() - KEEP_MS, after) as [string, number, number][];
      if (rows.length === 0) return count;
      const unused = rows.filter(([, , isUnused]) => isUnused);
      // The row first: a file without a row is only space, and is found by its name.
      if (unused.length > 0) transaction(() => unused.forEach(([sha256]) => remove.run(sha256)));
      await discard(unused.filter(([, isFile]) => isFile).map(([sha256]) => sha256));
      count += unused.length;
      after = rows.at(-1)![0];
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** All out of their places before anything else happens, since the same bytes may come again; a large file then takes a while to go. */
  async function discard(digests: readonly string[]): Promise<void> {
    for (const path of digests.map(moveAside)) if (path !== undefined) await rm(path, { force: true });
  }

  function moveAside(sha256: string): string | undefined {
    const going = goingPath(folder, sha256);
    try {
      renameSync(blobPath(folder, sha256), going);
      return going;
    } catch {
      // It was not there.
      return undefined;
    }
  }

  /** Files that a crash left between the name and the row, or between the row and the file. */
  async function removeUnknown(): Promise<void> {
    for (const prefix of readdirSync(folder)) {
      if (!/^[0-9a-f]{2}$/.test(prefix)) continue;
      for (const rest of await readdir(join(folder, prefix))) {
        const sha256 = prefix + rest;
        if (!/^[0-9a-f]{64}$/.test(sha256) || exists.get(sha256) || isIncoming(sha256)) continue;
        if (isOlder(blobPath(folder, sha256), KEEP_MS)) await discard([sha256]);
      }
    }
  }

  async function giveUpIncoming(): Promise<void> {
    const dir = join(folder, "incoming");
    if (!existsSync(dir)) return;
    transaction(() => forgetUploads.run(now() - KEEP_MS));
    for (const name of readdirSync(dir)) {
      const part = partOfName(name);
      if (isIncoming(name) || (part !== undefined && (isWriting(part) || isPart.get(part)))) continue;
      // Bytes whose sender went in the middle, or of an object that nobody completed.
      if (part !== undefined) await rm(join(dir, name), { force: true });
      // What was on its way out when the process ended goes now.
      if (name.endsWith(".going") || isOlder(join(dir, name), KEEP_INCOMING_MS))
        await rm(join(dir, name), { force: true });
    }
  }

  function isOlder(path: string, age: number): boolean {
    const found = statSync(path, { throwIfNoEntry: false });
    return found !== undefined && found.mtimeMs < now() - age;
  }

  return {
    async collect(): Promise<number> {
      const count = await removeUnused();
      if (existsSync(folder)) await removeUnknown();
      await giveUpIncoming();
      return count;
    },
    async release(sha256: string): Promise<void> {
      let isGone = false;
      transaction(() => (isGone = removeUnreferred.run(sha256).changes > 0));
      if (isGone) await discard([sha256]);
    },
  };
}
