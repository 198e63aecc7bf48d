import type { ArtifactFile } from "../artifact/schema.ts";
import { onTheirWay, type Blobs } from "./blobs.ts";
import { MAX_PACK_BYTES, PACK_HEADER_BYTES, PACK_TYPE, SMALL_BYTES } from "./schema.ts";
import { CollectorError } from "../error.ts";

/** A file as a download: never shown, whatever is in it. */
export function download(request: Request, blobs: Blobs, { path, size, sha256 }: ArtifactFile): Response {
  const etag = `"${sha256}"`;
  const headers = new Headers({
    "content-type": "application/octet-stream",
    "content-disposition": attachment(path),
    "accept-ranges": "bytes",
    etag,
    // The same bytes are the same tag: who has them asks and is told so.
    "cache-control": "private, no-cache",
    "repr-digest": `sha-256=:${Buffer.from(sha256, "hex").toString("base64")}:`,
  });
  if (isKnown(request.headers.get("if-none-match"), etag))
    return new Response(null, { status: 304, headers });
  requireBytes(blobs, sha256);
  const range = rangeOf(request, size, etag);
  if (range === "beyond")
    throw new CollectorError("beyond", `The file ends at ${size} bytes, before that range.`, {
      hint: "Ask for a range within it, or for all of it.",
      details: { size },
    });
  const { start, end } = range ?? { start: 0, end: size };
  headers.set("content-length", String(end - start));
  if (range) headers.set("content-range", `bytes ${start}-${end - 1}/${size}`);
  const body =
    request.method === "HEAD"
      ? null
      : range || !request.headers.has("range")
        ? blobs.body(sha256, start, end)
        : // Bun would apply the range that we have just passed over.
          blobs.read(sha256);
  return new Response(body, { status: range ? 206 : 200, headers });
}

function requireBytes(blobs: Blobs, sha256: string): void {
  if (blobs.isPending(sha256)) throw onTheirWay();
  if (blobs.size(sha256) === undefined)
    throw new CollectorError("internal", `The bytes of ${sha256} are not here, though a version has them.`);
}

/** Read and sent together. */
const PIECE_BYTES = 256 * 1024;

/** Small files one after another, as uploads bring them. */
export function downloadPack(blobs: Blobs, files: readonly ArtifactFile[]): Response {
  let total = 0;
  for (const { path, size, sha256 } of files) {
    if (size > SMALL_BYTES)
      throw new CollectorError("too-large", `${path} has ${size} bytes, which is too large for a pack.`, {
        hint: `Files of more than ${SMALL_BYTES} bytes are downloaded one by one: GET …/file?path=.`,
      });
    requireBytes(blobs, sha256);
    total += PACK_HEADER_BYTES + size;
  }
  if (total > MAX_PACK_BYTES)
    throw new CollectorError("too-large", `These files would be ${total} bytes.`, {
      hint: `Ask for at most ${MAX_PACK_BYTES / 1024 ** 2} MiB at a time.`,
    });
  let at = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const parts: Uint8Array[] = [];
        for (let size = 0; at < files.length && size < PIECE_BYTES; at++) {
          const { sha256, size: length } = files[at]!;
          const bytes = new Uint8Array(await new Response(blobs.body(sha256, 0, length)).arrayBuffer());
          parts.push(packHeader(sha256, bytes.length), bytes);
          size += PACK_HEADER_BYTES + bytes.length;
        }
        controller.enqueue(Buffer.concat(parts));
        if (at === files.length) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { headers: { "content-type": PACK_TYPE } });
}

function packHeader(sha256: string, length: number): Uint8Array {
  const header = new Uint8Array(PACK_HEADER_BYTES);
  header.set(Buffer.from(sha256, "hex"));
  new DataView(header.buffer).setUint32(32, length, true);
  return header;
}

const isKnown = (header: string | null, etag: string) =>
  header !== null &&
  header
    .split(",")
    .map((tag) => tag.trim().replace(/^W\//, ""))
    .some((tag) => tag === etag || tag === "*");

/** One range, as `start` to before `end`; undefined: the whole, as for what is no range that we know (RFC 9110, 14.2). */
function rangeOf(
  { method, headers }: Request,
  size: number,
  etag: string,
): { start: number; end: number } | "beyond" | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/i.exec(headers.get("range")?.trim() ?? "");
  const condition = headers.get("if-range");
  if (!match || method !== "GET" || (condition !== null && condition.trim() !== etag)) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return undefined;
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? "beyond" : { start: size - length, end: size };
  }
  if (last !== "" && Number(last) < Number(first)) return undefined;
  if (Number(first) >= size) return "beyond";
  return { start: Number(first), end: last === "" ? size : Math.min(Number(last) + 1, size) };
}

/** RFC 6266. Control characters and marks of direction were refused when the path came. */
export function attachment(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const plain = name.replaceAll(/[^\x20-\x7e]|["\\%]/g, "_");
  const encoded = encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}
