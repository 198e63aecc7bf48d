import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { registerDevice } from "../src/device/register.ts";
import { recordUse } from "../src/device/use.ts";
import { createRelays } from "../src/relay/relay.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import { blockStart } from "../src/store/sample-block.ts";
import { exportOf, importTo } from "./helpers/archive.ts";
import { logFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { DEVICE, facts } from "./helpers/device.ts";
import { startPlatform, until, type TestPlatform } from "./helpers/relay.ts";
import type { Relay, RelayList } from "../src/relay/schema.ts";

setDefaultTimeout(60_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function platform(options = {}): Promise<TestPlatform> {
  const at = await startPlatform(options);
  closers.push(() => at.close());
  return at;
}

/** A collector that relays; `restart` keeps its place here. */
function source(): { at: TestCollector; restart(): Promise<void> } {
  const held = {
    at: createTestCollector({ relays: true }),
    async restart() {
      held.at = await held.at.restart();
    },
  };
  closers.push(() => held.at.close());
  return held;
}

const relaysOf = (at: TestCollector): Promise<RelayList> => at.json("/api/v1/relays");
async function relayOf(at: TestCollector, name = "up"): Promise<Relay> {
  return (await relaysOf(at)).relays.find((relay) => relay.name === name)!;
}
const add = (at: TestCollector, url: string, token: string, more: object = {}) =>
  at.json<Relay>("/api/v1/relays", { body: { name: "up", url, token, ...more } });
const arrived = (at: TestCollector, name = "up") =>
  until(
    () => relayOf(at, name),
    ({ state, backlog }) => state === "idle" && backlog.entries === 0,
  );
const inState = (at: TestCollector, state: Relay["state"], name = "up") =>
  until(
    () => relayOf(at, name),
    (relay) => relay.state === state,
  );

const seqs = new Map<string, number>();
async function log(at: TestCollector, run: string, values: number[]): Promise<void> {
  const key = `${at.dataDir} ${run}`;
  seqs.set(key, (seqs.get(key) ?? 0) + 1);
  const items = values.map((loss) => ({ metrics: { loss } }));
  await at.json(`/api/v1/runs/${run}/records`, { body: { client: "c", seq: seqs.get(key), items } });
}
async function print(at: TestCollector, run: string, texts: string[]): Promise<void> {
  const key = `${at.dataDir} ${run}`;
  seqs.set(key, (seqs.get(key) ?? 0) + 1);
  const items = texts.map((text) => ({ stream: "stdout", text }));
  await at.json(`/api/v1/runs/${run}/logs`, { body: { client: "c", seq: seqs.get(key), items } });
}
const create = (at: TestCollector, id: string) =>
  at.json("/api/v1/runs", { body: { id, name: `run ${id}`, writer: { client: "c", role: "client" } } });
const valuesOf = async (at: TestCollector, run: string): Promise<number[]> =>
  (await at.json(`/api/v1/runs/${run}/points?key=loss`)).points.map(([, value]: [number, number]) => value);
const linesOf = async (at: TestCollector, run: string): Promise<string[]> =>
  (await at.json(`/api/v1/runs/${run}/logs`)).lines.map(({ text }: { text: string }) => text);

test("metrics, logs and runs arrive as they are, and a fresh record within moments", async () => {
  const up = await platform();
  const from = source();
  const added = await add(from.at, up.url, await up.addSource("lab"));
  expect(added).toMatchObject({ name: "up", kind: "platform", url: up.url, from: "history" });
  await create(from.at, "a");
  await log(from.at, "a", [1, 2, 3]);
  await print(from.at, "a", ["hello", "world"]);
  await arrived(from.at);
  expect(await valuesOf(up.at, "a")).toEqual([1, 2, 3]);
  expect(await linesOf(up.at, "a")).toEqual(["hello", "world"]);
  expect(await up.at.json("/api/v1/runs/a")).toMatchObject({
    name: "run a",
    source: "lab",
    status: "RUNNING",
  });
  await log(from.at, "a", [4]);
  await until(
    () => valuesOf(up.at, "a"),
    ({ length }) => length === 4,
  );
  await from.at.json("/api/v1/runs/a/finish", { body: { client: "c", status: "FINISHED" } });
  await until(
    () => up.at.json("/api/v1/runs/a"),
    ({ status }) => status === "FINISHED",
  );
  const relay = await arrived(from.at);
  expect(relay).toMatchObject({ error: null, dead_letters: 0, dropped: { records: 0, bytes: 0 } });
  expect(relay.backlog).toEqual({ entries: 0, bytes: 0, oldest: null });
  expect(relay.acked_at).toBeString();
});

test("while the platform is away everything is kept, and arrives in order once it is back", async () => {
  const up = await platform();
  const from = source();
  await add(from.at, up.url, await up.addSource("lab"));
  await create(from.at, "a");
  await log(from.at, "a", [1]);
  await arrived(from.at);
  await up.stop();
  for (let i = 2; i <= 50; i++) await log(from.at, "a", [i]);
  const waiting = await until(
    () => relayOf(from.at),
    ({ state, next_try_at }) => state === "waiting" && next_try_at !== null,
  );
  expect(waiting.error!.message).toContain("Nobody answers");
  expect(waiting.backlog).toMatchObject({ entries: 49, oldest: expect.any(String) });
  expect(waiting.backlog.bytes).toBeGreaterThan(49 * 20);
  await from.restart();
  for (let i = 51; i <= 60; i++) await log(from.at, "a", [i]);
  await up.start();
  await from.at.json("/api/v1/relays/up/retry", { method: "POST" });
  await arrived(from.at);
  expect(await valuesOf(up.at, "a")).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
});

test("what was there before a destination comes first, though its journal is gone", async () => {
  const up = await platform();
  const from = source();
  await create(from.at, "old");
  for (let i = 0; i < 20; i++) await log(from.at, "old", [i, i + 0.5]);
  await print(from.at, "old", ["one", "two"]);
  await from.at.collector.tidy(10_000);
  expect(from.at.collector.journal.bounds().first).toBeGreaterThan(20);
  await add(from.at, up.url, await up.addSource("lab"));
  await create(from.at, "new");
  await log(from.at, "new", [7]);
  await arrived(from.at);
  expect(await valuesOf(up.at, "old")).toEqual(Array.from({ length: 20 }, (_, i) => [i, i + 0.5]).flat());
  expect(await linesOf(up.at, "old")).toEqual(["one", "two"]);
  expect(await valuesOf(up.at, "new")).toEqual([7]);
});

test("from now on: nothing of before", async () => {
  const up = await platform();
  const from = source();
  await create(from.at, "old");
  await log(from.at, "old", [1, 2]);
  await add(from.at, up.url, await up.addSource("lab"), { from: "now" });
  await create(from.at, "new");
  await log(from.at, "new", [3]);
  await arrived(from.at);
  const runs = (await up.at.json("/api/v1/runs")).runs.map(({ id }: { id: string }) => id);
  expect(runs).toEqual(["new"]);
  // A run that was there before is introduced once something comes of it.
  await log(from.at, "old", [4]);
  await arrived(from.at);
  expect(await valuesOf(up.at, "old")).toEqual([4]);
});

test("from now on: machines with what they are, and without what happened to them before", async () => {
  const up = await platform();
  const from = source();
  const { collector } = from.at;
  const read = (time: number) =>
    appendSamples(collector, DEVICE, [{ subject: "", time, values: { "load.1": 1 } }]);
  const jump = (text: string) =>
    recordEvents(collector, DEVICE, [
      { subject: "", time: Date.now(), kind: "clock.jumped", text, detail: {} },
    ]);
  const begun = Date.now();
  await registerDevice(collector, DEVICE, facts());
  await create(from.at, "old");
  await recordUse(collector, DEVICE, {
    run: "old",
    from: begun,
    to: null,
    attribution: "cgroup",
    cpuSeconds: 1,
    gpus: {},
    note: null,
  });
  await read(begun);
  await jump("before");
  await Bun.sleep(2);
  await add(from.at, up.url, await up.addSource("lab"), { from: "now" });
  await read(begun + 1000);
  await jump("after");
  // It is introduced, and all its machine says of itself with it.
  await log(from.at, "old", [1]);
  await arrived(from.at);
  const { devices } = await up.at.json("/api/v1/devices");
  expect(devices).toMatchObject([{ id: DEVICE, name: facts().name, source: "lab" }]);
  const within = `from=${begun - 1000}&to=${begun + 60_000}`;
  const { events } = await up.at.json(`/api/v1/devices/${DEVICE}/events?${within}`);
  expect(events.map(({ text }: { text: string }) => text)).toEqual(["after"]);
  const times = up.at.collector.samples.rowTimes(DEVICE, "", blockStart(begun + 1000));
  expect([...times]).toEqual([begun + 1000]);
  expect(await valuesOf(up.at, "old")).toEqual([1]);
});

test("a dead destination and a slow one hold up neither the third nor local use", async () => {
  const up = await platform();
  const slow = await platform();
  const held: (() => void)[] = [];
  slow.intercept = (request) =>
    request.url.endsWith("/batches")
      ? new Promise((resolve) => held.push(() => resolve(undefined)))
      : undefined;
  const from = source();
  await add(from.at, "http://127.0.0.1:1", "no-such-token", { name: "dead" });
  await add(from.at, slow.url, await slow.addSource("lab"), { name: "slow" });
  await add(from.at, up.url, await up.addSource("lab"));
  await create(from.at, "a");
  for (let i = 0; i < 20; i++) await log(from.at, "a", [i]);
  await arrived(from.at);
  expect(await valuesOf(up.at, "a")).toHaveLength(20);
  const dead = await inState(from.at, "waiting", "dead");
  expect(dead.backlog.entries).toBe(21);
  expect((await relayOf(from.at, "slow")).acked).toBe(0);
  slow.intercept = undefined;
  for (const go of held) go();
  await arrived(from.at, "slow");
  expect(await valuesOf(slow.at, "a")).toHaveLength(20);
});

test("a destination that wants one epoch after the other neither uses them up nor unsettles the others", async () => {
  const up = await platform();
  const from = source();
  let asked = 0;
  let leap = 0;
  const server = Bun.serve({
    port: 0,
    reusePort: false,
    async fetch(request) {
      asked++;
      const { epoch } = (await request.json()) as { epoch: number };
      const problem = { type: "urn:binnacle:epoch", detail: "newer", epoch: epoch + leap, common: 0 };
      return Response.json(problem, { status: 412 });
    },
  });
  closers.push(() => server.stop(true));
  await add(from.at, up.url, await up.addSource("lab"));
  await add(from.at, `http://127.0.0.1:${server.port}`, "bnc_source_none", { name: "liar" });
  const tell = async (times: number) => {
    const enough = asked + times;
    while (asked < enough) {
      await from.at.json("/api/v1/relays/liar/retry", { body: {} });
      await Bun.sleep(20);
    }
  };
  await tell(40);
  expect((await relaysOf(from.at)).installation.epoch).toBeLessThan(20);
  leap = 2 ** 31 - 1000;
  await tell(4);
  expect((await relaysOf(from.at)).installation.epoch).toBeLessThan(20);
  expect((await relayOf(from.at, "liar")).error!.hint).toContain("Nothing of it is believed");
  await create(from.at, "a");
  await log(from.at, "a", [1, 2, 3]);
  await arrived(from.at);
  expect(await valuesOf(up.at, "a")).toEqual([1, 2, 3]);
});

test("a token that is wrong or revoked pauses it, data stays, and a new one is taken by adding it again", async () => {
  const up = await platform();
  const from = source();
  const told: string[] = [];
  await add(from.at, up.url, `bnc_source_${"0".repeat(64)}`);
  await create(from.at, "a");
  const paused = await inState(from.at, "paused");
  expect(paused.error!.hint).toContain("binnacle source add");
  expect(JSON.stringify(paused)).not.toContain("bnc_source_");
  const token = await up.addSource("lab");
  await add(from.at, up.url, token);
  await arrived(from.at);
  await up.at.json("/api/v1/sources/lab", { method: "DELETE" });
  await log(from.at, "a", [1, 2]);
  await inState(from.at, "paused");
  expect((await relayOf(from.at)).backlog.entries).toBe(1);
  await add(from.at, up.url, await up.addSource("lab"));
  await arrived(from.at);
  expect(await valuesOf(up.at, "a")).toEqual([1, 2]);
  expect(told).toEqual([]);
  // Nowhere but in its file.
  const answers = await Promise.all(
    ["/api/v1/relays", "/metrics", "/api/v1/relays/up/dead-letters"].map(async (path) =>
      (await from.at.request(path)).text(),
    ),
  );
  expect(answers.join()).not.toContain(token);
  const database = await Bun.file(`${from.at.dataDir}/binnacle.db-wal`).text();
  expect(database).not.toContain(token);
});

test("relaying to oneself, or in a circle, is found and paused", async () => {
  const one = await platform();
  const two = await platform();
  await add(one.at, one.url, await one.addSource("self"), { name: "self" });
  const self = await inState(one.at, "paused", "self");
  expect(self.error!.hint).toContain("circle");
  await one.at.json("/api/v1/relays/self?discard=true", { method: "DELETE" });
  await add(one.at, two.url, await two.addSource("one"), { name: "two" });
  await arrived(one.at, "two");
  await add(two.at, one.url, await one.addSource("two"), { name: "one" });
  await inState(two.at, "paused", "one");
});

test("a destination that lacks something is removed only where that is given up, which is counted", async () => {
  const from = source();
  await add(from.at, "http://127.0.0.1:1", "no-such-token");
  await create(from.at, "a");
  await log(from.at, "a", [1, 2, 3]);
  await log(from.at, "a", [4]);
  await inState(from.at, "waiting");
  const refused = await from.at.request("/api/v1/relays/up", { method: "DELETE" });
  expect(refused.status).toBe(409);
  expect(await refused.json()).toMatchObject({ entries: 3, hint: expect.stringContaining("--discard") });
  await from.at.json("/api/v1/relays/up?discard=true", { method: "DELETE" });
  const { relays, drops } = await relaysOf(from.at);
  expect(relays).toEqual([]);
  const sorted = drops.toSorted((a, b) => a.first_seq! - b.first_seq!);
  expect(sorted).toMatchObject([
    { destination: "up", stream: "a", kind: "run.created", first_seq: 1, last_seq: 1, records: 1 },
    { destination: "up", stream: "a", kind: "metric.appended", first_seq: 2, last_seq: 3, records: 4 },
  ]);
  expect(await Bun.file(`${from.at.dataDir}/relays.json`).json()).toEqual({});
  await from.at.collector.tidy(10_000);
  expect(from.at.collector.journal.bounds().first).toBe(4);
  expect((await from.at.request("/api/v1/relays/up", { method: "DELETE" })).status).toBe(404);
});

test("an entry that the platform refuses for good is a dead letter and holds up nothing", async () => {
  const up = await platform();
  const from = source();
  await create(from.at, "a");
  await log(from.at, "a", [1]);
  await from.at.collector.journal.append(
    {
      kind: "event.recorded",
      version: 1,
      run: "device:0123456789abcdef",
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: 1,
      time: Date.now(),
      encoding: 0,
      payload: new TextEncoder().encode("no events"),
    },
    [],
  );
  await log(from.at, "a", [2]);
  await add(from.at, up.url, await up.addSource("lab"));
  const relay = await arrived(from.at);
  expect(relay).toMatchObject({ dead_letters: 1, error: null });
  expect(await valuesOf(up.at, "a")).toEqual([1, 2]);
  const page = await from.at.json("/api/v1/relays/up/dead-letters");
  expect(page).toMatchObject({
    dead_letters: [{ seq: 3, kind: "event.recorded", stream: "device:0123456789abcdef", records: 1 }],
    next: null,
  });
  const again = await from.at.request("/api/v1/relays/up/dead-letters", { body: { action: "requeue" } });
  expect(again.status).toBe(409);
  expect((await relayOf(from.at)).dead_letters).toBe(1);
  const kept = await from.at.request("/api/v1/relays/up", { method: "DELETE" });
  expect(kept.status).toBe(409);
  const settled = await from.at.json("/api/v1/relays/up/dead-letters", { body: { action: "discard" } });
  expect(settled).toEqual({ settled: 1 });
  expect(await relayOf(from.at)).toMatchObject({ dead_letters: 0, dropped: { records: 1 } });
});

test("a batch that was damaged on its way is sent again, and its entry is no dead letter", async () => {
  const up = await platform();
  const from = source();
  await add(from.at, up.url, await up.addSource("lab"));
  await create(from.at, "a");
  await arrived(from.at);
  let damaged = 0;
  up.intercept = async (request) => {
    if (!request.url.endsWith("/batches") || damaged > 0) return undefined;
    damaged++;
    const { method, headers, url } = request;
    const body = new Uint8Array(await request.arrayBuffer());
    body[body.length - 1]! ^= 1;
    return up.at.app.fetch(new Request(url, { method, headers, body }));
  };
  await log(from.at, "a", [1]);
  const relay = await arrived(from.at);
  expect(damaged).toBe(1);
  expect(relay.dead_letters).toBe(0);
  expect(await valuesOf(up.at, "a")).toEqual([1]);
});

test("a batch whose headers were damaged on their way counts for nothing", async () => {
  const up = await platform();
  const from = source();
  await add(from.at, up.url, await up.addSource("lab"));
  await create(from.at, "a");
  await arrived(from.at);
  let damaged = 0;
  up.intercept = async (request) => {
    if (!request.url.endsWith("/batches") || damaged > 0) return undefined;
    damaged++;
    const { method, url } = request;
    const headers = new Headers(request.headers);
    // 2-2 becomes 2-9: as if the next seven had come with it.
    headers.set("idempotency-key", headers.get("idempotency-key")!.replace(/\d"$/, '9"'));
    return up.at.app.fetch(new Request(url, { method, headers, body: await request.arrayBuffer() }));
  };
  for (let i = 1; i <= 12; i++) await log(from.at, "a", [i]);
  await arrived(from.at);
  expect(damaged).toBe(1);
  expect(await valuesOf(up.at, "a")).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
});

test("/metrics has how far each destination is behind, and why", async () => {
  const up = await platform();
  const from = source();
  await create(from.at, "a");
  await add(from.at, up.url, await up.addSource("lab"));
  await add(from.at, "http://127.0.0.1:1", "no-such-token", { name: "dead" });
  await log(from.at, "a", [1]);
  await arrived(from.at);
  await inState(from.at, "waiting", "dead");
  const lines = (await (await from.at.request("/metrics")).text()).split("\n");
  const value = (name: string, labels: string) =>
    Number(lines.find((line) => line.startsWith(`binnacle_relay_${name}{${labels}}`))?.split(" ")[1]);
  expect(value("backlog_entries", 'destination="up"')).toBe(0);
  expect(value("oldest_seconds", 'destination="up"')).toBe(0);
  expect(value("acked_entries_total", 'destination="up"')).toBe(2);
  expect(value("state", 'destination="up",state="idle"')).toBe(1);
  expect(value("state", 'destination="up",state="waiting"')).toBe(0);
  expect(value("backlog_entries", 'destination="dead"')).toBe(2);
  expect(value("backlog_bytes", 'destination="dead"')).toBeGreaterThan(20);
  expect(value("oldest_seconds", 'destination="dead"')).toBeGreaterThan(0);
  expect(value("errors_total", 'destination="dead"')).toBeGreaterThan(0);
  expect(value("state", 'destination="dead",state="waiting"')).toBe(1);
  expect(value("dead_letters", 'destination="dead"')).toBe(0);
});

test("an imported run arrives whole, once its import is whole", async () => {
  const other = createTestCollector();
  closers.push(() => other.close());
  await create(other, "imported");
  for (let i = 0; i < 5; i++) await log(other, "imported", [i, i / 3]);
  await print(other, "imported", ["one", "two"]);
  await other.json("/api/v1/runs/imported/finish", { body: { client: "c", status: "FINISHED" } });
  const zip = await exportOf(other, "imported");
  const up = await platform();
  const from = source();
  await add(from.at, up.url, await up.addSource("lab"));
  await create(from.at, "own");
  expect((await importTo(from.at, zip)).status).toBe(201);
  await log(from.at, "own", [7]);
  await arrived(from.at);
  expect(await valuesOf(up.at, "imported")).toEqual(await valuesOf(other, "imported"));
  expect(await linesOf(up.at, "imported")).toEqual(["one", "two"]);
  expect(await valuesOf(up.at, "own")).toEqual([7]);
  expect((await up.at.json("/api/v1/runs/imported")).status).toBe("FINISHED");
});

test("files arrive by their digest beside the entries, and only once", async () => {
  const up = await platform();
  const from = source();
  await create(from.at, "a");
  const large = Uint8Array.from({ length: 7 * 1024 * 1024 }, (_, at) => (at * 7 + (at >> 8)) % 251);
  await logFiles(from.at.collector, "a", "net", { files: { "weights.bin": large, "config.json": "{}" } });
  await add(from.at, up.url, await up.addSource("lab"));
  await until(
    () => relayOf(from.at),
    ({ state, content }) => state === "idle" && content?.files === 0,
  );
  const [model] = (await up.at.json("/api/v1/artifacts?kind=model")).artifacts;
  expect(model).toMatchObject({ name: "net", source: "lab", latest: { version: "v1" } });
  const file = `/api/v1/artifacts/${model.id}/versions/v1/file?path=weights.bin`;
  const response = await until(
    () => up.at.request(file),
    ({ ok }) => ok,
  );
  const bytes = new Uint8Array(await response.arrayBuffer());
  expect(Buffer.compare(bytes, large)).toBe(0);
  up.requests.length = 0;
  await logFiles(from.at.collector, "a", "again", { files: { "same.bin": large } });
  await until(
    () => up.at.json("/api/v1/artifacts?kind=model"),
    ({ artifacts }) => artifacts.length === 2,
  );
  await until(
    () => relayOf(from.at),
    ({ content }) => content?.files === 0,
  );
  expect(up.requests.filter((path) => path.includes("/chunks/"))).toEqual([]);
});

test("trouble is told once, not at each try, and so is its end", async () => {
  const up = await platform();
  const token = await up.addSource("lab");
  const at = createTestCollector();
  closers.push(() => at.close());
  const told: string[] = [];
  const relays = createRelays(at.collector, {
    onDiagnostic: (text) => told.push(text),
    onFailed: (error) => told.push(String(error)),
  });
  closers.push(() => relays.close());
  const look = () => relays.status().relays[0]!;
  await up.stop();
  await relays.add({ name: "up", url: up.url, token, from: "history", insecure_http: false });
  for (let tries = 1; tries <= 3; tries++) {
    await until(look, ({ attempts, next_try_at }) => attempts >= tries && next_try_at !== null);
    relays.retry("up");
  }
  await up.start();
  await until(
    () => {
      relays.retry("up");
      return look();
    },
    ({ state }) => state === "idle",
  );
  await up.at.json("/api/v1/sources/lab", { method: "DELETE" });
  await create(at, "a");
  await until(look, ({ state }) => state === "paused");
  relays.retry("up");
  await until(look, ({ state, attempts }) => state === "paused" && attempts > 1);
  expect(told).toEqual([
    expect.stringMatching(/^relay up: Nobody answers at /),
    "relay up: goes on.",
    expect.stringMatching(/^relay up: .*binnacle source add/),
  ]);
});
