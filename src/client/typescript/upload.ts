import { CHUNK_BYTES, PACK_TYPE, SMALL_BYTES, type Upload } from "../../blob/schema.ts";
import type { ArtifactFile } from "../../artifact/schema.ts";
import { CollectorError } from "../../error.ts";
import type { Connection } from "./connection.ts";
import { changed, OpenFile, readSmallFile, type FileDigest, type SmallFile } from "./file-digest.ts";
import { request, requestJson, type RequestOptions } from "./http.ts";
import { createPool } from "./pool.ts";
import type { Retry } from "./retry.ts";
import { createTurn, type FoundFile } from "./walk.ts";

export interface UploadProgress {
  /** In all. */
  files: number;
  bytes: number;
  /** Bytes read here and known by their digest. */
  read: number;
  /** Bytes and files that the collector has, those it had before among them. */
  done: number;
  filesDone: number;
  /** Bytes of files that went to the collector. */
  sent: number;
}

export interface UploadOptions {
  /** Asked before every request: a collector that was restarted may have another port or token. */
  connection: () => Pick<Connection, "url" | "token">;
  retry: Retry;
  signal?: AbortSignal | undefined;
  /** The same object each time. */
  onProgress?: ((progress: UploadProgress) => void) | undefined;
}

/** Requests at once that carry bytes. */
const PARALLEL = 4;
const PACK_FILES = 2000;
/** More in one request is no faster, and costs the collector memory: several are under way at once. */
const PACK_BYTES = 2 * 1024 * 1024;
const PACK_HEADER_BYTES = 36;
/** 8 MiB at 28 KB/s. */
const BYTES_TIMEOUT_MS = 300_000;
/** The collector reads what it has of an upload, or all of it, before it answers: 4 TB take their time. */
const CHECK_TIMEOUT_MS = 4 * 3600_000;
/** A collector that forgets an upload so often between two chunks is not well. */
const MAX_REOPENED = 100;

/**
 * Brings files to the collector: small ones many in a request, large ones in chunks of which only those are sent that it has
 * not got. What one try has brought the next one need not send. Resolves with the list of files to log.
 */
export async function uploadFiles(
  found: readonly FoundFile[],
  options: UploadOptions,
): Promise<{ files: ArtifactFile[]; sent: number }> {
  const pool = createPool(PARALLEL);
  const chunkPool = createPool(PARALLEL);
  const signal = AbortSignal.any([pool.signal, ...(options.signal ? [options.signal] : [])]);
  const wire = createWire({ ...options, signal });
  const progress: UploadProgress = {
    files: found.length,
    bytes: found.reduce((sum, { size }) => sum + size, 0),
    read: 0,
    done: 0,
    filesDone: 0,
    sent: 0,
  };
  const tell = () => options.onProgress?.(progress);
  const turn = createTurn(50);
  const files: ArtifactFile[] = [];
  const begun = new Set<string>();
  let pack: SmallFile[] = [];
  let packBytes = 0;

  function note({ path, size: expected }: FoundFile, sha256: string, size: number): void {
    files.push({ path, size, sha256 });
    // It has grown or shrunk since it was found.
    progress.bytes += size - expected;
  }

  function finished(count: number, bytes: number): void {
    progress.filesDone += count;
    progress.done += bytes;
    tell();
  }

  async function addSmall(file: SmallFile): Promise<void> {
    progress.read += file.bytes.length;
    if (begun.has(file.sha256)) return finished(1, file.bytes.length);
    begun.add(file.sha256);
    const bytes = PACK_HEADER_BYTES + file.bytes.length;
    if (packBytes + bytes > PACK_BYTES || pack.length === PACK_FILES) await flushPack();
    pack.push(file);
    packBytes += bytes;
  }

  async function flushPack(): Promise<void> {
    const files = pack;
    pack = [];
    packBytes = 0;
    if (files.length === 0) return;
    await pool.add(async () => {
      const missing = new Set(await wire.missing(files.map(({ sha256 }) => sha256)));
      const absent = files.filter(({ sha256 }) => missing.has(sha256));
      if (absent.length > 0) await wire.pack(absent);
      progress.sent += bytesOf(absent);
      finished(files.length, bytesOf(files));
    });
  }

  async function addLarge(place: FoundFile): Promise<void> {
    const file = await OpenFile.open(place.source);
    let isHandedOver = false;
    try {
      const digest = await file.digest((count) => {
        progress.read += count;
        tell();
      }, signal);
      note(place, digest.sha256, digest.size);
      if (begun.has(digest.sha256)) return finished(1, digest.size);
      begun.add(digest.sha256);
      isHandedOver = true;
      await pool.add(() => sendLarge(file, digest).finally(() => file.close()));
    } finally {
      if (!isHandedOver) await file.close();
    }
  }

  async function sendLarge(file: OpenFile, digest: FileDigest): Promise<void> {
    let counted = 0;
    const count = (bytes: number) => {
      progress.done += bytes;
      counted += bytes;
      tell();
    };
    const lengthOf = (index: number) => Math.min(CHUNK_BYTES, digest.size - index * CHUNK_BYTES);
    for (let reopened = 0; ; reopened++) {
      const { complete, missing } = await wire.open(digest);
      if (complete) break;
      const absent = missing.reduce((sum, index) => sum + lengthOf(index), 0);
      count(digest.size - absent - counted);
      try {
        await chunkPool.all(missing, async (index) => {
          const bytes = await file.chunk(index, digest);
          await wire.chunk(digest.sha256, index, bytes, file.source);
          progress.sent += bytes.length;
          count(bytes.length);
        });
        await wire.commit(digest.sha256, file.source);
        break;
      } catch (error) {
        if (!isForgotten(error) || reopened >= MAX_REOPENED) throw error;
      }
    }
    count(digest.size - counted);
    finished(1, 0);
  }

  try {
    for (const place of found) {
      await turn();
      signal.throwIfAborted();
      const small = place.size <= SMALL_BYTES ? readSmallFile(place.source, SMALL_BYTES) : undefined;
      if (small) {
        note(place, small.sha256, small.bytes.length);
        await addSmall(small);
      } else await addLarge(place);
    }
    await flushPack();
    await pool.idle();
  } catch (error) {
    pool.abort(error);
    await pool.settled();
    // Where one job's failure has stopped the others, they say only that.
    throw pool.signal.reason;
  }
  return { files, sent: progress.sent };
}

const bytesOf = (files: readonly SmallFile[]) => files.reduce((sum, { bytes }) => sum + bytes.length, 0);

/** The collector was restarted, or has given the upload up: what it has of it is found when it is opened again. */
const isForgotten = (error: unknown) =>
  error instanceof CollectorError &&
  (error.code === "not-found" || (error.code === "conflict" && Array.isArray(error.details?.["missing"])));

/** The requests of an upload, each tried as often as it needs. */
function createWire({ connection, retry, signal }: UploadOptions) {
  const ask = <T>(path: string, options: RequestOptions) =>
    retry(() => requestJson<T>(connection(), `/api/v1/blobs${path}`, { ...options, signal }));

  return {
    async missing(sha256: string[]): Promise<string[]> {
      return (await ask<{ missing: string[] }>("/missing", { body: { sha256 } })).missing;
    },
    pack: (files: readonly SmallFile[]) =>
      ask("/pack", {
        body: packOf(files),
        headers: { "content-type": PACK_TYPE },
        timeout: BYTES_TIMEOUT_MS,
      }),
    open: ({ sha256, size, chunks }: FileDigest) =>
      ask<Upload>(`/${sha256}/upload`, { body: { size, chunks }, timeout: CHECK_TIMEOUT_MS }),
    chunk: (sha256: string, index: number, bytes: Uint8Array, source: string) =>
      asChanged(source, () =>
        retry(() =>
          request(connection(), `/api/v1/blobs/${sha256}/chunks/${index}`, {
            method: "PUT",
            body: bytes,
            headers: { "content-type": "application/octet-stream" },
            signal,
            timeout: BYTES_TIMEOUT_MS,
          }),
        ),
      ),
    commit: (sha256: string, source: string) =>
      asChanged(source, () => ask(`/${sha256}/commit`, { method: "POST", timeout: CHECK_TIMEOUT_MS })),
  };
}

/** Bytes that the collector finds to be others than was announced were changed behind the file's back, within one tick of its clock. */
async function asChanged<T>(source: string, send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    if (error instanceof CollectorError && error.code === "invalid") throw changed(source, error);
    throw error;
  }
}

function packOf(files: readonly SmallFile[]): Uint8Array {
  const body = new Uint8Array(bytesOf(files) + files.length * PACK_HEADER_BYTES);
  const view = new DataView(body.buffer);
  let at = 0;
  for (const { sha256, bytes } of files) {
    body.set(Buffer.from(sha256, "hex"), at);
    view.setUint32(at + 32, bytes.length, true);
    body.set(bytes, at + PACK_HEADER_BYTES);
    at += PACK_HEADER_BYTES + bytes.length;
  }
  return body;
}
