import { z } from "zod";
import {
  CHUNK_BYTES,
  MAX_PACK_BYTES,
  Missing,
  OpenUpload,
  PACK_TYPE,
  QueryMissing,
  Sha256,
  SMALL_BYTES,
  Stored,
  Upload,
} from "../blob/schema.ts";
import { CollectorError } from "../error.ts";
import { withBytes, withPieces } from "../body.ts";
import { readBody } from "./body.ts";
import { createRoutes, json, route, type App, type AppContext, type Edge } from "./route.ts";

const BLOB_TYPE = "application/octet-stream";
const ofBlob = { sha256: Sha256 };
const ofChunk = { ...ofBlob, index: z.coerce.number().int().min(0) };
const Committed = z.object({ sha256: z.string(), size: z.number() });

/** Where bytes come in, and what in their addresses is not theirs. */
export interface BlobPlace {
  /** Of many at once. */
  all: string;
  one: string;
  params: z.ZodRawShape;
  tags: string[];
}

const OWN: BlobPlace = { all: "/blobs", one: "/blobs", params: {}, tags: ["blobs"] };

/** Bytes on their way in. What makes them files of something is logged afterwards (artifacts.ts), or came before (relay.ts). */
export function blobRoutes({ collector }: Pick<Edge, "collector">, place = OWN): App {
  const app = createRoutes();
  const { blobs } = collector;
  const { tags } = place;
  const params = (more: z.ZodRawShape = {}) => z.object({ ...place.params, ...more });

  route(
    app,
    {
      method: "post",
      path: `${place.all}/missing`,
      summary: "Which of these bytes are not here; the others stay for a day at least",
      tags,
      params: params(),
      body: QueryMissing,
      responses: { 200: json(Missing, "Digests whose bytes are to be sent") },
    },
    async (c) => {
      const { sha256 } = await readBody(c.req.raw, QueryMissing);
      return c.json({ missing: blobs.missing(sha256) });
    },
  );

  route(
    app,
    {
      method: "post",
      path: `${place.all}/pack`,
      summary: `Keep small files, all or none: each as digest (32 bytes), length (32 bits, little endian), bytes`,
      tags,
      params: params(),
      binary: PACK_TYPE,
      responses: { 200: json(Stored, "They are durable") },
    },
    (c) =>
      withBytes(c.req.raw, { type: PACK_TYPE, max: MAX_PACK_BYTES }, async (bytes) => {
        const files = unpack(bytes);
        blobs.putSmall(files);
        return c.json({ stored: files.length });
      }),
  );

  route(
    app,
    {
      method: "post",
      path: `${place.one}/{sha256}/upload`,
      summary: "Begin to send a file in chunks, or take it up where it broke off",
      tags,
      params: params(ofBlob),
      body: OpenUpload,
      responses: {
        200: json(Upload, "The chunks to send: neither this nor any other file has brought them"),
      },
    },
    async (c) => {
      const sha256 = digestIn(c);
      const upload = await readBody(c.req.raw, OpenUpload);
      // What an earlier try has brought is read again, which takes a while.
      c.env?.keepOpen?.(c.req.raw);
      return c.json(await blobs.open(sha256, upload));
    },
  );

  route(
    app,
    {
      method: "put",
      path: `${place.one}/{sha256}/chunks/{index}`,
      summary: `Send a chunk of ${CHUNK_BYTES} bytes (the last one is shorter): in any order, several at once, as often as needed`,
      tags,
      params: params(ofChunk),
      binary: BLOB_TYPE,
      responses: { 204: { description: "It is what its digest says, and written" } },
    },
    (c) => {
      const sha256 = digestIn(c);
      const index = indexIn(c);
      const request = c.req.raw;
      const digest = contentDigest(request);
      // A piece may wait for the disk, or for what came before it; who sends nothing is noticed all the same.
      c.env?.keepOpen?.(request);
      return withPieces(request, { type: BLOB_TYPE, max: CHUNK_BYTES }, async (pieces) => {
        await blobs.putChunk(sha256, index, pieces, digest);
        return c.body(null, 204);
      });
    },
  );

  route(
    app,
    {
      method: "post",
      path: `${place.one}/{sha256}/commit`,
      summary: "All chunks were sent: check the whole and keep it",
      tags,
      params: params(ofBlob),
      responses: {
        200: json(Committed, "It was here already"),
        201: json(Committed, "It is durable"),
      },
    },
    async (c) => {
      const sha256 = digestIn(c);
      const isHere = blobs.has(sha256);
      c.env?.keepOpen?.(c.req.raw);
      await blobs.commit(sha256);
      return c.json({ sha256, size: blobs.size(sha256)! }, isHere ? 200 : 201);
    },
  );

  return app;
}

function digestIn(c: AppContext): string {
  const parsed = Sha256.safeParse(c.req.param("sha256"));
  if (parsed.success) return parsed.data;
  throw new CollectorError("invalid", "That is no SHA-256.", {
    hint: "Give 64 lower-case hexadecimal digits.",
  });
}

function indexIn(c: AppContext): number {
  const index = c.req.param("index")!;
  if (/^\d{1,6}$/.test(index)) return Number(index);
  throw new CollectorError("invalid", "That is no number of a chunk.", {
    hint: "Chunks are counted from 0.",
  });
}

/** RFC 9530: what a proxy in between must not have changed. Other algorithms than ours are passed over. */
function contentDigest(request: Request): string | undefined {
  const given = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/.exec(request.headers.get("content-digest") ?? "");
  return given ? Buffer.from(given[1]!, "base64").toString("hex") : undefined;
}

function unpack(bytes: Uint8Array): { sha256: string; bytes: Uint8Array }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const files: { sha256: string; bytes: Uint8Array }[] = [];
  for (let at = 0; at < bytes.length;) {
    const from = at + 36;
    const length = from <= bytes.length ? view.getUint32(at + 32, true) : Infinity;
    if (from + length > bytes.length)
      throw new CollectorError("invalid", "The pack ends in the middle of a file.", {
        hint: "Each file is its digest (32 bytes), its length (4 bytes, little endian) and its bytes.",
      });
    if (length > SMALL_BYTES)
      throw new CollectorError("too-large", `A file of ${length} bytes is too large for a pack.`, {
        hint: `Send files of more than ${SMALL_BYTES} bytes as uploads of their own.`,
      });
    const sha256 = Buffer.from(bytes.buffer, bytes.byteOffset + at, 32).toString("hex");
    files.push({ sha256, bytes: bytes.subarray(from, from + length) });
    at = from + length;
  }
  return files;
}
