import { hash } from "node:crypto";
import { constants, createReadStream, openSync, lstatSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { CollectorError } from "../error.ts";
import { fileBody } from "../runtime.ts";
import { bytesOf } from "../store/chunk-table.ts";
import { diskFull } from "../store/journal.ts";
import type { Connection } from "../store/open.ts";
import { blobPath } from "./path.ts";
import { SMALL_BYTES, type OpenUpload, type Upload } from "./schema.ts";
import { createCollect } from "./collect.ts";
import { createIntake, type Intake } from "./intake.ts";
import { createIncomingUsage } from "./incoming.ts";
import { createDamage } from "./damage.ts";
import { createUploads } from "./uploads.ts";
import { createVerify, type VerifyOptions } from "./verify.ts";
import { createBlobWorker } from "./worker.ts";

/** Files by their content. The only one who knows where bytes lie. */
export interface Blobs {
  has(sha256: string): boolean;
  /** Bytes of a blob; undefined where it is not here. */
  size(sha256: string): number | undefined;
  /** Those of these that are not here. The others stay for a day at least. */
  missing(sha256: readonly string[]): string[];
  /** A source that relays here has named it, and its bytes have not come. */
  isPending(sha256: string): boolean;
  /** Keeps small files, all or none: one commit for them all. */
  putSmall(files: readonly { sha256: string; bytes: Uint8Array }[]): void;
  /** Begins an upload, or takes it up where it broke off; chunks that any blob has are taken from there. */
  open(sha256: string, upload: OpenUpload): Promise<Upload>;
  /**
   * A chunk, in any order, any number of times, whole or in pieces of which each is done with before the next is asked for: who
   * collects them holds 8 MiB a sender. Bytes in shared memory are not copied; `digest`: what its sender says of it.
   */
  putChunk(
    sha256: string,
    index: number,
    bytes: Uint8Array | AsyncIterable<Uint8Array>,
    digest?: string,
  ): Promise<void>;
  /** All chunks were sent: checks the whole and keeps it for good. */
  commit(sha256: string): Promise<void>;
  /** Bytes of which nobody said beforehand what they are. */
  readonly intake: Intake;
  /** Its bytes from `start` to before `end`. */
  read(sha256: string, start?: number, end?: number): ReadableStream<Uint8Array>;
  /** The same for an answer, which a server may send without reading it into memory. */
  body(sha256: string, start: number, end: number): Blob | ReadableStream<Uint8Array>;
  /** Deletes what nothing refers to; resolves with the number of blobs. */
  collect(): Promise<number>;
  /** Nothing of its owner refers to it any longer: it goes now, unless something else does. */
  release(sha256: string): Promise<void>;
  /** Digests of blobs that are not what they should be, or are not there. Who brings one again from now on mends it. */
  verify(options?: VerifyOptions): Promise<string[]>;
  /** Who read it found that it is not what its digest says. */
  markDamaged(sha256: string): void;
  /** Bytes of files, those under way included. */
  usedBytes(): number;
  /**
   * Bytes of files that would go with the runs that logged them, less what lies in the database and would not: what a bound
   * on what runs take can hope for.
   */
  heldBytes(): number;
  close(): void;
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

/** A source has named a file, and brings its bytes beside. */
export const onTheirWay = () =>
  new CollectorError("conflict", "Those bytes are still on their way here.", {
    hint: "Their source sends them beside all else: try again in a while.",
  });

export function createBlobs(
  connection: Connection,
  dataDir: string,
  { now, claim = () => {}, onFull = () => {}, onWorkerLost }: BlobsOptions,
): Blobs {
  const folder = join(dataDir, "blobs");
  const worker = createBlobWorker(onWorkerLost);
  const damage = createDamage(connection);
  const incoming = createIncomingUsage(folder);

  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");
  const selectSize = connection.prepare("SELECT size FROM blob WHERE sha256 = ? AND pending = 0").raw(true);
  const selectData = connection.prepare("SELECT data, size, pending FROM blob WHERE sha256 = ?").raw(true);
  const touch = connection.prepare(
    "UPDATE blob SET touched = max(touched, ?) WHERE sha256 = ? AND pending = 0",
  );
  const insert = connection.prepare(
    `INSERT INTO blob (sha256, size, touched, data) VALUES (?, ?, ?, ?) ON CONFLICT (sha256) DO UPDATE SET
       touched = excluded.touched, size = iif(pending, excluded.size, size), data = iif(pending, excluded.data, data), pending = 0`,
  );
  // A source said so before the bytes were here.
  const mendSizes = connection.prepare("UPDATE artifact_file SET size = ?1 WHERE sha256 = ?2 AND size <> ?1");
  const insertChunk = connection.prepare(
    "INSERT OR IGNORE INTO blob_chunk (sha256, blob, position) VALUES (?, ?, ?)",
  );
  const setData = connection.prepare("UPDATE blob SET data = ?, size = ? WHERE sha256 = ?");
  const sumHeld = connection
    .prepare(
      `WITH pinned AS (SELECT artifact, version FROM artifact_version AS v
         WHERE EXISTS (SELECT 1 FROM artifact_alias AS a WHERE a.artifact = v.artifact AND a.version = v.version)
           OR NOT EXISTS (SELECT 1 FROM run_artifact AS r
             WHERE r.artifact = v.artifact AND r.version = v.version AND r.role = 'output')),
       stays AS (SELECT sha256 FROM artifact_file WHERE (artifact, version) IN pinned
         UNION SELECT sha256 FROM object WHERE scope = '' AND run IS NULL)
       SELECT coalesce(sum(CASE
         WHEN sha256 NOT IN stays AND (EXISTS (SELECT 1 FROM artifact_file AS f WHERE f.sha256 = blob.sha256)
           OR EXISTS (SELECT 1 FROM object WHERE object.sha256 = blob.sha256))
           THEN iif(data IS NULL, size, 0)
         ELSE iif(data IS NULL, 0, -size) END), 0) FROM blob WHERE pending = 0`,
    )
    .raw(true);
  const sumFiles = connection
    .prepare("SELECT coalesce(sum(size), 0) FROM blob WHERE data IS NULL AND pending = 0")
    .raw(true);
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
  const has = (sha256: string) => sizeOf(sha256) !== undefined && !damage.has(sha256);

  function missing(digests: readonly string[]): string[] {
    const absent: string[] = [];
    transaction(() => {
      const time = now();
      for (const sha256 of digests)
        if (touch.run(time, sha256).changes === 0 || damage.has(sha256)) absent.push(sha256);
    });
    return absent;
  }

  function putSmall(files: readonly { sha256: string; bytes: Uint8Array }[]): void {
    for (const { sha256, bytes } of files)
      if (bytes.length > SMALL_BYTES)
        throw new CollectorError("too-large", `${sha256} is larger than ${SMALL_BYTES} bytes.`, {
          hint: "Send it as an upload of its own.",
        });
      else if (hash("sha256", bytes, "hex") !== sha256)
        throw new CollectorError("invalid", `The bytes of ${sha256} do not fit their digest.`, {
          hint: "The file may have changed while it was read: send it anew.",
        });
    claim(files.reduce((sum, { bytes }) => sum + bytes.length, 0));
    transaction(() => {
      const time = now();
      for (const { sha256, bytes } of files) {
        insert.run(sha256, bytes.length, time, bytes);
        mendSizes.run(bytes.length, sha256);
        if (damage.has(sha256)) setData.run(bytes, bytes.length, sha256);
      }
    });
    for (const { sha256 } of files) damage.clear(sha256);
  }

  function isWanted(sha256: string): boolean {
    // Whether it is there at all is seen before anybody is told so.
    if (has(sha256)) look(sha256);
    return missing([sha256]).length > 0;
  }

  /** The file is there already: a row without it would be a promise that nobody can keep. */
  function keep(sha256: string, size: number, chunks: readonly string[]): void {
    const isNew = sizeOf(sha256) === undefined;
    transaction(() => {
      insert.run(sha256, size, now(), null);
      mendSizes.run(size, sha256);
      if (damage.has(sha256)) setData.run(null, size, sha256);
      if (chunks.length > 1) chunks.forEach((chunk, position) => insertChunk.run(chunk, sha256, position));
    });
    damage.clear(sha256);
    incoming.left(size);
    if (isNew) fileBytes += size;
  }

  const uploads = createUploads({
    connection,
    folder,
    worker,
    damage,
    now,
    claim,
    has,
    isWanted,
    keep,
  });
  const intake = createIntake({ folder, worker, claim, isWanted, putSmall, keep });

  /** Its row, and whether its bytes can be what they should be: of a file only its length, as nobody reads all of it for that. */
  function look(sha256: string): { data: Uint8Array | undefined; isRight: boolean } {
    const row = selectData.get(sha256) as [Uint8Array | ArrayBuffer | null, number, number] | undefined;
    if (row?.[2] === 1) throw onTheirWay();
    if (!row)
      throw new CollectorError("not-found", "Those bytes are not here.", { hint: "They were deleted." });
    const data = row[0] === null ? undefined : bytesOf(row[0]);
    const isRight = data
      ? hash("sha256", data, "hex") === sha256
      : lstatSync(blobPath(folder, sha256), { throwIfNoEntry: false })?.size === row[1];
    if (!isRight) damage.mark(sha256);
    return { data, isRight };
  }

  /** Bytes that lie in the database. */
  function dataOf(sha256: string): Uint8Array | undefined {
    const { data, isRight } = look(sha256);
    if (isRight) return data;
    throw new CollectorError("damaged", `The bytes of ${sha256} are damaged or gone.`, {
      hint: "`binnacle doctor` names the files that have them: log one of these again, or put back a backup.",
    });
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

  const unused = createCollect({
    connection,
    folder,
    now,
    transaction,
    isIncoming: uploads.isOpen,
    isWriting: intake.isOpen,
  });

  async function collect(): Promise<number> {
    uploads.forgetSilent();
    const count = await unused.collect();
    countAnew();
    return count;
  }

  async function release(sha256: string): Promise<void> {
    await unused.release(sha256);
    countAnew();
  }

  function countAnew(): void {
    fileBytes = (sumFiles.get() as [number])[0];
    incoming.forget();
  }

  const verify = createVerify({
    connection,
    folder,
    damage,
    isHere: (sha256) => sizeOf(sha256) !== undefined,
    onWorkerLost,
  });

  return {
    has,
    isPending: (sha256) => (selectData.get(sha256) as [unknown, number, number] | undefined)?.[2] === 1,
    size: sizeOf,
    missing,
    putSmall,
    open: uploads.open,
    putChunk: uploads.putChunk,
    commit: uploads.commit,
    intake,
    read,
    body,
    collect,
    release,
    verify,
    markDamaged: (sha256) => damage.mark(sha256),
    usedBytes: () => fileBytes + incoming.bytes(),
    heldBytes: () => (sumHeld.get() as [number])[0],
    close: () => worker.close(),
  };
}
