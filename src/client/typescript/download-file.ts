import { createHash, type Hash } from "node:crypto";
import { constants, rmSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { type ArtifactFile, type ArtifactVersion } from "../../artifact/schema.ts";
import { SMALL_BYTES } from "../../blob/schema.ts";
import { CollectorError } from "../../error.ts";
import { versionPath } from "./artifacts.ts";
import type { Connection } from "./connection.ts";
import { inTheWay, lookAt, partOf } from "./download-place.ts";
import { request, type RequestOptions } from "./http.ts";
import type { Retry } from "./retry.ts";
import { fileError, quoted } from "./walk.ts";

/** A connection whose other end has vanished is never closed. */
const SILENCE_MS = 30_000;
/** Hashed between two turns of the event loop. */
const SLICE_BYTES = 1024 * 1024;
const PART = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;

export interface Fetching {
  version: Pick<ArtifactVersion, "id" | "version">;
  connection: () => Pick<Connection, "url" | "token">;
  retry: Retry;
  signal: AbortSignal;
  /** Bytes that have come nearer to their place; negative where they were of no use. */
  onBytes: (count: number) => void;
  /** Bytes that came from the collector. */
  progress: { received: number };
}

/** Leaves the file's bytes, found to be what its digest says, under their part's name. */
export async function fetchFile(file: ArtifactFile, target: string, fetching: Fetching): Promise<void> {
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
      if (isFresh || wasEmpty) throw notTheirs(file);
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

export const notTheirs = ({ path }: ArtifactFile) =>
  new CollectorError("internal", `${quoted(path)} came with bytes that do not fit its digest.`, {
    hint: "`binnacle doctor` on the collector's machine tells whether it is damaged there.",
  });

export const isBroken = (error: unknown) => error instanceof CollectorError && error.code === "unreachable";

export const tooMuch = ({ path }: ArtifactFile) =>
  new CollectorError("internal", `The collector sends more bytes of ${quoted(path)} than it has.`);

/** A file's bytes from `start` on, as the collector sends them. */
const bytesFrom = ({ path, sha256 }: ArtifactFile, start: number, fetching: Fetching) =>
  answerTo(
    versionPath(fetching.version, "/file"),
    {
      query: { path },
      headers: {
        accept: "application/octet-stream",
        // As they are: what a proxy packed could not be continued by bytes.
        "accept-encoding": "identity",
        ...(start > 0 && { range: `bytes=${start}-`, "if-range": `"${sha256}"` }),
      },
    },
    fetching,
    // Who does not know ranges sends the whole.
    ({ status }) => (status === 206 ? 0 : start),
  );

/** An answer's bytes as they come, without the first ones, where they are too many. */
export async function* answerTo(
  path: string,
  options: RequestOptions,
  { connection, signal }: Pick<Fetching, "connection" | "signal">,
  skipOf: (response: Response) => number = () => 0,
): AsyncGenerator<Uint8Array> {
  const silence = new AbortController();
  const giveUp = () => silence.abort();
  let timer = setTimeout(giveUp, SILENCE_MS);
  const { url, token } = connection();
  try {
    const response = await request({ url, token }, path, {
      ...options,
      signal: AbortSignal.any([signal, silence.signal]),
      timeout: 0,
    });
    let skip = skipOf(response);
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
