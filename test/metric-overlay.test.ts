import { afterEach, beforeEach, expect, test } from "bun:test";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { toWire } from "../src/metric/batch.ts";
import { createOverlay, readOverlay } from "../src/metric/overlay.ts";
import { createCurveMemory } from "../src/metric/curve-memory.ts";
import { appendRecords } from "../src/metric/append.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

let at: TestCollector;
beforeEach(() => (at = createTestCollector()));
afterEach(() => at.close());

async function addRun(id: string, items: object[]): Promise<void> {
  await at.json("/api/v1/runs", { body: { id } });
  for (let i = 0, seq = 1; i < items.length; i += 1000, seq++)
    await appendRecords(at.collector, id, { client: "c", seq, items: items.slice(i, i + 1000) });
}

const overlay = async (query: { run: string[]; key: string[]; x?: string; points?: number }) =>
  readOverlay(await createOverlay(at.collector)({ x: "step", points: 1000, ...query }));

test("curves come back within a 65,534th of their range; runs and metrics that are missing are left out", async () => {
  const wave = (i: number) => 3 * Math.sin(i / 50) - 1;
  await addRun(
    "a",
    Array.from({ length: 900 }, (_, i) => ({ step: i, metrics: { loss: wave(i), lr: 0.001 } })),
  );
  await addRun(
    "b",
    Array.from({ length: 10 }, (_, i) => ({ step: i * i, metrics: { loss: i } })),
  );
  const { header, column, axis } = await overlay({ run: ["a", "none", "b"], key: ["loss", "lr"] });
  expect(header.series.map(({ run, key, count, min }) => [run, key, count, min])).toEqual([
    ["a", "loss", 900, null],
    ["a", "lr", 900, null],
    ["b", "loss", 10, null],
  ]);
  const [a, lr, b] = header.series;
  expect(a!.axis).toBe(lr!.axis);
  expect([...axis(a!.axis)]).toEqual(Array.from({ length: 900 }, (_, i) => i));
  column(a!.y, 900).forEach((y, i) => expect(Math.abs(y - wave(i))).toBeLessThanOrEqual(6.01 / 65534));
  expect([...column(lr!.y, 900)]).toEqual(Array(900).fill(0.001));
  axis(b!.axis).forEach((x, i) => expect(Math.abs(x - i * i)).toBeLessThanOrEqual(81 / 65534));
});

test("NaN and infinities are gaps, steps that go back are put in order, large ranges survive", async () => {
  const values = [1e308, NaN, -1e308, Infinity, 0];
  await addRun(
    "a",
    values.map((value, i) => ({ step: 10 - i, metrics: { y: toWire(value) } })),
  );
  const { header, column, axis } = await overlay({ run: ["a"], key: ["y"] });
  expect([...axis(0)]).toEqual([6, 7, 8, 9, 10]);
  const y = [...column(header.series[0]!.y, 5)];
  expect(y.map((value) => (Number.isNaN(value) ? null : Math.round(value / 1e304)))).toEqual([
    0,
    null,
    -10_000,
    null,
    10_000,
  ]);
});

test("a long series has its extremes", async () => {
  const spike = 7777;
  await addRun(
    "a",
    Array.from({ length: 20_000 }, (_, i) => ({
      metrics: { y: i === spike ? 100 : i === 9 ? -5 : Math.sin(i) },
    })),
  );
  await at.collector.series.seal();
  const { header, column, axis } = await overlay({ run: ["a"], key: ["y"], points: 300 });
  const [series] = header.series;
  const { length } = header.axes[series!.axis]!;
  expect(length).toBeLessThanOrEqual(300);
  expect(series!.count).toBe(20_000);
  const max = column(series!.max!, length);
  expect(Math.max(...max)).toBe(100);
  expect(Math.abs(axis(series!.axis)[max.indexOf(100)]! - spike)).toBeLessThan(20_000 / 250);
  expect(Math.min(...column(series!.min!, length))).toBe(-5);
});

test("what was asked for before is there as it is now", async () => {
  const ask = createOverlay(at.collector);
  const shown = async (x = "step") => {
    const { header, column, axis } = readOverlay(await ask({ run: ["a", "b"], key: ["loss"], x, points: 3 }));
    return header.series.map((one) => {
      const xs = [...axis(one.axis)];
      return [one.run, one.count, xs.at(0), xs.at(-1), Math.max(...column(one.max ?? one.y, xs.length))];
    });
  };
  const add = (seq: number, loss: number, epoch?: number) =>
    appendRecords(at.collector, "a", {
      client: "c",
      seq,
      items: [{ metrics: epoch === undefined ? { loss } : { loss, epoch } }],
    });
  await addRun("a", []);
  expect(await shown()).toEqual([]);
  await add(1, 1);
  expect(await shown()).toEqual([["a", 1, 0, 0, 1]]);
  await add(2, 3);
  expect(await shown()).toEqual([["a", 2, 0, 1, 3]]);
  expect(await shown("epoch")).toEqual([]);
  await add(3, 2, 10);
  expect(await shown("epoch")).toEqual([["a", 1, 10, 10, 2]]);
  await add(4, 7, 11);
  expect(await shown("epoch")).toEqual([["a", 2, 10, 11, 7]]);
  await addRun("b", [{ metrics: { loss: 5 } }]);
  // More than were asked for: the last two are one, in their middle, with their extremes.
  expect(await shown()).toEqual([
    ["a", 4, 0, 2.5, 7],
    ["b", 1, 0, 0, 5],
  ]);
  await at.request("/api/v1/runs/a?force=true", { method: "DELETE" });
  expect(await shown()).toEqual([["b", 1, 0, 0, 5]]);
});

test("no more is remembered than there is room for, and what is asked for often stays", () => {
  const memory = createCurveMemory();
  const bytes = new Uint8Array(40_000);
  const column = { low: 0, high: 1, bytes };
  const curve = {
    rank: 0,
    count: 1,
    axis: { length: 1, low: 0, high: 0, bytes: null },
    y: column,
    min: null,
    max: null,
  };
  const known: number[] = [];
  for (let i = 0; i < 1000; i++) {
    memory.put(`curve ${i}`, "1", curve);
    if (memory.get("curve 0", "1")) known.push(i);
  }
  expect(known).toHaveLength(1000);
  const kept = Array.from({ length: 1000 }, (_, i) => memory.get(`curve ${i}`, "1")).filter(Boolean).length;
  expect(kept * bytes.length).toBeLessThan(8 * 1024 * 1024);
  expect(kept * bytes.length).toBeGreaterThan(2 * 1024 * 1024);
  expect(memory.get("curve 0", "2")).toBeUndefined();
});

test("50 runs of 5 metrics and 2,000 points are less than 1 MB", async () => {
  for (let run = 0; run < 50; run++)
    await addRun(
      `r${run}`,
      Array.from({ length: 2000 }, (_, i) => ({
        metrics: Object.fromEntries(
          ["a", "b", "c", "d", "e"].map((key, k) => [
            key,
            Math.exp(-i / 500) * (k + 1) + 0.05 * Math.random(),
          ]),
        ),
      })),
    );
  const query = [
    ...Array.from({ length: 50 }, (_, i) => `run=r${i}`),
    "key=a&key=b&key=c&key=d&key=e&points=2000",
  ].join("&");
  const get = (encoding: string) =>
    at.request(`/api/v1/overlay?${query}`, { headers: { "accept-encoding": encoding } });
  const plain = new Uint8Array(await (await get("identity")).arrayBuffer());
  expect(readOverlay(plain).header.series).toHaveLength(250);
  for (const [encoding, unpack] of [
    ["zstd", zstdDecompressSync],
    ["gzip", gunzipSync],
  ] as const) {
    const response = await get(encoding);
    expect(response.headers.get("content-encoding")).toBe(encoding);
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(bytes.length).toBeLessThan(1_000_000);
    expect(unpack(bytes).equals(plain)).toBe(true);
  }
});

test("others have their turn while many curves are put together", async () => {
  const keys = Array.from({ length: 100 }, (_, i) => `k${i}`);
  await addRun(
    "a",
    Array.from({ length: 2000 }, (_, i) => ({
      metrics: Object.fromEntries(keys.map((key) => [key, Math.sin(i)])),
    })),
  );
  await at.collector.series.seal();
  let turns = 0;
  let done = false;
  const count = () => {
    turns++;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  // Of processor time: what others on this machine take holds nobody's turn.
  const started = process.cpuUsage();
  await overlay({ run: ["a"], key: keys, points: 500 });
  const { user, system } = process.cpuUsage(started);
  const took = (user + system) / 1000;
  done = true;
  expect(turns).toBeGreaterThan(took / 40);
});

test("what is asked wrongly is named", async () => {
  const many = Array.from({ length: 501 }, (_, i) => `run=${i}`).join("&");
  for (const query of [
    "",
    "run=a",
    "key=b",
    "run=a&key=b&points=0",
    "run=..&key=a",
    `${many}&key=b&points=20000`,
  ]) {
    const response = await at.request(`/api/v1/overlay?${query}`);
    expect(response.status).toBeOneOf([400, 422]);
  }
});
