import { z } from "zod";

/** What a person calls a destination. */
export const RelayName = z
  .string()
  .min(1, "must not be empty")
  .max(64)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "use letters, digits, '.', '_' and '-'");

export const RelayState = z.enum([
  /** Not heard of yet, since the collector was started or the destination added. */
  "starting",
  /** It sends what is kept of before. */
  "history",
  "sending",
  /** All there is has arrived. */
  "idle",
  /** The last attempt failed; the next one is at `next_try_at`. */
  "waiting",
  /** Only a person can mend it: `error` says what to do. It is looked at again every few minutes. */
  "paused",
  /** Another installation with this id is being heard there. */
  "in-use",
]);
export type RelayState = z.infer<typeof RelayState>;

const Trouble = z.object({ message: z.string(), hint: z.string().nullable(), at: z.string() });

/** A destination and how it fares. Times are RFC 3339 UTC with ms; what nobody knows is null. */
export const Relay = z
  .object({
    name: RelayName,
    /** "platform": exactly once; "otlp" and "fedml": at least once. */
    kind: z.enum(["platform", "otlp", "fedml"]),
    url: z.string(),
    from: z.enum(["history", "now"]),
    created: z.string(),
    state: RelayState,
    /** What is wrong; null while nothing is. */
    error: Trouble.nullable(),
    /** What a person should know though nothing is wrong any more. */
    notice: Trouble.nullable(),
    /** Attempts that failed since the last one that did not. */
    attempts: z.number(),
    next_try_at: z.string().nullable(),
    epoch: z.number(),
    /** All up to here has arrived, by the platform's word. */
    acked: z.number(),
    /** When it last took something. */
    acked_at: z.string().nullable(),
    /** What has not arrived: entries of the journal, their bytes as stored, and the time of the first. */
    backlog: z.object({ entries: z.number(), bytes: z.number().nullable(), oldest: z.string().nullable() }),
    /** A second, over the last ones; null while nothing goes out. */
    rate: z.object({ entries: z.number(), bytes: z.number() }).nullable(),
    /** How far the history has come, while it is sent; `total` is null until it was counted. */
    history: z.object({ done: z.number(), total: z.number().nullable() }).nullable(),
    /** Files that the destination has not got yet; null where that is not known. */
    content: z
      .object({ files: z.number().nullable(), bytes: z.number().nullable(), error: z.string().nullable() })
      .nullable(),
    /** How many there are. */
    dead_letters: z.number(),
    /** What will never arrive, of all its drops. */
    dropped: z.object({ records: z.number(), bytes: z.number() }),
  })
  .meta({ id: "Relay" });
export type Relay = z.infer<typeof Relay>;

/** POST /api/v1/relays */
export const AddRelay = z
  .strictObject({
    name: RelayName,
    url: z.string().min(1, "must not be empty").max(2000),
    /** "now": nothing of what is here already. Absent: history for a platform, now for OpenTelemetry and FedML. */
    from: z.enum(["history", "now"], "wants history or now").optional(),
    /** The source's token; kept beside the database, and never shown again. */
    token: z
      .string()
      .min(8, "is too short for a token")
      .max(4096)
      .regex(/^[\x21-\x7e]+$/, "wants a token without spaces")
      .optional(),
    /** PEM: trusted in the place of the system's authorities. */
    ca: z
      .string()
      .max(1024 * 1024)
      .regex(/-----BEGIN CERTIFICATE-----/, "wants certificates in PEM")
      .optional(),
    /** Beyond loopback without TLS. */
    insecure_http: z.boolean().default(false),
  })
  .meta({ id: "AddRelay" });
export type AddRelay = z.infer<typeof AddRelay>;

/** What never reached a destination, with its range and why. */
export const RelayDrop = z
  .object({
    id: z.number(),
    /** null: any destination. */
    destination: z.string().nullable(),
    /** Of what: a run's id, "device:<id>" or "artifact:". */
    stream: z.string(),
    kind: z.string(),
    first_seq: z.number().nullable(),
    last_seq: z.number().nullable(),
    first_time: z.string().nullable(),
    last_time: z.string().nullable(),
    records: z.number(),
    bytes: z.number(),
    reason: z.string(),
    at: z.string(),
  })
  .meta({ id: "RelayDrop" });
export type RelayDrop = z.infer<typeof RelayDrop>;

/** GET /api/v1/relays */
export const RelayList = z
  .object({
    /** This installation, as destinations know it. */
    installation: z.object({ id: z.string(), epoch: z.number() }),
    /** By name. */
    relays: z.array(Relay),
    /** The newest first, at most a hundred; what there is in all stands with each destination. */
    drops: z.array(RelayDrop),
  })
  .meta({ id: "RelayList" });
export type RelayList = z.infer<typeof RelayList>;

/** An entry that the destination refused for good. It is kept whole. */
export const DeadLetter = z
  .object({
    id: z.number(),
    epoch: z.number(),
    /** 0: it was part of the history. */
    seq: z.number(),
    kind: z.string(),
    /** A run's id, "device:<id>" or "artifact:". */
    stream: z.string(),
    records: z.number(),
    bytes: z.number(),
    /** The destination's word for why, and what it said. */
    type: z.string(),
    detail: z.string(),
    at: z.string(),
  })
  .meta({ id: "DeadLetter" });
export type DeadLetter = z.infer<typeof DeadLetter>;

/** GET /api/v1/relays/{name}/dead-letters */
export const QueryDeadLetters = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  /** `next` of the page before. */
  after: z.coerce.number().int().min(0).optional(),
});

export const DeadLetterPage = z
  .object({
    /** The oldest first. */
    dead_letters: z.array(DeadLetter),
    /** Pass as `after` to go on; null on the last page. */
    next: z.string().nullable(),
  })
  .meta({ id: "DeadLetterPage" });
export type DeadLetterPage = z.infer<typeof DeadLetterPage>;

/** POST /api/v1/relays/{name}/dead-letters: sends them again, or gives them up, which counts as a drop. */
export const SettleDeadLetters = z
  .object({
    action: z.enum(["requeue", "discard"]),
    /** Which; absent: all there are. */
    letters: z.array(z.int().min(1)).min(1).max(1000).optional(),
  })
  .meta({ id: "SettleDeadLetters" });
export type SettleDeadLetters = z.infer<typeof SettleDeadLetters>;

export const SettledDeadLetters = z.object({ settled: z.number() }).meta({ id: "SettledDeadLetters" });

export const RemovedRelay = z.object({
  removed: z.string(),
  history: z
    .object({ from: z.int(), to: z.int() })
    .nullable()
    .describe("Entries that are gone here, and of which what is kept of before had not been sent"),
});
export type RemovedRelay = z.infer<typeof RemovedRelay>;
