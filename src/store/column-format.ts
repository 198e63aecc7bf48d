/**
 * Columns of float64, bit-exact, small. A column becomes integers where its values allow (whole numbers, decimals, float32,
 * else the 64 bits themselves), differences of them where that is smaller, and then planes: all lowest bytes, all
 * second bytes, and so on. Noise fills its planes with bytes that nothing can compress; they are stored as they are, and
 * zstd sees only the others, each in a frame of its own, since one table of codes for unlike planes fits none of them.
 */

export const Mode = { constant: 0, integer: 1, float32: 2, float64: 3 } as const;
export const Plane = { zero: 0, constant: 1, raw: 2, frame: 3, shared: 4 } as const;

/** What was taken away from the integers: nothing (but the smallest), the one before, or the line through the two before. */
export type Order = 0 | 1 | 2;

/** Weight of a 64-bit word's upper half. */
export const HALF = 2 ** 32;
