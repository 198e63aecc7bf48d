import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { notesOf } from "../src/cli/relay-state.ts";
import { recordEvents } from "../src/sample/event.ts";
import { appendSamples } from "../src/sample/append.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { startBackend, type OtlpRequest, type TestBackend } from "./helpers/otlp.ts";
import { until } from "./helpers/relay.ts";
import type { Relay, RelayList } from "../src/relay/schema.ts";

setDefaultTimeout(60_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

function backend(): TestBackend {
  const started = startBackend();
  closers.push(() => started.stop());
  return started;
}

function collector(): TestCollector {
  const at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  return at;
}

const add = (at: TestCollector, url: string, more: object = {}) =>
  at.json<Relay>("/api/v1/relays", { body: { name: "otel", url: `otlp+${url}`, ...more } });
const relayOf = async (at: TestCollector): Promise<Relay> =>
  (await at.json<RelayList>("/api/v1/relays")).relays[0]!;
const arrived = (at: TestCollector) =>
  until(
    () => relayOf(at),
    ({ state, backlog }) => state === "idle" && backlog.entries === 0,
  );
const inState = (at: TestCollector, state: Relay["state"]) =>
  until(
    () => relayOf(at),
    (relay) => relay.state === state && relay.next_try_at !== null,
  );
const retry = (at: TestCollector) => at.json("/api/v1/relays/otel/retry", { method: "POST" });

const create = (at: TestCollector, id: string) =>
  at.json("/api/v1/runs", {
    body: { id, name: `run ${id}`, project: "vision", writer: { client: "c", role: "client" } },
  });
const seqs = new Map<string, number>();
function nextSeq(at: TestCollector, run: string): number {
  const key = `${at.dataDir} ${run}`;
  seqs.set(key, (seqs.get(key) ?? 0) + 1);
  return seqs.get(key)!;
}
const record = (at: TestCollector, run: string, items: object[], rank = 0) =>
  at.json(`/api/v1/runs/${run}/records`, {
    body: { client: "c", seq: nextSeq(at, run), rank, items },
  });
const log = (at: TestCollector, run: string, values: number[]) =>
  record(
    at,
    run,
    values.map((loss) => ({ metrics: { loss } })),
  );
const print = (at: TestCollector, run: string, items: object[]) =>
  at.json(`/api/v1/runs/${run}/logs`, { body: { client: "c", seq: nextSeq(at, run), items } });

const lossOf = ({ points }: TestBackend) =>
  points.filter(({ name }) => name === "loss").map(({ value }) => value);
const plain = (status: number, headers = {}) => new Response("no", { status, headers });
const ns = (ms: number) => BigInt(ms) * 1_000_000n;

test("metrics are gauges under their own names, with the run as their resource", async () => {
  const up = backend();
  const at = collector();
  expect(await add(at, `${up.url}/base`)).toMatchObject({
    kind: "otlp",
    from: "now",
    url: `otlp+${up.url}/base`,
  });
  await create(at, "a");
  await record(at, "a", [
    { time: 1_700_000_000_000, step: 7, metrics: { loss: 0.5, "eval/top 1": 1e-300 } },
    { time: 1_700_000_000_000.25, metrics: { loss: "NaN", note: "text" } },
    { time: 1_700_000_001_000, metrics: { loss: "-Infinity" } },
  ]);
  await record(at, "a", [{ time: 1_700_000_002_000, metrics: { loss: 3 } }], 2);
  expect(notesOf(await arrived(at))).toEqual([expect.stringContaining("at least once")]);
  expect(up.requests.map(({ path }) => path)).toContain("/base/v1/metrics");
  const resource = {
    "service.name": "binnacle",
    "service.instance.id": "a",
    "binnacle.run.id": "a",
    "binnacle.run.name": "run a",
    "binnacle.project": "vision",
    "binnacle.rank": 0,
  };
  const ranked = { ...resource, "service.instance.id": "a/2", "binnacle.rank": 2 };
  const point = { name: "loss", unit: undefined, kind: "gauge" as const, attributes: {} };
  expect(up.points).toEqual([
    { ...point, resource, time: ns(1_700_000_000_000), value: 0.5 },
    { ...point, resource, time: ns(1_700_000_000_000) + 250_000n, value: NaN },
    { ...point, resource, time: ns(1_700_000_001_000) + 2n, value: -Infinity },
    { ...point, resource, name: "eval/top 1", time: ns(1_700_000_000_000), value: 1e-300 },
    { ...point, resource: ranked, time: ns(1_700_000_002_000) + 3n, value: 3 },
  ]);
  expect(up.records.filter(({ event }) => event === "binnacle.metric")).toMatchObject([
    { body: '"text"', attributes: { "binnacle.metric": "note", "binnacle.step": 8 } },
  ]);
});

test("times of a series strictly increase, and a resend tells the same ones", async () => {
  const up = backend();
  const at = collector();
  await add(at, up.url);
  await create(at, "a");
  let refusals = 2;
  up.answer = ({ points }) => (points.length > 0 && refusals-- > 0 ? plain(503) : undefined);
  const time = 1_700_000_000_000;
  const items = [time, time, time - 5, time, time + 1].map((time, loss) => ({ time, metrics: { loss } }));
  await record(at, "a", items);
  await until(
    async () => {
      await retry(at);
      return lossOf(up).length;
    },
    (length) => length === 5,
  );
  const [first, second] = up.requests.filter(({ points }) => points.length > 0);
  expect(second!.points).toEqual(first!.points);
  await record(at, "a", [{ time: time + 1, metrics: { loss: 5 } }]);
  await arrived(at);
  const times = up.points.map(({ time }) => time);
  expect(times.every((time, i) => i === 0 || time > times[i - 1]!)).toBe(true);
  expect(times.map((time) => Number((time - ns(1_700_000_000_000)) / 1_000_000n))).toEqual([
    0, 0, 0, 0, 1, 1,
  ]);
});

test("steps are attributes only where the address asks for them", async () => {
  const up = backend();
  const at = collector();
  await add(at, `${up.url}?step=true`);
  await create(at, "a");
  await log(at, "a", [1, 2]);
  await arrived(at);
  expect(up.points.map(({ attributes }) => attributes)).toEqual([{ step: 0 }, { step: 1 }]);
  const bad = await at.request("/api/v1/relays", {
    body: { name: "two", url: `otlp+${up.url}?steps=1` },
  });
  expect(bad.status).toBe(400);
});

test("a backend that takes no logs, or no metrics, is spared them", async () => {
  const up = backend();
  const at = collector();
  up.answer = ({ path }) => (path === "/v1/logs" ? plain(404) : undefined);
  expect((await add(at, `${up.url}?step=true&logs=false`)).url).toBe(`otlp+${up.url}?logs=false&step=true`);
  await create(at, "a");
  await log(at, "a", [1]);
  await arrived(at);
  expect(lossOf(up)).toEqual([1]);
  expect(up.requests.map(({ path }) => path)).toEqual(["/v1/metrics"]);
  for (const query of ["logs=false&metrics=false", "logs=no", "x", "step=false"]) {
    const body = { name: "two", url: `otlp+${up.url}?${query}` };
    expect((await at.request("/api/v1/relays", { body })).status).toBe(400);
  }
});

test("lines of output are log records with their severity, stream and place", async () => {
  const up = backend();
  const at = collector();
  await add(at, up.url);
  await create(at, "a");
  await print(at, "a", [
    { time: 1_700_000_000_000, stream: "stderr", text: "ERROR: no \udc80 good ✓" },
    { time: 1_700_000_000_000, stream: "stdout", text: "" },
  ]);
  await at.json("/api/v1/runs/a/finish", { body: { client: "c", status: "FAILED", reason: "it broke" } });
  await arrived(at);
  expect(up.records.filter(({ event }) => event === undefined)).toMatchObject([
    {
      time: ns(1_700_000_000_000) + 1n,
      severity: 17,
      severityText: "ERROR",
      body: "ERROR: no \ufffd good ✓",
      attributes: { "log.iostream": "stderr", "binnacle.line": 1 },
      resource: { "binnacle.run.id": "a", "service.instance.id": "a", "binnacle.rank": 0 },
    },
    { body: "", severity: undefined, attributes: { "log.iostream": "stdout", "binnacle.line": 2 } },
  ]);
  expect(up.records.filter(({ event }) => event?.startsWith("binnacle.run."))).toMatchObject([
    { event: "binnacle.run.created", body: "RUNNING" },
    { event: "binnacle.run.changed", body: "FAILED", severity: 17 },
  ]);
});

test("readings of the machine, its GPUs and runs have OpenTelemetry's names, units and attributes", async () => {
  const up = backend();
  const at = collector();
  await add(at, up.url);
  const device = "0123456789abcdef";
  const time = 1_700_000_000_000;
  const gpu = "GPU-1";
  await appendSamples(at.collector, device, [
    {
      subject: "",
      time,
      values: {
        "cpu.utilization": 0.25,
        "memory.used": 8192,
        "disk.read@sda": 1000,
        "filesystem.used@/": 4096,
      },
    },
    {
      subject: gpu,
      time,
      values: { "gpu.utilization": 0.5, "gpu.power": 300, "gpu.energy": 10, "gpu.sm.active": 0.1 },
    },
    { subject: "cgroup", time, values: { "cpu.cores": 2, "memory.working_set": 4096 } },
    { subject: "run/a", time, values: { "run.cpu": 1.5, [`run.gpu.memory@${gpu}`]: 4096 } },
  ]);
  await recordEvents(at.collector, device, [{ subject: gpu, time, kind: "gpu.xid", text: "Xid 79" }]);
  await arrived(at);
  const seen = Object.fromEntries(
    up.points.map(({ name, unit, kind, attributes, value }) => [name, { unit, kind, attributes, value }]),
  );
  const gauge = { kind: "gauge" as const, attributes: {} };
  expect(seen).toEqual({
    "system.cpu.utilization": { ...gauge, unit: "1", value: 0.25 },
    "system.memory.usage": {
      ...gauge,
      unit: "By",
      value: 8192,
      attributes: { "system.memory.state": "used" },
    },
    "binnacle.disk.read": { ...gauge, unit: "By/s", value: 1000, attributes: { "system.device": "sda" } },
    "system.filesystem.usage": {
      ...gauge,
      unit: "By",
      value: 4096,
      attributes: { "system.filesystem.state": "used", "system.filesystem.mountpoint": "/" },
    },
    "hw.gpu.utilization": {
      ...gauge,
      unit: "1",
      value: 0.5,
      attributes: { "hw.gpu.task": "general", "hw.id": gpu },
    },
    "hw.power": { ...gauge, unit: "W", value: 300, attributes: { "hw.type": "gpu", "hw.id": gpu } },
    "hw.energy": { kind: "sum", unit: "J", value: 10, attributes: { "hw.type": "gpu", "hw.id": gpu } },
    "binnacle.gpu.sm.active": { ...gauge, unit: "1", value: 0.1, attributes: { "hw.id": gpu } },
    "container.cpu.usage": { ...gauge, unit: "{cpu}", value: 2 },
    "container.memory.working_set": { ...gauge, unit: "By", value: 4096 },
    "binnacle.run.cpu": { ...gauge, unit: "{cpu}", value: 1.5, attributes: { "binnacle.run.id": "a" } },
    "binnacle.run.gpu.memory": {
      ...gauge,
      unit: "By",
      value: 4096,
      attributes: { "binnacle.run.id": "a", "hw.id": gpu },
    },
  });
  expect(up.points[0]!.resource).toMatchObject({ "host.id": device, "service.instance.id": device });
  expect(up.records).toMatchObject([{ event: "binnacle.gpu.xid", body: "Xid 79", time: ns(time) }]);
});

test.each([
  ["429 with Retry-After", () => plain(429, { "retry-after": "0" })],
  ["502", () => plain(502)],
  ["503", () => plain(503)],
  ["504", () => plain(504)],
  ["500", () => plain(500)],
  ["a proxy's page", () => new Response("<html>", { headers: { "content-type": "text/html" } })],
  ["a redirect", () => plain(307, { location: "http://127.0.0.1:1/" })],
  ["more than 4 MiB", () => new Response(new Uint8Array(4 * 1024 * 1024 + 1))],
])("after %s it waits, keeps everything, and goes on", async (_, answer) => {
  const up = backend();
  const at = collector();
  await add(at, up.url);
  await create(at, "a");
  await arrived(at);
  up.answer = ({ points }) => (points.length > 0 ? answer() : undefined);
  const before = up.points.length;
  await log(at, "a", [1, 2, 3]);
  const waiting = await inState(at, "waiting");
  expect(waiting).toMatchObject({ backlog: { entries: 1 }, dead_letters: 0, dropped: { records: 0 } });
  expect(waiting.error!.message).toMatch(/answered \d+: no|answer is a page|redirect|more than an answer/);
  up.answer = undefined;
  // Where 200 came with something that is no answer, the backend has them, and gets them again: at least once.
  up.points.splice(before);
  await retry(at);
  await arrived(at);
  expect(lossOf(up)).toEqual([1, 2, 3]);
});

test("Retry-After is a lower bound", async () => {
  const up = backend();
  const at = collector();
  up.answer = () => plain(429, { "retry-after": "1000" });
  await add(at, up.url);
  await create(at, "a");
  const { next_try_at, error } = await inState(at, "waiting");
  expect(Date.parse(next_try_at!) - Date.parse(error!.at)).toBeGreaterThanOrEqual(1_000_000);
});

test("a backend that is away is waited for, also over a restart", async () => {
  const up = backend();
  let at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  await add(at, up.url);
  await create(at, "a");
  await arrived(at);
  const port = Number(new URL(up.url).port);
  await up.stop();
  for (let i = 1; i <= 20; i++) await log(at, "a", [i]);
  expect((await inState(at, "waiting")).error!.message).toContain("Nobody answers");
  at = await at.restart();
  const again = startBackend(port);
  closers.push(() => again.stop());
  await retry(at);
  await arrived(at);
  expect(lossOf(again)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
});

test.each([401, 403, 404])("%d pauses it with what to do, and nothing is given up", async (status) => {
  const up = backend();
  const at = collector();
  up.answer = ({ headers }) =>
    headers.get("authorization") === "Bearer the-right-token" ? undefined : plain(status);
  await add(at, up.url, { token: "a-wrong-token" });
  await create(at, "a");
  await log(at, "a", [1]);
  const paused = await inState(at, "paused");
  expect(paused.error!.hint).toContain(status === 404 ? "/v1/metrics" : "--token-file");
  expect(JSON.stringify(paused)).not.toContain("a-wrong-token");
  expect(paused.dead_letters).toBe(0);
  await add(at, up.url, { token: "the-right-token" });
  await arrived(at);
  expect(lossOf(up)).toEqual([1]);
});

test.each([400, 413, 422])(
  "an entry refused with %d is found by halving and kept, the others arrive",
  async (status) => {
    const up = backend();
    const at = collector();
    const bad = ({ points, records }: OtlpRequest) =>
      points.some(({ value }) => value === 13) || records.some(({ body }) => body === "bad line");
    up.answer = (request) =>
      bad(request)
        ? new Response("\x08\x03\x12\x0dcannot be 13!", {
            status,
            headers: { "content-type": "application/x-protobuf" },
          })
        : undefined;
    await create(at, "a");
    for (let i = 1; i <= 30; i++) await log(at, "a", [i]);
    await print(at, "a", [{ text: "bad line" }]);
    await print(at, "a", [{ text: "good line" }]);
    await add(at, up.url, { from: "history" });
    const relay = await arrived(at);
    expect(relay).toMatchObject({ dead_letters: 2, error: null, from: "history" });
    expect(lossOf(up)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1).filter((value) => value !== 13));
    expect(up.records.map(({ body }) => body)).toEqual(["RUNNING", "good line"]);
    const { dead_letters } = await at.json("/api/v1/relays/otel/dead-letters");
    expect(dead_letters).toMatchObject([
      {
        seq: 14,
        kind: "metric.appended",
        detail: expect.stringContaining(`answered ${status}: cannot be 13!`),
      },
      { seq: 32, kind: "log.appended" },
    ]);
    const refused = await at.request("/api/v1/relays/otel/dead-letters", { body: { action: "requeue" } });
    expect(refused.status).toBe(409);
    up.answer = undefined;
    expect(await at.json("/api/v1/relays/otel/dead-letters", { body: { action: "requeue" } })).toEqual({
      settled: 2,
    });
    expect(lossOf(up)).toContain(13);
    expect((await relayOf(at)).dead_letters).toBe(0);
  },
);

test("a backend that refuses everything is paused after a hundred dead letters", async () => {
  const up = backend();
  const at = collector();
  up.answer = () => plain(400);
  await create(at, "a");
  for (let i = 0; i < 120; i++) await log(at, "a", [i]);
  await add(at, up.url, { from: "history" });
  const paused = await inState(at, "paused");
  expect(paused.error!.message).toContain("100 entries");
  up.answer = undefined;
  await retry(at);
  const { dead_letters } = await arrived(at);
  expect(dead_letters + lossOf(up).length).toBeGreaterThanOrEqual(120);
});

test("what a backend rejects of a request is counted with its words, and not sent again", async () => {
  const up = backend();
  const at = collector();
  await add(at, up.url);
  await create(at, "a");
  await arrived(at);
  up.answer = ({ points }) =>
    points.length > 0
      ? new Response("\x0a\x0b\x08\x02\x12\x07too old", {
          headers: { "content-type": "application/x-protobuf" },
        })
      : undefined;
  await log(at, "a", [1, 2, 3]);
  await log(at, "a", [4, 5]);
  const relay = await arrived(at);
  expect(relay).toMatchObject({ dropped: { records: 4 }, notice: { message: "too old" }, dead_letters: 0 });
  const { drops } = await at.json<RelayList>("/api/v1/relays");
  expect(drops).toMatchObject([
    { destination: "otel", stream: "a", kind: "metric.appended", first_seq: 2, last_seq: 3, records: 4 },
  ]);
  expect(drops[0]!.reason).toContain("too old");
  expect(up.requests.filter(({ points }) => points.length > 0)).toHaveLength(2);
});

test("gzip is left out where the backend does not read it", async () => {
  const up = backend();
  const at = collector();
  up.answer = ({ headers }) => (headers.has("content-encoding") ? plain(415) : undefined);
  await add(at, up.url);
  await create(at, "a");
  const values = Array.from({ length: 2000 }, (_, i) => i);
  await log(at, "a", values);
  await arrived(at);
  expect(lossOf(up)).toEqual(values);
  expect(up.requests.filter(({ headers }) => headers.has("content-encoding"))).toHaveLength(1);
});

test("what is more than a backend takes at once goes in several requests, in order", async () => {
  const up = backend();
  const at = collector();
  await add(at, up.url);
  await create(at, "a");
  const metrics = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`m${i}`, i]));
  const items = Array.from({ length: 3000 }, () => ({ metrics }));
  await record(at, "a", items);
  await arrived(at);
  expect(up.points).toHaveLength(300_000);
  expect(up.requests.filter(({ points }) => points.length > 0).length).toBeGreaterThan(1);
  expect(up.requests.every(({ headers }) => Number(headers.get("content-length")) < 4 * 1024 * 1024)).toBe(
    true,
  );
});

test("entries that the journal could keep no longer are counted", async () => {
  const up = backend();
  const at = collector();
  await create(at, "a");
  await log(at, "a", [1]);
  await add(at, up.url);
  await up.stop();
  for (let i = 2; i <= 11; i++) await log(at, "a", [i]);
  await inState(at, "waiting");
  const first = await until(
    async () => {
      // As it does beyond a gibibyte.
      at.collector.journal.hold("relay otel", undefined);
      await at.collector.tidy(10_000);
      return at.collector.journal.bounds().first;
    },
    (first) => first > 3,
  );
  const again = await at.restart();
  closers.push(() => again.close());
  await until(
    async () => (await again.json<RelayList>("/api/v1/relays")).drops,
    (drops) => drops.length === 1 && drops[0]!.first_seq === 3 && drops[0]!.last_seq === first - 1,
  );
});

test("what a backend says of seqs in its refusal names no entry: they are not its own", async () => {
  const up = backend();
  const at = collector();
  await add(at, up.url);
  await create(at, "a");
  await arrived(at);
  up.answer = () => plain(503);
  for (const loss of [1, 2, 3]) await log(at, "a", [loss]);
  await inState(at, "waiting");
  const last = at.collector.journal.position().seq;
  up.answer = ({ points }) =>
    points.length > 1 ? Response.json({ seq: last, index: 2 }, { status: 400 }) : undefined;
  up.points.splice(0);
  await retry(at);
  await arrived(at);
  expect(lossOf(up)).toEqual([1, 2, 3]);
});
