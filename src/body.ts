import { createHash } from "node:crypto";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { pipeline, Readable, type Transform } from "node:stream";
import { CollectorError } from "./error.ts";

/** Of the text, after decompression. */
const MAX_BODY_BYTES = 32 * 1024 * 1024;

/** Bodies being read at one time, together: many slow senders of large ones would else fill our memory. */
const MAX_READING_BYTES = 8 * MAX_BODY_BYTES;
/** Below this a body is not worth counting. */
const LARGE_BODY_BYTES = 1024 * 1024;
let reading = 0;

const tooLarge = (max: number) =>
  new CollectorError("too-large", `The body is larger than ${max / 1024 / 1024} MiB.`, {
    hint: "Send smaller batches.",
  });

/** The body of a request that says it is JSON, as text; empty where there is none. */
export async function readText(request: Request): Promise<string> {
  const { headers } = request;
  if (request.body === null || headers.get("content-length") === "0") return "";
  const type = headers.get("content-type");
  if (type === null || !/^application\/json\s*(;|$)/i.test(type))
    throw new CollectorError("unsupported", `Content-Type ${type ?? "is missing"}; only JSON is taken.`, {
      hint: "Send Content-Type: application/json.",
    });
  const length = headers.get("content-length");
  if (Number(length ?? 0) > MAX_BODY_BYTES) throw tooLarge(MAX_BODY_BYTES);
  const encoding = (headers.get("content-encoding") ?? "identity").trim().toLowerCase();
  // A length that is given is what the server holds the sender to; without one the worst is assumed.
  const bytes = await withinMemory<ArrayBuffer | Uint8Array>(
    length === null || encoding !== "identity" ? MAX_BODY_BYTES : Number(length),
    () =>
      (encoding !== "identity"
        ? inflate(request, encoding)
        : length === null
          ? collect(request.body!, MAX_BODY_BYTES)
          : request.arrayBuffer()
      ).catch(cutShort),
  );
  if (encoding === "identity") checkDigest(headers, new Uint8Array(bytes));
  try {
    return decoder.decode(bytes);
  } catch {
    throw new CollectorError("invalid", "The body is not UTF-8.", { hint: "Encode text as UTF-8." });
  }
}

/** RFC 9530's Content-Digest, of the body as it was sent. False where there is none; what was changed on its way is refused. */
export function checkDigest(headers: Headers, bytes: Uint8Array): boolean {
  const given = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/.exec(headers.get("content-digest") ?? "")?.[1];
  if (given === undefined) return false;
  if (createHash("sha256").update(bytes).digest("base64") !== given)
    // Not "invalid": what was meant is good.
    throw new CollectorError("busy", "The body does not fit its Content-Digest: it was changed on its way.", {
      hint: "Send it again.",
    });
  return true;
}

interface BytesOptions {
  /** Absent: bytes are bytes, whatever their sender calls them. */
  type?: string;
  max: number;
  /** Content-Encodings that are taken; what they hold is unpacked by `use`. Absent: none. */
  encodings?: readonly string[];
}

/** Bytes as they are, for as long as `use` takes; they count as being read until then, and are gone after it. */
export function withBytes<T>(
  request: Request,
  options: BytesOptions,
  use: (bytes: Uint8Array) => Promise<T>,
): Promise<T> {
  const length = lengthOf(request, options);
  return withinMemory(length ?? options.max, async () => {
    if (request.body === null) return use(new Uint8Array());
    if (length === undefined) return use(await collect(request.body, options.max).catch(cutShort));
    // What Bun puts together itself grows by copying, to three times a body's size, and is there until garbage is collected.
    const memory = new Uint8Array(length);
    try {
      return await use(await readInto(memory, request.body).catch(cutShort));
    } finally {
      memory.buffer.transfer(0);
    }
  });
}

async function readInto(memory: Uint8Array, body: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  let size = 0;
  for await (const piece of body) {
    memory.set(piece, size);
    size += piece.length;
    release(piece);
  }
  return memory.subarray(0, size);
}

/** A piece that was copied: its memory goes now, not when the collector of garbage comes by. */
function release(piece: Uint8Array): void {
  if (piece.byteLength === piece.buffer.byteLength) (piece.buffer as ArrayBuffer).transfer(0);
}

/** As much as a disk takes well at once. */
const PIECE_BYTES = 512 * 1024;
/** Memory of pieces, for the next ones: it would else stay until the collector of garbage comes by. */
const spares: Uint8Array[] = [];
const MAX_SPARES = 4;

/**
 * As withBytes, in pieces that are written into the same memory, which threads share: each is to be done with before the next is
 * asked for. What a sender has under way meanwhile waits in the network. What `use` has left over is drained.
 */
export async function withPieces<T>(
  request: Request,
  options: BytesOptions,
  use: (pieces: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  lengthOf(request, options);
  const forget = claimMemory(PIECE_BYTES);
  const memory = spares.pop() ?? new Uint8Array(new SharedArrayBuffer(PIECE_BYTES));
  const reader = request.body?.getReader();
  const pieces = piecesOf(reader, memory, options.max);
  try {
    return await use({ [Symbol.asyncIterator]: () => ({ next: () => pieces.next() }) });
  } finally {
    if (reader) await drain(reader);
    if (spares.length < MAX_SPARES) spares.push(memory);
    forget();
  }
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;

async function* piecesOf(
  reader: Reader | undefined,
  memory: Uint8Array,
  max: number,
): AsyncGenerator<Uint8Array, void> {
  if (!reader) return;
  let size = 0;
  let filled = 0;
  try {
    for (let next = await soon(reader.read()); !next.done; next = await soon(reader.read())) {
      const { value } = next;
      size += value.length;
      if (size > max) throw tooLarge(max);
      for (let at = 0; at < value.length;) {
        const part = value.subarray(at, at + memory.length - filled);
        memory.set(part, filled);
        filled += part.length;
        at += part.length;
        if (filled < memory.length) continue;
        yield memory;
        filled = 0;
      }
      release(value);
    }
  } catch (error) {
    void reader.cancel().catch(() => {});
    cutShort(error);
  }
  if (filled > 0) yield memory.subarray(0, filled);
}

/** Of a body that nobody wants. */
const MAX_DRAIN_BYTES = 16 * 1024 * 1024;

/** Reads what is left and throws it away: who is answered in the middle of sending may not see the answer. Of a long body it need not. */
export async function drain(reader: Reader): Promise<void> {
  try {
    for (let size = 0; size < MAX_DRAIN_BYTES;) {
      const { value, done } = await soon(reader.read());
      if (done) return;
      size += value.length;
      release(value);
    }
  } catch {
    // It has gone.
  }
  void reader.cancel().catch(() => {});
}

/** A sender that is silent for so long has gone. */
const SILENCE_MS = 15_000;

async function soon<T>(read: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("silence")), SILENCE_MS);
    timer.unref?.();
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}

export const encodingOf = (headers: Headers): string =>
  (headers.get("content-encoding") ?? "identity").trim().toLowerCase();

/** What the headers say, if they say what may come. */
function lengthOf({ headers }: Request, { type, max, encodings = [] }: BytesOptions): number | undefined {
  const given = headers.get("content-type");
  if (type !== undefined && given?.split(";")[0]!.trim().toLowerCase() !== type)
    throw new CollectorError("unsupported", `Content-Type ${given ?? "is missing"}; ${type} is taken here.`, {
      hint: `Send Content-Type: ${type}.`,
    });
  const encoding = encodingOf(headers);
  if (type !== undefined && encoding !== "identity" && !encodings.includes(encoding))
    throw new CollectorError("unsupported", `Content-Encoding ${encoding} is not taken here.`, {
      hint: encodings.length > 0 ? `Use ${encodings.join(", ")} or none.` : "Send the bytes as they are.",
    });
  const length = headers.get("content-length");
  if (Number(length ?? 0) > max) throw tooLarge(max);
  return length === null ? undefined : Number(length);
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** A sender that goes away in the middle is no fault of ours, to be reported as one. */
const cutShort = (error: unknown): never => {
  if (error instanceof CollectorError) throw error;
  throw new CollectorError("invalid", "The body ended early.", { hint: "Send it again.", cause: error });
};

/** For as long as large bodies are held, whatever they came as. */
export async function withinMemory<T>(bytes: number, work: () => Promise<T>): Promise<T> {
  if (bytes <= LARGE_BODY_BYTES) return work();
  const forget = claimMemory(bytes);
  try {
    return await work();
  } finally {
    forget();
  }
}

function claimMemory(bytes: number): () => void {
  if (reading + bytes > MAX_READING_BYTES)
    throw new CollectorError("busy", "Too many large bodies are being read already.", { hint: "Try again." });
  reading += bytes;
  return () => void (reading -= bytes);
}

async function inflate(request: Request, encoding: string): Promise<Uint8Array> {
  // Bounded output: 32 KB of zstd can stand for a gigabyte of zeros.
  const stream = inflaterOf(encoding);
  pipeline(Readable.fromWeb(request.body as never), stream, () => {});
  try {
    return await collect(stream, MAX_BODY_BYTES);
  } catch (error) {
    if (error instanceof CollectorError) throw error;
    throw new CollectorError("invalid", `The body is not valid ${encoding}.`, {
      hint: "Send it whole, or without Content-Encoding.",
    });
  } finally {
    stream.destroy();
  }
}

function inflaterOf(encoding: string): Transform {
  if (encoding === "gzip") return createGunzip();
  if (encoding === "zstd") return createZstdDecompress();
  throw new CollectorError("unsupported", `Content-Encoding ${encoding} is not taken.`, {
    hint: "Use gzip, zstd or none.",
  });
}

async function collect(stream: AsyncIterable<Uint8Array>, max: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.byteLength;
    if (size > max) throw tooLarge(max);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}
