/**
 * What is done to a blob's bytes, in small synchronous jobs. They run in a worker (blob-worker.ts): hashing 8 MiB would hold
 * the event loop for 6 ms, and an fsync for as long as the disk likes.
 */
import { createHash, type Hash } from "node:crypto";
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { CHUNK_BYTES } from "./size.ts";

export type BlobJob =
  /** Makes the file that a blob is put together in, or opens it again. Answer: indexes of the chunks that are not in it yet. */
  | { kind: "open"; path: string; target: string; size: number; chunks: string[] }
  /** Writes a piece of a chunk. What is in the file is nobody's word until the chunk is checked. */
  | { kind: "write"; path: string; position: number; bytes: Uint8Array }
  /** All of a chunk is written: checks it. */
  | { kind: "check"; path: string; index: number; sha256: string; length: number }
  /** Copies a chunk that another blob has, if it is still what it was. Answer: whether it was. */
  | {
      kind: "copy";
      path: string;
      index: number;
      sha256: string;
      from: string;
      position: number;
      length: number;
    }
  /** Bytes whose digest nobody knows yet, at the end of what came before them; at 0 the file begins. */
  | { kind: "append"; path: string; position: number; bytes: Uint8Array }
  /** All of them were appended. Answer: what they are. */
  | { kind: "appended"; path: string }
  /** Appends another file, if it is what its digest says. */
  | { kind: "join"; path: string; position: number; from: string; sha256: string; size: number }
  /** Makes a file of which is known what it is durable, and gives it its name. */
  | { kind: "keep"; path: string; target: string }
  /** Nobody wants it any more. */
  | { kind: "drop"; path: string }
  /** Checks the whole, makes it durable and gives it its name. */
  | { kind: "commit"; path: string; target: string; sha256: string; size: number }
  /** Digest of what lies there, in steps. `from`: where the last one ended, 0 at first. Answer: `size` read, at the end `sha256`. */
  | { kind: "digest"; path: string; from: number };

export type BlobAnswer =
  | {
      ok: true;
      missing?: number[];
      copied?: boolean;
      sha256?: string;
      size?: number;
      crc32?: number;
    }
  /** "mismatch": the bytes are not what the digest says; "gone": there is no such file; "lost": the worker ended over it, or since. */
  | { ok: false; code: "mismatch" | "gone" | "disk-full" | "lost" | "failed"; message: string };

/**
 * The digest of an upload's whole, as far as its chunks have come without a gap: computed while their bytes are at hand, so
 * that the end of a large file need not be waited for. Lost with the worker; then the whole is read again.
 */
interface Progress {
  hash: Hash;
  /** Chunks from 0 to before this one are in `hash`. */
  next: number;
  /** Chunks in the file beyond those. */
  ahead: Set<number>;
}

const progressByPath = new Map<string, Progress>();

/** What was appended to a file so far. Lost with the worker: then its sender begins again. */
interface Appended {
  hash: Hash;
  crc32: number;
  size: number;
}

const appendedByPath = new Map<string, Appended>();

const NEW = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;

export function runBlobJob(job: BlobJob): BlobAnswer {
  try {
    return perform(job);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return { ok: false, code: "gone", message };
    if (code === "ENOSPC" || code === "EDQUOT") return { ok: false, code: "disk-full", message };
    return { ok: false, code: "failed", message: String(message) };
  }
}

function perform(job: BlobJob): BlobAnswer {
  switch (job.kind) {
    case "open":
      return openIncoming(job);
    case "write":
      withFile(job.path, constants.O_RDWR, (fd) => writeAll(fd, job.bytes, job.position));
      return { ok: true };
    case "check":
      return withFile(job.path, constants.O_RDONLY, (fd) => checkChunk(fd, job));
    case "copy":
      return copyChunk(job);
    case "append":
      return append(job.path, job.position, (fd) => [writePiece(fd, job)]);
    case "appended":
      return endAppended(job.path);
    case "join":
      return join(job);
    case "keep":
      withFile(job.path, constants.O_RDWR, fsyncSync);
      giveName(job.path, job.target);
      return { ok: true };
    case "drop":
      appendedByPath.delete(job.path);
      rmSync(job.path, { force: true });
      return { ok: true };
    case "commit":
      return commit(job.path, job.target, job.sha256, job.size);
    case "digest":
      return withFile(job.path, constants.O_RDONLY, (fd) => digestStep(fd, job));
  }
}

/** What an earlier try has brought is found by its digests: no note of it could be trusted after a crash. */
function openIncoming({ path, target, size, chunks }: BlobJob & { kind: "open" }): BlobAnswer {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  // It had its name already when the process ended, or the disk was full; or it is damaged, and most of it is right.
  if (!existsSync(path) && existsSync(target)) renameSync(target, path);
  return withFile(path, NEW, (fd) => {
    const isNew = fstatSync(fd).size === 0;
    // Sparse: the chunks come in any order.
    ftruncateSync(fd, size);
    progressByPath.set(path, { hash: createHash("sha256"), next: 0, ahead: new Set() });
    if (isNew) return { ok: true, missing: chunks.map((_, index) => index) };
    const missing = chunks.flatMap((sha256, index) => {
      const length = Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES);
      return isChunk(fd, path, index, sha256, length) ? [] : [index];
    });
    return { ok: true, missing };
  });
}

function checkChunk(fd: number, { path, index, sha256, length }: BlobJob & { kind: "check" }): BlobAnswer {
  if (isChunk(fd, path, index, sha256, length)) return { ok: true };
  return { ok: false, code: "mismatch", message: `chunk ${index} is not what its digest says` };
}

function copyChunk({ path, index, sha256, from, position, length }: BlobJob & { kind: "copy" }): BlobAnswer {
  return withFile(from, constants.O_RDONLY, (source) =>
    withFile(path, constants.O_RDWR, (fd) => {
      let at = 0;
      for (const bytes of piecesOf(source, position * CHUNK_BYTES, length)) {
        writeAll(fd, bytes, index * CHUNK_BYTES + at);
        at += bytes.length;
      }
      return { ok: true, copied: isChunk(fd, path, index, sha256, length) };
    }),
  );
}

/** Whether a chunk stands in the file; then the digest of the whole goes on from it, and over those that came before their turn. */
function isChunk(fd: number, path: string, index: number, sha256: string, length: number): boolean {
  const hash = createHash("sha256");
  const progress = progressByPath.get(path);
  // One pass for both digests; of a chunk that is wrong the whole's forgets nothing.
  const whole = progress?.next === index ? progress.hash.copy() : undefined;
  for (const bytes of piecesOf(fd, index * CHUNK_BYTES, length)) {
    hash.update(bytes);
    whole?.update(bytes);
  }
  if (hash.digest("hex") !== sha256) return false;
  if (!progress || index < progress.next) return true;
  if (!whole) {
    progress.ahead.add(index);
    return true;
  }
  progress.hash = whole;
  progress.next++;
  for (; progress.ahead.delete(progress.next); progress.next++)
    for (const bytes of piecesOf(fd, progress.next * CHUNK_BYTES, CHUNK_BYTES)) progress.hash.update(bytes);
  return true;
}

function commit(path: string, target: string, sha256: string, size: number): BlobAnswer {
  const found = withFile(path, constants.O_RDWR, (fd) => {
    const progress = progressByPath.get(path);
    const isWhole = progress !== undefined && progress.next === Math.ceil(size / CHUNK_BYTES);
    const digest =
      fstatSync(fd).size !== size ? "" : isWhole ? progress.hash.digest("hex") : digestOfFile(fd);
    if (digest === sha256) fsyncSync(fd);
    return digest;
  });
  progressByPath.delete(path);
  if (found !== sha256) {
    // Each chunk was what it should be: it is the sender's own digest that is wrong, and no chunk sent again would mend it.
    rmSync(path, { force: true });
    return { ok: false, code: "mismatch", message: "the whole is not what its digest says" };
  }
  giveName(path, target);
  return { ok: true };
}

function giveName(path: string, target: string): void {
  const folder = dirname(target);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  renameSync(path, target);
  // Else a power loss can take the name back, and the folder's own.
  for (const each of [folder, dirname(folder)]) withFile(each, constants.O_RDONLY, fsyncSync);
}

/** Writes what `pieces` yields behind what is there, and carries the digests along. */
function append(path: string, position: number, pieces: (fd: number) => Iterable<Uint8Array>): BlobAnswer {
  if (position === 0) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    appendedByPath.set(path, { hash: createHash("sha256"), crc32: 0, size: 0 });
  }
  const appended = appendedByPath.get(path);
  if (appended?.size !== position) return { ok: false, code: "lost", message: "what came before is gone" };
  return withFile(path, position === 0 ? NEW | constants.O_TRUNC : constants.O_RDWR, (fd) => {
    for (const bytes of pieces(fd)) {
      appended.hash.update(bytes);
      appended.crc32 = crc32(bytes, appended.crc32);
      appended.size += bytes.length;
    }
    return { ok: true, size: appended.size };
  });
}

function writePiece(fd: number, { bytes, position }: BlobJob & { kind: "append" }): Uint8Array {
  writeAll(fd, bytes, position);
  return bytes;
}

function endAppended(path: string): BlobAnswer {
  const appended = appendedByPath.get(path);
  if (!appended) return { ok: false, code: "lost", message: "what came before is gone" };
  appendedByPath.delete(path);
  const { hash, crc32, size } = appended;
  return { ok: true, sha256: hash.digest("hex"), crc32, size };
}

function join({ path, position, from, sha256, size }: BlobJob & { kind: "join" }): BlobAnswer {
  return withFile(from, constants.O_RDONLY, (source) => {
    const part = createHash("sha256");
    const joined = append(path, position, function* (fd) {
      let at = position;
      for (const bytes of piecesOf(source, 0, size)) {
        writeAll(fd, bytes, at);
        at += bytes.length;
        part.update(bytes);
        yield bytes;
      }
    });
    // A power loss may have taken what was never made durable.
    if (joined.ok && part.digest("hex") !== sha256)
      return { ok: false, code: "mismatch", message: "a part is not what it was" };
    return joined;
  });
}

function withFile<T>(path: string, flags: number, use: (fd: number) => T): T {
  const fd = openSync(path, flags | constants.O_NOFOLLOW, 0o600);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

const READ_BYTES = 256 * 1024;
const readBuffer = new Uint8Array(READ_BYTES);
/** Of one call: ext4 takes 8 MiB in a single write(2) eight times as long as in pieces. */
const WRITE_BYTES = 256 * 1024;

function writeAll(fd: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length;)
    done += writeSync(fd, bytes, done, Math.min(WRITE_BYTES, bytes.length - done), at + done);
}

function readAt(fd: number, buffer: Uint8Array, at: number, length: number): Uint8Array {
  let done = 0;
  while (done < length) {
    const count = readSync(fd, buffer, done, length - done, at + done);
    if (count === 0) break;
    done += count;
  }
  return buffer.subarray(0, done);
}

/** A part of a file, or what there is of it, in pieces that share their memory. */
function* piecesOf(fd: number, from: number, length: number): Generator<Uint8Array> {
  for (let at = 0; at < length;) {
    const bytes = readAt(fd, readBuffer, from + at, Math.min(READ_BYTES, length - at));
    if (bytes.length === 0) return;
    yield bytes;
    at += bytes.length;
  }
}

/** Of one step: who waits for it wants to see how far it has come. */
const STEP_BYTES = 64 * 1024 * 1024;
let stepping: { path: string; hash: Hash } | undefined;

function digestStep(fd: number, { path, from }: BlobJob & { kind: "digest" }): BlobAnswer {
  if (from === 0) stepping = { path, hash: createHash("sha256") };
  if (stepping?.path !== path)
    return { ok: false, code: "failed", message: "there is no step before this one" };
  let size = from;
  for (const bytes of piecesOf(fd, from, STEP_BYTES)) {
    stepping.hash.update(bytes);
    size += bytes.length;
  }
  if (size - from === STEP_BYTES) return { ok: true, size };
  const sha256 = stepping.hash.digest("hex");
  stepping = undefined;
  return { ok: true, size, sha256 };
}

function digestOfFile(fd: number): string {
  const hash = createHash("sha256");
  for (const bytes of piecesOf(fd, 0, Infinity)) hash.update(bytes);
  return hash.digest("hex");
}
