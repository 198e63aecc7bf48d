import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type FileEntry, Reader, ZipReader } from "@zip.js/zip.js";
import { CollectorError } from "../error.ts";
import { isEntryName } from "./schema.ts";
import { createTurns } from "./turns.ts";

/** Of the central directory: half a million long names. */
const MAX_DIRECTORY_BYTES = 256 * 1024 * 1024;
const MAX_ENTRIES = 500_000;
/** Larger ones that claim to grow beyond this are bombs: text compresses to a tenth, deflate's best is a thousandth. */
const MAX_RATIO = 400;
const RATIO_FROM = 1024 * 1024;
const PIECE = 256 * 1024;

/** A zip on disk whose list of files has been found in order. */
export interface Archive {
  readonly entries: ReadonlyMap<string, ArchiveEntry>;
  close(): Promise<void>;
}

export interface ArchiveEntry {
  path: string;
  /** As the zip says; what is read is held to it. */
  size: number;
  /** `sum`: its bytes are compared with their CRC, too, as nothing else vouches for them. */
  read(sum?: boolean): AsyncGenerator<Uint8Array, void>;
}

export const damaged = (what: string, cause?: unknown) =>
  new CollectorError("invalid", `The archive is damaged, or none of ours: ${what}.`, {
    hint: "Nothing was imported. Export the run anew, or copy the file again.",
    cause,
  });

/** Reads of a file on disk, never more at once than the largest that a sound zip needs. */
class FileReader extends Reader<number> {
  private readonly descriptor: number;
  override size: number;

  constructor(descriptor: number) {
    super(descriptor);
    this.descriptor = descriptor;
    this.size = fstatSync(descriptor).size;
  }

  override async readUint8Array(at: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (length > MAX_DIRECTORY_BYTES) throw damaged("its list of files is too long");
    const bytes = new Uint8Array(Math.max(0, Math.min(length, this.size - at)));
    let done = 0;
    while (done < bytes.length) {
      const count = readSync(this.descriptor, bytes, done, bytes.length - done, at + done);
      if (count === 0) break;
      done += count;
    }
    return bytes.subarray(0, done);
  }
}

/** `isName`: whether a file of this name may be in it. */
export async function openArchive(path: string, isName = isEntryName): Promise<Archive> {
  const descriptor = openSync(path, "r");
  const zip = new ZipReader(new FileReader(descriptor), {
    strictness: "strict",
    checkOverlappingEntry: true,
  });
  const close = async () => {
    await zip.close();
    closeSync(descriptor);
  };
  try {
    const entries = new Map<string, ArchiveEntry>();
    for await (const entry of zip.getEntriesGenerator()) {
      if (entries.size >= MAX_ENTRIES) throw damaged(`it has more than ${MAX_ENTRIES} files`);
      const { filename } = entry;
      if (entries.has(filename)) throw damaged(`it has ${quoted(filename)} twice`);
      check(entry as FileEntry, isName);
      entries.set(filename, entryOf(entry as FileEntry));
    }
    return { entries, close };
  } catch (error) {
    await close().catch(() => {});
    if (error instanceof CollectorError) throw error;
    throw damaged(`it is no zip that can be read (${messageOf(error)})`, error);
  }
}

const REGULAR = 0o100000;
const TYPE_MASK = 0o170000;

function check(entry: FileEntry, isName: (name: string) => boolean): void {
  const { filename, compressedSize, uncompressedSize, compressionMethod, unixMode } = entry;
  const name = quoted(filename);
  if (!isName(filename)) throw damaged(`${name} is no name of a file that it can have`);
  if (entry.directory) throw damaged(`${name} is a folder`);
  const type = (unixMode ?? 0) & TYPE_MASK;
  if (entry.symlink || (type !== 0 && type !== REGULAR))
    throw damaged(`${name} is a link or something else that is no file`);
  if (entry.encrypted) throw damaged(`${name} is encrypted`);
  if (compressionMethod !== 0 && compressionMethod !== 8)
    throw damaged(`${name} is compressed in a way of its own`);
  if (compressionMethod === 0 && compressedSize !== uncompressedSize)
    throw damaged(`${name} is not as long as it should be`);
  if (uncompressedSize > RATIO_FROM && uncompressedSize > MAX_RATIO * compressedSize)
    throw new CollectorError(
      "too-large",
      `${name} claims to be ${Math.round(uncompressedSize / Math.max(1, compressedSize))} times as long as what is in the archive.`,
      { hint: "Nothing was imported: no run that we export is packed so tightly." },
    );
}

const entryOf = (entry: FileEntry): ArchiveEntry => ({
  path: entry.filename,
  size: entry.uncompressedSize,
  read: (sum = false) => readEntry(entry, sum),
});

async function* readEntry(entry: FileEntry, sum: boolean): AsyncGenerator<Uint8Array, void> {
  const { filename, uncompressedSize } = entry;
  const aborted = new AbortController();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(
    {},
    { highWaterMark: 1 },
    { highWaterMark: 1 },
  );
  const reader = readable.getReader();
  let failure: { error: unknown } | undefined;
  const written = entry
    .getData(writable, { checkSignature: sum, checkOverlappingEntry: true, signal: aborted.signal })
    .catch((error: unknown) => {
      failure ??= { error };
      // Of a file that cannot be unpacked, the library neither ends nor aborts the stream.
      void reader.cancel().catch(() => {});
    });
  const pause = createTurns();
  let size = 0;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > uncompressedSize) throw damaged(`${quoted(filename)} is longer than it says`);
      for (let at = 0; at < value.length; at += PIECE) yield value.subarray(at, at + PIECE);
      await pause();
    }
    await written;
    if (failure) throw failure.error;
    if (size !== uncompressedSize) throw damaged(`${quoted(filename)} is shorter than it says`);
  } catch (error) {
    if (error instanceof CollectorError) throw error;
    throw damaged(`${quoted(filename)} cannot be read (${messageOf(error)})`, error);
  } finally {
    aborted.abort();
    void reader.cancel().catch(() => {});
  }
}

export const quoted = (name: string): string =>
  JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
