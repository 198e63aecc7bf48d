import { createHash, type Hash } from "node:crypto";
import { constants, lstatSync, mkdirSync, realpathSync, renameSync, rmSync, type Stats } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { ArtifactFile, type ArtifactVersion } from "../../artifact/schema.ts";
import { SMALL_BYTES } from "../../blob/schema.ts";
import { CollectorError } from "../../error.ts";
import { listFiles, versionPath } from "./artifacts.ts";
import type { Connection } from "./connection.ts";
import { OpenFile, readSmallFile } from "./file-digest.ts";
import { request } from "./http.ts";
import { createPool } from "./pool.ts";
import { createRetry, type Retry } from "./retry.ts";
import { createTurn, fileError, quoted } from "./walk.ts";

export interface DownloadProgress {
  files: number;
  bytes: number;
  /** What is in its place, or on its way there. */
  done: number;
  filesDone: number;
  /** Bytes that came from the collector. */
  received: number;
}

export interface DownloadOptions {
  connection: () => Pick<Connection, "url" | "token">;
  /** Replaces files that are there and differ; without it they are an error, and nothing is written. */
  force?: boolean;
  patienceMs?: number;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
  onWaiting?: ((error: CollectorError | undefined) => void) | undefined;
}

export interface Download extends DownloadProgress {
  /** Files that were there already, as they should be. */
  unchanged: number;
}

const PARALLEL = 4;
const PATIENCE_MS = 60_000;
/** A connection whose other end has vanished is never closed. */
const SILENCE_MS = 30_000;
const MAX_FILES = 100_000;
/** Hashed between two turns of the event loop. */
const SLICE_BYTES = 1024 * 1024;
const PART = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;

/**
 * Writes a version's files into a folder, each under a name of its own until its digest is found to be right. What an earlier
 * try has brought is not asked for again. Nothing is written outside the folder, whatever the collector says.
 */
export async function downloadVersion(
  version: Pick<ArtifactVersion, "id" | "version">,
  folder: string,
  { connection, force = false, patienceMs = PATIENCE_MS, signal, onProgress, onWaiting }: DownloadOptions,
): Promise<Download> {
  const pool = createPool(PARALLEL);
  const stop = AbortSignal.any([pool.signal, ...(signal ? [signal] : [])]);
  const retry = createRetry({ patienceMs, signal: stop, onWaiting });
  const files = await listChecked(connection(), version, stop);
  const root = makeRoot(folder);
  const known = new Set<string>();
  const progress: Download = {
    files: files.length,
    bytes: files.reduce((sum, { size }) => sum + size, 0),
    done: 0,
    filesDone: 0,
    received: 0,
    unchanged: 0,
  };
  const tell = (bytes: number) => {
    progress.done += bytes;
    onProgress?.(progress);
  };

  const wanted = await withoutUnchanged(root, files, force, (size) => {
    progress.unchanged++;
    progress.filesDone++;
    tell(size);
  });
  try {
    for (const file of wanted)
      await pool.add(async () => {
        const target = placeOf(root, file.path, known);
        await fetchFile(file, target, { version, connection, retry, signal: stop, onBytes: tell, progress });
        requireFree(target, file.path, force);
        renameSync(partOf(target, file), target);
        progress.filesDone++;
        tell(0);
      });
    await pool.idle();
  } catch (error) {
    pool.abort(error);
    await pool.settled();
    if (signal?.aborted) throw signal.reason;
    throw fileError(folder, pool.signal.reason);
  }
  return progress;
}

/** The list as it may be written: each place once, below the folder, and none of them another's folder. */
async function listChecked(
  connection: Pick<Connection, "url" | "token">,
  version: Pick<ArtifactVersion, "id" | "version">,
  signal: AbortSignal,
): Promise<ArtifactFile[]> {
  const files = new Map<string, ArtifactFile>();
  for await (const listed of listFiles(connection, version, signal)) {
    const parsed = ArtifactFile.safeParse(listed);
    if (!parsed.success || files.has(listed.path) || files.size >= MAX_FILES)
      throw refused(String(listed.path));
    files.set(parsed.data.path, parsed.data);
  }
  for (const path of files.keys())
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1))
      if (files.has(path.slice(0, at))) throw refused(path);
  return [...files.values()];
}

const refused = (path: string) =>
  new CollectorError("internal", `The collector names a file that may not be written: ${quoted(path)}.`, {
    hint: "Nothing was written. Look at what logged it, and who runs that collector.",
  });

function makeRoot(folder: string): string {
  try {
    mkdirSync(folder, { recursive: true });
    return realpathSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") throw inTheWay(folder);
    throw fileError(folder, error);
  }
}

const inTheWay = (path: string) =>
  new CollectorError("conflict", `${quoted(path)} is in the way: it is no folder.`, {
    hint: "Name another folder with -o DIR.",
  });

/** Where a file goes, its folders made on the way. A link among them could lead anywhere: it is not followed. */
function placeOf(root: string, path: string, known: Set<string>): string {
  const parts = path.split("/");
  let folder = root;
  for (const part of parts.slice(0, -1)) {
    folder = join(folder, part);
    if (known.has(folder)) continue;
    const stats = lookAt(folder);
    if (!stats) mkdirSync(folder);
    else if (!stats.isDirectory()) throw inTheWay(folder);
    known.add(folder);
  }
  return join(folder, parts.at(-1)!);
}

/** undefined where nothing lies there, or cannot: its folder is not there, or is no folder. */
function lookAt(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw fileError(path, error);
  }
}

/** Those that are not in their place yet. Where something else is, nothing at all is written, unless it may be replaced. */
async function withoutUnchanged(
  root: string,
  files: ArtifactFile[],
  force: boolean,
  onUnchanged: (size: number) => void,
): Promise<ArtifactFile[]> {
  const wanted: ArtifactFile[] = [];
  const differing: string[] = [];
  const turn = createTurn();
  for (const file of files) {
    await turn();
    const target = join(root, ...file.path.split("/"));
    const stats = lookAt(target);
    if (stats?.isFile() && stats.size === file.size && (await digestOf(target)) === file.sha256)
      onUnchanged(file.size);
    else {
      wanted.push(file);
      if (stats && (!force || stats.isDirectory())) differing.push(file.path);
    }
  }
  if (differing.length === 0) return wanted;
  const shown = differing.slice(0, 3).map(quoted).join(", ");
  throw new CollectorError(
    "conflict",
    `${differing.length === 1 ? shown : `${differing.length} files (${shown}${differing.length > 3 ? ", …" : ""})`} ` +
      `in ${quoted(root)} would be replaced by others.`,
    { hint: "Nothing was written. Name another folder with -o DIR, or replace them with --force." },
  );
}

async function digestOf(path: string): Promise<string> {
  const small = readSmallFile(path, SMALL_BYTES);
  if (small) return small.sha256;
  const file = await OpenFile.open(path);
  try {
    return (await file.digest()).sha256;
  } finally {
    await file.close();
  }
}

/** It may have come since we looked. */
function requireFree(target: string, path: string, force: boolean): void {
  if (force || !lookAt(target)) return;
  throw new CollectorError("conflict", `${quoted(path)} has come into being meanwhile.`, {
    hint: "Call again, or replace it with --force.",
  });
}

/** Beside its target, under a name that the next try finds again. */
function partOf(target: string, { path, sha256 }: ArtifactFile): string {
  const name = createHash("sha256").update(`${sha256} ${path}`).digest("hex").slice(0, 24);
  return join(target, "..", `.binnacle-${name}.part`);
}

interface Fetching {
  version: Pick<ArtifactVersion, "id" | "version">;
  connection: () => Pick<Connection, "url" | "token">;
  retry: Retry;
  signal: AbortSignal;
  /** Bytes that have come nearer to their place; negative where they were of no use. */
  onBytes: (count: number) => void;
  progress: DownloadProgress;
}

/** Leaves the file's bytes, found to be what its digest says, under their part's name. */
async function fetchFile(file: ArtifactFile, target: string, fetching: Fetching): Promise<void> {
  const part = partOf(target, file);
  const handle = await open(part, PART, 0o666);
  try {
    if (!(await handle.stat()).isFile()) throw inTheWay(part);
    // A part that an earlier try has left may be damaged; what comes from the beginning may not.
    for (let isFresh = false; ; isFresh = true) {
      const { hash, length } = await hashPart(handle, file, fetching);
      const wasEmpty = length === 0;
      const received = await receive(handle, file, hash, length, fetching);
      if (received.digest === file.sha256) break;
      await handle.truncate(0);
      fetching.onBytes(-received.length);
      if (isFresh || wasEmpty)
        throw new CollectorError(
          "internal",
          `${quoted(file.path)} came with bytes that do not fit its digest.`,
          {
            hint: "`binnacle doctor` on the collector's machine tells whether it is damaged there.",
          },
        );
    }
    if (file.size > SMALL_BYTES) await handle.datasync();
  } catch (error) {
    throw fileError(target, error);
  } finally {
    await handle.close();
    if (lookAt(part)?.size === 0 && file.size > 0) rmSync(part, { force: true });
  }
}

/** What an earlier try has brought. */
async function hashPart(
  handle: FileHandle,
  { size }: ArtifactFile,
  { onBytes, signal }: Fetching,
): Promise<{ hash: Hash; length: number }> {
  const hash = createHash("sha256");
  if ((await handle.stat()).size > size) await handle.truncate(0);
  const buffer = new Uint8Array(Math.min(SLICE_BYTES, size));
  for (let length = 0; ;) {
    signal.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, length);
    if (bytesRead === 0) return { hash, length };
    hash.update(buffer.subarray(0, bytesRead));
    length += bytesRead;
    onBytes(bytesRead);
  }
}

/** The rest, in as many requests as it takes. */
async function receive(
  handle: FileHandle,
  file: ArtifactFile,
  hash: Hash,
  from: number,
  fetching: Fetching,
): Promise<{ digest: string; length: number }> {
  let length = from;
  while (length < file.size)
    await fetching.retry(async () => {
      const before = length;
      try {
        for await (const bytes of bytesFrom(file, length, fetching)) {
          if (length + bytes.length > file.size) throw tooMuch(file);
          for (let done = 0; done < bytes.length;)
            done += (await handle.write(bytes, done, bytes.length - done, length + done)).bytesWritten;
          hash.update(bytes);
          length += bytes.length;
          fetching.progress.received += bytes.length;
          fetching.onBytes(bytes.length);
        }
      } catch (error) {
        // What came is kept: the next request goes on behind it.
        if (!isBroken(error) || length === before) throw error;
      }
      if (length === before)
        throw new CollectorError("unreachable", "The collector sent less than it should.");
    });
  return { digest: hash.digest("hex"), length };
}

const isBroken = (error: unknown) => error instanceof CollectorError && error.code === "unreachable";

const tooMuch = ({ path }: ArtifactFile) =>
  new CollectorError("internal", `The collector sends more bytes of ${quoted(path)} than it has.`);

/** A file's bytes from `start` on, as the collector sends them. */
async function* bytesFrom(
  { path, sha256 }: ArtifactFile,
  start: number,
  { version, connection, signal }: Fetching,
): AsyncGenerator<Uint8Array> {
  const silence = new AbortController();
  const giveUp = () => silence.abort();
  let timer = setTimeout(giveUp, SILENCE_MS);
  const { url, token } = connection();
  try {
    const response = await request({ url, token }, versionPath(version, "/file"), {
      query: { path },
      headers: {
        accept: "application/octet-stream",
        // As they are: what a proxy packed could not be continued by bytes.
        "accept-encoding": "identity",
        ...(start > 0 && { range: `bytes=${start}-`, "if-range": `"${sha256}"` }),
      },
      signal: AbortSignal.any([signal, silence.signal]),
      timeout: 0,
    });
    // Who does not know ranges sends the whole.
    let skip = start > 0 && response.status !== 206 ? start : 0;
    if (!response.body) return;
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
      clearTimeout(timer);
      const kept = bytes.subarray(Math.min(skip, bytes.length));
      skip -= bytes.length - kept.length;
      if (kept.length > 0) yield kept;
      timer = setTimeout(giveUp, SILENCE_MS);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof CollectorError) throw error;
    throw new CollectorError("unreachable", `The connection to ${url} broke.`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
