import { z } from "zod";
import type { Collector } from "../collector.ts";
import { MetricKey } from "./schema.ts";
import { RunId } from "../run/schema.ts";
import { createCurveMemory } from "./curve-memory.ts";
import {
  encodeCurve,
  NONE,
  STEPS,
  type EncodedAxis,
  type EncodedColumn,
  type EncodedCurve,
} from "./encoded-curve.ts";

/** Of all curves together; a point costs 2 to 8 bytes. */
const MAX_POINTS = 10_000_000;
/** How long putting curves together may hold the event loop at a time. */
const SLICE_MS = 8;

/** GET /api/v1/overlay: many runs and metrics in one answer. */
export const QueryOverlay = z
  .object({
    run: z.array(RunId).min(1).max(1000),
    key: z.array(MetricKey).min(1).max(100),
    /** "step", "time", or another metric. */
    x: z.string().max(500).default("step"),
    points: z.coerce.number().int().min(1).max(20_000).default(1000),
  })
  .refine(
    ({ run, key, points }) => run.length * key.length * points <= MAX_POINTS,
    `run × key × points must not be more than ${MAX_POINTS}: ask for fewer at a time`,
  );
export type QueryOverlay = z.infer<typeof QueryOverlay>;

/**
 * Numbers as 16 bits over their range: 0 is `low`, 65534 is `high`, 65535 is no number. A 65,534th of the range is far less than a
 * pixel. `offset` counts 16-bit words from the end of the header.
 */
export interface ScaledColumn {
  low: number;
  high: number;
  offset: number;
}

/** x of one or more series: evenly spaced (`low` to `high` in `length` points), or a column. */
export type OverlayAxis = { length: number; low: number; high: number; offset: number | null };

export interface OverlaySeries {
  run: string;
  key: string;
  rank: number;
  /** Points behind it; more than its axis is long where it was gathered into buckets. */
  count: number;
  /** Index into `axes`. */
  axis: number;
  y: ScaledColumn;
  /** Extremes of the buckets; null where each point stands for itself. */
  min: ScaledColumn | null;
  max: ScaledColumn | null;
}

export interface OverlayHeader {
  x: string;
  axes: OverlayAxis[];
  /** Those that exist, in the order asked for: runs, and within a run keys. */
  series: OverlaySeries[];
}

export type Overlay = (query: QueryOverlay) => Promise<Uint8Array>;

/**
 * Layout, little-endian: u32 length of the header; the header as JSON (OverlayHeader), padded with spaces to a multiple of 8 together with
 * its length; then the columns. A column is the difference of each word from the one before (the first from 0) modulo 2^16, shifted
 * left by one with its sign in the lowest bit (0, -1, 1, -2 → 0, 1, 2, 3), all low bytes first and then all high bytes: so it
 * compresses best.
 *
 * Of the runs that are compared most have ended: curves are remembered as they are sent, until their series grows.
 */
export function createOverlay(collector: Collector): Overlay {
  const remembered = createCurveMemory();

  async function curveOf(run: string, key: string, x: string, points: number): Promise<EncodedCurve | null> {
    const version = collector.series.version(run, key, x);
    if (version === undefined) return null;
    const name = `${points} ${run} ${x}\n${key}`;
    const known = remembered.get(name, version);
    if (known !== undefined) return known;
    const curve = await collector.series.curve(run, key, { x, points });
    const encoded = curve && curve.x.length > 0 ? encodeCurve(curve) : null;
    remembered.put(name, version, encoded);
    return encoded;
  }

  return async ({ run, key, x, points }) => {
    const columns = new Columns();
    const header: OverlayHeader = { x, axes: [], series: [] };
    let until = performance.now() + SLICE_MS;
    for (const oneRun of run) {
      if (collector.counters.find(oneRun)?.deleted !== false) continue;
      // Metrics of a run mostly share their records, and so their x.
      const axes: { axis: EncodedAxis; index: number }[] = [];
      for (const oneKey of key) {
        if (performance.now() > until) {
          await new Promise((resolve) => setImmediate(resolve));
          until = performance.now() + SLICE_MS;
        }
        const curve = await curveOf(oneRun, oneKey, x, points);
        if (!curve) continue;
        let shared = axes.find(({ axis }) => isSame(axis, curve.axis));
        if (!shared) {
          const { length, low, high, bytes } = curve.axis;
          shared = { axis: curve.axis, index: header.axes.length };
          axes.push(shared);
          header.axes.push({ length, low, high, offset: bytes && columns.put(bytes) });
        }
        const put = ({ low, high, bytes }: EncodedColumn) => ({ low, high, offset: columns.put(bytes) });
        header.series.push({
          run: oneRun,
          key: oneKey,
          axis: shared.index,
          rank: curve.rank,
          count: curve.count,
          y: put(curve.y),
          min: curve.min && put(curve.min),
          max: curve.max && put(curve.max),
        });
      }
    }
    return columns.behind(header);
  };
}

function isSame(a: EncodedAxis, b: EncodedAxis): boolean {
  if (a.length !== b.length || a.low !== b.low || a.high !== b.high) return false;
  return a.bytes === null || b.bytes === null ? a.bytes === b.bytes : areEqual(a.bytes, b.bytes);
}

function areEqual(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Columns on their way to the end of an answer. */
class Columns {
  private readonly parts: Uint8Array[] = [];
  private length = 0;

  /** Its offset, in words. */
  put(bytes: Uint8Array): number {
    const offset = this.length / 2;
    this.parts.push(bytes);
    this.length += bytes.length;
    return offset;
  }

  behind(header: OverlayHeader): Uint8Array {
    const json = new TextEncoder().encode(JSON.stringify(header));
    const start = (4 + json.length + 7) & ~7;
    const bytes = new Uint8Array(start + this.length);
    new DataView(bytes.buffer).setUint32(0, start - 4, true);
    bytes.fill(0x20, 4, start);
    bytes.set(json, 4);
    let at = start;
    for (const part of this.parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}

/** The answer as a reader sees it: columns of numbers, NaN where there is none. */
export function readOverlay(bytes: Uint8Array): {
  header: OverlayHeader;
  column(column: ScaledColumn, length: number): Float64Array;
  axis(index: number): Float64Array;
} {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as OverlayHeader;
  const start = 4 + length;
  const column = ({ low, high, offset }: ScaledColumn, size: number) => {
    const at = start + 2 * offset;
    let word = 0;
    return Float64Array.from({ length: size }, (_, i) => {
      const zigzag = bytes[at + i]! | (bytes[at + size + i]! << 8);
      word = (word + ((zigzag >>> 1) ^ -(zigzag & 1))) & 65535;
      return word === NONE ? NaN : low * (1 - word / STEPS) + high * (word / STEPS);
    });
  };
  return {
    header,
    column,
    axis(index) {
      const { length: size, low, high, offset } = header.axes[index]!;
      if (offset !== null) return column({ low, high, offset }, size);
      return Float64Array.from(
        { length: size },
        (_, i) => low + (size > 1 ? (i * (high - low)) / (size - 1) : 0),
      );
    },
  };
}
