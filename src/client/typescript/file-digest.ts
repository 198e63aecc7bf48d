import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, type BigIntStats } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { CHUNK_BYTES } from "../../blob/schema.ts";
import { CollectorError } from "../../error.ts";
import { fileError, quoted, requireFile } from "./walk.ts";

/** Not through a link that has come in the file's place, and without waiting for whoever writes to a pipe. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Hashed between two turns of the event loop: under a millisecond of it. */
const SLICE_BYTES = 1024 * 1024;

/** What a file was when it was hashed: whoever writes to it changes one of these. */
export interface Stamp {
  size: bigint;
  mtime: bigint;
  ctime: bigint;
  inode: bigint;
  links: bigint;
}

export interface FileDigest {
  sha256: string;
  /** Of its pieces of CHUNK_BYTES. */
  chunks: string[];
  size: number;
  stamp: Stamp;
}

export interface SmallFile {
  sha256: string;
  bytes: Uint8Array<ArrayBuffer>;
}

export const changed = (source: string, cause?: unknown) =>
  new CollectorError("busy", `${quoted(source)} changed while it was read.`, {
    hint: "Call again when nothing writes to it.",
    details: { changed: source },
    cause,
  });

/** Whether an error says that a file changed; who waits a little may try again. */
export const isChanged = (error: unknown) =>
  error instanceof CollectorError && error.details?.["changed"] !== undefined;

/** A file that fits into memory, with its digest; undefined where it has grown beyond `max` since it was found. */
export function readSmallFile(source: string, max: number): SmallFile | undefined {
  return withErrors(source, () => {
    const fd = openSync(source, READ);
    try {
      const before = fstatSync(fd, { bigint: true });
      requireFile(source, before as never);
      if (before.size > BigInt(max)) return undefined;
      // One more than it should have: who appends to it is found out.
      const buffer = new Uint8Array(Number(before.size) + 1);
      let length = 0;
      for (let read = -1; read !== 0 && length < buffer.length; length += read)
        read = readSync(fd, buffer, length, buffer.length - length, length);
      const after = stampOf(fstatSync(fd, { bigint: true }));
      if (BigInt(length) !== before.size || !isSame(stampOf(before), after)) throw changed(source);
      const bytes = buffer.subarray(0, length);
      return { sha256: createHash("sha256").update(bytes).digest("hex"), bytes };
    } finally {
      closeSync(fd);
    }
  });
}

/** A file that is hashed, then sent: opened once, so that both see the same one whatever happens to its name. */
export class OpenFile {
  readonly source: string;
  readonly #handle: FileHandle;

  private constructor(source: string, handle: FileHandle) {
    this.source = source;
    this.#handle = handle;
  }

  static async open(source: string): Promise<OpenFile> {
    try {
      const handle = await open(source, READ);
      try {
        requireFile(source, await handle.stat());
        return new OpenFile(source, handle);
      } catch (error) {
        await handle.close();
        throw error;
      }
    } catch (error) {
      throw fileError(source, error);
    }
  }

  /** Digests of the whole and of each chunk, in one pass; the chunks' are computed on other threads. */
  async digest(onBytes: (count: number) => void = () => {}, signal?: AbortSignal): Promise<FileDigest> {
    const stamp = await this.#stamp();
    const size = Number(stamp.size);
    const whole = createHash("sha256");
    const chunks: Promise<string>[] = [];
    // Three buffers take turns: one is read into, one is hashed here, one is still being hashed there.
    const buffers = Array.from(
      { length: Math.min(3, Math.ceil(size / CHUNK_BYTES)) },
      () => new Uint8Array(Math.min(CHUNK_BYTES, size)),
    );
    const read = async (index: number) => {
      if (index * CHUNK_BYTES >= size) return undefined;
      await chunks[index - buffers.length];
      return this.#read(buffers[index % buffers.length]!, index * CHUNK_BYTES, size);
    };
    try {
      let next = read(0);
      for (let index = 0; index * CHUNK_BYTES < size; index++) {
        const bytes = (await next)!;
        signal?.throwIfAborted();
        const digest = crypto.subtle
          .digest("SHA-256", bytes)
          .then((digest) => Buffer.from(digest).toString("hex"));
        chunks.push(digest);
        next = read(index + 1);
        next.catch(() => {});
        for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
          const slice = bytes.subarray(at, at + SLICE_BYTES);
          whole.update(slice);
          onBytes(slice.length);
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      const digests = await Promise.all(chunks);
      await this.requireUnchanged(stamp);
      return { sha256: whole.digest("hex"), chunks: digests, size, stamp };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw fileError(this.source, error);
    }
  }

  /** A chunk as it was hashed. */
  async chunk(index: number, { size, stamp }: FileDigest): Promise<Uint8Array<ArrayBuffer>> {
    try {
      const at = index * CHUNK_BYTES;
      const bytes = await this.#read(new Uint8Array(Math.min(CHUNK_BYTES, size - at)), at, size);
      await this.requireUnchanged(stamp);
      return bytes;
    } catch (error) {
      throw fileError(this.source, error);
    }
  }

  async requireUnchanged(stamp: Stamp): Promise<void> {
    if (!isSame(stamp, await this.#stamp())) throw changed(this.source);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  async #stamp(): Promise<Stamp> {
    return stampOf(await this.#handle.stat({ bigint: true }));
  }

  async #read(buffer: Uint8Array<ArrayBuffer>, at: number, size: number): Promise<Uint8Array<ArrayBuffer>> {
    const length = Math.min(buffer.length, size - at);
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.#handle.read(buffer, done, length - done, at + done);
      if (bytesRead === 0) throw changed(this.source);
      done += bytesRead;
    }
    return buffer.subarray(0, length);
  }
}

const stampOf = ({ size, mtimeNs, ctimeNs, ino, nlink }: BigIntStats): Stamp => ({
  size,
  mtime: mtimeNs,
  ctime: ctimeNs,
  inode: ino,
  links: nlink,
});

/** A file whose name was given to another (as who writes checkpoints with care does) has another ctime, and the same bytes. */
const isSame = (a: Stamp, b: Stamp) =>
  a.size === b.size &&
  a.mtime === b.mtime &&
  a.inode === b.inode &&
  (a.ctime === b.ctime || a.links !== b.links);

function withErrors<T>(source: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw fileError(source, error);
  }
}
