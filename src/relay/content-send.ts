import { createHash, hash } from "node:crypto";
import { z } from "zod";
import type { Blobs } from "../blob/blobs.ts";
import {
  CHUNK_BYTES,
  MAX_PACK_BYTES,
  Missing,
  PACK_HEADER_BYTES,
  PACK_TYPE,
  SMALL_BYTES,
  Upload,
} from "../blob/schema.ts";
import { CollectorError } from "../error.ts";
import type { Http } from "./http.ts";
import { Refusal } from "./ports.ts";

/** A file by its content. */
export interface Content {
  sha256: string;
  size: number;
}

const MAX_PACK_FILES = 2000;
/** Chunks under way at once. */
const PARALLEL = 4;
/** A platform that forgets an upload so often between two chunks is not well. */
const MAX_REOPENED = 20;
/** The platform reads what it has of an upload before it answers, or all of it. */
const CHECK_MS = 30 * 60_000;

/** What one file alone is the reason for; the others can go. */
export class ContentError extends Error {
  override readonly name = "ContentError";
}

export interface ContentSender {
  /** Which of these are not there. */
  missing(contents: readonly Content[]): Promise<Content[]>;
  /** Sends one that is missing; small ones wait for others, until `flush`. Rejects with a ContentError for what is wrong with it. */
  send(content: Content): Promise<void>;
  flush(): Promise<void>;
}

export interface ContentSenderOptions {
  blobs: Blobs;
  http: Http;
  /** Of the installation: the platform's name for us. */
  source: () => string;
  signal: AbortSignal;
  onSent: (content: Content) => void;
  onRefused: (content: Content, error: ContentError) => void;
}

export function createContentSender(options: ContentSenderOptions): ContentSender {
  const { blobs, http, source, signal, onSent, onRefused } = options;
  const at = (path: string) => `/sources/${source()}/content${path}`;
  let pack: { content: Content; bytes: Uint8Array }[] = [];
  let packBytes = 0;
  /** Of the file that was read last: it may be tried again. */
  let digests: { sha256: string; chunks: string[] } | undefined;

  async function post<T>(path: string, body: unknown, answer: z.ZodType<T>, timeoutMs?: number): Promise<T> {
    const { json } = await http.request({
      method: "POST",
      path: at(path),
      headers: { "content-type": "application/json" },
      body: new TextEncoder().encode(JSON.stringify(body)),
      signal,
      timeoutMs,
    });
    const parsed = answer.safeParse(json);
    if (parsed.success) return parsed.data;
    throw new CollectorError("unreachable", "The answer about files makes no sense: that is no platform.", {
      hint: "Check the address.",
    });
  }

  async function missing(contents: readonly Content[]): Promise<Content[]> {
    if (contents.length === 0) return [];
    const answer = await post("/missing", { sha256: contents.map(({ sha256 }) => sha256) }, Missing);
    const absent = new Set(answer.missing);
    return contents.filter(({ sha256 }) => absent.has(sha256));
  }

  async function send(content: Content): Promise<void> {
    if (content.size > SMALL_BYTES) return asOneFile(() => sendLarge(content));
    const bytes = await readRange(content, 0, content.size);
    if (hash("sha256", bytes, "hex") !== content.sha256) throw damaged();
    const isFull = packBytes + PACK_HEADER_BYTES + bytes.length > MAX_PACK_BYTES;
    if (isFull || pack.length === MAX_PACK_FILES) await flush();
    pack.push({ content, bytes });
    packBytes += PACK_HEADER_BYTES + bytes.length;
  }

  async function flush(): Promise<void> {
    const files = pack;
    pack = [];
    packBytes = 0;
    if (files.length === 0) return;
    const sendPack = (files: readonly { content: Content; bytes: Uint8Array }[]) =>
      http.request({
        method: "POST",
        path: at("/pack"),
        headers: { "content-type": PACK_TYPE },
        body: packOf(files),
        signal,
      });
    try {
      await sendPack(files);
      for (const { content } of files) onSent(content);
    } catch (error) {
      if (!isAboutFile(error) || files.length === 1) {
        if (!isAboutFile(error)) throw error;
        return onRefused(files[0]!.content, refusedBy(error));
      }
      // One of them is the reason: each by itself.
      for (const file of files)
        try {
          await sendPack([file]);
          onSent(file.content);
        } catch (error) {
          if (!isAboutFile(error)) throw error;
          onRefused(file.content, refusedBy(error));
        }
    }
  }

  async function sendLarge(content: Content): Promise<void> {
    const { sha256, size } = content;
    const chunks = await chunkDigests(content);
    for (let reopened = 0; ; reopened++) {
      const upload = await post(`/blobs/${sha256}/upload`, { size, chunks }, Upload, CHECK_MS);
      if (upload.complete) break;
      try {
        await inParallel(upload.missing, (index) => sendChunk(content, chunks, index));
        await post(`/blobs/${sha256}/commit`, {}, z.unknown(), CHECK_MS);
        break;
      } catch (error) {
        if (!isForgotten(error) || reopened >= MAX_REOPENED) throw error;
      }
    }
    onSent(content);
  }

  async function sendChunk(content: Content, chunks: readonly string[], index: number): Promise<void> {
    if (!(index in chunks))
      throw new ContentError(`The platform asks for chunk ${index}, which there is none.`);
    const bytes = await readChunk(content, index);
    if (hash("sha256", bytes, "hex") !== chunks[index]) throw damaged();
    const digest = Buffer.from(chunks[index]!, "hex").toString("base64");
    await http.request({
      method: "PUT",
      path: at(`/blobs/${content.sha256}/chunks/${index}`),
      headers: { "content-type": "application/octet-stream", "content-digest": `sha-256=:${digest}:` },
      body: bytes,
      signal,
    });
  }

  /** Read whole, as nobody is to send gigabytes of what is not what it should be. */
  async function chunkDigests(content: Content): Promise<string[]> {
    const whole = createHash("sha256");
    if (digests?.sha256 === content.sha256) return digests.chunks;
    const chunks: string[] = [];
    for (let index = 0; index * CHUNK_BYTES < content.size; index++) {
      const bytes = await readChunk(content, index);
      whole.update(bytes);
      chunks.push(hash("sha256", bytes, "hex"));
      await new Promise((resolve) => setImmediate(resolve));
      signal.throwIfAborted();
    }
    if (whole.digest("hex") === content.sha256) {
      digests = { sha256: content.sha256, chunks };
      return chunks;
    }
    blobs.markDamaged(content.sha256);
    throw damaged();
  }

  const readChunk = (content: Content, index: number) =>
    readRange(content, index * CHUNK_BYTES, Math.min(content.size, (index + 1) * CHUNK_BYTES));

  async function readRange(content: Content, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(end - start);
    let length = 0;
    try {
      for await (const part of blobs.read(
        content.sha256,
        start,
        end,
      ) as unknown as AsyncIterable<Uint8Array>) {
        bytes.set(part, length);
        length += part.length;
      }
    } catch (cause) {
      // Of the file: it was deleted, is damaged, or the disk fails.
      throw damaged(cause);
    }
    if (length !== bytes.length) throw damaged();
    return bytes;
  }

  return { missing, send, flush };
}

const damaged = (cause?: unknown) => new ContentError("is damaged or gone here", { cause });

const refusedBy = (error: unknown) =>
  new ContentError(`is refused by the platform: ${(error as Error).message}`, { cause: error });

/** What the platform says of one file is no reason to wait with the others. */
async function asOneFile(verb: () => Promise<void>): Promise<void> {
  try {
    await verb();
  } catch (error) {
    throw isAboutFile(error) ? refusedBy(error) : error;
  }
}

const isAboutFile = (error: unknown) =>
  error instanceof Refusal && [400, 413, 422].includes(error.status) && error.type !== "unsupported";

/** The platform was restarted, or has given the upload up: what it has of it is found when it is opened again. */
const isForgotten = (error: unknown) =>
  error instanceof Refusal &&
  (error.type === "not-found" || (error.type === "conflict" && Array.isArray(error.details["missing"])));

/** The first failure ends it, once those under way have ended. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failure: { error: unknown } | undefined;
  const lane = async () => {
    while (next < items.length && !failure)
      try {
        await work(items[next++]!);
      } catch (error) {
        failure ??= { error };
      }
  };
  await Promise.all(Array.from({ length: PARALLEL }, lane));
  if (failure) throw failure.error;
}

function packOf(files: readonly { content: Content; bytes: Uint8Array }[]): Uint8Array<ArrayBuffer> {
  const size = files.reduce((sum, { bytes }) => sum + PACK_HEADER_BYTES + bytes.length, 0);
  const body = new Uint8Array(size);
  const view = new DataView(body.buffer);
  let at = 0;
  for (const { content, bytes } of files) {
    body.set(Buffer.from(content.sha256, "hex"), at);
    view.setUint32(at + 32, bytes.length, true);
    body.set(bytes, at + PACK_HEADER_BYTES);
    at += PACK_HEADER_BYTES + bytes.length;
  }
  return body;
}
