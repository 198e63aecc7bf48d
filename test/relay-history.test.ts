import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { encodeBatch, type MetricBatch } from "../src/metric/batch.ts";
import type { LogLine } from "../src/log/schema.ts";
import { appendRecords } from "../src/metric/append.ts";
import { decodeBatch } from "../src/metric/decode.ts";
import type { WindowSize } from "../src/metric/windows.ts";
import type { Frame } from "../src/relay/contract.ts";
import { historyOf, historyParts } from "../src/relay/history.ts";
import { logsHistory } from "../src/relay/history-logs.ts";
import { metricsHistory } from "../src/relay/history-metrics.ts";
import type { HistoryPiece } from "../src/relay/piece.ts";
import { packLines, unpackLines } from "../src/store/log-chunk.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

let here: TestCollector;
beforeEach(() => {
  here = createTestCollector();
});
afterEach(async () => {
  await here.close();
});

type Value = [ordinal: number, rank: number, key: string, step: number, time: number, value: number | string];

/** What is stored from one ordinal to before another, in the order of ordinals, ranks and keys. */
async function valuesHere(run: string, from: number, before: number): Promise<Value[]> {
  const { series, points, texts } = here.collector.series.dump(run, before);
  const values: Value[] = [];
  const put = (place: number, ordinal: number, step: number, time: number, value: number | string) => {
    const { rank, key } = series[place]!;
    if (ordinal >= from) values.push([ordinal, rank, key, step, time, value]);
  };
  for await (const rows of points)
    for (let i = 0; i < rows.length; i++)
      put(rows.series[i]!, rows.ordinal[i]!, rows.step[i]!, rows.time[i]!, rows.value[i]!);
  for (const { series: place, ordinal, step, time, json } of texts) put(place, ordinal, step, time, json);
  return values.sort(byPlace);
}

const byPlace = (a: Value, b: Value) =>
  a[0] - b[0] ||
  a[1] - b[1] ||
  (a[2] < b[2] ? -1 : a[2] > b[2] ? 1 : 0) ||
  (typeof a[5] === "string" ? 1 : -1);

function valuesOf(frames: readonly Frame[]): Value[] {
  const values: Value[] = [];
  for (const frame of frames) {
    const { ordinal, rank, step, time, numbers, texts } = decodeBatch(frame as never);
    for (const { key, index, values: column } of numbers)
      column.forEach((value, i) => {
        const record = index ? index[i]! : i;
        values.push([ordinal + record, rank, key, step[record]!, time[record]!, value]);
      });
    for (const { key, index, json } of texts)
      json.forEach((text, i) =>
        values.push([ordinal + index[i]!, rank, key, step[index[i]!]!, time[index[i]!]!, text]),
      );
  }
  return values.sort(byPlace);
}

async function all(pieces: AsyncIterable<HistoryPiece>): Promise<HistoryPiece[]> {
  const gathered: HistoryPiece[] = [];
  for await (const piece of pieces) gathered.push(piece);
  return gathered;
}

/** Each goes on where the one before has ended, up to the end. */
function expectChain(pieces: readonly HistoryPiece[], from: number, to: number): void {
  let at = from;
  for (const piece of pieces) {
    expect(piece.from).toBe(at);
    expect(piece.to).toBeGreaterThan(at);
    at = piece.to;
  }
  expect(at).toBe(Math.max(from, to));
}

describe("metrics", () => {
  const key = fc.constantFrom("loss", "acc", "__proto__", "epoch", "note");
  const value = fc.oneof(
    { weight: 8, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) },
    { weight: 2, arbitrary: fc.constantFrom<unknown>("NaN", "Infinity", "-Infinity", 0, 5e-324) },
    { weight: 2, arbitrary: fc.constantFrom<unknown>("text", { a: [1, null] }, true) },
  );
  const record = fc.record(
    {
      metrics: fc.dictionary(key, value, { maxKeys: 3 }),
      step: fc.oneof(fc.integer({ min: -5, max: 50 }), fc.double({ min: -1e6, max: 1e6, noNaN: true })),
      x: fc.constantFrom("epoch"),
    },
    { requiredKeys: ["metrics"] },
  );
  const batch = fc.record({
    rank: fc.constantFrom(0, 0, 0, 1, 2, 7),
    items: fc.array(record, { minLength: 1, maxLength: 20 }),
    copies: fc.constantFrom(1, 1, 1, 200),
  });
  const size = fc.record({
    values: fc.constantFrom(1, 7, 100, 131_072),
    characters: fc.constantFrom(1, 30, 1_000_000),
    cells: fc.constantFrom(4, 50, 10_000),
  });

  test("of any records are the same as pieces, from any place on, sealed or not", async () => {
    let number = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(batch, { minLength: 1, maxLength: 8 }),
        size,
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.constantFrom("seal", "seal some", "memory"),
        async (batches, size: WindowSize, share, where) => {
          const run = `r${number++}`;
          await here.json("/api/v1/runs", { body: { id: run } });
          const seqByRank = new Map<number, number>();
          for (const { rank, items, copies } of batches) {
            const seq = (seqByRank.get(rank) ?? 0) + 1;
            seqByRank.set(rank, seq);
            await here.json(`/api/v1/runs/${run}/records`, {
              body: { client: `c${rank}`, seq, rank, items: Array(copies).fill(items).flat() },
            });
            if (where === "seal some") await here.collector.series.seal();
          }
          if (where === "seal") await here.collector.tidy(10_000);
          const before = here.collector.counters.get(run).nextOrdinal;
          const from = Math.floor(share * before);
          const pieces = await all(metricsHistory(here.collector, run, { from, before, size }));
          expectChain(pieces, from, before);
          for (const piece of pieces) {
            const ends = piece.frames.map(({ ordinal, count }) => ordinal! + count);
            expect(Math.max(...ends)).toBe(piece.to);
            for (const { ordinal } of piece.frames) expect(ordinal!).toBeGreaterThanOrEqual(piece.from);
          }
          expect(valuesOf(pieces.flatMap(({ frames }) => frames))).toEqual(
            await valuesHere(run, from, before),
          );
        },
      ),
      { numRuns: Number(process.env["FC_RUNS"] ?? 60) },
    );
  }, 120_000);

  test("of many ranks in turns do not carry the records of all others with them", async () => {
    await here.json("/api/v1/runs", { body: { id: "many" } });
    for (let round = 1; round <= 40; round++)
      for (let rank = 0; rank < 32; rank++)
        await here.json("/api/v1/runs/many/records", {
          body: { client: `c${rank}`, seq: round, rank, items: [{ metrics: { loss: round } }] },
        });
    const { parts, bounds } = await historyParts(here.collector);
    expect(parts).toEqual([{ of: "facts" }, { of: "metrics", run: "many" }]);
    const pieces = await all(historyOf(here.collector, parts[1]!, 0, bounds));
    const frames = pieces.flatMap(({ frames }) => frames);
    expect(valuesOf(frames)).toEqual(await valuesHere("many", 0, 1280));
    const bytes = frames.reduce((sum, { payload }) => sum + payload.length, 0);
    expect(bytes).toBeLessThan(1280 * 30);
  }, 30_000);
});

/** Typed arrays with a NaN are never equal. */
const plain = ({ step, time, numbers, texts, ...rest }: MetricBatch) => ({
  ...rest,
  step: [...step],
  time: [...time],
  numbers: numbers.map(({ key, index, values }) => ({
    key,
    index: index && [...index],
    values: [...values],
  })),
  texts: texts.map(({ key, index, json }) => ({ key, index: [...index], json })),
});

describe("a small batch is read back as it was", () => {
  const base = { ordinal: 10, rank: 0, texts: [], axes: [] };
  const batches: Record<string, MetricBatch> = {
    "where records are in other batches": {
      ...base,
      count: 4,
      step: Float64Array.of(1, NaN, NaN, 4),
      time: Float64Array.of(1e12, 0, 0, 1e12),
      numbers: [{ key: "loss", index: Uint32Array.of(0, 3), values: Float64Array.of(0.5, 0.25) }],
    },
    "with its negative zeros": {
      ...base,
      count: 2,
      step: Float64Array.of(-0, 1),
      time: Float64Array.of(1e12, 1e12),
      numbers: [{ key: "loss", index: null, values: Float64Array.of(0, -0) }],
    },
    "with its metrics in their order": {
      ...base,
      count: 2,
      step: Float64Array.of(0, 1),
      time: Float64Array.of(1e12, 1e12),
      numbers: [
        { key: "note", index: Uint32Array.of(1), values: Float64Array.of(3) },
        { key: "loss", index: Uint32Array.of(0), values: Float64Array.of(1) },
      ],
      texts: [{ key: "note", index: Uint32Array.of(0), json: ['"text"'] }],
    },
  };
  for (const [name, batch] of Object.entries(batches))
    test(name, () => {
      const back = decodeBatch({ ...encodeBatch(batch), ordinal: 10 } as never);
      expect(plain(back)).toEqual(plain(batch));
      for (const [i, value] of batch.numbers[0]!.values.entries())
        expect(Object.is(back.numbers[0]!.values[i], value)).toBe(true);
    });
});

describe("logs", () => {
  /** As an import brings them, or as a full disk leaves them: numbers are missing. */
  async function appendLines(run: string, first: number, count: number): Promise<void> {
    const { collector } = here;
    const lines = Array.from({ length: count }, (_, i): LogLine => ({
      line: first + i,
      time: 1.7e12,
      stream: "stdout",
      level: null,
      rank: 0,
      text: `line ${first + i}`,
    }));
    collector.counters.get(run).nextLine = first + count;
    const entry = { run, kind: "log.appended", version: 1, ordinal: first, count, time: 1.7e12 } as const;
    const none = { client: null, clientSeq: null, nextStep: null };
    await collector.journal.append({ ...entry, ...none, ...packLines(lines) }, lines);
  }

  test("whose numbers have gaps keep them, from any place on", async () => {
    await here.json("/api/v1/runs", { body: { id: "gaps" } });
    const ranges = [
      [1, 4000],
      [5000, 10],
      [5011, 1],
      [9000, 3000],
    ] as const;
    for (const [first, count] of ranges) await appendLines("gaps", first, count);
    const numbers = ranges.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
    for (const sealed of [false, true])
      for (const from of [1, 2, 3999, 4500, 5010, 11_999, 12_000]) {
        if (sealed) here.collector.logs.seal();
        const pieces = await all(logsHistory(here.collector, "gaps", { from, before: 12_000 }));
        expectChain(pieces, from, 12_000);
        const frames = pieces.flatMap(({ frames }) => frames);
        const lines = frames.flatMap((frame) => {
          const lines = unpackLines(frame as never);
          expect(lines[0]!.line).toBe(frame.ordinal!);
          expect(lines).toHaveLength(frame.count);
          return lines;
        });
        expect(lines.map(({ line }) => line)).toEqual(numbers.filter((line) => line >= from));
        for (const { line, text } of lines) expect(text).toBe(`line ${line}`);
      }
  });

  test("one by one, where a platform can't take more", async () => {
    await here.json("/api/v1/runs", { body: { id: "few" } });
    await appendLines("few", 1, 5);
    const pieces = await all(logsHistory(here.collector, "few", { from: 3, before: 6, single: true }));
    expect(pieces.map(({ from, to, frames }) => [from, to, frames.length])).toEqual([
      [3, 4, 1],
      [4, 5, 1],
      [5, 6, 1],
    ]);
  });
});

describe("what history consists of", () => {
  test("is nothing for runs of which nothing is kept, and facts alone for one that has logged nothing", async () => {
    await here.json("/api/v1/runs", { body: { id: "empty" } });
    await here.json("/api/v1/runs", { body: { id: "gone" } });
    await here.json("/api/v1/runs/gone?force=true", { method: "DELETE" }).catch(() => {});
    const partsOf = async (...runs: string[]) => (await historyParts(here.collector, runs)).parts;
    expect(await partsOf("gone")).toEqual([]);
    expect(await partsOf("never", "device:0123456789abcdef")).toEqual([]);
    expect(await partsOf("empty", "gone")).toEqual([{ of: "facts" }]);
    const { parts, bounds } = await historyParts(here.collector);
    expect(parts).toEqual([{ of: "facts" }]);
    const frames = (await all(historyOf(here.collector, parts[0]!, 0, bounds))).flatMap(
      ({ frames }) => frames,
    );
    expect(frames.map(({ kind, run }) => [kind, run])).toEqual([
      ["run.held", "empty"],
      ["run.deleted", "gone"],
    ]);
  });

  test("reaches to what was durable when it was asked for, though batches were under way", async () => {
    await here.json("/api/v1/runs", { body: { id: "live" } });
    const send = (seq: number) =>
      appendRecords(here.collector, "live", { client: "w", seq, items: [{ metrics: { loss: seq } }] });
    await send(1);
    const under = [send(2), send(3)];
    // They have their numbers, and nobody has them on disk.
    expect(here.collector.counters.get("live").nextOrdinal).toBe(3);
    const { bounds } = await historyParts(here.collector);
    const durable = here.collector.connection
      .prepare("SELECT count(*) AS n FROM journal WHERE kind = 'metric.appended' AND seq <= ?")
      .get(bounds.seq) as { n: number };
    expect(bounds.byRun.get("live")).toEqual({ nextOrdinal: durable.n, nextLine: 1 });
    await Promise.all(under);
    await send(4);
    const pieces = await all(historyOf(here.collector, { of: "metrics", run: "live" }, 0, bounds));
    expect(valuesOf(pieces.flatMap(({ frames }) => frames)).map(([ordinal]) => ordinal)).toEqual(
      Array.from({ length: durable.n }, (_, i) => i),
    );
  });
});
