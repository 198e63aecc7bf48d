import { z } from "zod";
import type { Collector } from "../collector.ts";
import { MetricKey } from "./schema.ts";
import { RunId } from "../run/schema.ts";
import type { Curve } from "./reader.ts";

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

const NONE = 65535;
const STEPS = 65534;

/**
 * Layout, little-endian: u32 length of the header; the header as JSON (OverlayHeader), padded with spaces to a multiple of 8 together with
 * its length; then the columns. A column is the difference of each word from the one before (the first from 0) modulo 2^16, shifted
 * left by one with its sign in the lowest bit (0, -1, 1, -2 → 0, 1, 2, 3), all low bytes first and then all high bytes: so it
 * compresses best.
 */
export async function queryOverlay(
  collector: Collector,
  { run, key, x, points }: QueryOverlay,
): Promise<Uint8Array> {
  const columns = new ColumnWriter();
  const header: OverlayHeader = { x, axes: [], series: [] };
  let until = performance.now() + SLICE_MS;
  for (const oneRun of run) {
    if (collector.counters.find(oneRun)?.deleted !== false) continue;
    // Metrics of a run mostly share their records, and so their x.
    const axes: { x: Float64Array; index: number }[] = [];
    for (const oneKey of key) {
      if (performance.now() > until) {
        await new Promise((resolve) => setImmediate(resolve));
        until = performance.now() + SLICE_MS;
      }
      const curve = await collector.series.curve(oneRun, oneKey, { x, points });
      if (!curve || curve.x.length === 0) continue;
      let axis = axes.find((axis) => isSame(axis.x, curve.x));
      if (!axis) {
        axis = { x: curve.x, index: header.axes.length };
        axes.push(axis);
        header.axes.push(writeAxis(columns, curve.x));
      }
      header.series.push({ run: oneRun, key: oneKey, axis: axis.index, ...writeCurve(columns, curve) });
    }
  }
  return assemble(header, columns.bytes());
}

function writeCurve(
  columns: ColumnWriter,
  { rank, count, y, min, max }: Curve,
): Omit<OverlaySeries, "run" | "key" | "axis"> {
  return { rank, count, y: columns.put(y), min: min && columns.put(min), max: max && columns.put(max) };
}

function writeAxis(columns: ColumnWriter, x: Float64Array): OverlayAxis {
  const { length } = x;
  const low = x[0]!;
  const high = x[length - 1]!;
  const delta = length > 1 ? (high - low) / (length - 1) : 0;
  let isEven = true;
  for (let i = 0; i < length && isEven; i++) isEven = Math.abs(x[i]! - (low + i * delta)) <= delta / 1000;
  return { length, low, high, offset: isEven ? null : columns.put(x).offset };
}

function isSame(a: Float64Array, b: Float64Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function assemble(header: OverlayHeader, columns: Uint8Array): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const start = (4 + json.length + 7) & ~7;
  const bytes = new Uint8Array(start + columns.length);
  new DataView(bytes.buffer).setUint32(0, start - 4, true);
  bytes.fill(0x20, 4, start);
  bytes.set(json, 4);
  bytes.set(columns, start);
  return bytes;
}

class ColumnWriter {
  private buffer = new Uint8Array(65536);
  private length = 0;

  put(column: Float64Array): ScaledColumn {
    const { length } = column;
    const offset = this.length / 2;
    this.reserve(2 * length);
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
    const lows = this.length;
    const highs = lows + length;
    const { buffer } = this;
    let previous = 0;
    for (let i = 0; i < length; i++) {
      const value = column[i]!;
      const word = value - value === 0 ? ((value / 2 - low / 2) * scale + 0.5) | 0 : NONE;
      const difference = ((word - previous) << 16) >> 16;
      previous = word;
      const zigzag = (difference << 1) ^ (difference >> 16);
      buffer[lows + i] = zigzag;
      buffer[highs + i] = zigzag >>> 8;
    }
    this.length += 2 * length;
    return { low, high, offset };
  }

  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  private reserve(size: number): void {
    if (this.length + size <= this.buffer.length) return;
    const larger = new Uint8Array(2 * (this.length + size));
    larger.set(this.bytes());
    this.buffer = larger;
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
