import type { Random } from "./ports.ts";

const BASE_MS = 1000;
const CAP_MS = 60_000;
/** Longer than this nobody is kept waiting, whatever Retry-After says. */
export const MAX_RETRY_AFTER_MS = 3_600_000;
/** What only a person can mend is tried again about so often, should nobody tell us that it is mended. */
const PAUSED_MS = 5 * 60_000;

export interface BackOff {
  /** How long to wait after one more failure, ms. There is no last one. */
  next(retryAfterMs?: number): number;
  /** Likewise where a person has to do something. */
  paused(retryAfterMs?: number): number;
  /** Failures since the last success. */
  attempts(): number;
  succeeded(): void;
}

/** Full jitter: collectors that lost the same platform must not come back in one wave. */
export function createBackOff(random: Random): BackOff {
  let attempts = 0;
  const bound = (retryAfterMs = 0) =>
    Number.isNaN(retryAfterMs) ? 0 : Math.min(Math.max(0, retryAfterMs), MAX_RETRY_AFTER_MS);
  return {
    next(retryAfterMs) {
      const most = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempts++, 30));
      return bound(retryAfterMs) + random() * most;
    },
    paused(retryAfterMs) {
      attempts++;
      return Math.max(bound(retryAfterMs), PAUSED_MS * (0.5 + random() / 2));
    },
    attempts: () => attempts,
    succeeded() {
      attempts = 0;
    },
  };
}
