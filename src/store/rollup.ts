/**
 * The pyramid over a series in arrival order: a node stands for 64 points, one of the next level for 16 nodes. Extremes, ends,
 * sum and counts of a node are exactly those of its points; min and max leave out NaN and infinities, which are counted.
 */
import { decodeColumns } from "./column-decode.ts";
import { encodeColumns } from "./column-encode.ts";
import type { PointColumns } from "./head.ts";

export const NODE_POINTS = 64;
export const FAN_OUT = 16;

/** Nodes as columns of equal length. */
export interface Nodes {
  n: Float64Array;
  /** Infinity where no value is finite. */
  min: Float64Array;
  /** -Infinity where no value is finite. */
  max: Float64Array;
  /** Of the finite values. */
  sum: Float64Array;
  first: Float64Array;
  last: Float64Array;
  nan: Float64Array;
  inf: Float64Array;
  ninf: Float64Array;
  stepMin: Float64Array;
  stepMax: Float64Array;
  timeMin: Float64Array;
  timeMax: Float64Array;
}

const NAMES = [
  "n",
  "min",
  "max",
  "sum",
  "first",
  "last",
  "nan",
  "inf",
  "ninf",
  "stepMin",
  "stepMax",
  "timeMin",
  "timeMax",
] as const satisfies (keyof Nodes)[];

function createNodes(length: number): Nodes {
  const column = (value: number) => new Float64Array(length).fill(value);
  return {
    n: column(0),
    min: column(Infinity),
    max: column(-Infinity),
    sum: column(0),
    first: column(NaN),
    last: column(NaN),
    nan: column(0),
    inf: column(0),
    ninf: column(0),
    stepMin: column(Infinity),
    stepMax: column(-Infinity),
    timeMin: column(Infinity),
    timeMax: column(-Infinity),
  };
}

/** The lowest level, over points in arrival order. */
export function rollPoints({ step, time, value }: PointColumns, nodePoints = NODE_POINTS): Nodes {
  const nodes = createNodes(Math.ceil(value.length / nodePoints));
  for (let node = 0, i = 0; i < value.length; node++) {
    const end = Math.min(i + nodePoints, value.length);
    nodes.n[node] = end - i;
    nodes.first[node] = value[i]!;
    nodes.last[node] = value[end - 1]!;
    let min = Infinity;
    let max = -Infinity;
    let sum = 0;
    let stepMin = Infinity;
    let stepMax = -Infinity;
    let timeMin = Infinity;
    let timeMax = -Infinity;
    for (; i < end; i++) {
      const v = value[i]!;
      if (v - v === 0) {
        if (v < min) min = v;
        if (v > max) max = v;
        sum += v;
      } else if (v > 0) nodes.inf[node]!++;
      else if (v < 0) nodes.ninf[node]!++;
      else nodes.nan[node]!++;
      if (step[i]! < stepMin) stepMin = step[i]!;
      if (step[i]! > stepMax) stepMax = step[i]!;
      if (time[i]! < timeMin) timeMin = time[i]!;
      if (time[i]! > timeMax) timeMax = time[i]!;
    }
    nodes.min[node] = min;
    nodes.max[node] = max;
    nodes.sum[node] = sum;
    nodes.stepMin[node] = stepMin;
    nodes.stepMax[node] = stepMax;
    nodes.timeMin[node] = timeMin;
    nodes.timeMax[node] = timeMax;
  }
  return nodes;
}

/** The next level: each node over `fanOut` of these. */
export function rollNodes(nodes: Nodes, fanOut = FAN_OUT): Nodes {
  const { length } = nodes.n;
  const up = createNodes(Math.ceil(length / fanOut));
  for (let i = 0; i < length; i++) {
    const to = Math.floor(i / fanOut);
    if (i % fanOut === 0) up.first[to] = nodes.first[i]!;
    up.last[to] = nodes.last[i]!;
    up.n[to]! += nodes.n[i]!;
    up.sum[to]! += nodes.sum[i]!;
    up.nan[to]! += nodes.nan[i]!;
    up.inf[to]! += nodes.inf[i]!;
    up.ninf[to]! += nodes.ninf[i]!;
    up.min[to] = Math.min(up.min[to]!, nodes.min[i]!);
    up.max[to] = Math.max(up.max[to]!, nodes.max[i]!);
    up.stepMin[to] = Math.min(up.stepMin[to]!, nodes.stepMin[i]!);
    up.stepMax[to] = Math.max(up.stepMax[to]!, nodes.stepMax[i]!);
    up.timeMin[to] = Math.min(up.timeMin[to]!, nodes.timeMin[i]!);
    up.timeMax[to] = Math.max(up.timeMax[to]!, nodes.timeMax[i]!);
  }
  return up;
}

export function concatNodes(parts: Nodes[]): Nodes {
  if (parts.length === 1) return parts[0]!;
  const whole = createNodes(parts.reduce((sum, { n }) => sum + n.length, 0));
  let at = 0;
  for (const part of parts) {
    for (const name of NAMES) whole[name].set(part[name], at);
    at += part.n.length;
  }
  return whole;
}

export const encodeNodes = (nodes: Nodes): Uint8Array =>
  encodeColumns(
    NAMES.map((name) => nodes[name]),
    { shared: true },
  );

const STEPS = NAMES.flatMap((name, i) => (name.startsWith("time") ? [] : [i]));
const TIMES = NAMES.flatMap((name, i) => (name.startsWith("step") ? [] : [i]));

/** `axis`: the only range that is asked for; the columns of the other come back empty. */
export function decodeNodes(bytes: Uint8Array, axis?: "step" | "time"): Nodes {
  const wanted = axis && (axis === "step" ? STEPS : TIMES);
  const [n, min, max, sum, first, last, nan, inf, ninf, stepMin, stepMax, timeMin, timeMax] = decodeColumns(
    bytes,
    NAMES.length,
    wanted,
  );
  return { n, min, max, sum, first, last, nan, inf, ninf, stepMin, stepMax, timeMin, timeMax } as Nodes;
}
