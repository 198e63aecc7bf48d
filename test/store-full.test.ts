import { afterEach, beforeEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Health } from "../src/api/health.ts";
import { CollectorError } from "../src/error.ts";
import { appendLogs } from "../src/log/append.ts";
import { appendRecords } from "../src/metric/append.ts";
import { createQuota, type Quota } from "../src/store/quota.ts";
import { loudly, startBinary } from "./helpers/binary.ts";
import { runCli } from "./helpers/cli.ts";
import { createTestCollector } from "./helpers/collector.ts";
import { until } from "./helpers/launch.ts";
import { makeDataDir, openStore, type TestStore } from "./helpers/store.ts";

const MiB = 1024 * 1024;
let dataDir: string;
const mount = (...args: string[]) => spawnSync("mount", args).status === 0;
const probe = makeDataDir();
const canMount = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", probe);
if (canMount) spawnSync("umount", ["-l", probe]);
else loudly("no right to mount a small disk to fill");
rmSync(probe, { recursive: true, force: true });

beforeEach(() => {
  dataDir = makeDataDir();
  if (canMount) mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", dataDir);
});
afterEach(() => {
  // Lazily: libSQL lets go of its descriptors only with the process.
  if (canMount) spawnSync("umount", ["-l", dataDir]);
  rmSync(dataDir, { recursive: true, force: true });
});

const filler = () => join(dataDir, "filler");
const fill = (bytes: number) => writeFileSync(filler(), Buffer.alloc(bytes));

/** Two clients at once, so that batches stand behind the one that fails; each keeps its data and sends it again. */
class Writer {
  seq = 1;
  acked = 0;
  refused = 0;
  private readonly store: TestStore;
  private readonly client: string;

  constructor(store: TestStore, client: string) {
    this.store = store;
    this.client = client;
  }

  async send(): Promise<boolean> {
    const { client, seq, store } = this;
    const items = Array.from({ length: 1000 }, (_, i) => ({
      metrics: { [client]: 1000 * (seq - 1) + i, noise: Math.random() },
    }));
    try {
      await appendRecords(store.collector, "r", { client, seq, items });
      this.acked++;
      this.seq++;
      return true;
    } catch (error) {
      expect(error).toBeInstanceOf(CollectorError);
      expect((error as CollectorError).code).toBe("disk-full");
      expect((error as CollectorError).hint).toContain("Free some space");
      this.refused++;
      return false;
    }
  }
}

async function sendUntil(writers: Writer[], done: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!done()) {
    if (performance.now() > deadline) throw new Error("nothing changes any more");
    const stored = await Promise.all(writers.map((writer) => writer.send()));
    if (!stored.includes(true)) await Bun.sleep(20);
  }
}

async function expectAll(store: TestStore, writers: Writer[]): Promise<void> {
  for (const [i, { acked }] of writers.entries()) {
    const found = await store.collector.series.points("r", `client-${i}`);
    expect(found!.points).toEqual(Array.from({ length: 1000 * acked }, (_, i) => [i, i]));
  }
  expect(store.fatal).toEqual([]);
}

test.skipIf(!canMount).each([
  ["by the database itself", { ballastBytes: 0, minFreeBytes: 0 }],
  ["with a ballast to burn", { ballastBytes: MiB, minFreeBytes: 0 }],
  ["smaller than the ballast", { ballastBytes: 64 * MiB, minFreeBytes: 0 }],
  ["before it is, by the margin", { ballastBytes: 0, minFreeBytes: 3 * MiB }],
])(
  "a full disk, met %s: refused, nothing accepted lost, and on again when there is room",
  async (_name, quota) => {
    fill(MiB);
    const changes: (string | null)[] = [];
    const store = openStore({
      dataDir,
      quota: { ...quota, onChange: (refusing) => changes.push(refusing) },
      series: { chunkPoints: 256, maxPoints: 1000, tickMs: 20 },
    });
    await store.addRun("r");
    await store.collector.quota.check();
    const ballast = join(dataDir, "ballast");
    const hasBallast = quota.ballastBytes > 0 && quota.ballastBytes < 16 * MiB;
    expect(statSync(ballast, { throwIfNoEntry: false })?.size ?? 0).toBe(hasBallast ? quota.ballastBytes : 0);
    fill(9 * MiB);
    const writers = [0, 1].map((i) => new Writer(store, `client-${i}`));
    await sendUntil(writers, () => writers.every(({ refused }) => refused >= 5));
    await expectAll(store, writers);
    expect(store.collector.quota.status().stops).toBeGreaterThan(0);
    expect(existsSync(ballast)).toBe(false);
    const before = writers.map(({ acked }) => acked);
    rmSync(filler());
    await sendUntil(writers, () => writers.every(({ acked }, i) => acked >= before[i]! + 20));
    expect(changes.at(0)).toMatch(/full|free/);
    expect(changes.at(-1)).toBe(null);
    await store.collector.series.seal();
    await expectAll(store, writers);
    await store.reopen();
    await expectAll(store, writers);
    await store.close();
  },
  60_000,
);

test.skipIf(!canMount)(
  "on a full disk a run can be deleted, and that makes room",
  async () => {
    const store = openStore({
      dataDir,
      quota: { ballastBytes: 2 * MiB, minFreeBytes: MiB },
      trim: { keepEntries: 5, everyMs: 20 },
    });
    await store.addRun("old");
    await store.addRun("r");
    await store.collector.quota.check();
    const noise = () =>
      Array.from({ length: 1000 }, () => ({ metrics: { a: Math.random(), b: Math.random() } }));
    for (let i = 0; i < 100; i++) await store.append("old", noise());
    await store.collector.series.seal();
    const writer = new Writer(store, "client-0");
    await sendUntil([writer], () => writer.refused > 3);
    const { journal, connection } = store.collector;
    await journal.append(
      {
        kind: "run.deleted",
        version: 1,
        run: "old",
        client: null,
        clientSeq: null,
        ordinal: null,
        nextStep: null,
        count: 1,
        time: 0,
        encoding: 0,
        payload: new Uint8Array([123, 125]),
      },
      {},
      [{ sql: "UPDATE run SET deleted = 1 WHERE id = ?", params: ["old"] }],
    );
    await store.collector.pruner.resume();
    expect(connection.prepare("SELECT count(*) FROM series WHERE run = 'old'").raw(true).get()).toEqual([0]);
    expect(store.fatal).toEqual([]);
    await expectAll(store, [writer]);
    await store.close();
  },
  60_000,
);

test.skipIf(!canMount)(
  "a collector on a full disk says so on stderr and in its health, and says when there is room again",
  async () => {
    const main = join(import.meta.dirname, "../src/cli/main.ts");
    const server = await startBinary({ dataDir, program: [process.execPath, main], cwd: tmpdir() });
    const count = (pattern: RegExp) => server.output().match(pattern)?.length;
    const refused = /records, logs and files are refused until there is room: only \d+ MiB/g;
    try {
      await until(() => count(refused));
      expect(await (await fetch(`${server.url}/healthz`)).json()).toMatchObject({ status: "disk-full" });
      const health = await runCli(["healthcheck"], { env: { BINNACLE_DATA: dataDir } });
      expect(health).toMatchObject({ code: 0, stdout: expect.stringContaining("disk-full: binnacle") });
      expect(mount("-o", "remount,size=100m", dataDir)).toBe(true);
      await until(() => count(/there is room again/g));
      expect(await (await fetch(`${server.url}/healthz`)).json()).toMatchObject({ status: "ok" });
      expect([count(refused), count(/there is room again/g)]).toEqual([1, 1]);
    } finally {
      await server.stop();
    }
  },
  60_000,
);

test("health tells a full disk from a well collector, by its schema", async () => {
  const { collector, app, close } = createTestCollector();
  const health = async () => {
    const response = await app.request("/healthz");
    expect(response.status).toBe(200);
    return Health.parse(await response.json()).status;
  };
  expect(await health()).toBe("ok");
  collector.quota.full();
  expect(await health()).toBe("disk-full");
  await collector.quota.check();
  expect(await health()).toBe("ok");
  await close();
});

test("a limit of bytes stops acceptance and says so", async () => {
  const changes: (string | null)[] = [];
  const onChange = (refusing: string | null) => void changes.push(refusing);
  const store = openStore({ quota: { maxBytes: 700_000, onChange } });
  await store.addRun("r");
  const writer = new Writer(store, "client-0");
  for (let i = 0; i < 1000 && writer.refused === 0; i++) {
    await writer.send();
    await store.collector.quota.check();
  }
  expect(writer.acked).toBeGreaterThan(5);
  expect(store.collector.quota.status()).toMatchObject({
    stops: 1,
    refusing: expect.stringContaining("limit"),
  });
  await store.collector.quota.check();
  expect(changes).toEqual([expect.stringContaining("limit")]);
  await expectAll(store, [writer]);
  await store.close();
});

test("room that files have claimed stays claimed while samples are thinned", async () => {
  const store = openStore();
  const { journal, connection } = store.collector;
  const { bavail, bsize } = statfsSync(store.dataDir);
  const seen: number[] = [];
  const quota: Quota = createQuota(connection, journal, store.dataDir, {
    // Too little for fine samples, enough for files.
    minFreeBytes: (bavail * bsize) / 5,
    async thin(isEnough) {
      const look = () => (isEnough(), quota.status().freeBytes);
      seen.push(look());
      quota.claim(10 * MiB);
      seen.push(look());
    },
  });
  await quota.check();
  quota.close();
  expect(seen[0]! - seen[1]!).toBe(10 * MiB);
  await store.close();
});

test("without a limit of bytes nobody looks at the files before each", async () => {
  const store = openStore();
  const { journal, connection } = store.collector;
  let looks = 0;
  const fileBytes = () => ++looks;
  const quota = createQuota(connection, journal, store.dataDir, { fileBytes });
  await quota.check();
  quota.claim(1);
  quota.close();
  expect(looks).toBe(0);
  await store.close();
});

test("a batch whose number was given back is no repetition: lines and records alike", async () => {
  const store = openStore({ quota: { maxBytes: 1 } });
  await store.addRun("r");
  await store.collector.quota.check();
  const records = { client: "c", seq: 1, items: [{ metrics: { a: 1 } }] };
  const send = () => appendRecords(store.collector, "r", records);
  const both = await Promise.allSettled([send(), send()]);
  expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  const lines = appendLogs(store.collector, "r", { client: "l", seq: 1, items: [{ text: "x" }] });
  expect(lines).rejects.toMatchObject({ code: "disk-full" });
  await lines.catch(() => {});
  store.collector.journal.refuse(undefined);
  expect(await send()).toEqual({ acked: 1 });
  expect(await send()).toEqual({ acked: 1 });
  expect(await appendLogs(store.collector, "r", { client: "l", seq: 1, items: [{ text: "x" }] })).toEqual({
    acked: 1,
  });
  expect((await store.collector.series.points("r", "a"))!.points).toEqual([[0, 1]]);
  expect(store.collector.logs.total("r")).toBe(1);
  await store.close();
});
