import type { Clock } from "./ports.ts";
import { Untrue } from "./trouble.ts";

/** An honest platform is ahead by what a backup is old: some epochs. */
const MAX_LEAP = 65_536;
/** Begun at its word, and no greeting accepted since. */
const MAX_UNANSWERED = 8;
const AGAIN_MS = 3_600_000;

export interface EpochGuard {
  /** Throws where the platform wants more epochs than one that is honest can need. */
  check(above: number, epoch: number): void;
  /** It has accepted the one there is. */
  accepted(): void;
}

/** Epochs are the installation's: what one destination asks for must neither use them up nor unsettle the others for ever. */
export function createEpochGuard(clock: Clock): EpochGuard {
  let unanswered = 0;
  let begunAt = -Infinity;
  return {
    check(above, epoch) {
      if (above > epoch + MAX_LEAP)
        throw new Untrue(`The platform speaks of epoch ${above}, and this is ${epoch}.`);
      if (unanswered >= MAX_UNANSWERED && clock.monotonic() - begunAt < AGAIN_MS)
        throw new Untrue("The platform wants one epoch after the other, and accepts none.");
      unanswered++;
      begunAt = clock.monotonic();
    },
    accepted() {
      unanswered = 0;
    },
  };
}
