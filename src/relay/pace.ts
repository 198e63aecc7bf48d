import { BATCH_ENTRIES } from "./contract.ts";

/** How much goes out at once: entries in a batch, and batches under way. */
export interface Pace {
  /** Entries of the next batch, at most. */
  limit(): number;
  window(): number;
  /** A batch was read, in so many ms. */
  read(ms: number): void;
  /** One was taken, so many ms after it went out. `more`: others wait. */
  taken(ms: number, more: boolean): void;
  /** The platform does not take this many together. */
  refused(entries: number): void;
  /** One came before its predecessor, or was lost. */
  slower(): void;
}

/** Of the times that were measured, how much the last one counts. */
const WEIGHT = 0.3;
/** A round trip that is so much longer than reading a batch is worth another one under way. */
const LONG = 2;

export function createPace(most: number): Pace {
  let limit = Infinity;
  let window = 1;
  let reading: number | undefined;
  const smooth = (before: number | undefined, ms: number) =>
    before === undefined ? ms : before + WEIGHT * (ms - before);
  let trip: number | undefined;
  return {
    limit: () => limit,
    window: () => (limit < BATCH_ENTRIES ? 1 : window),
    read(ms) {
      reading = smooth(reading, ms);
    },
    taken(ms, more) {
      trip = smooth(trip, ms / window);
      limit *= 2;
      if (limit >= BATCH_ENTRIES) limit = Infinity;
      if (more && trip > LONG * (reading ?? 0)) window = Math.min(most, window + 1);
      else if (!more) window = Math.max(1, window - 1);
    },
    refused(entries) {
      limit = Math.max(1, Math.ceil(entries / 2));
      window = 1;
    },
    slower() {
      window = 1;
    },
  };
}
