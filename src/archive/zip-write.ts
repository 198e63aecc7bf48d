import { createHash } from "node:crypto";
import { configure, ZipWriter } from "@zip.js/zip.js";
import { CollectorError } from "../error.ts";
import { FastCompressionStream } from "./deflate.ts";
import type { ManifestFile } from "./schema.ts";
import { createTurns } from "./turns.ts";

// No workers of its own: they would have to be carried in the binary, and files are written one after another anyway.
configure({
  useWebWorkers: false,
  chunkSize: 64 * 1024,
  CompressionStream: FastCompressionStream,
  // Its default lets as many archives be written at once as there are processors: two that nobody reads would stop all others.
  maxWorkers: 1000,
});

export type Parts = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface ZipFile {
  /** What is compressed already, or is somebody's own file, goes as it is. */
  compress?: boolean;
  /** Digest that the bytes must have. */
  sha256?: string;
}

/** Files one after another, each measured and digested on its way. */
export interface ArchiveWriter {
  readonly files: ManifestFile[];
  add(path: string, parts: Parts, file?: ZipFile): Promise<void>;
  close(): Promise<void>;
}

/** The one for which zip.js takes the stream that it was given, whose level is its own. */
const LEVEL = 6;

export function createArchiveWriter(
  sink: WritableStream<Uint8Array>,
  modified: Date,
  signal: AbortSignal,
): ArchiveWriter {
  // zip64 throughout: how long a file gets is not known when it begins.
  const zip = new ZipWriter(sink, {
    zip64: true,
    keepOrder: true,
    bufferedWrite: false,
    dataDescriptor: true,
    extendedTimestamp: false,
    lastModDate: modified,
    signal,
  });
  const files: ManifestFile[] = [];
  return {
    files,
    async add(path, parts, { compress = false, sha256 } = {}) {
      const hash = createHash("sha256");
      let size = 0;
      const pause = createTurns();
      async function* measured() {
        for await (const part of parts) {
          hash.update(part);
          size += part.length;
          yield part;
          await pause();
        }
      }
      await zip.add(path, streamOf(measured()), { level: compress ? LEVEL : 0 });
      const digest = hash.digest("hex");
      // An archive that cannot be read again is worse than none.
      if (sha256 !== undefined && digest !== sha256)
        throw new CollectorError("damaged", `The bytes of ${sha256} are not what they were.`);
      files.push({ path, size, sha256: digest });
    },
    async close() {
      await zip.close();
    },
  };
}

export function streamOf(source: AsyncGenerator<Uint8Array, void>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await source.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await source.return();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Bytes of texts, gathered into pieces worth a system call. */
export async function* encoded(texts: AsyncIterable<string> | Iterable<string>): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  let text = "";
  for await (const piece of texts) {
    text += piece;
    if (text.length < 32_768) continue;
    yield encoder.encode(text);
    text = "";
  }
  if (text !== "") yield encoder.encode(text);
}

export const jsonOf = (value: unknown): Uint8Array[] => [
  new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`),
];
