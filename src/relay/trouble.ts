import { UNREADABLE } from "./contract.ts";
import { Refusal } from "./ports.ts";

/** An answer that cannot be true. Nothing in it is believed. */
export class Untrue extends Error {
  override readonly name = "Untrue";
  readonly hint =
    "Nothing of it is believed, and nothing is lost. Is the address that of a platform, with no cache in between?";
}

/** Another than the one that was greeted: the session is over. */
export class Changed extends Error {
  override readonly name = "Changed";
}

/** What the platform needs a person for: it stays refused however often it is tried. */
export function isForPerson(error: unknown): boolean {
  if (error instanceof Stuck) return true;
  if (!(error instanceof Refusal)) return false;
  const { status, type } = error;
  return (
    status === 401 ||
    status === 403 ||
    status === 415 ||
    type === "413" ||
    ["circle", "unknown-kind", "unauthorized", "forbidden", "unsupported"].includes(type)
  );
}

/** So much was refused for good that something else than the entries is wrong. */
export class Stuck extends Error {
  override readonly name = "Stuck";
  readonly hint =
    "See `binnacle relay dead-letters` for why. Once it is mended, `binnacle relay retry` goes on at once.";
}

/** The platform is not where it was thought to be: to be asked before anything else is sent. */
export const isDoubt = (error: unknown): boolean =>
  error instanceof Changed ||
  (error instanceof Refusal && ["sequence-gap", "source-in-use", "epoch"].includes(error.type));

/** The body is too much for it, or for something on the way. */
export const isTooLarge = (error: unknown): error is Refusal =>
  error instanceof Refusal && (error.status === 413 || error.type === "too-large");

/**
 * What was sent makes no sense to the platform, by its own word: it names entries, or can't read any. A proxy's bare 400, or a header
 * that was lost on the way, says nothing of them.
 */
export const isInvalid = (error: unknown): error is Refusal => {
  if (!(error instanceof Refusal) || error.type !== "invalid") return false;
  const { seq, rejected, body } = error.details;
  return typeof seq === "number" || Array.isArray(rejected) || body === UNREADABLE;
};

/** The platform's own word for what stands alone: it becomes a dead letter. */
export const isCondemned = (error: unknown): error is Refusal =>
  isInvalid(error) || (error instanceof Refusal && error.type === "too-large");

export interface Trouble {
  message: string;
  hint: string | null;
  /** ms since the epoch. */
  at: number;
}

const NOT_ITS_WORD =
  "That is no word about what was sent: something in between says so, or something else has the address. All data waits here.";

const HINTS: Partial<Record<string, string>> = {
  "unknown-kind": "The platform is older than this collector: upgrade it. All data waits here until then.",
  unauthorized: "Ask who runs the platform for a token: `binnacle source add NAME` there makes one.",
  forbidden: "This token belongs to another source. Ask who runs the platform: `binnacle source add NAME`.",
  circle: "Remove one of the relays that make the circle.",
  unsupported: "The platform reads no body that this collector can write: upgrade the older of the two.",
  "disk-full": "The platform's disk is full: make room there. All data waits here until then.",
  "400": NOT_ITS_WORD,
  "422": NOT_ITS_WORD,
  "413":
    "Something before the platform takes no request of this size: raise its limit (nginx: client_max_body_size). All data waits here.",
  "401": "Ask who runs the platform for a token: `binnacle source add NAME` there makes one.",
  "403": "Ask who runs the platform for a token: `binnacle source add NAME` there makes one.",
};

const LATER = "It is tried again, and all data waits here. If it stays so, ask who runs the platform.";

export function toTrouble(error: unknown, at: number): Trouble {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof Refusal) {
    const { hint } = error.details;
    // It may pass by itself, or is the platform's to mend.
    const hinted =
      typeof hint === "string" ? hint : error.status >= 500 || error.status === 429 ? LATER : null;
    return { message, hint: HINTS[error.type] ?? hinted, at };
  }
  const { hint } = (error ?? {}) as { hint?: unknown };
  return { message, hint: typeof hint === "string" ? hint : null, at };
}
