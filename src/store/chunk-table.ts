import type { EncodedChunk } from "./chunk.ts";
import { concatNodes, decodeNodes, encodeNodes, rollNodes, type Nodes } from "./rollup.ts";
import { rangeOf } from "./chunk.ts";
import type { Write } from "./journal-rows.ts";
import type { Connection } from "./open.ts";

/** Full chunks under one block of the pyramid: 256 nodes of the second level. */
export const BLOCK_CHUNKS = 64;
const POSITIONS = 2 ** 24;

/** What is known of a series without reading its points. */
export interface SeriesStats {
  /** Over all numbers but NaN; NaN where there was none. */
  min: number;
  max: number;
  last: number;
  lastOrdinal: number;
  lastText: string | null;
  lastTextOrdinal: number;
  lastStep: number;
  lastTime: number;
  minStep: number;
  maxStep: number;
  minTime: number;
  maxTime: number;
  /** Custom x axis it was last logged with. */
  x: string | null;
  /** It served as an x axis itself. */
  axis: boolean;
}

/** A series as its row holds it: what of it is in chunks, and the figures. */
export interface SeriesRow {
  id: number;
  run: string;
  key: string;
  rank: number;
  firstOrdinal: number;
  /** Numbers in chunks, and the ordinal of the last of them; replay skips what is not above it. */
  sealed: number;
  sealedOrdinal: number;
  sealedTexts: number;
  sealedTextOrdinal: number;
  stats: SeriesStats;
}

/** A value that is no number, with its place. */
export interface TextPoint {
  ordinal: number;
  step: number;
  time: number;
  json: string;
}

type AxisRange = "step" | "time";

export interface Range {
  stepMin: number;
  stepMax: number;
  timeMin: number;
  timeMax: number;
}

export interface ChunkHead extends Range {
  position: number;
  count: number;
}

const seriesColumns = `id, run, key, rank, first_ordinal, sealed, sealed_ordinal, sealed_texts, sealed_text_ordinal,
  min, max, last, last_ordinal, last_text, last_text_ordinal, last_step, last_time, min_step, max_step, min_time,
  max_time, x, axis`;
const PUT_SERIES = `INSERT OR REPLACE INTO series (${seriesColumns}) VALUES (${Array(23).fill("?").join()})`;

/** A series' row as a write that stands or falls with a journal entry. */
export const writeOfSeries = (row: SeriesRow): Write => ({ sql: PUT_SERIES, params: paramsOfSeries(row) });

const paramsOfSeries = ({ stats, ...row }: SeriesRow): unknown[] => [
  row.id,
  row.run,
  row.key,
  row.rank,
  row.firstOrdinal,
  row.sealed,
  row.sealedOrdinal,
  row.sealedTexts,
  row.sealedTextOrdinal,
  stats.min,
  stats.max,
  stats.last,
  stats.lastOrdinal,
  stats.lastText,
  stats.lastTextOrdinal,
  stats.lastStep,
  stats.lastTime,
  stats.minStep,
  stats.maxStep,
  stats.minTime,
  stats.maxTime,
  stats.x,
  stats.axis ? 1 : 0,
];

export type ChunkTable = ReturnType<typeof createChunkTable>;

/** The rows of series, their chunks, blocks and texts. Everything here is one statement; transactions are the callers'. */
export function createChunkTable(connection: Connection) {
  const raw = (sql: string) => connection.prepare(sql).raw(true);
  const putSeries = connection.prepare(PUT_SERIES);
  const selectSeries = raw(`SELECT ${seriesColumns} FROM series WHERE run = ? ORDER BY first_ordinal, id`);
  const selectMaxId = raw("SELECT max(id) FROM series");
  const putChunk = connection.prepare(
    `INSERT OR REPLACE INTO chunk (id, count, step_min, step_max, time_min, time_max, nodes, axis_chunk, axis, points)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const putBlock = connection.prepare(
    `INSERT OR REPLACE INTO block (id, step_min, step_max, time_min, time_max, upper, nodes) VALUES (?, ?, ?, ?, ?, ?, ?)`,
  );
  const selectHeads = raw(
    "SELECT id, count, step_min, step_max, time_min, time_max FROM chunk WHERE id BETWEEN ? AND ? ORDER BY id",
  );
  const selectNodes = raw("SELECT nodes FROM chunk WHERE id = ?");
  const selectAxis = raw("SELECT axis, axis_chunk FROM chunk WHERE id = ?");
  let held: { id: number; axis: Uint8Array } | undefined;
  const selectPoints = raw("SELECT points FROM chunk WHERE id = ?");
  const selectNodesBetween = raw("SELECT nodes FROM chunk WHERE id BETWEEN ? AND ? ORDER BY id");
  const selectBlocks = raw(
    "SELECT id, step_min, step_max, time_min, time_max FROM block WHERE id BETWEEN ? AND ? ORDER BY id",
  );
  const selectBlockNodes = raw("SELECT nodes FROM block WHERE id = ?");
  const selectBlockUpper = raw("SELECT upper FROM block WHERE id = ?");
  const putText = connection.prepare(
    "INSERT OR IGNORE INTO series_text (series, ordinal, step, time, json) VALUES (?, ?, ?, ?, ?)",
  );
  const selectTexts = raw(
    "SELECT ordinal, step, time, json FROM series_text WHERE series = ? ORDER BY ordinal",
  );
  const selectTextsFrom = raw(
    "SELECT ordinal, step, time, json FROM series_text WHERE series = ? AND ordinal >= ? ORDER BY ordinal LIMIT ?",
  );
  const selectText = raw(
    "SELECT 1 FROM series_text WHERE series = ? AND ordinal >= ? AND time = ? AND json = ? LIMIT 1",
  );
  const deleteTexts = connection.prepare(
    "DELETE FROM series_text WHERE series = ? AND ordinal IN (SELECT ordinal FROM series_text WHERE series = ? LIMIT 1000)",
  );
  const deleteChunks = connection.prepare(
    "DELETE FROM chunk WHERE id IN (SELECT id FROM chunk WHERE id BETWEEN ? AND ? LIMIT 64)",
  );
  const deleteBlocks = connection.prepare("DELETE FROM block WHERE id BETWEEN ? AND ?");
  const deleteSeries = connection.prepare("DELETE FROM series WHERE id = ?");

  const idOf = (series: number, position: number) => series * POSITIONS + position;
  const blob = (value: unknown) => bytesOf(value as ArrayBuffer | Uint8Array);

  return {
    nextSeriesId: (): number => (((selectMaxId.get() as unknown[])[0] as number | null) ?? 0) + 1,

    loadSeries(run: string): SeriesRow[] {
      return (selectSeries.all(run) as unknown[][]).map(toSeriesRow);
    },

    putSeries(row: SeriesRow): void {
      putSeries.run(...paramsOfSeries(row));
    },

    /** `axisOf`: the series whose chunk at the same position holds the axis too. */
    putChunk(series: number, position: number, chunk: EncodedChunk, axisOf: [number, number] | null): void {
      held = undefined;
      putChunk.run(
        idOf(series, position),
        chunk.count,
        chunk.stepMin,
        chunk.stepMax,
        chunk.timeMin,
        chunk.timeMax,
        chunk.nodes,
        axisOf && idOf(...axisOf),
        chunk.axis,
        chunk.values,
      );
    },

    /** The upper levels over a block's chunks, all of which are written. */
    putBlock(series: number, block: number): void {
      const first = idOf(series, block * BLOCK_CHUNKS);
      const rows = selectNodesBetween.all(first, first + BLOCK_CHUNKS - 1) as unknown[][];
      const nodes = rollNodes(concatNodes(rows.map(([nodes]) => decodeNodes(blob(nodes)))));
      const { stepMin, stepMax, timeMin, timeMax } = rangeOf(nodes);
      const upper = encodeNodes(rollNodes(nodes));
      putBlock.run(idOf(series, block), stepMin, stepMax, timeMin, timeMax, upper, encodeNodes(nodes));
    },

    /** Chunks at positions from `first` to before `end`, without their content. */
    chunkHeads(series: number, first: number, end: number): ChunkHead[] {
      const rows = selectHeads.all(idOf(series, first), idOf(series, end) - 1) as number[][];
      return rows.map(([id, count, stepMin, stepMax, timeMin, timeMax]) => ({
        position: id! % POSITIONS,
        count: count!,
        stepMin: stepMin!,
        stepMax: stepMax!,
        timeMin: timeMin!,
        timeMax: timeMax!,
      }));
    },

    nodes: (series: number, position: number, axis: AxisRange): Nodes =>
      decodeNodes(blob((selectNodes.get(idOf(series, position)) as unknown[])[0]), axis),

    /** Ordinals, steps and times of a chunk, encoded; the same array for the chunks that share them, while they are asked for in turn. */
    axis(series: number, position: number): Uint8Array {
      const id = idOf(series, position);
      const [axis, holder] = selectAxis.get(id) as [unknown, number | null];
      if (holder !== null && holder === held?.id) return held.axis;
      held = {
        id: holder ?? id,
        axis: blob(holder === null ? axis : (selectAxis.get(holder) as unknown[])[0]),
      };
      return held.axis;
    },

    /** Values of a chunk, encoded. */
    values: (series: number, position: number): Uint8Array =>
      blob((selectPoints.get(idOf(series, position)) as unknown[])[0]),

    blockHeads(series: number): (Range & { block: number })[] {
      const rows = selectBlocks.all(idOf(series, 0), idOf(series + 1, 0) - 1) as number[][];
      return rows.map(([id, stepMin, stepMax, timeMin, timeMax]) => ({
        block: id! % POSITIONS,
        stepMin: stepMin!,
        stepMax: stepMax!,
        timeMin: timeMin!,
        timeMax: timeMax!,
      }));
    },

    /** Second level of a block. */
    blockNodes: (series: number, block: number, axis: AxisRange): Nodes =>
      decodeNodes(blob((selectBlockNodes.get(idOf(series, block)) as unknown[])[0]), axis),

    /** Third level of a block. */
    blockUpper: (series: number, block: number, axis: AxisRange): Nodes =>
      decodeNodes(blob((selectBlockUpper.get(idOf(series, block)) as unknown[])[0]), axis),

    putText(series: number, { ordinal, step, time, json }: TextPoint): void {
      putText.run(series, ordinal, step, time, json);
    },

    texts(series: number): TextPoint[] {
      const rows = selectTexts.all(series) as [number, number, number, string][];
      return rows.map(([ordinal, step, time, json]) => ({ ordinal, step, time, json }));
    },

    /** At most so many, with ordinals from `from` on. */
    textsFrom(series: number, from: number, limit: number): TextPoint[] {
      const rows = selectTextsFrom.all(series, from, limit) as [number, number, number, string][];
      return rows.map(([ordinal, step, time, json]) => ({ ordinal, step, time, json }));
    },

    /** Whether there is one of this time and content, with an ordinal from `from` on. */
    hasText: (series: number, from: number, time: number, json: string): boolean =>
      selectText.get(series, from, time, json) !== undefined,

    /** Deletes a part of a series, a few milliseconds' worth; false when nothing is left. */
    deletePart(series: number): boolean {
      held = undefined;
      const end = idOf(series + 1, 0) - 1;
      if (deleteChunks.run(idOf(series, 0), end).changes > 0) return true;
      if (deleteTexts.run(series, series).changes > 0) return true;
      deleteBlocks.run(idOf(series, 0), end);
      deleteSeries.run(series);
      return false;
    },
  };
}

/** libSQL hands out a Buffer for one row and an ArrayBuffer for many. */
export const bytesOf = (value: ArrayBuffer | Uint8Array): Uint8Array =>
  value instanceof Uint8Array ? value : new Uint8Array(value);

function toSeriesRow(row: unknown[]): SeriesRow {
  const number = (index: number) => row[index] as number;
  const orNaN = (index: number) => (row[index] as number | null) ?? NaN;
  return {
    id: number(0),
    run: row[1] as string,
    key: row[2] as string,
    rank: number(3),
    firstOrdinal: number(4),
    sealed: number(5),
    sealedOrdinal: number(6),
    sealedTexts: number(7),
    sealedTextOrdinal: number(8),
    stats: {
      min: orNaN(9),
      max: orNaN(10),
      last: orNaN(11),
      lastOrdinal: number(12),
      lastText: row[13] as string | null,
      lastTextOrdinal: number(14),
      lastStep: orNaN(15),
      lastTime: orNaN(16),
      minStep: orNaN(17),
      maxStep: orNaN(18),
      minTime: orNaN(19),
      maxTime: orNaN(20),
      x: row[21] as string | null,
      axis: row[22] === 1,
    },
  };
}
