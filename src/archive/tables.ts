import type { SeriesStore } from "../metric/store.ts";
import type { PointRows } from "../metric/rows.ts";
import type { DeclaredSeries } from "../metric/summary.ts";
import type { SampleColumn } from "../sample/rows.ts";
import { GROUP_ROWS, type Columns, type ColumnValues } from "./parquet-write.ts";
import { createTurns } from "./turns.ts";

/** Points in the order of their arrival, those of a record next to each other. */
export const pointColumns = {
  /** Number of the record in its run, from 0. */
  ordinal: "INT64",
  rank: "INT32",
  step: "DOUBLE",
  /** ms since the epoch. */
  time: "DOUBLE",
  metric: "STRING",
  value: "DOUBLE",
} as const satisfies Columns;

/** Readings by device, subject, and width of a row; min and max are the value where a row is one reading. */
export const sampleColumns = {
  device: "STRING",
  /** "" the machine, "cgroup", a GPU's UUID, "run/<id>". */
  subject: "STRING",
  /** With "@" and what it is a part of, as a disk. */
  reading: "STRING",
  /** Seconds that a row stands for; 1: as it was read. */
  seconds: "INT32",
  time: "DOUBLE",
  /** Readings behind the row. */
  count: "INT32",
  value: "DOUBLE",
  min: "DOUBLE",
  max: "DOUBLE",
} as const satisfies Columns;

export async function* pointGroups(
  points: AsyncIterable<PointRows>,
  series: readonly DeclaredSeries[],
): AsyncGenerator<ColumnValues[], void> {
  for await (const rows of points)
    for (let at = 0; at < rows.length; at += GROUP_ROWS) {
      const end = Math.min(rows.length, at + GROUP_ROWS);
      const ordinal = new BigInt64Array(end - at);
      const halves = halvesOf(ordinal);
      const rank = new Int32Array(end - at);
      const metric = Array.from<string>({ length: end - at });
      for (let i = at; i < end; i++) {
        const of = series[rows.series[i]!]!;
        const number = rows.ordinal[i]!;
        halves[2 * (i - at)] = number;
        halves[2 * (i - at) + 1] = Math.floor(number / 2 ** 32);
        rank[i - at] = of.rank;
        metric[i - at] = of.key;
      }
      // Whoever writes them takes their memory.
      const part = (column: Float64Array) => (end - at === rows.length ? column : column.slice(at, end));
      yield [ordinal, rank, part(rows.step), part(rows.time), metric, part(rows.value)];
      await new Promise((resolve) => setImmediate(resolve));
    }
}

/** Integers of 64 bits as they lie in memory, the lower half first: as a BigInt each would be garbage. */
export const halvesOf = ({ buffer, byteOffset, length }: BigInt64Array): Uint32Array =>
  new Uint32Array(buffer, byteOffset, 2 * length);

const CSV_PIECE = 64 * 1024;

/** As bytes, in pieces: lines put together as one text were garbage faster than it was collected. */
export async function* pointLines(
  points: AsyncIterable<PointRows>,
  series: readonly DeclaredSeries[],
): AsyncGenerator<Uint8Array, void> {
  const heads = series.map(({ key, rank }) => ({ rank, metric: `,${csvField(key)},` }));
  const piece = Buffer.alloc(CSV_PIECE);
  const pause = createTurns();
  let length = piece.write("ordinal,rank,step,time,metric,value\n");
  /** Of a record, which has many points. */
  let record = { ordinal: NaN, rank: NaN, step: NaN, time: NaN, text: "" };
  for await (const rows of points)
    for (let i = 0; i < rows.length; i++) {
      const { rank, metric } = heads[rows.series[i]!]!;
      const [ordinal, step, time] = [rows.ordinal[i]!, rows.step[i]!, rows.time[i]!];
      if (
        ordinal !== record.ordinal ||
        rank !== record.rank ||
        !Object.is(step, record.step) ||
        !Object.is(time, record.time)
      ) {
        const text = `${ordinal},${rank},${csvNumber(step)},${csvNumber(time)}`;
        record = { ordinal, rank, step, time, text };
      }
      const line = record.text + metric + csvNumber(rows.value[i]!) + "\n";
      // A character is three bytes at most.
      if (length + 3 * line.length > CSV_PIECE) {
        yield new Uint8Array(piece.subarray(0, length));
        length = 0;
        await pause();
      }
      length += piece.write(line, length);
    }
  yield new Uint8Array(piece.subarray(0, length));
}

/** Values that are no numbers, a line each. */
export function* textLines({
  texts,
  series,
}: Pick<ReturnType<SeriesStore["dump"]>, "texts" | "series">): Generator<string> {
  for (const { ordinal, step, time, json, series: at } of texts) {
    const { key, rank } = series[at]!;
    const head = JSON.stringify({ ordinal, rank, step, time, metric: key });
    yield `${head.slice(0, -1)},"value":${json}}\n`;
  }
}

/** As pandas, DuckDB and R read them: NaN, inf, -inf, and -0 with its sign. */
const csvNumber = (value: number): string =>
  Number.isFinite(value)
    ? Object.is(value, -0)
      ? "-0.0"
      : String(value)
    : Number.isNaN(value)
      ? "NaN"
      : value > 0
        ? "inf"
        : "-inf";

/** RFC 4180. What a spreadsheet would take for a formula stays what it is: the Parquet beside it is exact, and this is too. */
const csvField = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** Gathers columns of samples into groups of rows. */
export async function* sampleGroups(
  columns: AsyncIterable<SampleColumn & { device: string }>,
): AsyncGenerator<ColumnValues[], void> {
  let waiting: (SampleColumn & { device: string })[] = [];
  let rows = 0;
  for await (const column of columns) {
    waiting.push(column);
    rows += column.times.length;
    if (rows < GROUP_ROWS / 2) continue;
    yield* inGroups(waiting, rows);
    waiting = [];
    rows = 0;
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (rows > 0) yield* inGroups(waiting, rows);
}

function* inGroups(columns: (SampleColumn & { device: string })[], rows: number): Generator<ColumnValues[]> {
  const text = (of: (column: SampleColumn & { device: string }) => string) =>
    columns.flatMap((column) => Array.from<string>({ length: column.times.length }).fill(of(column)));
  const floats = (of: (column: SampleColumn) => Float64Array) => {
    const whole = new Float64Array(rows);
    let at = 0;
    for (const column of columns) {
      whole.set(of(column), at);
      at += column.times.length;
    }
    return whole;
  };
  const seconds = new Int32Array(rows);
  let at = 0;
  for (const { tier, times } of columns) seconds.fill(tier, at, (at += times.length));
  const all: ColumnValues[] = [
    text(({ device }) => device),
    text(({ subject }) => subject),
    text(({ key }) => key),
    seconds,
    floats(({ times }) => times),
    Int32Array.from(floats(({ count }) => count)),
    floats(({ mean }) => mean),
    floats(({ min }) => min),
    floats(({ max }) => max),
  ];
  for (let from = 0; from < rows; from += GROUP_ROWS)
    yield all.map((column) => column.slice(from, from + GROUP_ROWS) as ColumnValues);
}
