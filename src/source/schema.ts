import { z } from "zod";

/** An installation that relays here. Times are RFC 3339 UTC with ms; what is not known is null. */
export const Source = z
  .object({
    /** 32 hex digits. */
    id: z.string(),
    /** Of the token it came with. */
    name: z.string(),
    /** What it is called here: its name, with a number where several installations came with one token. */
    label: z.string(),
    host: z.string().nullable(),
    version: z.string().nullable(),
    first_seen: z.string(),
    last_seen: z.string(),
    /** Our clock less its clock, ms. */
    skew: z.number().nullable(),
    epoch: z.number(),
    acked: z.number(),
    /** Entries that it had at its last word and that are not here yet. */
    behind: z.number().nullable(),
    /** Received. */
    entries: z.number(),
    records: z.number(),
    bytes: z.number(),
    /** What there is of it here. */
    runs: z.number(),
    devices: z.number(),
    /** Files of it that are named here and whose bytes have not come. */
    pending: z.object({ files: z.number(), bytes: z.number() }),
    /** Installations that its data came through before it: labels where we know them, else ids. */
    through: z.array(z.string()),
  })
  .meta({ id: "Source" });
export type Source = z.infer<typeof Source>;

/** A token that was given out. Itself it is nowhere. */
export const SourceToken = z
  .object({
    name: z.string(),
    created: z.string(),
    expires: z.string().nullable(),
    revoked: z.string().nullable(),
    /** When it was last used. */
    used: z.string().nullable(),
  })
  .meta({ id: "SourceToken" });
export type SourceToken = z.infer<typeof SourceToken>;

/** GET /api/v1/sources */
export const SourceList = z
  .object({
    /** By label. */
    sources: z.array(Source),
    tokens: z.array(SourceToken),
  })
  .meta({ id: "SourceList" });
export type SourceList = z.infer<typeof SourceList>;
