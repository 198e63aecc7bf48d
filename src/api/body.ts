import { createGunzip, createZstdDecompress } from "node:zlib";
import { pipeline, Readable, type Transform } from "node:stream";
import type { z } from "zod";
import { CollectorError } from "../error.ts";
import { fromZod } from "./error.ts";

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

/** The body as `schema` wants it. */
export async function readBody<T extends z.ZodType>(request: Request, schema: T): Promise<z.output<T>> {
  const parsed = check(schema, await readJson(request, parseExact));
  if (!parsed.success) throw fromZod(parsed.error);
  return parsed.data;
}

function check<T extends z.ZodType>(schema: T, body: unknown): z.ZodSafeParseResult<z.output<T>> {
  try {
    return schema.safeParse(body);
  } catch (error) {
    // JSON.parse goes as deep as it is asked to; what looks at the result recursively runs out of stack.
    if (!(error instanceof RangeError)) throw error;
    throw new CollectorError("invalid", "The body is nested too deeply.", { hint: "Flatten it." });
  }
}

const MAY_BE_ROUNDED = /\d{16}/;

/** Integers beyond 2^53 as strings of their digits, as our clients send them: JSON.parse would round an id in a config. */
function parseExact(text: string): unknown {
  if (!MAY_BE_ROUNDED.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value: unknown, ...context: unknown[]) => {
    // Newer than TypeScript's own library; every runtime of ours has it.
    const { source } = (context[0] ?? {}) as { source?: string };
    const isRounded = typeof value === "number" && !Number.isSafeInteger(value);
    return isRounded && source !== undefined && /^-?\d+$/.test(source) ? source : value;
  });
}

/** Parsed JSON, not validated. An empty body is an empty object. */
export async function readJson(
  request: Request,
  parse: (text: string) => unknown = JSON.parse,
): Promise<unknown> {
  const text = await readText(request);
  if (text === "") return {};
  try {
    return parse(text);
  } catch (error) {
    throw new CollectorError("invalid", `The body is not JSON: ${(error as Error).message.slice(0, 200)}`, {
      hint: "Send UTF-8 JSON; NaN and infinities as the strings NaN, Infinity and -Infinity.",
    });
  }
}

async function readText(request: Request): Promise<string> {
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
  try {
    return decoder.decode(bytes);
  } catch {
    throw new CollectorError("invalid", "The body is not UTF-8.", { hint: "Encode text as UTF-8." });
  }
}

interface BytesOptions {
  type: string;
  max: number;
}

/** Bytes as they are, for as long as `use` takes; they count as being read until then. */
export function withBytes<T>(
  request: Request,
  options: BytesOptions,
  use: (bytes: Uint8Array) => Promise<T>,
): Promise<T> {
  const length = lengthOf(request, options);
  return withinMemory(length ?? options.max, async () => use(await readBytes(request, length, options.max)));
}

async function readBytes(request: Request, length: number | undefined, max: number): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array();
  const read = length === undefined ? collect(request.body, max) : request.arrayBuffer();
  return new Uint8Array(await read.catch(cutShort));
}

/** Memory of large bodies, for the next ones: what Bun puts together itself grows by copying, to three times a body's size. */
const spares: Uint8Array[] = [];
const MAX_SPARES = 4;
const KEEP_SPARES_MS = 10_000;
let forgetting: ReturnType<typeof setTimeout> | undefined;
/** Forgotten, but there until the collector of garbage comes by: what is taken anew in the meantime would come on top. */
let forgotten: WeakRef<Uint8Array>[] = [];

function takeMemory(size: number): Uint8Array {
  const spare = spares.pop();
  if (spare) return spare;
  for (let reference; (reference = forgotten.pop());) {
    const memory = reference.deref();
    if (memory) return memory;
  }
  return new Uint8Array(new SharedArrayBuffer(size));
}

function forgetSpares(): void {
  forgotten = [
    ...forgotten.filter((reference) => reference.deref()),
    ...spares.map((memory) => new WeakRef(memory)),
  ];
  spares.length = 0;
}

/** As withBytes, in memory that threads share and that is written anew when `use` is done. */
export function withSharedBytes<T>(
  request: Request,
  options: BytesOptions,
  use: (bytes: Uint8Array) => Promise<T>,
): Promise<T> {
  lengthOf(request, options);
  return withinMemory(options.max, async () => {
    const memory = takeMemory(options.max);
    try {
      return await use(await readInto(memory, request).catch(cutShort));
    } finally {
      if (spares.length < MAX_SPARES) spares.push(memory);
      clearTimeout(forgetting);
      forgetting = setTimeout(forgetSpares, KEEP_SPARES_MS);
      forgetting.unref?.();
    }
  });
}

async function readInto(memory: Uint8Array, { body }: Request): Promise<Uint8Array> {
  let size = 0;
  for await (const piece of body ?? []) {
    if (size + piece.length > memory.length) throw tooLarge(memory.length);
    memory.set(piece, size);
    size += piece.length;
    // Its memory goes now, not when the collector of garbage comes by.
    if (piece.byteLength === piece.buffer.byteLength) piece.buffer.transfer(0);
  }
  return memory.subarray(0, size);
}

/** What the headers say, if they say what may come. */
function lengthOf({ headers }: Request, { type, max }: BytesOptions): number | undefined {
  const given = headers.get("content-type");
  if (given === null || given.split(";")[0]!.trim().toLowerCase() !== type)
    throw new CollectorError("unsupported", `Content-Type ${given ?? "is missing"}; ${type} is taken here.`, {
      hint: `Send Content-Type: ${type}.`,
    });
  const encoding = headers.get("content-encoding") ?? "identity";
  if (encoding.trim().toLowerCase() !== "identity")
    throw new CollectorError("unsupported", `Content-Encoding ${encoding} is not taken here.`, {
      hint: "Send the bytes as they are.",
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

async function withinMemory<T>(bytes: number, work: () => Promise<T>): Promise<T> {
  if (bytes <= LARGE_BODY_BYTES) return work();
  if (reading + bytes > MAX_READING_BYTES)
    throw new CollectorError("busy", "Too many large bodies are being read already.", { hint: "Try again." });
  reading += bytes;
  try {
    return await work();
  } finally {
    reading -= bytes;
  }
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
