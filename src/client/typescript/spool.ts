import { createHash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CollectorError } from "../../error.ts";
import { lockSpool, unlockSpool } from "./spool-lock.ts";

/** One request that could not be sent when it was due. */
export interface SpoolLine {
  v: 1;
  /** POST where absent. */
  method?: "POST" | "PATCH";
  path: string;
  body: Record<string, unknown>;
}

const SUFFIX = ".ndjson";
/** Longer than the largest batch the collector takes; a line beyond it is damage, not data. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;

export interface SpoolFile {
  readonly path: string;
  /** Bytes written. */
  readonly bytes: number;
  /** Appends whole lines; synchronous, so that it works in an exit hook. Throws what the file system throws. */
  append(lines: SpoolLine[]): void;
  /** Everything in it was delivered: begins anew. */
  truncate(): void;
  /** Gives the file up; with `discard` everything in it was delivered. */
  close(options?: { discard?: boolean }): void;
}

export const spoolName = (run: string, client: string) => `${run}-${client}${SUFFIX}`;

/** Opens this client's own file, and marks it as in use by this process. */
export function openSpool(dir: string, run: string, client: string): SpoolFile {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, spoolName(run, client));
  if (!lockSpool(path))
    throw new CollectorError("conflict", `${path} is in use by another process.`, {
      hint: "A client id belongs to one process.",
    });
  let fd: number;
  try {
    fd = openSync(path, "a", 0o600);
  } catch (error) {
    // Else the next try would find it in use, by us.
    unlockSpool(path);
    throw error;
  }
  let bytes = statSync(path).size;
  return {
    path,
    get bytes() {
      return bytes;
    },
    append(lines) {
      const data = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
      try {
        for (let at = 0; at < data.length;) at += writeSync(fd, data, at);
      } catch (error) {
        // A full disk takes half a line, to which the next would be glued.
        ftruncateSync(fd, bytes);
        throw error;
      }
      bytes += data.length;
    },
    truncate() {
      ftruncateSync(fd, 0);
      bytes = 0;
    },
    close({ discard = false } = {}) {
      if (!discard) fsyncSync(fd);
      closeSync(fd);
      if (discard || bytes === 0) rmSync(path, { force: true });
      unlockSpool(path);
    },
  };
}

/** Spool files of a folder, oldest first. */
export function listSpool(dir: string, suffix = SUFFIX): string[] {
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  return names
    .filter((name) => name.endsWith(suffix))
    .map((name) => join(dir, name))
    .map((path) => ({ path, time: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => a.time - b.time || (a.path < b.path ? -1 : 1))
    .map(({ path }) => path);
}

/** The requests of a small file's text; damaged lines and a torn last one are left out. */
export function parseSpoolText(text: string): SpoolLine[] {
  return text
    .split("\n")
    .slice(0, -1)
    .map(parseLine)
    .filter((line) => line.v === 1);
}

/** A whole line that is no request: kept for a person to look at, never sent. */
interface DamagedLine {
  v: 0;
  text: string;
}

function parseLine(text: string): SpoolLine | DamagedLine {
  try {
    const line = JSON.parse(text) as SpoolLine;
    const { v, method = "POST", path, body } = line;
    if (v === 1 && (method === "POST" || method === "PATCH") && path.startsWith("/api/v1/") && isObject(body))
      return line;
  } catch {
    // Falls through: damaged.
  }
  return { v: 0, text };
}

const isObject = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);

/** The lines of a file, in order, with those that come while they are read. A torn last one (its writer was killed) is left out. */
async function* completeLines(path: string): AsyncGenerator<string> {
  let lineStart = 0;
  let read: number;
  do {
    read = lineStart;
    let parts: Buffer[] = [];
    const options = { start: lineStart, highWaterMark: 1 << 18 };
    for await (const chunk of createReadStream(path, options) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let to = chunk.indexOf(10); to >= 0; to = chunk.indexOf(10, from)) {
        parts.push(chunk.subarray(from, to));
        yield Buffer.concat(parts).toString("utf8");
        parts = [];
        from = to + 1;
        lineStart = read + from;
      }
      parts.push(chunk.subarray(from));
      read += chunk.length;
      if (read - lineStart > MAX_LINE_BYTES)
        throw new Error(`${path} has a line of more than ${MAX_LINE_BYTES} bytes.`);
    }
  } while ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > read);
}

export interface ReplayResult {
  file: string;
  /** sent: delivered and deleted. partly: some lines were refused. kept: to be tried again. busy: its client still runs. */
  outcome: "sent" | "partly" | "kept" | "busy";
  /** Requests answered 2xx. */
  sent: number;
  /** Requests the collector will never take; they are in `<file>.refused`. */
  refused: number;
  /** Why lines were refused or the file was kept. */
  error: string | null;
}

export type Post = (
  path: string,
  body: Record<string, unknown>,
  method: "POST" | "PATCH",
) => Promise<unknown>;

export interface ReplayOptions {
  /** Sends one request: resolves on 2xx, throws CollectorError otherwise. */
  post: Post;
  onProgress?: ((progress: { file: string; sent: number; bytes: number; total: number }) => void) | undefined;
}

/**
 * Sends a file's requests in order and deletes it. Where the collector stops answering, the file stays whole: a request
 * sent twice is harmless, as batches are numbered.
 */
export async function replaySpool(file: string, { post, onProgress }: ReplayOptions): Promise<ReplayResult> {
  if (!lockSpool(file)) return { file, outcome: "busy", sent: 0, refused: 0, error: null };
  const keepRefused = createRefused(file);
  let refused = 0;
  let sent = 0;
  let bytes = 0;
  let error: string | null = null;
  try {
    const total = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    for await (const text of completeLines(file)) {
      bytes += Buffer.byteLength(text) + 1;
      if (text === "") continue;
      const line = parseLine(text);
      if (line.v === 0) {
        await keepRefused(text);
        refused++;
        error ??= "A line is damaged.";
        continue;
      }
      try {
        await deliver(line, post);
        sent++;
      } catch (problem) {
        if (!isPermanent(problem)) throw problem;
        // Before its number is filled: from then on it is answered as a repetition, should this try break off.
        await keepRefused(text);
        refused++;
        error ??= (problem as Error).message;
        await fillNumber(line, post);
      }
      onProgress?.({ file, sent, bytes, total });
    }
    rmSync(file, { force: true });
    return { file, outcome: refused > 0 ? "partly" : "sent", sent, refused, error };
  } catch (problem) {
    const message = problem instanceof Error ? problem.message : String(problem);
    return { file, outcome: "kept", sent, refused, error: message };
  } finally {
    unlockSpool(file);
  }
}

/**
 * Appends to `<file>.refused`, safely on disk, and returns where that is; undefined where it would be longer than `limit`. What an
 * earlier try that broke off has put there is not put there again.
 */
export function createRefused(file: string, limit = Infinity): (text: string) => Promise<string | undefined> {
  const path = `${file}.refused`;
  const digestOf = (text: string) => createHash("sha256").update(text).digest("base64");
  let known: Set<string> | undefined;
  return async (text) => {
    if (!known) {
      known = new Set();
      if (existsSync(path)) for await (const line of completeLines(path)) known.add(digestOf(line));
    }
    const digest = digestOf(text);
    if (known.has(digest)) return path;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const handle = await open(path, "a+", 0o600);
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.from(`${text}\n`);
      if (size + bytes.length > limit) return undefined;
      const last = Buffer.alloc(1);
      const isTorn = size > 0 && (await handle.read(last, 0, 1, size - 1)).bytesRead === 1 && last[0] !== 10;
      await handle.appendFile(isTorn ? Buffer.concat([Buffer.from("\n"), bytes]) : bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    known.add(digest);
    return path;
  };
}

/** Numbers missing before this batch are lost for good (a client killed with batches in memory): pass over them. */
export async function deliver(line: SpoolLine, post: Post): Promise<void> {
  try {
    await post(line.path, line.body, line.method ?? "POST");
  } catch (error) {
    const expected =
      error instanceof CollectorError && error.code === "sequence-gap" && error.details?.["expected"];
    const { client, seq } = line.body;
    if (typeof expected !== "number" || typeof seq !== "number") throw error;
    for (let missing = expected; missing < seq; missing++)
      await post(line.path, { client, seq: missing, items: [] }, "POST");
    await post(line.path, line.body, "POST");
  }
}

/** A refused batch leaves a hole in its client's numbering, for which everything behind it would be refused too. */
export async function fillNumber({ path, body }: SpoolLine, post: Post): Promise<void> {
  if (typeof body["seq"] !== "number") return;
  try {
    await post(path, { client: body["client"], seq: body["seq"], items: [] }, "POST");
  } catch (error) {
    if (!isPermanent(error)) throw error;
  }
}

/** Trying again would get the same answer. (Not a wrong token: the right one may come.) */
export function isPermanent(error: unknown): boolean {
  return (
    error instanceof CollectorError &&
    ["invalid", "not-found", "gone", "too-large", "unsupported"].includes(error.code)
  );
}
