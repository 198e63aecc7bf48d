import { afterEach, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { openSync, readdirSync, rmSync, writeSync, closeSync, statSync } from "node:fs";
import { join } from "node:path";
import { appendLogs } from "../src/log/append.ts";
import { migrations } from "../src/generated.ts";
import { appendRecords } from "../src/metric/append.ts";
import { Series } from "../src/metric/series.ts";
import { backupDatabase } from "../src/store/backup.ts";
import { createChunkTable } from "../src/store/chunk-table.ts";
import { applyMigrations } from "../src/store/migrations.ts";
import { closeConnection, openConnection } from "../src/store/open.ts";
import { createSealer } from "../src/store/seal.ts";
import { makeDataDir, openStore, type TestStore } from "./helpers/store.ts";

let store: TestStore;
afterEach(() => store?.close());
const quick = { trim: { keepEntries: 5, everyMs: 10 }, series: { tickMs: 10, chunkPoints: 128 } };

async function until(done: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!done()) {
    if (performance.now() > deadline) throw new Error("it never came to pass");
    await Bun.sleep(5);
  }
}

const post = (client: string, seq: number, items: object[]) =>
  appendRecords(store.collector, "r", { client, seq, items });

test("numbers go on where they stood after the entries that carried them are gone and the process is new", async () => {
  store = openStore(quick);
  await store.addRun("r");
  for (let seq = 1; seq <= 30; seq++)
    await post("c", seq, [{ metrics: { a: seq } }, { metrics: { a: -seq } }]);
  for (let seq = 1; seq <= 10; seq++)
    await appendLogs(store.collector, "r", { client: "l", seq, items: [{ text: `${seq}` }] });
  await store.collector.series.seal();
  store.collector.logs.seal();
  const { journal } = store.collector;
  await until(() => journal.bounds().last - journal.bounds().first <= 5);
  await store.reopen();
  expect(await post("c", 30, [{ metrics: { a: 0 } }])).toEqual({ acked: 30 });
  expect(post("c", 32, [])).rejects.toMatchObject({ details: { expected: 31 } });
  expect(await post("c", 31, [{ metrics: { a: 99 } }])).toEqual({ acked: 31 });
  const { points } = (await store.collector.series.points("r", "a"))!;
  expect(points).toHaveLength(61);
  expect(points.at(-1)).toEqual([60, 99]);
  expect(await appendLogs(store.collector, "r", { client: "l", seq: 11, items: [{ text: "11" }] })).toEqual({
    acked: 11,
  });
  expect(store.collector.logs.total("r")).toBe(11);
});

test("a journal entry stays until everything in it is sealed, and not longer", async () => {
  store = openStore({ ...quick, series: { ...quick.series, tickMs: 1e9 } });
  await store.addRun("r");
  await post("slow", 1, [{ metrics: { slow: 1 } }]);
  const pinned = store.collector.journal.bounds().last;
  for (let seq = 1; seq <= 40; seq++)
    await post(
      "c",
      seq,
      Array.from({ length: 128 }, () => ({ metrics: { a: seq } })),
    );
  // Full chunks of `a` are sealed by themselves; `slow` holds the journal where it began.
  await until(() => store.collector.journal.bounds().first === pinned);
  await Bun.sleep(50);
  expect(store.collector.journal.bounds().first).toBe(pinned);
  await store.collector.series.seal();
  await until(() => store.collector.journal.bounds().first > pinned + 30);
  await store.reopen();
  expect((await store.collector.series.points("r", "slow"))!.points).toEqual([[0, 1]]);
  expect((await store.collector.series.points("r", "a"))!.points).toHaveLength(40 * 128);
});

test("a series that grows slowly is sealed in time: a start replays a bounded journal", async () => {
  store = openStore({ ...quick, series: { ...quick.series, maxReplayEntries: 100 } });
  await store.addRun("r");
  for (let seq = 1; seq <= 500; seq++) {
    await post("c", seq, [{ metrics: seq % 100 === 1 ? { slow: seq, a: seq } : { a: seq } }]);
    if (seq % 20 === 0) await Bun.sleep(12);
  }
  const { journal } = store.collector;
  await until(() => journal.bounds().last - journal.bounds().first <= 110);
  expect((await store.collector.series.points("r", "slow"))!.points).toHaveLength(5);
  await store.reopen();
  expect((await store.collector.series.points("r", "a"))!.points.map(([, y]) => y)).toEqual(
    Array.from({ length: 500 }, (_, i) => i + 1),
  );
});

test("a series that grows slowly does not keep the lines of other runs in the journal", async () => {
  store = openStore({ ...quick, series: { ...quick.series, maxReplayBytes: 100_000 } });
  await store.addRun("r");
  await post("c", 1, [{ metrics: { slow: 1 } }]);
  const { journal } = store.collector;
  const pinned = journal.bounds().last;
  for (let seq = 1; seq <= 20; seq++) {
    const text = Buffer.from(crypto.getRandomValues(new Uint8Array(20_000))).toString("base64");
    await appendLogs(store.collector, "r", { client: "l", seq, items: [{ text }] });
  }
  await until(() => journal.bounds().first > pinned);
  await store.reopen();
  expect((await store.collector.series.points("r", "slow"))!.points).toEqual([[0, 1]]);
  expect(store.collector.logs.total("r")).toBe(20);
});

test("of the chunks that wait to be written only a few are taken into memory at a time", async () => {
  const dataDir = makeDataDir();
  const connection = openConnection(join(dataDir, "binnacle.db"));
  applyMigrations(connection, migrations, () => {});
  const sealer = createSealer(connection, createChunkTable(connection), {
    chunkPoints: 128,
    onFatal: console.error,
    onFull: () => {},
    onWorkerLost: console.error,
  });
  let asked = 0;
  let written = 0;
  let most = 0;
  for (let id = 1; id <= 200; id++) {
    const series = Series.create(id, "r", `k${id}`, 0, 0);
    const job = () => {
      most = Math.max(most, ++asked - written);
      const column = new Float64Array(3);
      const points = { ordinal: column, step: column, time: column, value: column };
      return { group: "r", full: false, tail: null, points };
    };
    sealer.seal({ series, position: 0, job, done: () => written++ });
  }
  await sealer.idle();
  expect([asked, written]).toEqual([200, 200]);
  expect(most).toBeLessThan(50);
  sealer.close();
  closeConnection(connection);
  rmSync(dataDir, { recursive: true });
});

test("others have their turn while the texts of thousands of metrics are sealed", async () => {
  store = openStore(quick);
  await store.addRun("r");
  const keys = Array.from({ length: 3000 }, (_, i) => `k${i}`);
  const all = () => Object.fromEntries(keys.map((key) => [key, "text"]));
  await post("c", 1, [{ metrics: all() }, { metrics: all() }]);
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await store.collector.series.seal();
  clearInterval(timer);
  expect(turns).toBeGreaterThan(3);
  await until(() => store.collector.journal.needed() > store.collector.journal.bounds().last);
  await store.reopen();
  for (const key of [keys[0]!, keys[2999]!])
    expect((await store.collector.series.points("r", key))!.points).toEqual([
      [0, "text"],
      [1, "text"],
    ]);
});

test("writers wait while sealing catches up; nothing is dropped", async () => {
  store = openStore({ series: { chunkPoints: 128, maxPoints: 1000, useWorker: false } });
  await store.addRun("r");
  let waited = 0;
  const { series } = store.collector;
  const room = series.room.bind(series);
  series.room = () => {
    const full = room();
    if (full) waited++;
    return full;
  };
  const clients = Array.from({ length: 8 }, async (_, c) => {
    for (let seq = 1; seq <= 10; seq++)
      await post(
        `c${c}`,
        seq,
        Array.from({ length: 500 }, (_, i) => ({ metrics: { [`m${c}`]: 500 * (seq - 1) + i } })),
      );
  });
  await Promise.all(clients);
  expect(waited).toBeGreaterThan(0);
  for (let c = 0; c < 8; c++) {
    const { points } = (await series.points("r", `m${c}`))!;
    expect(points.map(([, y]) => y)).toEqual(Array.from({ length: 5000 }, (_, i) => i));
  }
});

test("a write that breaks a constraint is rejected alone, and takes no stranger along", async () => {
  store = openStore();
  await store.addRun("r");
  const { journal } = store.collector;
  const entry = {
    kind: "run.changed" as const,
    version: 1,
    run: "other",
    client: null,
    clientSeq: null,
    ordinal: null,
    nextStep: null,
    count: 1,
    time: 0,
    encoding: 0 as const,
    payload: new Uint8Array([123, 125]),
  };
  const bad = {
    sql: "INSERT INTO run (id, name, project, status, config, tags, created) VALUES ('r', '', '', '', '', '', 0)",
    params: [],
  };
  const results = await Promise.allSettled([
    post("a", 1, [{ metrics: { x: 1 } }]),
    journal.append(entry, {}, [bad]),
    post("b", 1, [{ metrics: { x: 2 } }]),
  ]);
  expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect((await store.collector.series.points("r", "x"))!.points).toEqual([
    [0, 1],
    [0, 2],
  ]);
  expect(store.fatal).toEqual([]);
});

test("a copy made while data comes in is whole, and locks stay where they were", async () => {
  store = openStore({ series: { chunkPoints: 128 } });
  await store.addRun("r");
  for (let seq = 1; seq <= 20; seq++)
    await post(
      "c",
      seq,
      Array.from({ length: 500 }, (_, i) => ({ metrics: { a: i } })),
    );
  const path = join(store.dataDir, "binnacle.db");
  const folder = makeDataDir();
  let writing = true;
  const writer = (async () => {
    for (let seq = 21; writing; seq++) await post("c", seq, [{ metrics: { a: seq } }]);
  })();
  await backupDatabase(store.collector.connection, path, join(folder, "binnacle.db"));
  writing = false;
  await writer;
  // Another process still can't get in: closing a descriptor of the file would have let go of its locks.
  const tryOpen = join(import.meta.dirname, "helpers/try-open.ts");
  expect(execFileSync(process.execPath, [tryOpen, path], { encoding: "utf8" }).trim()).toBe(
    "database is locked",
  );
  expect(readdirSync(folder)).toEqual(["binnacle.db"]);
  const copy = openStore({ dataDir: folder, series: { chunkPoints: 128 } });
  expect((await copy.collector.series.points("r", "a"))!.points.length).toBeGreaterThanOrEqual(10_000);
  expect(copy.collector.connection.prepare("PRAGMA integrity_check").raw(true).get()).toEqual(["ok"]);
  await copy.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a damaged file is refused, not written to", async () => {
  const damaged = openStore();
  await damaged.addRun("r");
  const { dataDir } = damaged;
  await damaged.collector.close();
  const path = join(dataDir, "binnacle.db");
  const file = openSync(path, "r+");
  // All but the first page, which says that it is a database.
  writeSync(file, Buffer.alloc(statSync(path).size - 4096, 0xa5), 0, undefined, 4096);
  closeSync(file);
  expect(() => openStore({ dataDir })).toThrow(/malformed|corrupt|not a database/);
  rmSync(dataDir, { recursive: true, force: true });
});

test("an orderly end leaves one small file and nothing to replay", async () => {
  store = openStore({ series: { chunkPoints: 4096 } });
  await store.addRun("r");
  for (let seq = 1; seq <= 50; seq++)
    await post(
      "c",
      seq,
      Array.from({ length: 1000 }, () => ({ metrics: { a: Math.random(), b: "text" } })),
    );
  await store.collector.tidy(10_000);
  const { first, last } = store.collector.journal.bounds();
  expect(first).toBe(last + 1);
  await store.reopen();
  expect((await store.collector.series.points("r", "a"))!.points).toHaveLength(50_000);
  expect((await store.collector.series.points("r", "b"))!.points).toHaveLength(50_000);
  await store.collector.close();
  expect(readdirSync(store.dataDir)).toEqual(["binnacle.db"]);
  const sizeOf = ({ dataDir }: { dataDir: string }) => statSync(join(dataDir, "binnacle.db")).size;
  const empty = openStore();
  await empty.collector.close();
  expect((sizeOf(store) - sizeOf(empty)) / 50_000).toBeLessThan(39);
  rmSync(empty.dataDir, { recursive: true, force: true });
  await store.reopen().catch(() => {});
});
