import { expect, test } from "bun:test";
import { finishRun } from "../src/run/finish.ts";
import { createJumpWatch, pruneRuns } from "../src/run/retain.ts";
import { appendLogs } from "../src/log/append.ts";
import { appendRecords } from "../src/metric/append.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const DAY = 24 * 3600 * 1000;
let now = 1_790_000_000_000;

async function addRun(
  { collector, json }: TestCollector,
  id: string,
  records: number,
  finished: boolean,
): Promise<void> {
  await json("/api/v1/runs", { body: { id } });
  const items = Array.from({ length: records }, (_, i) => ({
    metrics: { a: Math.random(), b: i, note: "text" },
  }));
  await appendRecords(collector, id, { client: "c", seq: 1, items });
  await appendLogs(collector, id, { client: "c", seq: 2, items: [{ text: "line" }] });
  if (finished) await finishRun(collector, id, { status: "FINISHED" });
}

const tables = ["series", "chunk", "series_text", "log_chunk", "counter"];
const rowsOf = ({ collector }: TestCollector) =>
  Object.fromEntries(
    tables.map((table) => [
      table,
      (collector.connection.prepare(`SELECT count(*) FROM ${table}`).raw(true).get() as [number])[0],
    ]),
  );

test("what is stored of a deleted run goes, also when the collector stops in between; late writes hear it is gone", async () => {
  let test = createTestCollector();
  await addRun(test, "111", 20_000, true);
  await addRun(test, "222", 10, true);
  await test.collector.series.seal();
  test.collector.logs.seal();
  expect(rowsOf(test)).toMatchObject({ series: 6, log_chunk: 2 });
  await test.request("/api/v1/runs/111", { method: "DELETE" });
  test = await test.restart();
  await test.collector.pruner.resume();
  expect(rowsOf(test)).toMatchObject({ series: 3, log_chunk: 1, chunk: 2, counter: 0 });
  const late = appendRecords(test.collector, "111", { client: "c", seq: 3, items: [] });
  expect(late).rejects.toMatchObject({ code: "gone" });
  expect((await test.collector.series.points("222", "b"))!.points).toHaveLength(10);
  await test.close();
});

test("entries of a deleted run that are still in the journal don't bring it back", async () => {
  let test = createTestCollector();
  await addRun(test, "111", 100, true);
  await test.request("/api/v1/runs/111", { method: "DELETE" });
  test = await test.restart();
  await test.collector.series.seal();
  expect(test.collector.series.list("111")).toEqual([]);
  expect(rowsOf(test)).toMatchObject({ series: 0, chunk: 0, log_chunk: 0 });
  await test.close();
});

test("by age: only ended runs, only old ones, only where asked, never after a jump of the clock", async () => {
  const test = createTestCollector({ now: () => now });
  await addRun(test, "111", 10, true);
  await addRun(test, "222", 10, false);
  now += 10 * DAY;
  await addRun(test, "333", 10, true);
  expect(await pruneRuns(test.collector, {}, false)).toEqual([]);
  expect(await pruneRuns(test.collector, { keepDays: 5 }, true)).toEqual([]);
  expect(await pruneRuns(test.collector, { keepDays: 11 }, false)).toEqual([]);
  expect(await pruneRuns(test.collector, { keepDays: 5 }, false)).toEqual(["111"]);
  const runs = (await test.json("/api/v1/runs")) as { runs: { id: string }[] };
  expect(runs.runs.map(({ id }) => id)).toEqual(["333", "222"]);
  expect((await test.request("/api/v1/runs/111")).status).toBeOneOf([404, 410]);
  await test.close();
});

test("by size: the run that ended first goes first, and no more than needed", async () => {
  const test = createTestCollector({ now: () => ++now });
  for (const id of ["111", "222", "333"]) await addRun(test, id, 30_000, true);
  await addRun(test, "444", 30_000, false);
  await test.collector.series.seal();
  while (test.collector.journal.bounds().first < test.collector.journal.needed() - 1000) await Bun.sleep(10);
  const { pruner } = test.collector;
  const full = pruner.usedBytes();
  expect(await pruneRuns(test.collector, { keepBytes: full }, false)).toEqual([]);
  expect(await pruneRuns(test.collector, { keepBytes: full - 1000 }, false)).toEqual(["111"]);
  expect(pruner.usedBytes()).toBeLessThan(0.96 * full);
  expect(await pruneRuns(test.collector, { keepBytes: 1 }, false)).toEqual(["222", "333"]);
  expect((await test.collector.series.points("444", "b"))!.points).toHaveLength(30_000);
  await test.close();
});

test.each<[string, [wall: number, monotonic: number][], boolean]>([
  [
    "in step",
    [
      [0, 0],
      [60_000, 60_000],
      [120_500, 120_000],
    ],
    false,
  ],
  [
    "drifting within minutes",
    [
      [0, 0],
      [3_600_000, 3_480_000],
    ],
    false,
  ],
  [
    "forward by a day",
    [
      [0, 0],
      [DAY, 60_000],
    ],
    true,
  ],
  [
    "back by an hour",
    [
      [0, 0],
      [-3_600_000, 60_000],
    ],
    true,
  ],
  [
    "and back again",
    [
      [0, 0],
      [DAY, 60_000],
      [120_000, 120_000],
    ],
    true,
  ],
])("a clock %s is judged right", (_name, times, expected) => {
  let at = times[0]!;
  const hasJumped = createJumpWatch({ wall: () => at[0], monotonic: () => at[1] });
  let jumped = false;
  for (at of times) jumped = hasJumped();
  expect(jumped).toBe(expected);
});
