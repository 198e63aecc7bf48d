import type {
  Accepted,
  Batch,
  Cursor,
  Frame,
  Hello,
  HistoryAccepted,
  HistoryBatch,
  Opening,
  Part,
  Session,
} from "./contract.ts";

/** Time as the core has it: nothing in it may ask the machine. */
export interface Clock {
  /** Monotonic, ms: for pauses. */
  monotonic(): number;
  /** Wall clock, ms since the epoch: for what is shown and sent, never for order. */
  now(): number;
  /** Resolves after so long, or at once when aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Uniform in [0, 1). */
export type Random = () => number;

/** Who we are, as the store has it. */
export interface Identity {
  id: string;
  epoch: number;
  nonce: string;
  /** Earlier ones that this destination's platform may know, the newest first. */
  openings: Opening[];
}

/** What is durable of one destination. */
export interface DestinationState {
  epoch: number;
  acked: number;
  paused: string | null;
}

export interface DeadLetter {
  frame: Frame;
  type: string;
  detail: string;
}

/** What comes next in the journal after a seq. */
export type Piece =
  /** All from `after + 1` to `last`. */
  | { type: "batch"; last: number; frames: Frame[] }
  /**
   * Entries from `after + 1` to `last` can't be sent as they stand (an import; or they are no longer there): these parts are
   * brought up to date instead, then the seqs are passed over. No parts named: all that is kept.
   */
  | { type: "history"; last: number; runs: string[] | undefined };

/** The source's side of a relay: its store, as far as one destination sees it. Everything async may be where the process ends. */
export interface Outbox {
  identity(): Identity;
  /**
   * The platform has answered to this opening's nonce for the first time: one to remember (openings.ts). Durable when it resolves,
   * before anything is sent.
   */
  greeted(): Promise<void>;
  /** Begins an epoch above this one, and an opening. Durable when it resolves. */
  newEpoch(above: number): Promise<void>;
  /** This database is a copy of another that goes on: it becomes a source of its own, with all it has. Durable when it resolves. */
  newSource(): Promise<void>;
  /** Highest seq there is. */
  last(): number;
  /** The entry's digest (digest.ts); undefined where it is no longer here. */
  digestAt(seq: number): Promise<string | undefined>;
  /** undefined: nothing after `after`. */
  read(after: number): Promise<Piece | undefined>;
  /** The platform does not know this run and nothing is kept of it: it was deleted, and so are its entries. They are left out. */
  forget(run: string): void;
  /** Resolves when there may be something after `after`, or when aborted. */
  wait(after: number, signal: AbortSignal): Promise<void>;
  state(): DestinationState;
  /** In one transaction, with what `also` writes. Entries up to `acked` may go once this has resolved. */
  save(state: DestinationState, dead: DeadLetter[], also?: () => void): Promise<void>;
  /** What history consists of: growing parts after the facts they belong to. No runs named: everything kept. */
  parts(runs: string[] | undefined): Promise<Part[]>;
  /**
   * The part from a position on, piece by piece, each up to `to`; ends when the part is up to date. `small`: as small as they get,
   * as the platform can't take what was in one.
   */
  history(
    part: Part,
    from: number,
    small?: boolean,
  ): AsyncIterable<{ from: number; to: number; frames: Frame[] }>;
}

/** The way to one platform. Rejects with a Refusal, or with anything else where there was no answer. */
export interface Transport {
  greet(source: string, hello: Hello, signal: AbortSignal): Promise<Cursor>;
  send(source: string, batch: Batch, signal: AbortSignal): Promise<Accepted>;
  positions(source: string, session: Session, parts: Part[], signal: AbortSignal): Promise<number[]>;
  sendHistory(source: string, batch: HistoryBatch, signal: AbortSignal): Promise<HistoryAccepted>;
}

/** The platform answered, and it was no. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  /** The last word of the problem's type; the status where there was none. */
  readonly type: string;
  /** The problem's other members. */
  readonly details: Record<string, unknown>;
  /** At the least so many ms, from Retry-After, by the platform's own clock. */
  readonly retryAfterMs: number | undefined;

  constructor(
    status: number,
    type: string,
    message: string,
    { details = {}, retryAfterMs }: { details?: Record<string, unknown>; retryAfterMs?: number } = {},
  ) {
    super(message);
    this.status = status;
    this.type = type;
    this.details = details;
    this.retryAfterMs = retryAfterMs;
  }
}
