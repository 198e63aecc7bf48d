/** Why a GPU's clocks are held down: NVML's clocks event reasons. */

import { throttleReasons } from "../../sample/reading.ts";

const mask = Object.values(throttleReasons).reduce((sum, bit) => sum | bit, 0);

/** The bits that hold clocks down. Newer drivers set bits above 2^31: no bitwise operator may see them. */
export const throttleBits = (reasons: number): number => (reasons % 2 ** 31) & mask;

/** A GPU at its power cap touches it every other second; it is throttled all the while. */
const HOLD = 10;

/** The reasons to report for one GPU, given what it says each tick; undefined: as before. */
export function createThrottle(second = 1000): (reasons: number, now: number) => number | undefined {
  const seen = new Map<number, number>();
  let reported = 0;
  return (reasons, now) => {
    const bits = throttleBits(reasons);
    for (const bit of Object.values(throttleReasons)) if (bits & bit) seen.set(bit, now);
    let held = 0;
    for (const [bit, at] of seen) {
      if (now - at < HOLD * second) held |= bit;
      else seen.delete(bit);
    }
    if (held === reported) return undefined;
    reported = held;
    return held;
  };
}
