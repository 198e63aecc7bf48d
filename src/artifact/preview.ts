import type { Collector } from "../collector.ts";
import { getFile } from "./find.ts";
import { isZip, listZip } from "./zip-list.ts";

const MAX_TEXT_BYTES = 256 * 1024;
const MAX_IMAGE_BYTES = 32 * 1024 * 1024;

/** What of a file may be shown. Its name says nothing here: what is in it decides. */
export type Preview =
  /** The beginning of it, or of a zip the list of its files; `isWhole`: all of it. */
  | { kind: "text"; size: number; sha256: string; text: string; isWhole: boolean }
  | { kind: "image"; size: number; sha256: string; type: string; body: ReadableStream<Uint8Array> }
  | { kind: "none"; size: number; sha256: string };

export async function previewFile(
  collector: Collector,
  id: number,
  version: number,
  path: string,
): Promise<Preview> {
  const { blobs } = collector;
  const { size, sha256 } = await getFile(collector, id, version, path);
  const head = await bytesOf(blobs.read(sha256, 0, Math.min(size, MAX_TEXT_BYTES)));
  const type = imageTypeOf(head);
  if (type !== undefined && size <= MAX_IMAGE_BYTES)
    return { kind: "image", size, sha256, type, body: blobs.read(sha256) };
  if (isZip(head)) {
    const list = await listZip(blobs, sha256, size);
    return list ? { kind: "text", size, sha256, ...list } : { kind: "none", size, sha256 };
  }
  const text = textOf(head, size > head.length);
  if (text === undefined) return { kind: "none", size, sha256 };
  return { kind: "text", size, sha256, text, isWhole: size === head.length };
}

const bytesOf = async (stream: ReadableStream<Uint8Array>) =>
  new Uint8Array(await new Response(stream).arrayBuffer());

/** By its first bytes. SVG is no picture here but a text: it may hold scripts. */
function imageTypeOf(bytes: Uint8Array): string | undefined {
  const latin1 = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 12)).toString("latin1");
  if (latin1.startsWith("\x89PNG\r\n\x1a\n")) return "image/png";
  if (latin1.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (/^GIF8[79]a/.test(latin1)) return "image/gif";
  if (/^RIFF.{4}WEBP/s.test(latin1)) return "image/webp";
  return undefined;
}

/** UTF-8 without what no text has; undefined for what is none. */
function textOf(bytes: Uint8Array, isCut: boolean): string | undefined {
  try {
    // With `stream` a character that was cut at the end is left out.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: isCut });
    return /[\0-\x08\x0e-\x1a\x1c-\x1f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}
