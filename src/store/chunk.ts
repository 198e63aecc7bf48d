import { decodeColumns } from "./column-decode.ts";
import { encodeColumns } from "./column-encode.ts";
import type { PointColumns } from "./head.ts";
import { encodeNodes, rollPoints, type Nodes } from "./rollup.ts";

/** Points of a series, compressed, as a row of the table `chunk` holds them. */
export interface EncodedChunk {
  count: number;
  firstOrdinal: number;
  lastOrdinal: number;
  stepMin: number;
  stepMax: number;
  timeMin: number;
  timeMax: number;
  /** Ordinals, steps and times; null where another chunk of the same records holds them. */
  axis: Uint8Array | null;
  /** The lowest level of the pyramid. */
  nodes: Uint8Array;
  values: Uint8Array;
}

export function encodeChunk(points: PointColumns, sharesAxis = false): EncodedChunk {
  const count = points.value.length;
  const nodes = rollPoints(points);
  return {
    count,
    firstOrdinal: points.ordinal[0]!,
    lastOrdinal: points.ordinal[count - 1]!,
    ...rangeOf(nodes),
    axis: sharesAxis ? null : encodeColumns([points.ordinal, points.step, points.time]),
    nodes: encodeNodes(nodes),
    values: encodeColumns([points.value]),
  };
}

export function rangeOf({ stepMin, stepMax, timeMin, timeMax }: Nodes): {
  stepMin: number;
  stepMax: number;
  timeMin: number;
  timeMax: number;
} {
  return {
    stepMin: stepMin.reduce((a, b) => Math.min(a, b)),
    stepMax: stepMax.reduce((a, b) => Math.max(a, b)),
    timeMin: timeMin.reduce((a, b) => Math.min(a, b)),
    timeMax: timeMax.reduce((a, b) => Math.max(a, b)),
  };
}

export type AxisName = "ordinal" | "step" | "time";
const AXES: AxisName[] = ["ordinal", "step", "time"];

export const decodeValues = (bytes: Uint8Array): Float64Array => decodeColumns(bytes, 1)[0]!;

/** One of the axis columns, without the work for the others. */
export const decodeAxis = (bytes: Uint8Array, name: AxisName): Float64Array =>
  decodeColumns(bytes, AXES.length, [AXES.indexOf(name)])[AXES.indexOf(name)]!;

export function decodeAxes(bytes: Uint8Array): Omit<PointColumns, "value"> {
  const [ordinal, step, time] = decodeColumns(bytes, AXES.length);
  return { ordinal: ordinal!, step: step!, time: time! };
}

export const decodePoints = (axis: Uint8Array, values: Uint8Array): PointColumns => ({
  ...decodeAxes(axis),
  value: decodeValues(values),
});
