import { CollectorError } from "../error.ts";
import type { ChunkTable } from "../store/chunk-table.ts";
import { decodeAxis, decodePoints, decodeValues } from "../store/chunk.ts";
import { concatColumns, copyColumns, type PointColumns } from "../store/head.ts";
import type { Series } from "./series.ts";

/** How long reading may hold the event loop at a time. */
export const SLICE_MS = 8;

/** Chunks of a series on disk; the last may still be rewritten. */
export const chunkCount = (series: Series, chunkPoints: number): number =>
  Math.ceil(series.sealed / chunkPoints);

function readChunk(table: ChunkTable, series: Series, position: number): PointColumns {
  return decodePoints(table.axis(series.id, position), table.values(series.id, position));
}

type RangeAxis = "step" | "time";

/** Metrics of the same records share their axis: fifty runs of five metrics decode fifty axes, not two hundred and fifty. */
const decodedAxes = new WeakMap<Uint8Array, Partial<Record<RangeAxis, Float64Array>>>();

function axisOf(encoded: Uint8Array, axis: RangeAxis): Float64Array {
  let decoded = decodedAxes.get(encoded);
  if (!decoded) decodedAxes.set(encoded, (decoded = {}));
  return (decoded[axis] ??= decodeAxis(encoded, axis));
}

/** x and value of a chunk's points, to be read only. */
export function readChunkOn(
  table: ChunkTable,
  series: Series,
  position: number,
  axis: RangeAxis,
): { x: Float64Array; value: Float64Array } {
  return {
    x: axisOf(table.axis(series.id, position), axis),
    value: decodeValues(table.values(series.id, position)),
  };
}

/**
 * All points in arrival order, in parts. Other work gets its turn in between: full chunks never change, and the rest is read in
 * one go at the end.
 */
export async function* readParts(
  table: ChunkTable,
  series: Series,
  chunkPoints: number,
): AsyncGenerator<PointColumns, void> {
  let until = performance.now() + SLICE_MS;
  for (let position = 0; position < Math.floor(series.sealed / chunkPoints); position++) {
    yield readChunk(table, series, position);
    if (performance.now() <= until) continue;
    await new Promise((resolve) => setImmediate(resolve));
    until = performance.now() + SLICE_MS;
    if (series.dead) throw new CollectorError("gone", `Run ${series.run} was deleted.`);
  }
  if (series.dead) return;
  yield readTail(table, series, chunkPoints);
}

/** A copy of what is in no full chunk: a page's own arrays change under whoever holds them for longer than this turn. */
export const readTail = (table: ChunkTable, series: Series, chunkPoints: number): PointColumns =>
  copyColumns(tailOf(table, series, chunkPoints));

/** To be done with before the turn ends. */
function tailOf(table: ChunkTable, series: Series, chunkPoints: number): PointColumns {
  const tail =
    series.sealed % chunkPoints > 0 ? [readChunk(table, series, chunkCount(series, chunkPoints) - 1)] : [];
  return concatColumns([...tail, ...series.pages.map((page) => page.columns())]);
}

/**
 * Copies of at most `length` points from number `at` on, counted in the order of arrival; fewer where a chunk ends. For many
 * series side by side, of which no whole chunks fit into memory.
 */
export function readFrom(
  table: ChunkTable,
  series: Series,
  chunkPoints: number,
  at: number,
  length: number,
): PointColumns {
  if (series.dead) throw new CollectorError("gone", `Run ${series.run} was deleted.`);
  const full = Math.floor(series.sealed / chunkPoints);
  const position = Math.min(Math.floor(at / chunkPoints), full);
  const columns = position < full ? readChunk(table, series, position) : tailOf(table, series, chunkPoints);
  const from = at - position * chunkPoints;
  const part = (column: Float64Array) => column.slice(from, from + length);
  return {
    ordinal: part(columns.ordinal),
    step: part(columns.step),
    time: part(columns.time),
    value: part(columns.value),
  };
}

export async function readAll(table: ChunkTable, series: Series, chunkPoints: number): Promise<PointColumns> {
  const parts: PointColumns[] = [];
  for await (const part of readParts(table, series, chunkPoints)) parts.push(part);
  return concatColumns(parts);
}
