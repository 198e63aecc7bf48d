import { z } from "zod";
import { CHUNK_BYTES, MAX_FILE_BYTES } from "./size.ts";

export { CHUNK_BYTES, MAX_FILE_BYTES, SMALL_BYTES } from "./size.ts";

/** Checked before it becomes part of a path, wherever it comes from. */
export const Sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lower-case hexadecimal digits");

/** POST /api/v1/blobs/missing: which of these are not here yet. */
export const QueryMissing = z.object({ sha256: z.array(Sha256).max(10_000) }).meta({ id: "QueryMissing" });
export const Missing = z.object({ missing: z.array(z.string()) }).meta({ id: "Missing" });

/** POST /api/v1/blobs/{sha256}/upload: opens an upload, or takes it up again. */
export const OpenUpload = z
  .object({
    size: z.int().min(0).max(MAX_FILE_BYTES),
    /** Digests of its pieces of CHUNK_BYTES, in order; the last one is shorter. */
    chunks: z.array(Sha256).max(MAX_FILE_BYTES / CHUNK_BYTES),
  })
  .refine(({ size, chunks }) => chunks.length === Math.ceil(size / CHUNK_BYTES), {
    message: `must name ceil(size / ${CHUNK_BYTES}) chunks`,
    path: ["chunks"],
  })
  .meta({ id: "OpenUpload" });
export type OpenUpload = z.infer<typeof OpenUpload>;

/** What is still to be sent; complete: nothing, the blob is here. */
export const Upload = z
  .object({ complete: z.boolean(), missing: z.array(z.number()) })
  .meta({ id: "Upload" });
export type Upload = z.infer<typeof Upload>;

/** POST /api/v1/blobs/pack: how many are kept now, those that were here already included. */
export const Stored = z.object({ stored: z.number() }).meta({ id: "Stored" });

/** Of a pack: small files one after another, each as digest (32 bytes), length (32 bits, little endian) and bytes. */
export const PACK_TYPE = "application/vnd.binnacle.blobs";
export const PACK_HEADER_BYTES = 36;
export const MAX_PACK_BYTES = 8 * 1024 * 1024;
