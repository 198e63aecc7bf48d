import { hash } from "node:crypto";
import { bytesOf } from "../store/chunk-table.ts";
import type { Connection } from "../store/open.ts";
import type { Damage } from "./damage.ts";
import { blobPath } from "./path.ts";
import { createBlobWorker, type BlobWorker } from "./worker.ts";

export interface VerifyOptions {
  signal?: AbortSignal;
  /** Bytes so far and in all, and the number of blobs. */
  onProgress?: (progress: { done: number; total: number; files: number }) => void;
}

export interface VerifierOfBlobs {
  connection: Connection;
  folder: string;
  damage: Damage;
  isHere: (sha256: string) => boolean;
  onWorkerLost: (error: unknown) => void;
}

/** Compares every blob with its digest; resolves with those that are not what they should be, or are not there. */
export function createVerify({ connection, folder, damage, isHere, onWorkerLost }: VerifierOfBlobs) {
  const selectFiles = connection
    .prepare("SELECT sha256, size FROM blob WHERE data IS NULL AND pending = 0")
    .raw(true);
  const selectSmall = connection
    .prepare("SELECT sha256, data FROM blob WHERE data IS NOT NULL AND sha256 > ? ORDER BY sha256 LIMIT 100")
    .raw(true);
  const countAll = connection
    .prepare("SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE pending = 0")
    .raw(true);

  /** Of a file, in steps. */
  async function isSound(
    sha256: string,
    size: number,
    reader: BlobWorker,
    tell: (bytes: number) => void,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    for (let from = 0; ;) {
      signal?.throwIfAborted();
      const step = await reader
        .run({ kind: "digest", path: blobPath(folder, sha256), from })
        .catch(() => undefined);
      const read = step?.size ?? size;
      tell(read - from);
      if (step?.sha256 !== undefined || !step) return step?.sha256 === sha256 && read === size;
      from = read;
    }
  }

  return async function verify({ signal, onProgress = () => {} }: VerifyOptions = {}): Promise<string[]> {
    const [files, total] = countAll.get() as [number, number];
    let done = 0;
    const tell = (bytes: number) => onProgress({ done: (done += bytes), total, files });
    const found = (sha256: string, isRight: boolean) => {
      if (isRight) damage.clear(sha256);
      // Deleted meanwhile, it is not missed.
      else if (isHere(sha256)) damage.mark(sha256);
    };
    // One of its own: an upload should not wait while five gigabytes are read.
    const reader = createBlobWorker(onWorkerLost);
    try {
      for (const [sha256, size] of selectFiles.all() as [string, number][])
        found(sha256, await isSound(sha256, size, reader, tell, signal));
    } finally {
      reader.close();
    }
    for (let after = ""; ;) {
      const rows = selectSmall.all(after) as [string, Uint8Array | ArrayBuffer][];
      if (rows.length === 0) return damage.all().filter(isHere);
      for (const [sha256, data] of rows) {
        const bytes = bytesOf(data);
        found(sha256, hash("sha256", bytes, "hex") === sha256);
        tell(bytes.length);
      }
      after = rows.at(-1)![0];
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
    }
  };
}
