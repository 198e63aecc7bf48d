/** How one reading of one GPU fares, and when it is worth asking for again. */
import type { ReadingState } from "../../sample/schema.ts";
import { actionOf, Code, codeName } from "./codes.ts";

export interface Health {
  state: ReadingState;
  /** The answer that led here. */
  code: number;
  /** Transient failures in a row. */
  failures: number;
  /** Not to be asked before, ms on a clock that nobody sets; Infinity: not until the library is initialised anew. */
  retryAt: number;
}

export const WELL: Health = { state: "ok", code: Code.SUCCESS, failures: 0, retryAt: 0 };

/** A driver that fails thrice in a row fails for a while; asking it each second only keeps it busy. */
const PATIENCE = 3;
const LONGEST_PAUSE = 60;

/** The same object where nothing has changed. `second`: how long one is, ms. */
export function healthAfter(before: Health, code: number, now: number, second = 1000): Health {
  switch (actionOf(code)) {
    case "none":
    // Nothing new to tell is no failure: the process list of an idle GPU, a hole among MIG instances.
    case "empty":
      return before === WELL || before.state === "lost" ? before : WELL;
    case "permanent":
    case "version":
      return { state: "unsupported", code, failures: 0, retryAt: Infinity };
    case "denied":
      return { state: "denied", code, failures: 0, retryAt: Infinity };
    case "lost":
      return { state: "lost", code, failures: 0, retryAt: Infinity };
    default: {
      const failures = before.failures + 1;
      const pause = failures < PATIENCE ? 0 : Math.min(2 ** (failures - PATIENCE + 1), LONGEST_PAUSE);
      return { state: "transient", code, failures, retryAt: now + pause * second };
    }
  }
}

/** What a person reads beside the gap. */
export function reasonOf(code: number): string {
  switch (actionOf(code)) {
    case "permanent":
      if (code === Code.FUNCTION_NOT_FOUND || code === Code.LIBRARY_NOT_FOUND)
        return "This driver is too old to tell.";
      if (code === Code.INVALID_ARGUMENT || code === Code.DEPRECATED)
        return "This driver does not know the question.";
      return "This GPU does not measure it.";
    case "version":
      return "This driver knows the question in another version only.";
    case "denied":
      return "The driver tells it to privileged users only.";
    case "lost":
      return "The GPU does not answer any more.";
    default:
      return `The driver answered ${codeName(code)} (${code}).`;
  }
}

export interface StateChange {
  reading: string;
  state: ReadingState;
  reason: string;
}

/** The readings of one GPU. */
export interface States {
  isDue(reading: string, now: number): boolean;
  /** Takes the answer of a call for a reading; tells whether there is a value. */
  record(reading: string, code: number, now: number): boolean;
  /** A reading that this GPU will never have, for a reason that no code says. */
  exclude(reading: string, reason: string): void;
  of(reading: string): Health;
  /** Those that have no value now, and why. */
  report(): Record<string, { state: ReadingState; reason: string }>;
}

/** A reading that fails every other time would fill the record with news of it. */
const QUIET = 60;

export function createStates(onChange: (change: StateChange) => void, second = 1000): States {
  const healths = new Map<string, Health>();
  const reasons = new Map<string, string>();
  /** What was told last of a reading that is, or was, not well; and when. */
  const told = new Map<string, { state: ReadingState; at: number }>();

  function tell(reading: string, { state, code, failures }: Health, now: number): void {
    const last = told.get(reading) ?? { state: "ok", at: -Infinity };
    if (last.state === state) return;
    if (state === "transient" && failures < PATIENCE && now - last.at < QUIET * second) return;
    told.set(reading, { state, at: now });
    onChange({ reading, state, reason: state === "ok" ? "" : (reasons.get(reading) ?? reasonOf(code)) });
  }

  return {
    isDue: (reading, now) => (healths.get(reading) ?? WELL).retryAt <= now,
    record(reading, code, now) {
      const before = healths.get(reading) ?? WELL;
      const after = healthAfter(before, code, now, second);
      if (after !== before) {
        healths.set(reading, after);
        tell(reading, after, now);
      }
      return code === Code.SUCCESS;
    },
    exclude(reading, reason) {
      reasons.set(reading, reason);
      const health: Health = {
        state: "unsupported",
        code: Code.NOT_SUPPORTED,
        failures: 0,
        retryAt: Infinity,
      };
      healths.set(reading, health);
      tell(reading, health, 0);
    },
    of: (reading) => healths.get(reading) ?? WELL,
    report() {
      const report: Record<string, { state: ReadingState; reason: string }> = {};
      for (const [reading, { state, code }] of healths)
        if (state !== "ok") report[reading] = { state, reason: reasons.get(reading) ?? reasonOf(code) };
      return report;
    },
  };
}
