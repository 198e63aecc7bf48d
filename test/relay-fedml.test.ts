import { Uint8ArrayReader, Uint8ArrayWriter, ZipReader } from "@zip.js/zip.js";
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { notesOf } from "../src/cli/relay-state.ts";
import { Encoding } from "../src/entry.ts";
import { registerDevice } from "../src/device/register.ts";
import type { Relay } from "../src/relay/schema.ts";
import { appendSamples } from "../src/sample/append.ts";
import { bytesOf } from "../src/store/chunk-table.ts";
import { unpackSamples } from "../src/store/sample-batch.ts";
import { exportOf, importTo } from "./helpers/archive.ts";
import { logFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector, type TestCollectorOptions } from "./helpers/collector.ts";
import { DEVICE, facts, GIB, gpuValues, machineValues } from "./helpers/device.ts";
import { until } from "./helpers/relay.ts";
import { arrived, relayOf, startFedmlPlatform, type FedmlPlatform } from "./helpers/relay-fedml.ts";

setDefaultTimeout(120_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function platform(options: TestCollectorOptions = {}): Promise<FedmlPlatform> {
  const started = await startFedmlPlatform(options);
  closers.push(() => started.close());
  return started;
}

function collector(): TestCollector {
  const at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  return at;
}

const RUN = "123456789012345";
const add = (at: TestCollector, url: string, more: object = {}) =>
  at.json<Relay>("/api/v1/relays", { body: { name: "tensoropera", url, ...more } });
const retry = (at: TestCollector) => at.json("/api/v1/relays/tensoropera/retry", { method: "POST" });
const create = (at: TestCollector, id = RUN) =>
  at.json("/api/v1/runs", { body: { id, name: `run ${id}`, writer: { client: "c", role: "client" } } });
let seq = 0;
const record = (at: TestCollector, items: object[], { run = RUN, rank = 0 } = {}) =>
  at.json(`/api/v1/runs/${run}/records`, { body: { client: `c${++seq}`, seq: 1, rank, items } });
const print = (at: TestCollector, items: object[], { run = RUN, rank = 0 } = {}) =>
  at.json(`/api/v1/runs/${run}/logs`, { body: { client: `c${++seq}`, seq: 1, rank, items } });
const pointsOf = async (at: TestCollector, key: string, run = RUN) =>
  (await at.json(`/api/v1/runs/${run}/points?key=${encodeURIComponent(key)}`)).points as unknown[];

test("everything that FedML has words for arrives at another collector's FedML edge", async () => {
  const up = await platform();
  const at = collector();
  expect(await add(at, up.url)).toMatchObject({ kind: "fedml", from: "now", url: up.url });
  await create(at);
  const time = 1_700_000_000_000;
  await record(at, [
    { step: 3, time, metrics: { "train/Loss": 0.5, x_index: 7 }, x: ["x_index"] },
    { step: 1, time: time + 0.25, metrics: { "train/Loss": "NaN", note: { a: [1, "text"] } } },
    { step: 1, time: time + 1, metrics: { "train/Loss": "-Infinity", step: 4 } },
  ]);
  await record(at, [{ step: 9, time: time + 2, metrics: { "train/Loss": 2 } }], { rank: 3 });
  const lines = [
    "epoch 1",
    "Traceback (most recent call last):",
    '  File "a.py", line 1',
    "ValueError: [x] ✓",
  ];
  await print(
    at,
    lines.map((text, i) => ({ time: time + i, stream: "stderr", text })),
  );
  await print(at, [{ time, text: "of rank 1" }], { rank: 1 });
  await logFiles(at.collector, RUN, "data", {
    kind: "artifact",
    type: "dataset",
    files: { "a/b.txt": "content", "c.bin": new Uint8Array(300_000) },
    metadata: { rows: 3 },
  });
  await logFiles(at.collector, RUN, "net", { kind: "model", type: "model", files: { "net.pt": "weights" } });
  await at.json(`/api/v1/runs/${RUN}/finish`, {
    body: { client: "c", status: "FAILED", reason: "it broke" },
  });
  expect(notesOf(await arrived(at))).toEqual([expect.stringContaining("at least once")]);

  const there = up.at();
  const run = await there.json(`/api/v1/runs/${RUN}`);
  expect(run).toMatchObject({ status: "FAILED", reason: "it broke" });
  expect(await pointsOf(there, "train-loss")).toEqual([
    [3, 0.5],
    [1, "NaN"],
    [1, "-Infinity"],
  ]);
  expect(await pointsOf(there, "step-value")).toEqual([[1, 4]]);
  expect(await pointsOf(there, "train-loss-rank-3")).toEqual([[9, 2]]);
  expect(await pointsOf(there, "note")).toEqual([[1, { a: [1, "text"] }]]);
  const page = await there.json(`/api/v1/runs/${RUN}/logs`);
  expect(page.lines).toMatchObject([
    { time, level: "INFO", rank: 0, text: lines[0] },
    { time: time + 1, level: "ERROR", rank: 0, text: lines[1] },
    { time: time + 2, level: "ERROR", rank: 0, text: lines[2] },
    { time: time + 3, level: "ERROR", rank: 0, text: lines[3] },
    { time, level: "INFO", rank: 1, text: "of rank 1" },
  ]);
  const { outputs } = await there.json(`/api/v1/runs/${RUN}/artifacts`);
  expect(outputs).toMatchObject([
    { kind: "artifact", name: "data", type: "dataset", metadata: { rows: 3 } },
    { kind: "model", name: "net", type: "model" },
  ]);
  expect(Object.keys(await filesOf(there, outputs[0].id))).toEqual(["a/b.txt", "c.bin"]);
  expect((await filesOf(there, outputs[1].id))["net.pt"]).toEqual(new TextEncoder().encode("weights"));
  expect(there.fedml!.counts.list()).toEqual([]);
});

/** Of the newest version, which is one zip there, or what is in it. */
async function filesOf(there: TestCollector, id: number): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  const page = await there.json(`/api/v1/artifacts/${id}/versions/v1/files`);
  for (const { path } of page.files as { path: string }[]) {
    const answer = await there.request(
      `/api/v1/artifacts/${id}/versions/v1/file?path=${encodeURIComponent(path)}`,
    );
    const bytes = new Uint8Array(await answer.arrayBuffer());
    if (!path.endsWith(".zip")) files[path] = bytes;
    else
      for (const entry of await new ZipReader(new Uint8ArrayReader(bytes)).getEntries())
        if (!entry.directory) files[entry.filename] = await entry.getData(new Uint8ArrayWriter());
  }
  return files;
}

test("readings of the hardware arrive as the means of ten seconds, in the platform's units and back", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await registerDevice(at.collector, DEVICE, facts());
  const start = Date.now() - 60_000;
  const disk = { "filesystem.used@/": 30 * GIB, "filesystem.total@/": 120 * GIB };
  for (const batch of [0, 1])
    await appendSamples(
      at.collector,
      DEVICE,
      Array.from({ length: 10 }, (_, i) => start + (10 * batch + i) * 1000).flatMap((time, i) => [
        { subject: "", time, values: { ...machineValues, ...disk, "cpu.utilization": i % 2 ? 0.5 : 0.25 } },
        { subject: "GPU-0", time, values: gpuValues },
        { subject: `run/${RUN}`, time, values: { "run.memory.rss": 25.16 * GIB, "run.threads": 7 } },
      ]),
    );
  await arrived(at);
  const there = up.at();
  const { devices } = await there.json("/api/v1/devices");
  expect(devices).toMatchObject([{ name: `edge ${Number.parseInt(DEVICE.slice(0, 13), 16)}`, cores: 64 }]);
  const [{ id }] = devices;
  const { devices: used } = await there.json(`/api/v1/runs/${RUN}/devices`);
  expect(used).toMatchObject([{ device: id }]);
  const rows = there.collector.connection
    .prepare("SELECT payload, encoding FROM journal WHERE kind = 'sample.appended' ORDER BY seq")
    .all() as { payload: Uint8Array }[];
  const samples = rows.flatMap(({ payload }) => unpackSamples({ payload: bytesOf(payload) }));
  const lastOf = (subject: string) =>
    Object.assign({}, ...samples.filter((sample) => sample.subject === subject).map(({ values }) => values));
  const near = (value: number) => expect.closeTo(value, 3);
  expect(samples.map(({ time }) => time)).toContain(start + 9000);
  expect(samples.map(({ time }) => time)).toContain(start + 19_000);
  expect(lastOf("")).toMatchObject({
    "cpu.utilization": near(0.375),
    "memory.utilization": near(113.4 / 251.6),
    "filesystem.utilization@/": near(0.25),
    "network.traffic": expect.closeTo(4.5 * 1024 ** 2, -4),
  });
  expect(lastOf(`run/${RUN}`)).toMatchObject({ "run.memory.utilization": near(0.1), "run.threads": 7 });
  expect(lastOf("edge-gpu-0")).toMatchObject({
    "gpu.utilization": near(0.83),
    "gpu.memory.utilization": near(71.2 / 79.6),
    "gpu.power.utilization": near(612.3 / 700),
    "gpu.temperature": 64,
  });
  // Not read, and so not said.
  expect(lastOf("edge-gpu-0")).not.toHaveProperty("gpu.memory.activity");
});

test("events, rounds and edges' statuses of a timeline arrive", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  const started = Date.now() - 10_000;
  await at.json(`/api/v1/runs/${RUN}/spans`, {
    body: {
      client: "s",
      seq: 1,
      items: [
        { name: "train", value: "1", edge: "7", started, ended: started + 500 },
        { kind: "round", name: "round", value: "0", round: 0, total: 3, started, ended: started + 800 },
        { kind: "status", name: "TRAINING", edge: "7", started },
      ],
    },
  });
  await arrived(at);
  const { spans } = await up.at().json(`/api/v1/runs/${RUN}/spans`);
  expect(spans).toContainEqual(
    expect.objectContaining({ kind: "event", name: "train", value: "1", edge: "7" }),
  );
  expect(spans.find(({ kind }: { kind: string }) => kind === "event")).toMatchObject({
    started: expect.anything(),
    ended: expect.anything(),
  });
  expect(spans).toContainEqual(expect.objectContaining({ kind: "round", round: 0, total: 3 }));
  expect(spans).toContainEqual(expect.objectContaining({ kind: "status", name: "TRAINING", edge: "7" }));
});

test("by a run's own address all of it goes into that run", async () => {
  const up = await platform({ fedml: "on" });
  const at = collector();
  await up.at().json("/api/v1/runs", { body: { id: "there", name: "there" } });
  const secret = up.at().fedml!.keys.secretOf({ run: "there" });
  await add(at, `${up.url}/fedml/${secret}`);
  await create(at);
  await record(at, [{ metrics: { loss: 1 } }]);
  await print(at, [{ text: "hello" }]);
  await logFiles(at.collector, RUN, "net", { files: { "net.pt": "weights" } });
  await arrived(at);
  expect(await pointsOf(up.at(), "loss", "there")).toEqual([[0, 1]]);
  expect((await up.at().json("/api/v1/runs/there/logs")).lines).toMatchObject([{ text: "hello" }]);
  expect((await up.at().json("/api/v1/runs/there/artifacts")).outputs).toMatchObject([{ name: "net" }]);
});

test("what FedML has no words for is counted with the reason, once for each kind", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  for (const name of ["one", "two"])
    await at.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: { name } });
  await at.json(`/api/v1/runs/${RUN}/finish`, { body: { client: "c" } });
  await at.request(`/api/v1/runs/${RUN}`, { method: "DELETE" });
  const relay = await arrived(at);
  expect(relay.dropped.records).toBe(3);
  const { drops } = await at.json("/api/v1/relays");
  expect(drops).toMatchObject([
    { kind: "run.deleted", records: 1, reason: expect.stringContaining("deleted") },
    { kind: "run.changed", records: 2, reason: expect.stringContaining("name, project, config") },
  ]);
  expect(await up.at().json(`/api/v1/runs/${RUN}`)).toMatchObject({ status: "FINISHED" });
});

test("a platform that is gone, comes back with another broker's port, and restarts, lacks nothing", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  const values: number[] = [];
  const log = async (count: number) => {
    const items = Array.from({ length: count }, () => ({
      metrics: { loss: values.push(values.length) - 1 },
    }));
    await record(at, items);
    await print(
      at,
      items.map(({ metrics: { loss } }) => ({ text: `line ${loss}` })),
    );
  };
  await log(10);
  await arrived(at);
  await up.stop();
  await log(20);
  expect(
    await until(
      () => relayOf(at),
      ({ state, next_try_at }) => state === "waiting" && next_try_at !== null,
    ),
  ).toMatchObject({ error: { message: expect.any(String) }, backlog: { entries: expect.any(Number) } });
  await up.start();
  await log(30);
  await retry(at);
  await arrived(at);
  await up.restart();
  await log(5);
  await until(
    async () => {
      await retry(at);
      await Bun.sleep(50);
      return relayOf(at);
    },
    ({ state, backlog }) => state === "idle" && backlog.entries === 0,
  );
  const points = (await pointsOf(up.at(), "loss")).map((point) => (point as number[])[1]);
  expect([...new Set(points)].sort((a, b) => a! - b!)).toEqual(values);
  // At least once: no more comes again than was under way when it broke.
  expect(points.length).toBeLessThanOrEqual(values.length + 40);
  const { lines } = await up.at().json(`/api/v1/runs/${RUN}/logs?limit=1000`);
  expect(new Set(lines.map(({ text }: { text: string }) => text)).size).toBe(values.length);
});

test.each([
  [
    "no configuration",
    200,
    { code: "FAILURE", message: "no such thing" },
    "waiting",
    /FAILURE: no such thing/,
  ],
  ["half a configuration", 200, { code: "SUCCESS", data: {} }, "waiting", /mqtt_config/],
  ["404", 404, {}, "paused", /answered 404/],
  ["a wrong secret's answer", 401, {}, "paused", /answered 401/],
  ["500", 500, {}, "waiting", /answered 500/],
] as const)(
  "with %s it is in trouble, says so, keeps all, and goes on",
  async (_, status, body, state, words) => {
    const up = await platform();
    const at = collector();
    up.intercept = () => Response.json(body, { status });
    await add(at, up.url);
    await create(at);
    const relay = await until(
      () => relayOf(at),
      ({ state, next_try_at }) => (state === "waiting" || state === "paused") && next_try_at !== null,
    );
    expect(relay).toMatchObject({ state, backlog: { entries: 1 }, dead_letters: 0 });
    expect(relay.error!.message).toMatch(words);
    expect(relay.error!.hint).not.toBeNull();
    up.intercept = undefined;
    await retry(at);
    await arrived(at);
    expect(await up.at().json(`/api/v1/runs/${RUN}`)).toMatchObject({ status: "RUNNING" });
  },
);

test("a post of lines that is not answered by 200 comes again, after as long as the platform asks for", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await arrived(at);
  up.intercept = (request) =>
    request.url.includes("logs/update")
      ? new Response("slow down", { status: 429, headers: { "retry-after": "1000" } })
      : undefined;
  await print(at, [{ text: "hello" }]);
  const relay = await until(
    () => relayOf(at),
    ({ state, next_try_at }) => state === "waiting" && next_try_at !== null,
  );
  expect(Date.parse(relay.next_try_at!) - Date.now()).toBeGreaterThan(900_000);
  up.intercept = (request) =>
    request.url.includes("logs/update") ? new Response(null, { status: 204 }) : undefined;
  await retry(at);
  await until(
    () => relayOf(at),
    ({ state, error }) => state === "waiting" && /answered 204/.test(error!.message),
  );
  up.intercept = undefined;
  await retry(at);
  await arrived(at);
  expect((await up.at().json(`/api/v1/runs/${RUN}/logs`)).lines).toMatchObject([{ text: "hello" }]);
});

test("lines that the platform refuses are found, kept and sent again; the others arrive", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await arrived(at);
  up.intercept = async (request) => {
    if (!request.url.includes("logs/update")) return undefined;
    return (await request.clone().text()).includes("poison")
      ? new Response("no", { status: 400 })
      : undefined;
  };
  for (const text of ["one", "poison", "three"]) await print(at, [{ text }]);
  const relay = await arrived(at);
  expect(relay.dead_letters).toBe(1);
  const textsOf = async () =>
    (await up.at().json(`/api/v1/runs/${RUN}/logs`)).lines.map(({ text }: { text: string }) => text);
  expect(await textsOf()).toEqual(["one", "three"]);
  up.intercept = undefined;
  await at.json("/api/v1/relays/tensoropera/dead-letters", { body: { action: "requeue" } });
  expect(await textsOf()).toEqual(["one", "three", "poison"]);
  expect((await relayOf(at)).dead_letters).toBe(0);
});

test("a large file goes in parts, goes on where it broke off, and holds up nothing; versions do not collide", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await arrived(at);
  const part = new Uint8Array(8 * 1024 * 1024).map((_, i) => (i * 2654435761) >>> 13);
  const large = { "a.pt": part, "b.pt": part.toReversed(), "c.pt": part.slice(1) };
  let isBroken = true;
  up.intercept = (request) =>
    isBroken && /partNumber=3/.test(request.url) ? new Response(null, { status: 429 }) : undefined;
  await logFiles(at.collector, RUN, "net", { kind: "model", type: "model", files: large });
  await logFiles(at.collector, RUN, "net", { kind: "model", type: "model", files: { "net.pt": "small" } });
  await record(at, [{ metrics: { loss: 1 } }]);
  const waiting = await until(
    () => relayOf(at),
    ({ state, backlog, content }) => state === "idle" && backlog.entries === 0 && content!.error !== null,
  );
  expect(waiting.content).toMatchObject({ files: 4, error: expect.stringContaining("429") });
  expect(await pointsOf(up.at(), "loss")).toEqual([[0, 1]]);
  isBroken = false;
  await retry(at);
  await arrived(at);
  const sent = up.requests.filter((path) => path.includes("partNumber="));
  for (const part of [1, 2])
    expect(sent.filter((path) => path.includes(`partNumber=${part}&`))).toHaveLength(1);
  expect(up.requests.filter((path) => path.endsWith("?uploads="))).toHaveLength(1);
  const { outputs } = await up.at().json(`/api/v1/runs/${RUN}/artifacts`);
  expect(outputs).toMatchObject([
    { name: "net", version: "v1" },
    { name: "net", version: "v2" },
  ]);
  const there = await filesOf(up.at(), outputs[0].id);
  for (const [path, bytes] of Object.entries(large)) expect(Buffer.compare(there[path]!, bytes)).toBe(0);
});

test("files that wait survive a restart, and a version that the storage refuses is kept as a dead letter", async () => {
  const up = await platform();
  let at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  await add(at, up.url);
  await create(at);
  await arrived(at);
  let status = 503;
  up.intercept = (request) => (request.url.includes("/s3/") ? new Response(null, { status }) : undefined);
  await logFiles(at.collector, RUN, "net", { files: { "net.pt": "weights" } });
  await until(
    () => relayOf(at),
    ({ backlog, content }) => backlog.entries === 0 && content!.error !== null,
  );
  const gone = await at.request("/api/v1/relays/tensoropera", { method: "DELETE" });
  expect(gone.status).toBe(409);
  at = await at.restart();
  expect((await relayOf(at)).content).toMatchObject({ files: 1 });
  status = 400;
  await retry(at);
  await arrived(at);
  expect(await relayOf(at)).toMatchObject({ dead_letters: 1 });
  up.intercept = undefined;
  await at.json("/api/v1/relays/tensoropera/dead-letters", { body: { action: "requeue" } });
  await arrived(at);
  expect((await up.at().json(`/api/v1/runs/${RUN}/artifacts`)).outputs).toMatchObject([{ name: "net" }]);
  expect(await relayOf(at)).toMatchObject({ dead_letters: 0 });
});

test("a post of lines that is refused among many costs none of the others a second time", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await arrived(at);
  await up.stop();
  for (let i = 1; i <= 30; i++) await print(at, [{ text: i === 20 ? "poison" : `line ${i}` }]);
  await up.start();
  const isPoison = async (request: Request) => (await request.clone().text()).includes("poison");
  up.intercept = async (request) =>
    request.url.includes("logs/update") && (await isPoison(request))
      ? new Response("no", { status: 400 })
      : undefined;
  up.requests.length = 0;
  await until(
    async () => {
      await retry(at);
      return relayOf(at);
    },
    ({ state, backlog }) => state === "idle" && backlog.entries === 0,
  );
  expect(await relayOf(at)).toMatchObject({ dead_letters: 1 });
  expect(up.requests.filter((path) => path.includes("logs/update"))).toHaveLength(30);
  expect((await up.at().json(`/api/v1/runs/${RUN}/logs`)).lines).toHaveLength(29);
});

test("versions whose files wait for a destination that is removed are counted", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await arrived(at);
  up.intercept = (request) =>
    request.url.includes("/s3/") ? new Response(null, { status: 503 }) : undefined;
  await logFiles(at.collector, RUN, "net", { files: { "net.pt": "weights" } });
  await until(
    () => relayOf(at),
    ({ backlog, content }) => backlog.entries === 0 && content!.files === 1,
  );
  await at.json("/api/v1/relays/tensoropera?discard=true", { method: "DELETE" });
  expect((await at.json("/api/v1/relays")).drops).toMatchObject([
    { destination: "tensoropera", kind: "artifact.logged", records: 1, bytes: 7 },
  ]);
});

test("a version that is sent again as a dead letter while its upload is still taken back arrives", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await arrived(at);
  const asked = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  up.intercept = async ({ url, method }) => {
    if (url.includes("partNumber=2")) return new Response(null, { status: 422 });
    if (!url.includes("/s3/") || method !== "DELETE") return undefined;
    asked.resolve();
    await released.promise;
    return undefined;
  };
  await logFiles(at.collector, RUN, "net", { files: { a: new Uint8Array(8 * 1024 * 1024), b: "more" } });
  await asked.promise;
  await at.json("/api/v1/relays/tensoropera/dead-letters", { body: { action: "requeue" } });
  up.intercept = undefined;
  released.resolve();
  expect(await arrived(at)).toMatchObject({ dead_letters: 0 });
  expect((await up.at().json(`/api/v1/runs/${RUN}/artifacts`)).outputs).toMatchObject([{ name: "net" }]);
});

test("an upload in parts that is given up is taken back there", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  await arrived(at);
  const methods: string[] = [];
  up.intercept = (request) => {
    if (!request.url.includes("/s3/")) return undefined;
    methods.push(request.method);
    return request.url.includes("partNumber=2") ? new Response(null, { status: 422 }) : undefined;
  };
  await logFiles(at.collector, RUN, "net", { files: { a: new Uint8Array(8 * 1024 * 1024), b: "more" } });
  await arrived(at);
  expect(await relayOf(at)).toMatchObject({ dead_letters: 1 });
  // It is taken back after it has left the queue.
  const left = up.at().collector.connection.prepare("SELECT * FROM object_upload");
  await until(
    () => left.all(),
    (uploads) => uploads.length === 0,
  );
  expect(methods).toEqual(["POST", "PUT", "PUT", "DELETE"]);
});

test.each([
  ["fedml+http://platform.example", "without TLS"],
  ["fedml+https://u:p@platform.example", "a user or a password"],
  ["fedml+https://169.254.169.254", "no platform's"],
  ["fedml+ftp://platform.example", "http or https"],
])("%s is no address for it", async (url, words) => {
  const at = collector();
  const answer = await at.request("/api/v1/relays", { body: { name: "a", url } });
  expect(answer.status).toBeGreaterThanOrEqual(400);
  expect((await answer.json()).detail).toContain(words);
});

test("an entry that can't be read is a dead letter, and what is behind it arrives", async () => {
  const up = await platform();
  const at = collector();
  await add(at, up.url);
  await create(at);
  const entry = {
    version: 1,
    run: RUN,
    client: null,
    clientSeq: null,
    ordinal: null,
    nextStep: null,
    count: 1,
    time: Date.now(),
    encoding: Encoding.json,
    payload: new TextEncoder().encode("no JSON"),
  };
  for (const kind of ["artifact.logged", "run.changed", "span.recorded"] as const)
    await at.collector.journal.append({ ...entry, kind }, {}, []);
  await record(at, [{ metrics: { loss: 1 } }]);
  expect(await arrived(at)).toMatchObject({ dead_letters: 3, error: null });
  expect(await pointsOf(up.at(), "loss")).toEqual([[0, 1]]);
});

test("with --from history all that is kept goes there, and an imported run; a restart within it goes on where it was", async () => {
  const up = await platform();
  let at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  await create(at);
  await record(at, [{ metrics: { loss: 1 } }, { metrics: { loss: 2 } }]);
  await print(at, [{ text: "hello" }]);
  await logFiles(at.collector, RUN, "net", { kind: "model", files: { "net.pt": "weights" } });
  await at.json(`/api/v1/runs/${RUN}/finish`, { body: { client: "c", status: "KILLED" } });
  await create(at, "2");
  await record(at, [{ metrics: { loss: 3 } }], { run: "2" });
  const zip = await exportOf(at, RUN);
  // As time does: the journal has no more of it.
  await at.collector.tidy(10_000);
  expect(at.collector.journal.bounds().first).toBe(at.collector.journal.position().seq + 1);
  let isBroken = true;
  up.intercept = (request) =>
    isBroken && request.url.includes("logs/update") ? new Response(null, { status: 503 }) : undefined;
  expect(await add(at, up.url, { from: "history" })).toMatchObject({ from: "history" });
  await until(
    () => relayOf(at),
    ({ error }) => error !== null,
  );
  at = await at.restart();
  isBroken = false;
  await retry(at);
  await arrived(at);
  const there = up.at();
  expect(await there.json(`/api/v1/runs/${RUN}`)).toMatchObject({ status: "KILLED" });
  expect(await there.json("/api/v1/runs/2")).toMatchObject({ status: "RUNNING" });
  expect(await pointsOf(there, "loss")).toEqual([
    [0, 1],
    [1, 2],
  ]);
  expect(await pointsOf(there, "loss", "2")).toEqual([[0, 3]]);
  expect((await there.json(`/api/v1/runs/${RUN}/logs`)).lines).toMatchObject([{ text: "hello" }]);
  expect((await there.json(`/api/v1/runs/${RUN}/artifacts`)).outputs).toMatchObject([
    { name: "net", version: "v1" },
  ]);
  // What had arrived before the restart did not come again.
  expect(there.fedml!.counts.list()).toEqual([]);

  const second = await platform();
  const other = collector();
  await add(other, second.url);
  expect((await importTo(other, zip)).status).toBeLessThan(300);
  await arrived(other);
  expect(await pointsOf(second.at(), "loss")).toEqual([
    [0, 1],
    [1, 2],
  ]);
  expect(await second.at().json(`/api/v1/runs/${RUN}`)).toMatchObject({ status: "KILLED" });
  expect((await second.at().json(`/api/v1/runs/${RUN}/artifacts`)).outputs).toMatchObject([{ name: "net" }]);
});
