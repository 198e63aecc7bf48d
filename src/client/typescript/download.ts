import { renameSync } from "node:fs";
import { join } from "node:path";
import { ArtifactFile, type ArtifactVersion } from "../../artifact/schema.ts";
import { SMALL_BYTES } from "../../blob/schema.ts";
import { CollectorError } from "../../error.ts";
import { listFiles } from "./artifacts.ts";
import type { Connection } from "./connection.ts";
import { fetchFile, type Fetching } from "./download-file.ts";
import { fetchPack, packsOf } from "./download-pack.ts";
import { lookAt, makeRoot, partOf, placeOf, requireFree, writePart } from "./download-place.ts";
import { OpenFile, readSmallFile } from "./file-digest.ts";
import { createPool } from "./pool.ts";
import { createRetry } from "./retry.ts";
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
const MAX_FILES = 100_000;

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
  const fetching: Fetching = { version, connection, retry, signal: stop, onBytes: tell, progress };
  const isSmall = ({ size }: ArtifactFile) => size <= SMALL_BYTES;
  const place = (file: ArtifactFile, target: string) => {
    requireFree(target, file.path, force);
    renameSync(partOf(target, file), target);
    progress.filesDone++;
    tell(0);
  };
  try {
    for (const file of wanted.filter((file) => !isSmall(file)))
      await pool.add(async () => {
        const target = placeOf(root, file.path, known);
        await fetchFile(file, target, fetching);
        place(file, target);
      });
    for (const pack of packsOf(wanted.filter(isSmall)))
      await pool.add(() =>
        fetchPack(pack, fetching, (file, bytes) => {
          const target = placeOf(root, file.path, known);
          writePart(partOf(target, file), bytes);
          place(file, target);
        }),
      );
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
