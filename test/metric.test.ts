import { afterEach, beforeEach, expect, test } from "bun:test";
import { CollectorError } from "../src/error.ts";
import { appendRecords } from "../src/metric/append.ts";
import { countSteps } from "../src/metric/append.ts";
import { listMetrics, queryPoints, streamPoints } from "../src/metric/query.ts";
import { MAX_STEP, QueryPoints } from "../src/metric/schema.ts";
import { openStore, type TestStore } from "./helpers/store.ts";

let store: TestStore;
beforeEach(async () => {
  store = openStore({ now: () => 1000 });
  await store.addRun("r");
});
afterEach(() => store.close());

const points = async (key: string, x = "step", rank?: number) => {
  const answer = await queryPoints(store.collector, "r", QueryPoints.parse({ key, x, rank }));
  if (!("points" in answer)) throw new Error("not points");
  const stream = streamPoints(store.collector, "r", QueryPoints.parse({ key, x, rank }));
  expect(await new Response(stream).json()).toEqual(answer);
  return answer.points;
};

/** Holds in memory, replayed, sealed, and read back from chunks. */
async function everyWay(check: () => Promise<void>): Promise<void> {
  await check();
  await store.reopen();
  await check();
  await store.collector.series.seal();
  await check();
  await store.reopen();
  await check();
}

test.each<[name: string, steps: number[], next: number, expected: number[], after: number]>([
  ["counts where none is given", [NaN, NaN], 0, [0, 1], 2],
  ["goes on where it stood", [NaN], 7, [7], 8],
  ["an explicit step moves the counter past it", [5, NaN], 0, [5, 6], 7],
  ["an explicit step behind leaves it", [1, NaN], 4, [1, 4], 5],
  ["a fraction counts as its floor", [2.5, NaN], 0, [2.5, 3], 4],
  ["a negative step leaves it", [-3, NaN], 0, [-3, 0], 1],
  [
    "it stays where it can go no further",
    [MAX_STEP - 1, NaN, NaN],
    0,
    [MAX_STEP - 1, MAX_STEP, MAX_STEP],
    MAX_STEP,
  ],
])("step counter: %s", (_name, steps, next, expected, after) => {
  const column = Float64Array.from(steps);
  expect([countSteps(column, next), [...column]]).toEqual([after, expected]);
});

test("points come back in arrival order, steps backwards and repeated included", async () => {
  await store.append("r", [
    { step: 5, metrics: { loss: 1 } },
    { step: 2, metrics: { loss: 2 } },
  ]);
  await store.append("r", [{ step: 2, metrics: { loss: 3 } }, { metrics: { loss: 4 } }]);
  await everyWay(async () =>
    expect(await points("loss")).toEqual([
      [5, 1],
      [2, 2],
      [2, 3],
      [6, 4],
    ]),
  );
});

test("after the largest step there is, a record without one is stored and replayed", async () => {
  await store.append("r", [{ step: MAX_STEP, metrics: { loss: 1 } }, { metrics: { loss: 2 } }]);
  await everyWay(async () =>
    expect(await points("loss")).toEqual([
      [MAX_STEP, 1],
      [MAX_STEP, 2],
    ]),
  );
});

test("time is the record's or that of its arrival", async () => {
  await store.append("r", [{ time: 12.5, metrics: { a: 1 } }, { metrics: { a: 2 } }]);
  await everyWay(async () =>
    expect(await points("a", "time")).toEqual([
      [12.5, 1],
      [1000, 2],
    ]),
  );
});

test("NaN and infinities are values", async () => {
  await store.append("r", [
    { metrics: { a: "NaN" } },
    { metrics: { a: "Infinity" } },
    { metrics: { a: "-Infinity" } },
    { metrics: { a: 0.5 } },
  ]);
  await everyWay(async () => {
    expect((await points("a")).map(([, y]) => y)).toEqual(["NaN", "Infinity", "-Infinity", 0.5]);
    const { metrics } = await listMetrics(store.collector, "r");
    expect(metrics[0]).toMatchObject({ name: "a", count: 4, last: 0.5, min: "-Infinity", max: "Infinity" });
  });
});

test("what is no number is kept between the numbers and counted", async () => {
  await store.append("r", [
    { metrics: { a: 1 } },
    { metrics: { a: "warm-up" } },
    { metrics: { a: { nested: [true, null] } } },
    { metrics: { a: 3 } },
    { metrics: { a: null } },
  ]);
  await everyWay(async () => {
    expect(await points("a")).toEqual([
      [0, 1],
      [1, "warm-up"],
      [2, { nested: [true, null] }],
      [3, 3],
      [4, null],
    ]);
    const { metrics } = await listMetrics(store.collector, "r");
    expect(metrics[0]).toMatchObject({ count: 5, last: null, min: 1, max: 3, last_step: 4 });
  });
});

test("a custom x axis is joined within the record; records without it are left out", async () => {
  await store.append("r", [
    { metrics: { loss: 0.5, epoch: 1 }, x: "epoch" },
    { metrics: { loss: 0.4 } },
    { metrics: { epoch: 2 } },
    { metrics: { loss: 0.3, epoch: 1 }, x: ["epoch"] },
  ]);
  await everyWay(async () => {
    expect(await points("loss", "epoch")).toEqual([
      [1, 0.5],
      [1, 0.3],
    ]);
    for (const points of [undefined, 10])
      expect(queryPoints(store.collector, "r", { key: "loss", x: "no such", points })).rejects.toMatchObject({
        code: "not-found",
        hint: "It has: loss, epoch.",
      });
    const { metrics } = await listMetrics(store.collector, "r");
    expect(metrics.map(({ name, x, axis }) => [name, x, axis])).toEqual([
      ["loss", "epoch", false],
      ["epoch", null, true],
    ]);
  });
});

test("ranks are series of their own; the lowest is shown first", async () => {
  await store.append("r", [{ metrics: { loss: 3 } }], { client: "c3", rank: 3 });
  await store.append("r", [{ metrics: { loss: 1 } }, { metrics: { loss: 0 } }], { client: "c1", rank: 1 });
  await everyWay(async () => {
    const { metrics } = await listMetrics(store.collector, "r");
    expect(metrics).toMatchObject([{ name: "loss", count: 2, last: 0, ranks: [1, 3] }]);
    expect(await points("loss")).toHaveLength(2);
    expect(await points("loss", "step", 3)).toEqual([[0, 3]]);
    expect(points("loss", "step", 2)).rejects.toMatchObject({ code: "not-found" });
  });
});

test("a repeated batch changes nothing and gets the same answer, a missing one is asked for", async () => {
  const batch = { client: "c", seq: 1, items: [{ metrics: { a: 1 } }] };
  const send = (body: unknown) => appendRecords(store.collector, "r", body);
  const both = await Promise.all([send(batch), send(batch)]);
  expect(both).toEqual([{ acked: 1 }, { acked: 1 }]);
  await store.reopen();
  expect(await send(batch)).toEqual({ acked: 1 });
  expect(await points("a")).toEqual([[0, 1]]);
  expect(send({ ...batch, seq: 3 })).rejects.toMatchObject({
    code: "sequence-gap",
    details: { expected: 2 },
  });
});

test("an invalid record is named, and its batch takes no number", async () => {
  const bad = { client: "c", seq: 1, items: [{ metrics: { a: 1 } }, { metrics: { a: 1 }, step: 1e308 }] };
  const error = await appendRecords(store.collector, "r", bad).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(CollectorError);
  expect(error).toMatchObject({ code: "invalid", details: { path: "items[1].step" } });
  expect(await appendRecords(store.collector, "r", { ...bad, items: [] })).toEqual({ acked: 1 });
});

test("a run has at most 20,000 series", async () => {
  const keys = (from: number, to: number) =>
    Object.fromEntries(Array.from({ length: to - from }, (_, i) => [`k${from + i}`, 1]));
  await store.append("r", [{ metrics: keys(0, 10_000) }]);
  await store.append("r", [{ metrics: keys(10_000, 19_999) }]);
  const body = (items: object[]) => ({ client: "other", seq: 1, items });
  const full = appendRecords(store.collector, "r", body([{ metrics: { one: 1, two: 2 } }]));
  expect(full).rejects.toMatchObject({ code: "invalid" });
  expect(await appendRecords(store.collector, "r", body([{ metrics: { one: 1, k5: 2 } }]))).toEqual({
    acked: 1,
  });
});

test("unknown and deleted runs refuse records", async () => {
  const body = { client: "c", seq: 1, items: [] };
  expect(appendRecords(store.collector, "none", body)).rejects.toMatchObject({ code: "not-found" });
  store.collector.counters.delete("r");
  expect(appendRecords(store.collector, "r", body)).rejects.toMatchObject({ code: "gone" });
});

test("listeners hear of a batch once it is durable", async () => {
  const heard: unknown[] = [];
  store.collector.bus.subscribe(({ kind, run, data }) => heard.push([kind, run, data]));
  await store.append("r", [{ step: 3, metrics: { a: 1 } }]);
  expect(heard).toMatchObject([
    ["metric.appended", "r", { ordinal: 0, rank: 0, count: 1, numbers: [{ key: "a" }] }],
  ]);
});

test("a long series is answered a part at a time, and a reader sees a stretch without a hole while it is sealed", async () => {
  const store = openStore({ series: { chunkPoints: 128, tickMs: 5, maxPoints: 300 } });
  await store.addRun("long");
  let sent = 0;
  let acked = 0;
  const writing = (async () => {
    for (let batch = 0; batch < 100; batch++) {
      const size = (batch * 37) % 300;
      await store.append(
        "long",
        Array.from({ length: size }, () => ({ metrics: { a: sent++ } })),
      );
      acked = sent;
    }
  })();
  let done = false;
  void writing.finally(() => (done = true));
  let reads = 0;
  while (!done) {
    await new Promise((resolve) => setImmediate(resolve));
    const least = acked;
    if (least === 0) continue;
    const parts: unknown[][] = [];
    for await (const part of store.collector.series.pointParts("long", "a")!.parts) {
      parts.push(part);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const values = parts.flat().map((point) => (point as [number, number])[1]);
    expect(values.findIndex((value, i) => value !== i)).toBe(-1);
    expect(values.length).toBeGreaterThanOrEqual(least);
    reads++;
  }
  await writing;
  expect(reads).toBeGreaterThan(3);
  await store.close();
});
