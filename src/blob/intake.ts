import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { blobPath, partPath } from "./path.ts";
import { SMALL_BYTES } from "./schema.ts";
import type { BlobWorker } from "./worker.ts";

/** What came. */
export interface Received {
  sha256: string;
  size: number;
  crc32: number;
}

/** A piece of a file that came by itself. */
export interface Part {
  /** Of its file. */
  id: string;
  sha256: string;
  size: number;
}

/** Bytes of which nobody says beforehand what they are: as they come, whatever their length, in bounded memory. */
export interface Intake {
  /**
   * Keeps them as a blob. `expected`: bytes that are announced, for which room is claimed at once. `check` sees what came before it is
   * kept, and throws where that is not what it should be.
   */
  put(pieces: AsyncIterable<Uint8Array>, options?: IntakeOptions): Promise<Received>;
  /** The same for a part of a file, which `join` makes a blob of. */
  putPart(pieces: AsyncIterable<Uint8Array>, options?: IntakeOptions): Promise<Received & Part>;
  join(parts: readonly Part[]): Promise<{ sha256: string; size: number }>;
  /** Parts that nobody will join. */
  drop(ids: readonly string[]): Promise<void>;
  /** It is being written. */
  isOpen(id: string): boolean;
}

export interface IntakeOptions {
  expected?: number | undefined;
  check?: ((received: Received) => void) | undefined;
}

export interface IntakeContext {
  folder: string;
  worker: BlobWorker;
  /** Throws where there is no room for so many more bytes. */
  claim: (bytes: number) => void;
  /** Whether its bytes are wanted; where not, they stay for a day at least. */
  isWanted: (sha256: string) => boolean;
  putSmall: (files: readonly { sha256: string; bytes: Uint8Array }[]) => void;
  /** The file is whole and has its name: makes it a blob. */
  keep: (sha256: string, size: number, chunks: readonly string[]) => void;
}

export function createIntake({ folder, worker, claim, isWanted, putSmall, keep }: IntakeContext): Intake {
  const open = new Set<string>();

  /** A file of its own for as long as `use` takes; gone afterwards, unless it was given another name. */
  async function withPart<T>(use: (id: string, path: string) => Promise<T>): Promise<T> {
    const id = randomBytes(16).toString("hex");
    const path = partPath(folder, id);
    open.add(id);
    const letGo = worker.hold();
    try {
      return await use(id, path);
    } catch (error) {
      await worker.run({ kind: "drop", path }).catch(() => {});
      throw error;
    } finally {
      letGo();
      open.delete(id);
    }
  }

  async function receive(
    path: string,
    pieces: AsyncIterable<Uint8Array>,
    { expected, check }: IntakeOptions,
  ): Promise<Received> {
    let size = 0;
    for await (const bytes of pieces) {
      // More than was announced, or nothing was.
      if (size + bytes.length > (expected ?? 0)) claim(bytes.length);
      await worker.run({ kind: "append", path, position: size, bytes });
      size += bytes.length;
    }
    if (size === 0) await worker.run({ kind: "append", path, position: 0, bytes: new Uint8Array() });
    const { sha256, crc32 } = await worker.run({ kind: "appended", path });
    const received = { sha256: sha256!, crc32: crc32!, size };
    check?.(received);
    return received;
  }

  /** It may be here already: then the same bytes need not lie there twice. */
  async function finish(path: string, sha256: string, size: number): Promise<void> {
    if (!isWanted(sha256)) return void (await worker.run({ kind: "drop", path }));
    await worker.run({ kind: "keep", path, target: blobPath(folder, sha256) });
    keep(sha256, size, []);
  }

  async function put(pieces: AsyncIterable<Uint8Array>, options: IntakeOptions = {}): Promise<Received> {
    const { expected, check } = options;
    claim(expected ?? 0);
    const { small, all } = await headOf(pieces);
    if (small) {
      const received = describe(small);
      check?.(received);
      putSmall([{ sha256: received.sha256, bytes: small }]);
      return received;
    }
    return withPart(async (_, path) => {
      const received = await receive(path, all, options);
      await finish(path, received.sha256, received.size);
      return received;
    });
  }

  return {
    put,
    putPart(pieces, options = {}) {
      claim(options.expected ?? 0);
      return withPart(async (id, path) => ({ id, ...(await receive(path, pieces, options)) }));
    },
    async join(parts) {
      const size = parts.reduce((sum, part) => sum + part.size, 0);
      claim(size);
      return withPart(async (_, path) => {
        let position = 0;
        for (const { id, sha256, size } of parts) {
          const from = partPath(folder, id);
          await worker.run({ kind: "join", path, position, from, sha256, size });
          position += size;
        }
        const { sha256 } = await worker.run({ kind: "appended", path });
        await finish(path, sha256!, size);
        return { sha256: sha256!, size };
      });
    },
    async drop(ids) {
      for (const id of ids) await worker.run({ kind: "drop", path: partPath(folder, id) });
    },
    isOpen: (id) => open.has(id),
  };
}

/** All of it where it is small, which lies in the database; else the same pieces, of which the first was looked at. */
async function headOf(
  pieces: AsyncIterable<Uint8Array>,
): Promise<{ small?: Uint8Array; all: AsyncIterable<Uint8Array> }> {
  const iterator = pieces[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const next = await iterator.next();
    if (next.done) return { small: Buffer.concat(held, size), all: pieces };
    size += next.value.length;
    if (size > SMALL_BYTES) return { all: chain(held, next.value, iterator) };
    // The next piece comes into the same memory.
    held.push(new Uint8Array(next.value));
  }
}

async function* chain(
  held: readonly Uint8Array[],
  next: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* held;
  yield next;
  for (let piece = await rest.next(); !piece.done; piece = await rest.next()) yield piece.value;
}

const describe = (bytes: Uint8Array): Received => ({
  sha256: hash("sha256", bytes, "hex"),
  crc32: crc32(bytes),
  size: bytes.length,
});
