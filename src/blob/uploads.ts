import { CollectorError } from "../error.ts";
import type { Connection } from "../store/open.ts";
import type { Damage } from "./damage.ts";
import { blobPath, incomingPath } from "./path.ts";
import { CHUNK_BYTES, type OpenUpload, type Upload } from "./schema.ts";
import type { BlobWorker } from "./worker.ts";

/** Uploads that are open; beyond them the one that has been silent longest is to be opened again. */
const MAX_OPEN = 256;
/** Digests of all their chunks together: 100 bytes each. */
const MAX_OPEN_CHUNKS = 1_000_000;
/** Uploads of which nothing was heard for so long are forgotten; what they brought stays a while. */
const FORGET_MS = 3600 * 1000;

interface Incoming {
  size: number;
  chunks: string[];
  missing: Set<number>;
  /** Chunks that are being written: who brings one a second time waits, as neither may write over what the other has checked. */
  writing: Map<number, Promise<void>>;
  /** Opened by two clients at once, it is looked through once. */
  opened: Promise<void>;
  committed: Promise<void> | undefined;
  /** Requests that are at it, and when the last one came. */
  users: number;
  used: number;
}

export interface Uploader {
  connection: Connection;
  folder: string;
  worker: BlobWorker;
  damage: Damage;
  now: () => number;
  /** Throws where there is no room for so many more bytes. */
  claim: (bytes: number) => void;
  has: (sha256: string) => boolean;
  /** Whether its bytes are to be sent; where not, they stay for a day at least. */
  isWanted: (sha256: string) => boolean;
  /** The file is whole and has its name: makes it a blob. */
  keep: (sha256: string, size: number, chunks: readonly string[]) => void;
}

/** Files on their way in, in chunks. */
export function createUploads({
  connection,
  folder,
  worker,
  damage,
  now,
  claim,
  has,
  isWanted,
  keep,
}: Uploader) {
  const incoming = new Map<string, Incoming>();
  const selectChunk = connection
    .prepare("SELECT blob, position FROM blob_chunk WHERE sha256 = ? LIMIT 1")
    .raw(true);

  async function open(sha256: string, { size, chunks }: OpenUpload): Promise<Upload> {
    if (!isWanted(sha256)) return { complete: true, missing: [] };
    let upload = incoming.get(sha256);
    if (upload && (upload.size !== size || upload.chunks.join() !== chunks.join()))
      throw new CollectorError("conflict", "Another upload under this digest names other chunks.", {
        hint: "One of the two digests is wrong: compute it anew.",
      });
    if (!upload) {
      claim(0);
      makeRoom(chunks.length);
      upload = {
        size,
        chunks,
        missing: new Set(),
        writing: new Map(),
        opened: Promise.resolve(),
        committed: undefined,
        users: 0,
        used: now(),
      };
      incoming.set(sha256, upload);
      upload.opened = begins(sha256, upload).catch((error: unknown) => {
        incoming.delete(sha256);
        throw error;
      });
    }
    return using(sha256, upload, async () => ({ complete: false, missing: [...upload.missing] }));
  }

  /** Forgets uploads that nobody is at, the longest silent first: a Map keeps the order in which they were last used. */
  function makeRoom(chunks: number): void {
    let total = chunks;
    for (const upload of incoming.values()) total += upload.chunks.length;
    for (const [sha256, upload] of incoming) {
      if (incoming.size < MAX_OPEN && total <= MAX_OPEN_CHUNKS) return;
      if (upload.users > 0) continue;
      incoming.delete(sha256);
      total -= upload.chunks.length;
    }
    if (incoming.size >= MAX_OPEN || (total > MAX_OPEN_CHUNKS && incoming.size > 0))
      throw new CollectorError("busy", "Too many uploads are open.", { hint: "Try again." });
  }

  /** Nobody forgets it meanwhile. */
  async function using<T>(sha256: string, upload: Incoming, use: () => Promise<T>): Promise<T> {
    incoming.delete(sha256);
    incoming.set(sha256, upload);
    upload.users++;
    upload.used = now();
    try {
      await upload.opened;
      return await use();
    } finally {
      upload.users--;
    }
  }

  async function begins(sha256: string, upload: Incoming): Promise<void> {
    const { size, chunks } = upload;
    const path = incomingPath(folder, sha256);
    const target = blobPath(folder, sha256);
    const { missing } = await worker.run({ kind: "open", path, target, size, chunks });
    upload.missing = new Set(missing);
    for (const index of upload.missing) {
      const digest = chunks[index]!;
      const found = selectChunk.get(digest) as [string, number] | undefined;
      if (!found) continue;
      const length = Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES);
      const from = blobPath(folder, found[0]);
      claim(length);
      const copied = await worker
        .run({ kind: "copy", path, index, sha256: digest, from, position: found[1], length })
        // It was deleted meanwhile: then it is sent.
        .catch(() => undefined);
      if (copied?.copied) upload.missing.delete(index);
      else if (copied) damage.mark(found[0]);
    }
  }

  function uploadOf(sha256: string): Incoming {
    const upload = incoming.get(sha256);
    if (upload) return upload;
    throw new CollectorError("not-found", "That upload is not open.", {
      hint: "Open it first, with its size and the digests of its chunks; after a restart of the collector, open it again.",
    });
  }

  /** How long a chunk has to be, of which that is known before its first byte. */
  function lengthOf({ size, chunks }: Incoming, index: number, sent: string | undefined): number {
    const digest = chunks[index];
    if (digest === undefined)
      throw new CollectorError("invalid", `There is no chunk ${index}: the upload has ${chunks.length}.`, {
        hint: "Chunks are counted from 0.",
      });
    if (sent !== undefined && sent !== digest)
      throw new CollectorError(
        "invalid",
        `The Content-Digest of chunk ${index} is not the digest that it was announced with.`,
        {
          hint: "The file may have changed while it was read: send it anew.",
        },
      );
    return Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES);
  }

  async function putChunk(
    sha256: string,
    index: number,
    bytes: Uint8Array | AsyncIterable<Uint8Array>,
    sent?: string,
  ): Promise<void> {
    if (has(sha256)) return;
    const upload = uploadOf(sha256);
    const length = lengthOf(upload, index, sent);
    const path = incomingPath(folder, sha256);
    const write = async () => {
      if (!upload.missing.has(index)) return;
      claim(length);
      let done = 0;
      for await (const piece of bytes instanceof Uint8Array ? [bytes] : bytes) {
        const position = index * CHUNK_BYTES + done;
        done += piece.length;
        if (done <= length) await worker.run({ kind: "write", path, position, bytes: piece });
      }
      if (done !== length)
        throw new CollectorError("invalid", `Chunk ${index} has ${done} bytes and should have ${length}.`, {
          hint: `All chunks but the last have ${CHUNK_BYTES} bytes.`,
        });
      await worker.run({ kind: "check", path, index, sha256: upload.chunks[index]!, length });
      upload.missing.delete(index);
    };
    await using(sha256, upload, () => inChunkTurn(upload, index, write));
  }

  function inChunkTurn({ writing }: Incoming, index: number, write: () => Promise<void>): Promise<void> {
    const turn = (writing.get(index) ?? Promise.resolve()).then(write, write).finally(() => {
      if (writing.get(index) === turn) writing.delete(index);
    });
    writing.set(index, turn);
    return turn;
  }

  async function commit(sha256: string): Promise<void> {
    if (has(sha256)) return;
    const upload = uploadOf(sha256);
    await using(sha256, upload, async () => {
      if (upload.missing.size > 0)
        throw new CollectorError("conflict", `${upload.missing.size} chunks are missing.`, {
          hint: "Send them, then ask again.",
          details: { missing: [...upload.missing].slice(0, 1000) },
        });
      upload.committed ??= finish(sha256, upload).finally(() => incoming.delete(sha256));
      await upload.committed;
    });
  }

  async function finish(sha256: string, { size, chunks }: Incoming): Promise<void> {
    const path = incomingPath(folder, sha256);
    await worker.run({ kind: "commit", path, target: blobPath(folder, sha256), sha256, size });
    keep(sha256, size, chunks);
  }

  return {
    open,
    putChunk,
    commit,
    isOpen: (sha256: string) => incoming.has(sha256),
    /** Who went silent in the middle opens it again. */
    forgetSilent() {
      for (const [sha256, { users, used }] of incoming)
        if (users === 0 && used < now() - FORGET_MS) incoming.delete(sha256);
    },
  };
}
