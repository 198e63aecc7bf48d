import { createHash } from "node:crypto";
import { constants, createReadStream, openSync, existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { CollectorError } from "../error.ts";
import { fileBody } from "../runtime.ts";
import { bytesOf } from "../store/chunk-table.ts";
import { diskFull } from "../store/journal.ts";
import type { Connection } from "../store/open.ts";
import { blobPath, incomingPath } from "./path.ts";
import { CHUNK_BYTES, SMALL_BYTES, type OpenUpload, type Upload } from "./schema.ts";
import { createCollect } from "./collect.ts";
import { createBlobWorker, type BlobWorker } from "./worker.ts";

/** Uploads that are open; beyond them the one that has been silent longest is to be opened again. */
const MAX_OPEN = 256;
/** Digests of all their chunks together: 100 bytes each. */
const MAX_OPEN_CHUNKS = 1_000_000;
/** Uploads of which nothing was heard for so long are forgotten; what they brought stays a while. */
const FORGET_MS = 3600 * 1000;

/** Files by their content. The only one who knows where bytes lie. */
export interface Blobs {
  has(sha256: string): boolean;
  /** Bytes of a blob; undefined where it is not here. */
  size(sha256: string): number | undefined;
  /** Those of these that are not here. The others stay for a day at least. */
  missing(sha256: readonly string[]): string[];
  /** Keeps small files, all or none: one commit for them all. */
  putSmall(files: readonly { sha256: string; bytes: Uint8Array }[]): void;
  /** Begins an upload, or takes it up where it broke off; chunks that any blob has are taken from there. */
  open(sha256: string, upload: OpenUpload): Promise<Upload>;
  /** A chunk, in any order, any number of times. Bytes in shared memory are not copied; `digest`: what its sender says of it. */
  putChunk(sha256: string, index: number, bytes: Uint8Array, digest?: string): Promise<void>;
  /** All chunks were sent: checks the whole and keeps it for good. */
  commit(sha256: string): Promise<void>;
  /** Its bytes from `start` to before `end`. */
  read(sha256: string, start?: number, end?: number): ReadableStream<Uint8Array>;
  /** The same for an answer, which a server may send without reading it into memory. */
  body(sha256: string, start: number, end: number): Blob | ReadableStream<Uint8Array>;
  /** Deletes what nothing refers to; resolves with the number of blobs. */
  collect(): Promise<number>;
  /** Digests of blobs that are not what they should be, or are not there. Who brings one again from now on mends it. */
  verify(options?: VerifyOptions): Promise<string[]>;
  /** Bytes of files, those under way included. */
  usedBytes(): number;
  /**
   * Bytes of files that would go with the runs that logged them, less what lies in the database and would not: what a bound
   * on what runs take can hope for.
   */
  heldBytes(): number;
  close(): void;
}

export interface VerifyOptions {
  signal?: AbortSignal;
  /** Bytes so far and in all, and the number of blobs. */
  onProgress?: (progress: { done: number; total: number; files: number }) => void;
}

interface Incoming {
  size: number;
  chunks: string[];
  missing: Set<number>;
  /** Opened by two clients at once, it is looked through once. */
  opened: Promise<void>;
  committed: Promise<void> | undefined;
  /** Requests that are at it, and when the last one came. */
  users: number;
  used: number;
}

export interface BlobsOptions {
  now: () => number;
  /** Throws where there is no room for so many more bytes. */
  claim?: (bytes: number) => void;
  /** The database met a full disk. */
  onFull?: () => void;
  /** A worker failed; its work is done on the event loop from then on. */
  onWorkerLost: (error: unknown) => void;
}

export function createBlobs(
  connection: Connection,
  dataDir: string,
  { now, claim = () => {}, onFull = () => {}, onWorkerLost }: BlobsOptions,
): Blobs {
  const folder = join(dataDir, "blobs");
  const worker = createBlobWorker(onWorkerLost);
  const incoming = new Map<string, Incoming>();
  /** Found not to be what their digests say: as good as absent to who brings them. */
  const damaged = new Set<string>();

  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");
  const selectSize = connection.prepare("SELECT size FROM blob WHERE sha256 = ?").raw(true);
  const selectData = connection.prepare("SELECT data FROM blob WHERE sha256 = ?").raw(true);
  const touch = connection.prepare("UPDATE blob SET touched = max(touched, ?) WHERE sha256 = ?");
  const insert = connection.prepare(
    "INSERT INTO blob (sha256, size, touched, data) VALUES (?, ?, ?, ?) ON CONFLICT (sha256) DO UPDATE SET touched = excluded.touched",
  );
  const insertChunk = connection.prepare(
    "INSERT OR IGNORE INTO blob_chunk (sha256, blob, position) VALUES (?, ?, ?)",
  );
  const selectChunk = connection
    .prepare("SELECT blob, position FROM blob_chunk WHERE sha256 = ? LIMIT 1")
    .raw(true);
  const selectFiles = connection.prepare("SELECT sha256, size FROM blob WHERE data IS NULL").raw(true);
  const selectSmall = connection
    .prepare("SELECT sha256, data FROM blob WHERE data IS NOT NULL AND sha256 > ? ORDER BY sha256 LIMIT 100")
    .raw(true);
  const setData = connection.prepare("UPDATE blob SET data = ?, size = ? WHERE sha256 = ?");
  const countAll = connection.prepare("SELECT count(*), coalesce(sum(size), 0) FROM blob").raw(true);
  const sumHeld = connection
    .prepare(
      `WITH pinned AS (SELECT artifact, version FROM artifact_version AS v
         WHERE EXISTS (SELECT 1 FROM artifact_alias AS a WHERE a.artifact = v.artifact AND a.version = v.version)
           OR NOT EXISTS (SELECT 1 FROM run_artifact AS r
             WHERE r.artifact = v.artifact AND r.version = v.version AND r.role = 'output')),
       stays AS (SELECT DISTINCT sha256 FROM artifact_file WHERE (artifact, version) IN pinned)
       SELECT coalesce(sum(CASE
         WHEN sha256 NOT IN stays AND EXISTS (SELECT 1 FROM artifact_file AS f WHERE f.sha256 = blob.sha256)
           THEN iif(data IS NULL, size, 0)
         ELSE iif(data IS NULL, 0, -size) END), 0) FROM blob`,
    )
    .raw(true);
  const sumFiles = connection.prepare("SELECT coalesce(sum(size), 0) FROM blob WHERE data IS NULL").raw(true);
  let fileBytes = (sumFiles.get() as [number])[0];

  function transaction(write: () => void): void {
    begin.run();
    try {
      write();
      commit.run();
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      if ((error as { code?: string }).code !== "SQLITE_FULL") throw error;
      onFull();
      throw diskFull(error);
    }
  }

  const sizeOf = (sha256: string) => (selectSize.get(sha256) as [number] | undefined)?.[0];
  const has = (sha256: string) => sizeOf(sha256) !== undefined && !damaged.has(sha256);

  function missing(digests: readonly string[]): string[] {
    const absent: string[] = [];
    transaction(() => {
      const time = now();
      for (const sha256 of digests)
        if (touch.run(time, sha256).changes === 0 || damaged.has(sha256)) absent.push(sha256);
    });
    return absent;
  }

  function putSmall(files: readonly { sha256: string; bytes: Uint8Array }[]): void {
    for (const { sha256, bytes } of files)
      if (bytes.length > SMALL_BYTES)
        throw new CollectorError("too-large", `${sha256} is larger than ${SMALL_BYTES} bytes.`, {
          hint: "Send it as an upload of its own.",
        });
      else if (createHash("sha256").update(bytes).digest("hex") !== sha256)
        throw new CollectorError("invalid", `The bytes of ${sha256} do not fit their digest.`, {
          hint: "The file may have changed while it was read: send it anew.",
        });
    claim(files.reduce((sum, { bytes }) => sum + bytes.length, 0));
    transaction(() => {
      const time = now();
      for (const { sha256, bytes } of files) {
        insert.run(sha256, bytes.length, time, bytes);
        if (damaged.has(sha256)) setData.run(bytes, bytes.length, sha256);
      }
    });
    for (const { sha256 } of files) damaged.delete(sha256);
  }

  async function open(sha256: string, { size, chunks }: OpenUpload): Promise<Upload> {
    if (missing([sha256]).length === 0) return { complete: true, missing: [] };
    let upload = incoming.get(sha256);
    if (upload && (upload.size !== size || upload.chunks.join() !== chunks.join()))
      throw new CollectorError("conflict", "Another upload under this digest names other chunks.", {
        hint: "One of the two digests is wrong: compute it anew.",
      });
    if (!upload) {
      claim(0);
      makeRoom(chunks.length);
      upload = {
        size,
        chunks,
        missing: new Set(),
        opened: Promise.resolve(),
        committed: undefined,
        users: 0,
        used: now(),
      };
      incoming.set(sha256, upload);
      upload.opened = begins(sha256, upload).catch((error: unknown) => {
        incoming.delete(sha256);
        throw error;
      });
    }
    return using(sha256, upload, async () => ({ complete: false, missing: [...upload.missing] }));
  }

  /** Forgets uploads that nobody is at, the longest silent first: a Map keeps the order in which they were last used. */
  function makeRoom(chunks: number): void {
    let total = chunks;
    for (const upload of incoming.values()) total += upload.chunks.length;
    for (const [sha256, upload] of incoming) {
      if (incoming.size < MAX_OPEN && total <= MAX_OPEN_CHUNKS) return;
      if (upload.users > 0) continue;
      incoming.delete(sha256);
      total -= upload.chunks.length;
    }
    if (incoming.size >= MAX_OPEN || (total > MAX_OPEN_CHUNKS && incoming.size > 0))
      throw new CollectorError("busy", "Too many uploads are open.", { hint: "Try again." });
  }

  /** Nobody forgets it meanwhile. */
  async function using<T>(sha256: string, upload: Incoming, use: () => Promise<T>): Promise<T> {
    incoming.delete(sha256);
    incoming.set(sha256, upload);
    upload.users++;
    upload.used = now();
    try {
      await upload.opened;
      return await use();
    } finally {
      upload.users--;
    }
  }

  async function begins(sha256: string, upload: Incoming): Promise<void> {
    const { size, chunks } = upload;
    const path = incomingPath(folder, sha256);
    const target = blobPath(folder, sha256);
    const { missing } = await worker.run({ kind: "open", path, target, size, chunks });
    upload.missing = new Set(missing);
    for (const index of upload.missing) {
      const digest = chunks[index]!;
      const found = selectChunk.get(digest) as [string, number] | undefined;
      if (!found) continue;
      const length = Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES);
      const from = blobPath(folder, found[0]);
      claim(length);
      const copied = await worker
        .run({ kind: "copy", path, index, sha256: digest, from, position: found[1], length })
        // It was deleted meanwhile: then it is sent.
        .catch(() => undefined);
      if (copied?.copied) upload.missing.delete(index);
    }
  }

  function uploadOf(sha256: string): Incoming {
    const upload = incoming.get(sha256);
    if (upload) return upload;
    throw new CollectorError("not-found", "That upload is not open.", {
      hint: "Open it first, with its size and the digests of its chunks; after a restart of the collector, open it again.",
    });
  }

  function checkChunk({ size, chunks }: Incoming, index: number, length: number, sent?: string): void {
    const digest = chunks[index];
    if (digest === undefined)
      throw new CollectorError("invalid", `There is no chunk ${index}: the upload has ${chunks.length}.`, {
        hint: "Chunks are counted from 0.",
      });
    if (sent !== undefined && sent !== digest)
      throw new CollectorError(
        "invalid",
        `The Content-Digest of chunk ${index} is not the digest that it was announced with.`,
        {
          hint: "The file may have changed while it was read: send it anew.",
        },
      );
    const expected = Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES);
    if (length !== expected)
      throw new CollectorError("invalid", `Chunk ${index} has ${length} bytes and should have ${expected}.`, {
        hint: `All chunks but the last have ${CHUNK_BYTES} bytes.`,
      });
  }

  async function putChunk(sha256: string, index: number, bytes: Uint8Array, sent?: string): Promise<void> {
    if (has(sha256)) return;
    const upload = uploadOf(sha256);
    await using(sha256, upload, async () => {
      checkChunk(upload, index, bytes.length, sent);
      if (!upload.missing.has(index)) return;
      claim(bytes.length);
      const path = incomingPath(folder, sha256);
      await worker.run({ kind: "chunk", path, index, sha256: upload.chunks[index]!, bytes });
      upload.missing.delete(index);
    });
  }

  async function commitUpload(sha256: string): Promise<void> {
    if (has(sha256)) return;
    const upload = uploadOf(sha256);
    await using(sha256, upload, async () => {
      if (upload.missing.size > 0)
        throw new CollectorError("conflict", `${upload.missing.size} chunks are missing.`, {
          hint: "Send them, then ask again.",
          details: { missing: [...upload.missing].slice(0, 1000) },
        });
      upload.committed ??= finish(sha256, upload).finally(() => incoming.delete(sha256));
      await upload.committed;
    });
  }

  async function finish(sha256: string, { size, chunks }: Incoming): Promise<void> {
    const target = blobPath(folder, sha256);
    const isNew = sizeOf(sha256) === undefined;
    await worker.run({ kind: "commit", path: incomingPath(folder, sha256), target, sha256, size });
    // The file first: a row without it would be a promise that nobody can keep.
    transaction(() => {
      insert.run(sha256, size, now(), null);
      if (damaged.has(sha256)) setData.run(null, size, sha256);
      if (chunks.length > 1) chunks.forEach((chunk, position) => insertChunk.run(chunk, sha256, position));
    });
    damaged.delete(sha256);
    if (isNew) fileBytes += size;
  }

  function dataOf(sha256: string): Uint8Array | undefined {
    const row = selectData.get(sha256) as [Uint8Array | ArrayBuffer | null] | undefined;
    if (!row)
      throw new CollectorError("not-found", "Those bytes are not here.", { hint: "They were deleted." });
    return row[0] === null ? undefined : bytesOf(row[0]);
  }

  function read(sha256: string, start = 0, end = Infinity): ReadableStream<Uint8Array> {
    const data = dataOf(sha256);
    if (data) return new Blob([data.slice(start, end)]).stream();
    const path = blobPath(folder, sha256);
    // Opened now: who deletes it in the middle takes the name, not the bytes.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const range = { start, ...(end < Infinity && { end: end - 1 }) };
    return Readable.toWeb(
      createReadStream(path, { fd, ...range, highWaterMark: 256 * 1024 }),
    ) as unknown as ReadableStream<Uint8Array>;
  }

  function body(sha256: string, start: number, end: number): Blob | ReadableStream<Uint8Array> {
    const data = dataOf(sha256);
    if (data) return new Blob([data.slice(start, end)]);
    return fileBody(blobPath(folder, sha256), start, end) ?? read(sha256, start, end);
  }

  const collectUnused = createCollect({
    connection,
    folder,
    now,
    transaction,
    isIncoming: (sha256) => incoming.has(sha256),
  });

  async function collect(): Promise<number> {
    // Who went silent in the middle opens it again.
    for (const [sha256, { users, used }] of incoming)
      if (users === 0 && used < now() - FORGET_MS) incoming.delete(sha256);
    const count = await collectUnused();
    fileBytes = (sumFiles.get() as [number])[0];
    return count;
  }

  function incomingBytes(): number {
    const dir = join(folder, "incoming");
    if (!existsSync(dir)) return 0;
    let bytes = 0;
    // As sparse files they are shorter than their size.
    for (const name of readdirSync(dir))
      bytes += 512 * (statSync(join(dir, name), { throwIfNoEntry: false })?.blocks ?? 0);
    return bytes;
  }

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

  async function verify({ signal, onProgress = () => {} }: VerifyOptions = {}): Promise<string[]> {
    const [files, total] = countAll.get() as [number, number];
    let done = 0;
    const tell = (bytes: number) => onProgress({ done: (done += bytes), total, files });
    const found = (sha256: string, isRight: boolean) => {
      if (isRight) damaged.delete(sha256);
      // Deleted meanwhile, it is not missed.
      else if (sizeOf(sha256) !== undefined) damaged.add(sha256);
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
      if (rows.length === 0) return [...damaged].filter((sha256) => sizeOf(sha256) !== undefined);
      for (const [sha256, data] of rows) {
        const bytes = bytesOf(data);
        found(sha256, createHash("sha256").update(bytes).digest("hex") === sha256);
        tell(bytes.length);
      }
      after = rows.at(-1)![0];
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
    }
  }

  return {
    has,
    size: sizeOf,
    missing,
    putSmall,
    open,
    putChunk,
    commit: commitUpload,
    read,
    body,
    collect,
    verify,
    usedBytes: () => fileBytes + incomingBytes(),
    heldBytes: () => (sumHeld.get() as [number])[0],
    close: () => worker.close(),
  };
}
