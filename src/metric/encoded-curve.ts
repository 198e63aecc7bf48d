import type { Curve } from "./reader.ts";

/** The word that is no number. */
export const NONE = 65535;
/** The word of the highest number; 0 is that of the lowest. */
export const STEPS = 65534;

/** A column and its words as they are sent. */
export interface EncodedColumn {
  low: number;
  high: number;
  bytes: Uint8Array;
}

export interface EncodedAxis {
  length: number;
  low: number;
  high: number;
  /** null where it is evenly spaced. */
  bytes: Uint8Array | null;
}

export interface EncodedCurve {
  rank: number;
  count: number;
  axis: EncodedAxis;
  y: EncodedColumn;
  min: EncodedColumn | null;
  max: EncodedColumn | null;
}

export function encodeCurve({ rank, count, x, y, min, max }: Curve): EncodedCurve {
  return {
    rank,
    count,
    axis: encodeAxis(x),
    y: encodeColumn(y),
    min: min && encodeColumn(min),
    max: max && encodeColumn(max),
  };
}

function encodeAxis(x: Float64Array): EncodedAxis {
  const { length } = x;
  const low = x[0]!;
  const high = x[length - 1]!;
  const delta = length > 1 ? (high - low) / (length - 1) : 0;
  let isEven = true;
  for (let i = 0; i < length && isEven; i++) isEven = Math.abs(x[i]! - (low + i * delta)) <= delta / 1000;
  return { length, low, high, bytes: isEven ? null : encodeColumn(x).bytes };
}

function encodeColumn(column: Float64Array): EncodedColumn {
  const { length } = column;
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < length; i++) {
    const value = column[i]!;
    if (value - value !== 0) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) low = high = 0;
  // Of halves: from -1e308 to 1e308 it is further than float64 goes.
  const range = high / 2 - low / 2;
  const scale = STEPS / range < Infinity ? STEPS / range : 0;
  const bytes = new Uint8Array(2 * length);
  let previous = 0;
  for (let i = 0; i < length; i++) {
    const value = column[i]!;
    const word = value - value === 0 ? ((value / 2 - low / 2) * scale + 0.5) | 0 : NONE;
    const difference = ((word - previous) << 16) >> 16;
    previous = word;
    const zigzag = (difference << 1) ^ (difference >> 16);
    bytes[i] = zigzag;
    bytes[length + i] = zigzag >>> 8;
  }
  return { low, high, bytes };
}
