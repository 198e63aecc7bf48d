/** Rates from counters that only count. */

const NARROW = 2 ** 32;

export interface Rate {
  /**
   * What the counter grew by, per second, since the call before. Undefined at the first call, where the counter was set back
   * (what it counted until then is lost), and where it may have wrapped more than once.
   */
  next(value: number, at: number): number | undefined;
  /** It was never seen above 32 bits, so it may have no more. */
  isNarrow(): boolean;
}

/** `wrapsWithin`: ms in which a counter of 32 bits wraps at most once; absent: this one is wider. */
export function createRate({
  scale = 1,
  wrapsWithin,
}: { scale?: number; wrapsWithin?: number | undefined } = {}): Rate {
  let last: { value: number; at: number } | undefined;
  let isNarrow = wrapsWithin !== undefined;
  return {
    next(value, at) {
      const before = last;
      last = { value, at };
      if (value >= NARROW) isNarrow = false;
      if (!before || at <= before.at) return undefined;
      let grown = value - before.value;
      if (isNarrow && at - before.at > wrapsWithin!) return undefined;
      if (grown < 0 && isNarrow) grown += NARROW;
      return grown < 0 ? undefined : (grown * scale * 1000) / (at - before.at);
    },
    isNarrow: () => isNarrow,
  };
}

/** Bytes a second of one PCIe lane in one direction, by generation. */
const laneRate = [0, 0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9];

/** ms in which a link at full speed can't move 2^32 bytes. */
export function wrapWindow(generation: number, width: number): number {
  const rate = (laneRate[Math.min(generation, laneRate.length - 1)] ?? 0) * width;
  return rate === 0 ? Infinity : (NARROW / rate) * 1000;
}
