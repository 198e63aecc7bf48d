import { afterEach, describe, expect, test } from "bun:test";
import { readDeviceId } from "../src/device/identity.ts";
import { recordEvents, listEvents } from "../src/sample/event.ts";
import { appendSamples } from "../src/sample/append.ts";
import { querySamples } from "../src/sample/query.ts";
import { QueryEvents, type QuerySamples, type Sample, type SamplePage } from "../src/sample/schema.ts";
import { CollectorError } from "../src/error.ts";
import type { CollectorOptions } from "../src/collector.ts";
import { openStore, type TestStore } from "./helpers/store.ts";

const DEVICE = "0123456789abcdef";
const GPU = "GPU-5a1e1c4e-0000-0000-0000-000000000001";
const BEGIN = 1_790_000_400_000;
const DAY_MS = 24 * 3600 * 1000;
/** Nothing is sealed behind a test's back. */
const QUIET = { tickMs: 1e9 };

const stores: TestStore[] = [];
function create({ samples, ...options }: Partial<CollectorOptions> = {}): TestStore {
  const store = openStore({ device: DEVICE, samples: { ...QUIET, ...samples }, ...options });
  stores.push(store);
  return store;
}
afterEach(async () => {
  for (const store of stores.splice(0)) {
    await store.close();
    expect(store.fatal).toEqual([]);
  }
});

const sample = (second: number, values: Sample["values"], subject = ""): Sample => ({
  subject,
  time: BEGIN + 1000 * second,
  values,
});
const append = (store: TestStore, ...samples: Sample[]) => appendSamples(store.collector, DEVICE, samples);
/** Its number as load, once a second. */
const seconds = (from: number, to: number, subject = "") =>
  Array.from({ length: to - from }, (_, i) => sample(from + i, { "load.1": from + i }, subject));
const query = (store: TestStore, more: Partial<QuerySamples> = {}): Promise<SamplePage> =>
  querySamples(store.collector, DEVICE, { from: BEGIN, to: BEGIN + 599_999, points: 600, ...more });
const means = async (store: TestStore, more: Partial<QuerySamples> = {}) =>
  (await query(store, more)).series[0]?.mean ?? [];
const chunks = ({ collector }: TestStore) =>
  collector.connection
    .prepare("SELECT subject, tier, start, count, open FROM sample_chunk ORDER BY subject, tier, start")
    .all() as { subject: string; tier: number; start: number; count: number; open: number }[];
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe("a block", () => {
  test("is in one chunk while it is open, and in every tier's once its span is over", async () => {
    const store = create();
    await append(store, ...seconds(0, 60));
    expect(chunks(store)).toEqual([]);
    await store.collector.samples.seal();
    expect(chunks(store)).toEqual([{ subject: "", tier: 1, start: BEGIN, count: 60, open: 1 }]);
    await append(store, ...seconds(60, 600));
    await store.collector.samples.finish();
    expect(chunks(store).map(({ tier, count, open }) => [tier, count, open])).toEqual([
      [1, 600, 0],
      [10, 60, 0],
      [60, 10, 0],
      [600, 1, 0],
    ]);
    expect(store.collector.samples.blocks(DEVICE, "")).toEqual([]);
  });

  test("is finished by itself once its successor is there, or nothing came for long", async () => {
    const store = create({ samples: { tickMs: 5, graceMs: 10, idleMs: 60_000 } });
    await append(store, ...seconds(0, 10), ...seconds(600, 610));
    while (store.collector.samples.blocks(DEVICE, "").length > 1) await Bun.sleep(5);
    expect(store.collector.samples.blocks(DEVICE, "")[0]!.start).toBe(BEGIN + 600_000);
    const idle = create({ samples: { tickMs: 5, idleMs: 10 } });
    await append(idle, ...seconds(0, 10));
    while (idle.collector.samples.blocks(DEVICE, "").length > 0) await Bun.sleep(5);
    expect(chunks(idle)).toHaveLength(4);
  });

  test("that a stop cut short is taken up again", async () => {
    const store = create();
    await append(store, ...seconds(0, 100));
    await store.collector.tidy(10_000);
    await store.reopen();
    expect(store.collector.journal.needed()).toBe(store.collector.journal.bounds().last + 1);
    await append(store, ...seconds(100, 200));
    expect(await means(store)).toEqual(numbers(0, 200));
    await store.collector.samples.finish();
    expect(await means(store)).toEqual(numbers(0, 200));
    expect((await means(store, { points: 10 })).length).toBe(4);
  });

  test("takes late rows and repetitions when it is long in chunks: rollups are made again", async () => {
    const store = create();
    await append(store, ...seconds(0, 600));
    await store.collector.samples.finish();
    await append(store, sample(30, { "load.1": 1000 }), {
      ...sample(0, { "load.1": -5 }),
      time: BEGIN + 31_500,
    });
    await append(store, ...seconds(100, 200));
    const before = await query(store, { points: 60 });
    await store.collector.samples.finish();
    const { series, step, times } = await query(store, { points: 60 });
    expect([series, times]).toEqual([before.series, before.times]);
    expect(step).toBe(10_000);
    expect([series[0]!.min![3], series[0]!.max![3], series[0]!.max![2]]).toEqual([-5, 1000, 29]);
    expect(chunks(store).find(({ tier }) => tier === 1)!.count).toBe(601);
  });

  test("what a kill leaves in the journal alone is there after the next start, once", async () => {
    const store = create();
    await append(store, ...seconds(0, 300));
    await store.collector.samples.seal();
    await append(store, ...seconds(300, 450), ...seconds(290, 300));
    // Closing seals nothing: as after a kill, there is what the chunk has and what the journal has.
    await store.reopen();
    expect(await means(store)).toEqual(numbers(0, 450));
    expect(chunks(store)).toHaveLength(1);
  });

  test("does not hold up the journal however long it is open", async () => {
    const store = create({ samples: { tickMs: 5, maxReplayEntries: 20 }, trim: { keepEntries: 0 } });
    await append(store, ...seconds(0, 1));
    await store.addRun("r");
    for (let i = 0; i < 40; i++) await store.append("r", [{ metrics: { a: i } }]);
    while (chunks(store).length === 0) await Bun.sleep(5);
    expect(store.collector.samples.applier.lowWater!()).toBeUndefined();
    expect(chunks(store)[0]!.open).toBe(1);
  });
});

describe("a query", () => {
  test("keeps gaps: what was not read is null, a time without any reading is left out", async () => {
    const store = create();
    await append(store, sample(0, { "load.1": 1, "gpu.power": 5 }), sample(1, { "load.1": 2 }));
    await append(store, sample(50, { "load.1": 2 }));
    for (const again of [false, true]) {
      if (again) await store.collector.samples.finish();
      const { times, series, step } = await query(store);
      expect(step).toBe(1000);
      expect(times).toEqual([0, 1, 50].map((second) => BEGIN + 1000 * second));
      expect(series).toEqual([
        { subject: "", reading: "load.1", part: null, mean: [1, 2, 2] },
        { subject: "", reading: "gpu.power", part: null, mean: [5, null, null] },
      ]);
    }
  });

  test("names subjects, and leaves runs out unless they are asked for", async () => {
    const store = create();
    const all = ["", "cgroup", GPU, "run/7", "run/8"];
    for (const subject of all) await append(store, ...seconds(0, 2, subject));
    for (const again of [false, true]) {
      if (again) await store.collector.samples.finish();
      const subjects = async (asked?: string[]) => [
        ...new Set((await query(store, { subjects: asked })).series.map(({ subject }) => subject)),
      ];
      expect(await subjects()).toEqual(["", GPU, "cgroup"]);
      expect(await subjects(["machine", "run/7"])).toEqual(["", "run/7"]);
      expect(await subjects(["nobody"])).toEqual([]);
    }
  });

  test("names readings with all their parts", async () => {
    const store = create();
    await append(
      store,
      sample(0, { "disk.read@sda": 1, "disk.read@b@c": 2, "disk.read": 3, "disk.write": 4 }),
    );
    const { series } = await query(store, { readings: ["disk.read"] });
    expect(series.map(({ reading, part }) => [reading, part])).toEqual([
      ["disk.read", "sda"],
      ["disk.read", "b@c"],
      ["disk.read", null],
    ]);
  });

  test("of another device finds nothing of this one", async () => {
    const store = create();
    await append(store, ...seconds(0, 10));
    const page = await querySamples(store.collector, "ffffffffffffffff", {
      from: BEGIN,
      to: BEGIN + 1000,
      points: 5,
    });
    expect(page).toMatchObject({ device: "ffffffffffffffff", times: [], series: [] });
  });

  test("that ends before it begins is refused", async () => {
    const store = create();
    await expect(query(store, { from: 2000, to: 1000 })).rejects.toMatchObject({ code: "invalid" });
  });

  test("for more than an answer can hold is refused", async () => {
    const store = create();
    const values = Object.fromEntries(numbers(0, 500).map((i) => [`cpu.core.utilization@${i}`, 1]));
    await append(store, sample(0, values));
    const wide = query(store, { from: BEGIN - 5e9, points: 5000 });
    await expect(wide).rejects.toMatchObject({ code: "too-large" });
    expect((await query(store, { from: BEGIN - 5e9, points: 500 })).series).toHaveLength(500);
  });

  test("lets others have their turn", async () => {
    const store = create();
    for (let block = 0; block < 30; block++) {
      const values = Object.fromEntries(
        numbers(0, 60).map((i) => [`cpu.core.utilization@${i}`, Math.random()]),
      );
      await append(store, ...numbers(0, 600).map((i) => sample(600 * block + i, values)));
      await store.collector.samples.finish();
    }
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await query(store, { to: BEGIN + 30 * 600_000 - 1, points: 5000 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(1);
  });
});

describe("retention", () => {
  const clock = { wall: BEGIN, monotonic: 0 };
  const pass = (ms: number) => {
    clock.wall += ms;
    clock.monotonic += ms;
  };
  const aging = (keepDays: object = {}): TestStore => {
    Object.assign(clock, { wall: BEGIN, monotonic: 0 });
    return create({
      now: () => clock.wall,
      samples: { ...QUIET, keepDays, monotonic: () => clock.monotonic },
    });
  };

  test("where the fine rows have expired, the coarser ones stand in", async () => {
    const store = aging();
    await append(store, ...seconds(0, 1200));
    await store.collector.samples.finish();
    const tiers = async () => {
      await store.collector.samples.expire();
      return [...new Set(chunks(store).map(({ tier }) => tier))];
    };
    expect(await tiers()).toEqual([1, 10, 60, 600]);
    pass(2.9 * DAY_MS);
    expect(await tiers()).toEqual([1, 10, 60, 600]);
    pass(0.2 * DAY_MS);
    expect(await tiers()).toEqual([10, 60, 600]);
    // A day later the same machine is up again: of that there is every second.
    await append(store, ...seconds(6000, 6600));
    const all = await query(store, { to: BEGIN + 6_599_999, points: 5000, readings: ["load.1"] });
    expect(all.step).toBe(10_000);
    expect(all.times.length).toBe(120 + 60);
    expect(all.series[0]!.min!.slice(0, 2)).toEqual([0, 10]);
    expect(all.series[0]!.mean.slice(0, 2)).toEqual([4.5, 14.5]);
    expect(all.series[0]!.mean.at(-1)).toBe(6594.5);
    const late = await query(store, { from: BEGIN + 6_000_000, to: BEGIN + 6_599_999 });
    expect([late.step, late.times.length]).toEqual([1000, 600]);
    pass(28 * DAY_MS);
    expect(await tiers()).toEqual([60, 600]);
    expect((await query(store, { points: 600 })).series[0]!.max).toEqual(
      numbers(1, 11).map((n) => 60 * n - 1),
    );
    pass(336 * DAY_MS);
    expect(await tiers()).toEqual([600]);
    expect(await query(store, { points: 600 })).toMatchObject({
      series: [{ min: [0], mean: [299.5], max: [599] }],
    });
    pass(4.1 * 365 * DAY_MS);
    expect(await tiers()).toEqual([]);
  });

  test("a row that comes when its time has expired does not cost the rollups", async () => {
    const store = aging();
    await append(store, ...seconds(0, 600));
    await store.collector.samples.finish();
    pass(4 * DAY_MS);
    await store.collector.samples.expire();
    await append(store, sample(5, { "load.1": 9999 }));
    expect(store.collector.samples).toMatchObject({ refused: 1, dropped: 0 });
    await store.collector.samples.finish();
    expect(await query(store, { points: 1 })).toMatchObject({ series: [{ mean: [299.5], max: [599] }] });
  });

  test("a clock that jumps forward takes nothing away", async () => {
    const store = aging();
    await append(store, ...seconds(0, 600));
    await store.collector.samples.finish();
    clock.wall += 1000 * DAY_MS;
    await store.collector.samples.expire();
    expect(chunks(store)).toHaveLength(4);
    pass(4 * DAY_MS);
    await store.collector.samples.expire();
    expect(chunks(store)).toHaveLength(3);
  });

  test("what is still being read is kept, however short a time was asked for", async () => {
    const store = aging({ 1: 0.001, 10: 0.001, 60: 0.001, 600: 0.001 });
    await append(store, ...seconds(0, 300));
    await store.collector.samples.finish();
    pass(300_000);
    await store.collector.samples.expire();
    await append(store, ...seconds(300, 400));
    expect(await means(store)).toEqual(numbers(0, 400));
    await store.collector.samples.finish();
    pass(4_000_000);
    await store.collector.samples.expire();
    expect(chunks(store)).toEqual([]);
  });

  test("a tier is kept as long as a finer one, and events as long as the last", async () => {
    const store = aging({ 1: 10, 10: 1, 60: 1, 600: 20 });
    await append(store, ...seconds(0, 600));
    await store.collector.samples.finish();
    await recordEvents(store.collector, DEVICE, [
      { subject: GPU, time: BEGIN, kind: "gpu.lost", text: "GPU 0 fell off the bus." },
    ]);
    const events = async () =>
      (await listEvents(store.collector, DEVICE, QueryEvents.parse({}))).events.length;
    pass(9 * DAY_MS);
    await store.collector.samples.expire();
    expect(chunks(store)).toHaveLength(4);
    pass(2 * DAY_MS);
    await store.collector.samples.expire();
    expect(chunks(store).map(({ tier }) => tier)).toEqual([600]);
    expect(await events()).toBe(1);
    pass(10 * DAY_MS);
    await store.collector.samples.expire();
    expect([chunks(store).length, await events()]).toEqual([0, 0]);
  });
});

describe("a flood", () => {
  test("of absurd times opens no more blocks than memory holds", async () => {
    const store = create({ samples: { ...QUIET, maxBlocks: 50 } });
    for (let batch = 0; batch < 20; batch++)
      await append(
        store,
        ...numbers(0, 20).map((i) => ({ subject: "", time: 1e15 * Math.random(), values: { "load.1": i } })),
      );
    const { samples } = store.collector;
    expect(samples.blocks(DEVICE, "").length).toBeLessThanOrEqual(120);
    await samples.finish();
    expect(chunks(store).filter(({ tier }) => tier === 1).length + samples.refused).toBe(400);
  });

  test("of rows into one block ends at its bound, and all else goes on", async () => {
    const store = create();
    const flood = numbers(0, 9000).map((i) => ({
      subject: GPU,
      time: BEGIN + 60 * i,
      values: { "gpu.power": i },
    }));
    await append(store, ...flood, ...seconds(0, 5));
    expect(store.collector.samples).toMatchObject({ refused: 3000, dropped: 0 });
    expect(await means(store, { subjects: ["machine"] })).toEqual(numbers(0, 5));
  });

  test("of what is no number, or at no time, leaves nothing behind", async () => {
    const store = create();
    await append(
      store,
      sample(0, { "load.1": NaN, "load.5": Infinity }),
      { subject: "", time: NaN, values: { "load.1": 1 } },
      { subject: "", time: -1, values: { "load.1": 1 } },
      sample(1, { "load.1": -0, "load.5": NaN }),
      sample(2, {}),
    );
    const { series } = await query(store);
    expect(series).toEqual([{ subject: "", reading: "load.1", part: null, mean: [0] }]);
    expect(Object.is(series[0]!.mean[0], 0)).toBe(true);
    expect(store.collector.samples).toMatchObject({ refused: 3, dropped: 0 });
  });

  test("a batch beyond all measure is refused", async () => {
    const store = create();
    await expect(append(store, ...seconds(0, 10_001))).rejects.toMatchObject({ code: "too-large" });
  });
});

describe("a full disk", () => {
  test("costs the samples of its time and nothing else", async () => {
    const store = create();
    const { journal, samples, quota } = store.collector;
    // Its first look at the real disk would find room.
    quota.close();
    await append(store, ...seconds(0, 10));
    journal.refuse(new CollectorError("disk-full", "full"));
    await append(store, ...seconds(10, 20));
    expect(samples.dropped).toBe(10);
    journal.refuse(undefined);
    await append(store, ...seconds(20, 30));
    expect(await means(store)).toEqual([...numbers(0, 10), ...numbers(20, 30)]);
  });

  test("that is near leaves out samples and still takes records", async () => {
    const store = create({ quota: { maxBytes: 2 ** 20 } });
    await store.addRun("r");
    const { quota, connection, samples } = store.collector;
    await append(store, ...seconds(0, 1));
    connection.exec("CREATE TABLE filler (data BLOB)");
    const missing = 0.97 * 2 ** 20 - quota.status().usedBytes;
    connection.prepare("INSERT INTO filler (data) VALUES (zeroblob(?))").run(Math.floor(missing));
    await quota.check();
    expect(quota.status().refusing).toBeNull();
    await append(store, ...seconds(1, 2));
    expect(samples.dropped).toBe(1);
    await store.append("r", [{ metrics: { a: 1 } }]);
    connection.exec("DELETE FROM filler");
    await quota.check();
    await append(store, ...seconds(2, 3));
    expect(await means(store)).toEqual([0, 2]);
  });
});

describe("a run that is deleted", () => {
  const deletion = (store: TestStore) =>
    store.collector.journal.append(
      {
        kind: "run.deleted",
        version: 1,
        run: "7",
        client: null,
        clientSeq: null,
        ordinal: null,
        nextStep: null,
        count: 1,
        time: Date.now(),
        encoding: 0,
        payload: new TextEncoder().encode("{}"),
      },
      {},
      [{ sql: "UPDATE run SET deleted = 1 WHERE id = '7'", params: [] }],
    );
  const runs = (store: TestStore) =>
    means(store, { subjects: ["run/7"], points: 5000, to: BEGIN + 3_600_000 });

  test("takes what its processes read along, on every device; the machine keeps its own", async () => {
    const store = create();
    await store.addRun("7");
    await append(store, ...seconds(0, 700, "run/7"), ...seconds(0, 5, "run/77"), ...seconds(0, 5));
    await appendSamples(store.collector, "fedcba9876543210", seconds(0, 5, "run/7"));
    await store.collector.samples.finish();
    await append(store, ...seconds(700, 800, "run/7"));
    await deletion(store);
    await store.collector.pruner.resume();
    expect(await runs(store)).toEqual([]);
    expect([...new Set(chunks(store).map(({ subject }) => subject))]).toEqual(["", "run/77"]);
    await append(store, ...seconds(800, 900, "run/7"));
    expect(await runs(store)).toEqual([]);
    expect(await means(store)).toEqual(numbers(0, 5));
  });

  test("does not come back from the journal, and goes though a stop came in between", async () => {
    const store = create();
    await store.addRun("7");
    await append(store, ...seconds(0, 5, "run/7"));
    await store.collector.samples.seal();
    await append(store, ...seconds(5, 9, "run/7"), ...seconds(0, 9));
    void deletion(store);
    await store.collector.journal.settled();
    await store.reopen();
    await store.collector.pruner.resume();
    expect(await runs(store)).toEqual([]);
    await store.collector.samples.finish();
    expect([...new Set(chunks(store).map(({ subject }) => subject))]).toEqual([""]);
  });
});

test("entries of devices leave no counters behind, in memory or on disk", async () => {
  const store = create({ trim: { keepEntries: 0, everyMs: 1e9 } });
  await store.addRun("r");
  for (let i = 0; i < 5; i++) {
    await append(store, ...seconds(10 * i, 10 * i + 10));
    await store.append("r", [{ metrics: { a: i } }]);
  }
  await store.collector.tidy(10_000);
  const { connection, counters, journal } = store.collector;
  expect(journal.read(0, 10)).toEqual([]);
  expect(connection.prepare("SELECT run FROM counter").raw(true).all()).toEqual([["r"]]);
  expect(counters.find(`device:${DEVICE}`)).toBeUndefined();
  await store.reopen();
  await store.append("r", [{ metrics: { a: 5 } }]);
  expect((await store.collector.series.points("r", "a"))!.points).toHaveLength(6);
});

test("samples rejected with the records of a run cost the run nothing", async () => {
  const store = create();
  await store.addRun("r");
  store.collector.journal.refuse(new CollectorError("disk-full", "full"), "samples");
  await Promise.all([append(store, ...seconds(0, 5)), store.append("r", [{ metrics: { a: 1 } }])]);
  expect(store.collector.samples.dropped).toBe(5);
  expect((await store.collector.series.points("r", "a"))!.points).toHaveLength(1);
});

describe("a device's id", () => {
  const idOf = (machineId: string | undefined, hostname: string, dataDir = "/nowhere") =>
    readDeviceId(dataDir, { hostname, machineId: () => machineId });

  test("is the same wherever data goes, and another for a clone with another name", () => {
    const id = idOf("3d1219c7c4c5404aaa1f6d2a48adfda4", "a");
    expect(id).toMatch(/^[0-9a-f]{16}$/);
    expect(idOf("3d1219c7c4c5404aaa1f6d2a48adfda4", "a", "/elsewhere")).toBe(id);
    expect(idOf("3d1219c7c4c5404aaa1f6d2a48adfda4", "b")).not.toBe(id);
    expect(idOf("ffffffffc4c5404aaa1f6d2a48adfda4", "a")).not.toBe(id);
  });

  test("is kept in the data folder where the system has none", async () => {
    const store = create();
    const id = idOf(undefined, "a", store.dataDir);
    expect(id).toMatch(/^[0-9a-f]{16}$/);
    expect(idOf(undefined, "renamed", store.dataDir)).toBe(id);
    const { mode } = await Bun.file(`${store.dataDir}/device`).stat();
    expect(mode & 0o777).toBe(0o600);
    await Bun.write(`${store.dataDir}/device`, "garbage");
    expect(idOf(undefined, "a", store.dataDir)).toMatch(/^[0-9a-f]{16}$/);
  });
});
