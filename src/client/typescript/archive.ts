import { constants, lstatSync, renameSync, rmSync, type Stats } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { resolve } from "node:path";
import type { ImportedRun } from "../../archive/schema.ts";
import { CollectorError } from "../../error.ts";
import type { Connection } from "./connection.ts";
import { request, requestJson } from "./http.ts";

export interface ArchiveOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((bytes: number, total: number | undefined) => void) | undefined;
}

type Collector = Pick<Connection, "url" | "token">;

const PIECE = 256 * 1024;
/** A connection whose other end has vanished is never closed. */
const SILENCE_MS = 60_000;
const END_OF_ZIP = 0x06054b50;
const END_LENGTH = 22;

/** Writes a run's archive; resolves with its size. */
export const exportRun = (
  connection: Collector,
  run: string,
  path: string,
  options: ArchiveOptions & { force?: boolean } = {},
): Promise<number> =>
  fetchArchive(connection, "GET", `/api/v1/runs/${encodeURIComponent(run)}/export`, path, options);

/** Writes everything that the collector keeps into one file; resolves with its size. */
export const backUp = (
  connection: Collector,
  path: string,
  options: ArchiveOptions & { force?: boolean } = {},
): Promise<number> => fetchArchive(connection, "POST", "/api/v1/backup", path, options);

/** Writes it beside its place, and moves it there when it is whole. */
async function fetchArchive(
  connection: Collector,
  method: "GET" | "POST",
  address: string,
  path: string,
  { force = false, signal, onProgress }: ArchiveOptions & { force?: boolean },
): Promise<number> {
  const target = resolve(path);
  requireFree(target, path, force);
  const part = `${target}.${process.pid}.part`;
  const file = await opened(part, path);
  try {
    const response = await request(connection, address, {
      method,
      headers: { accept: "application/zip" },
      signal,
      timeout: 0,
    });
    const size = await writeAll(file, response, path, onProgress);
    await requireEnd(file, size, connection.url);
    await file.sync();
    await file.close();
    requireFree(target, path, force);
    renameSync(part, target);
    return size;
  } catch (error) {
    await file.close().catch(() => {});
    rmSync(part, { force: true });
    // (Not what is no mere question: a second backup would begin.)
    throw (method === "GET" && (await damageOf(connection, address, error, signal))) || error;
  }
}

async function writeAll(
  file: FileHandle,
  response: Response,
  path: string,
  onProgress: ArchiveOptions["onProgress"],
): Promise<number> {
  const reader = response.body!.getReader();
  let size = 0;
  for (;;) {
    const { value, done } = await withinSilence(reader.read()).catch((cause: unknown) => {
      void reader.cancel().catch(() => {});
      throw cutShort(cause);
    });
    if (done) return size;
    try {
      await file.write(value);
    } catch (error) {
      void reader.cancel().catch(() => {});
      throw fileProblem(path, error);
    }
    size += value.length;
    onProgress?.(size, undefined);
  }
}

/** A zip ends with its list of files: one that was cut short has none. */
async function requireEnd(file: FileHandle, size: number, url: string): Promise<void> {
  const end = new Uint8Array(END_LENGTH);
  if (size >= END_LENGTH) await file.read(end, 0, END_LENGTH, size - END_LENGTH);
  if (new DataView(end.buffer).getUint32(0, true) !== END_OF_ZIP) throw cutShort(new Error(url));
}

const ENDED_EARLY = "The archive ended early: nothing was written.";
const cutShort = (cause: unknown) =>
  new CollectorError("unreachable", ENDED_EARLY, {
    hint: "Export it again; the collector's diagnostics say what went wrong.",
    cause,
  });

/** An answer that ends in the middle can't say why. A collector that met damage remembers it, and says so when it is asked again. */
async function damageOf(
  connection: Collector,
  address: string,
  error: unknown,
  signal: AbortSignal | undefined,
): Promise<CollectorError | undefined> {
  if (!(error instanceof CollectorError) || error.message !== ENDED_EARLY) return undefined;
  try {
    const response = await request(connection, address, { headers: { accept: "application/zip" }, signal });
    void response.body?.cancel().catch(() => {});
    return undefined;
  } catch (again) {
    return again instanceof CollectorError && again.code === "damaged" ? again : undefined;
  }
}

function requireFree(target: string, path: string, force: boolean): void {
  const found = statOf(target);
  if (found?.isDirectory())
    throw new CollectorError("conflict", `${path} is a folder.`, { hint: "Name a file with -o FILE.zip." });
  if (found && !force)
    throw new CollectorError("conflict", `${path} is there already.`, {
      hint: "Name another with -o FILE.zip, or replace it with --force.",
    });
}

const statOf = (path: string): Stats | undefined => lstatSync(path, { throwIfNoEntry: false });

async function opened(part: string, path: string): Promise<FileHandle> {
  try {
    rmSync(part, { force: true });
    return await open(
      part,
      constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
  } catch (error) {
    throw fileProblem(path, error);
  }
}

/** Sends an archive; resolves with what the collector has made of it. */
export async function importRun(
  connection: Collector,
  path: string,
  { newId = false, signal, onProgress }: ArchiveOptions & { newId?: boolean } = {},
): Promise<ImportedRun> {
  // Opening a FIFO would wait for somebody to write into it.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw fileProblem(path, error);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile())
      throw new CollectorError("invalid", `${path} is no file.`, {
        hint: "Name what `binnacle run export` wrote.",
      });
    return await requestJson<ImportedRun>(connection, "/api/v1/runs/import", {
      method: "POST",
      query: { new_id: newId || undefined },
      headers: { "content-type": "application/zip" },
      body: contentOf(file, stat.size, onProgress),
      signal,
      timeout: 0,
    });
  } finally {
    await file.close().catch(() => {});
  }
}

function contentOf(
  file: FileHandle,
  total: number,
  onProgress: ArchiveOptions["onProgress"],
): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = new Uint8Array(PIECE);
        const { bytesRead } = await file.read(piece, 0, PIECE, at);
        if (bytesRead === 0) return controller.close();
        at += bytesRead;
        onProgress?.(at, total);
        controller.enqueue(piece.subarray(0, bytesRead));
      },
    },
    { highWaterMark: 1 },
  );
}

function fileProblem(path: string, error: unknown): CollectorError {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT")
    return new CollectorError("not-found", `There is no ${path}, or no folder for it.`, {
      hint: "Look at the path.",
    });
  if (code === "ENOSPC" || code === "EDQUOT")
    return new CollectorError("disk-full", `The disk of ${path} is full.`, { hint: "Free some space." });
  return new CollectorError("forbidden", `${path} can't be used: ${code ?? message}.`, {
    hint: "Look at its permissions.",
    cause: error,
  });
}

async function withinSilence<T>(read: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("Nothing came for a minute.")), SILENCE_MS);
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}
