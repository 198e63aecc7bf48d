/**
 * What a collector and a platform say to each other, and what each may rely on. Whoever sends trusts only what the platform
 * answers; the platform moves its cursor in the transaction that stores the entries below it.
 */
import { z } from "zod";

/** Where the contract stands under a platform's address. */
export const RELAY_PATH = "/relay/v1";
export const ENTRIES_TYPE = "application/vnd.binnacle.entries";

/** Bytes of a batch's frames before compression; one entry alone may be larger. More are no faster, and take memory on both sides. */
export const BATCH_BYTES = 512 * 1024;
/** What a platform accepts, before and after decompression. */
export const MAX_BODY_BYTES = 64 * 1024 * 1024;
/** `body` of a refusal: it came as it was sent, and makes no sense. */
export const UNREADABLE = "unreadable";
export const BATCH_ENTRIES = 2000;
/** A platform's answer beyond this is none. */
export const MAX_ANSWER_BYTES = 1024 * 1024;
/** A source that was heard within this is alive: another one with its id is a copy. */
export const LEASE_MS = 60_000;
/** So often a source says that it is there. */
export const GREET_MS = 20_000;

/** Runs that an answer names. */
export const MAX_PARTIAL = 1000;
/** Beyond it somebody counts who is no source. */
export const MAX_EPOCH = 2 ** 31;

/** 32 hex digits. */
export const SourceId = z.string().regex(/^[0-9a-f]{32}$/, "wants 32 hex digits");
/** Hex SHA-256. */
export const Digest = z.string().regex(/^[0-9a-f]{64}$/, "wants 64 hex digits");
export const Nonce = z.string().regex(/^[0-9a-f]{32}$/, "wants 32 hex digits");

/**
 * A time for which a source had its database open. `last`: up to where the journal was surely this one's when it ended. What two
 * sides have in common is the smaller `last` of the newest opening that both know, whatever was restored or copied since.
 */
export const Opening = z.object({ nonce: Nonce, last: z.int().min(0) });
export type Opening = z.infer<typeof Opening>;
/** Of those that are told at first; all, where the platform knows none of them. */
export const NEWEST_OPENINGS = 20;
export const MAX_OPENINGS = 300;

/** POST /relay/v1/sources/{source}/cursor: on start, after any doubt, and every GREET_MS. */
export const Hello = z.object({
  epoch: z.int().min(1).max(MAX_EPOCH),
  /** Of this opening of the database. */
  nonce: Nonce,
  /** Higher with each greeting under this nonce: what was sent before it and comes late is refused. */
  turn: z.int().min(0),
  /** Earlier ones under which this platform may know it, the newest first. */
  openings: z.array(Opening).max(MAX_OPENINGS),
  /** Highest seq there is. */
  last: z.int().min(0),
  /**
   * Up to here the platform itself has told this very life of the source that it has all. Where the platform has more than both have in
   * common no more than this is believed: a snapshot with memory and all goes on under a nonce that has another past there.
   */
  sure: z.int().min(0).default(Number.MAX_SAFE_INTEGER),
  /** What the platform has is not what the source has written: its digest says so. */
  is_other: z.boolean().default(false),
  /** The installations its data comes through, itself first: a circle is one that has the platform in it. */
  path: z.array(SourceId).min(1).max(64),
  host: z.string().max(255),
  version: z.string().max(64),
  /** Its clock, ms. */
  sent_at: z.number(),
});
export type Hello = z.infer<typeof Hello>;

/** The answer to it, and to GET. */
export const Cursor = z.object({
  /** Whose it is, and the turn of the greeting: an answer to somebody else, or to an earlier question, is none. */
  source: SourceId,
  turn: z.int().min(0),
  epoch: z.int().min(1),
  /** All up to here is stored. */
  acked: z.int().min(0),
  /** And something up to here, as history has brought it: never below `acked`. */
  reach: z.int().min(0),
  /** Of the entry at `reach` (digest.ts); null where that is not known. */
  digest: Digest.nullable(),
  /** Runs of which history was to bring all and did not: some of them, where there are many. */
  partial: z.array(z.string().max(300)).max(MAX_PARTIAL).default([]),
  /** The platform's own id. */
  platform: SourceId,
  /** Newest version of each kind of entry it can read. */
  kinds: z.record(z.string(), z.int()),
});
export type Cursor = z.infer<typeof Cursor>;

/** An entry as it travels. `run` is the source's own word for it: a run's id, "device:<id>" or "artifact:". */
export const FrameHead = z.object({
  seq: z.int().min(0),
  kind: z.string().max(64),
  version: z.int().min(1),
  run: z.string().max(300),
  client: z.string().max(300).nullable(),
  clientSeq: z.int().nullable(),
  ordinal: z.int().nullable(),
  nextStep: z.number().nullable(),
  count: z.int().min(0),
  time: z.number(),
  encoding: z.int().min(0).max(3),
});
export interface Frame extends z.infer<typeof FrameHead> {
  payload: Uint8Array;
}

/** What each request says of whom it comes from: as in the last greeting. */
export interface Session {
  epoch: number;
  nonce: string;
  turn: number;
  path: string[];
}

/**
 * POST …/batches: all entries from `prev + 1` to `last`, those left out that travel otherwise (imports), were never there or are
 * counted as dropped. Content-Digest covers the encoded body; `Idempotency-Key: "{epoch}/{prev+1}-{last}"`.
 */
export interface Batch extends Session {
  prev: number;
  last: number;
  /** Of the entry at `last`, where that is none of the frames; null where it is one, or is no longer there. */
  digest: string | null;
  frames: Frame[];
}

/** All of a batch is stored, or it is refused whole: one that is `invalid` names its first bad entry. */
export const Accepted = z.object({ acked: z.int().min(0) });
export type Accepted = z.infer<typeof Accepted>;

/**
 * What is kept of before the journal's first entry, piece by piece, by content and not by seq. Parts that grow have a position
 * that the platform knows by what it has: the next record's ordinal, the next line, the time of the last sample. Facts (runs,
 * devices, versions, events) have none: said twice they change nothing.
 */
export const Part = z.discriminatedUnion("of", [
  z.object({ of: z.literal("facts") }),
  z.object({ of: z.literal("metrics"), run: z.string().max(300) }),
  z.object({ of: z.literal("logs"), run: z.string().max(300) }),
  /** `run`: what an export of this run has of the device, whatever the position is. */
  z.object({ of: z.literal("samples"), device: z.string().max(300), run: z.string().max(300).optional() }),
]);
export type Part = z.infer<typeof Part>;

/**
 * Behind the parts of a run (without one: of everything): all of it has come. Before that its entries are refused as of an unknown
 * run, as those that history was to bring would never come.
 */
export const Whole = z.object({ of: z.literal("whole"), run: z.string().max(300).optional() });
export const HistoryPart = z.union([Part, Whole]);
export type HistoryPart = z.infer<typeof HistoryPart>;

/**
 * POST …/history: `frames` take the part from `from` to `to`. Answered with where the part stands then. Entries of several ranks in a
 * piece of metrics overlap; samples below the position, and those that are there, change nothing.
 */
export interface HistoryBatch extends Session {
  /** Where the cursor stands: it does not move meanwhile, and what comes later than its end is late. */
  acked: number;
  /** What is sent may hold of entries up to here. */
  upto: number;
  /** Of that entry; null where it is no longer there. */
  digest: string | null;
  part: HistoryPart;
  /** 0 for facts, and where a run is whole. */
  from: number;
  to: number;
  frames: Frame[];
}

/** The answer to it. A piece with bad frames is refused whole, as `invalid`: its sender keeps them as dead letters and sends the others. */
export const HistoryAccepted = z.object({ position: z.number() });
export type HistoryAccepted = z.infer<typeof HistoryAccepted>;

/** Which frames are bad, and why: `rejected` of the refusal of a piece, and of the answer to entries that are sent again. */
export const Rejected = z.array(
  z.object({ index: z.int().min(0), type: z.string().max(100), detail: z.string().max(2000) }),
);
export type Rejected = z.infer<typeof Rejected>;

/** POST …/positions {parts} → {positions}: where each stands, in the same order; 0: nothing of it is here. */
export const Positions = z.object({ positions: z.array(z.number()) });
export type Positions = z.infer<typeof Positions>;

/** Kinds of frames that history alone has: statements of what is, each of which may be said again. */
export type HeldKind = "run.held" | "device.held" | "artifact.held";

/** Why a platform does not take what it is sent: the last word of the problem's `type`, "urn:binnacle:…". */
export type RefusalType =
  /** 409; `expected`: the next seq, or the position of the part. Also what is late: of an earlier turn, or from before the cursor moved. */
  | "sequence-gap"
  /** 409: another instance with this id is alive. `lease_ms`: for so long, unless it is heard again. */
  | "source-in-use"
  /**
   * 412; `epoch`: begin a newer one than this. `common`: up to where both are one; null: they know no opening of each other.
   */
  | "epoch"
  /** 409: the platform is itself on the way that the data takes. */
  | "circle"
  /** 422; `kind`, `seq`: the platform is too old for it. Nothing of the batch from there on is stored. */
  | "unknown-kind"
  /** 422; `run`, `seq`: facts of this run are to be sent first. Likewise. */
  | "unknown-run"
  /** 401, 403 */
  | "unauthorized"
  | "forbidden"
  /** 413, 415 */
  | "too-large"
  | "unsupported"
  /**
   * 400, 422; `seq`: the entry that makes no sense; of a piece of history `rejected`; `body`: these are
   * entries, and none of them can be read. What is refused so alone is a dead letter; without any of these it is about something else
   * and tried again, such as a packing that is not that of its Content-Encoding, which no digest covers.
   */
  | "invalid"
  /** 429, 503, 507: later. */
  | "busy"
  | "disk-full"
  | "internal";
