/** A platform whose broker does as the test says: hangs up, keeps silent, gives other passwords. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { Aedes, type AedesPublishPacket } from "aedes";
import type { Relay } from "../src/relay/schema.ts";
import { exportOf, importTo } from "./helpers/archive.ts";
import { logFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { until } from "./helpers/relay.ts";
import { relayOf } from "./helpers/relay-fedml.ts";

setDefaultTimeout(120_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

interface Scratch {
  url: string;
  /** What was acknowledged, as text. */
  payloads: string[];
  topics: string[];
  fetches: number;
  /** Connections at once, at most. */
  most: number;
  /** Paths of what was put into its storage. */
  puts: string[];
  /** Its storage answers a DELETE no sooner. */
  deleting: Promise<void>;
  /** It hangs up on these. */
  hates: (payload: string) => boolean;
  /** Takes connections, and says nothing. */
  isSilent: boolean;
  password: string;
}

async function scratch(): Promise<Scratch> {
  const sockets = new Set<Socket>();
  const broker = await Aedes.createBroker();
  const server = createServer((socket) => {
    at.most = Math.max(at.most, sockets.add(socket).size);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    if (!at.isSilent) broker.handle(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const http = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    reusePort: false,
    async fetch(request) {
      const { origin, pathname } = new URL(request.url);
      if (request.method === "PUT") at.puts.push(pathname);
      if (request.method === "DELETE") await at.deleting;
      if (pathname !== "/fedmlOpsServer/configs/fetch") return new Response();
      at.fetches++;
      return Response.json({
        code: "SUCCESS",
        data: {
          mqtt_config: {
            BROKER_HOST: "127.0.0.1",
            BROKER_PORT: (server.address() as AddressInfo).port,
            MQTT_USER: "user",
            MQTT_PWD: at.password,
            MQTT_KEEPALIVE: 180,
          },
          s3_config: { BUCKET_NAME: "b", CN_S3_AKI: "a", CN_S3_SAK: "s", CN_S3_ENDPOINT: `${origin}/s3` },
          ml_ops_config: { LOG_SERVER_URL: `${origin}/logs` },
        },
      });
    },
  });
  const at: Scratch = {
    url: `fedml+http://127.0.0.1:${http.port}`,
    payloads: [],
    topics: [],
    fetches: 0,
    most: 0,
    puts: [],
    deleting: Promise.resolve(),
    hates: () => false,
    isSilent: false,
    password: "right",
  };
  broker.authenticate = (_client, _user, password, done) => done(null, String(password) === "right");
  broker.authorizePublish = (_client, packet, done) =>
    done(at.hates(String(packet.payload)) ? new Error("no") : null);
  broker.on("publish", ({ topic, payload }: AedesPublishPacket, client) => {
    if (!client) return;
    at.topics.push(topic);
    at.payloads.push(String(payload));
  });
  closers.push(async () => {
    await http.stop(true);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    await new Promise<void>((resolve) => broker.close(() => resolve()));
  });
  return at;
}

function collector(): TestCollector {
  const at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  return at;
}

const add = (at: TestCollector, url: string) =>
  at.json<Relay>("/api/v1/relays", { body: { name: "fedml", url } });
const retry = (at: TestCollector) => at.json("/api/v1/relays/fedml/retry", { method: "POST" });
/** Nobody wants to wait for pauses. */
const arrivedSoon = (at: TestCollector) =>
  until(
    async () => {
      await retry(at);
      return relayOf(at);
    },
    ({ state, backlog }) => state === "idle" && backlog.entries === 0,
    60_000,
  );
const create = (at: TestCollector, id: string) =>
  at.json("/api/v1/runs", { body: { id, name: id, writer: { client: "c", role: "client" } } });
let client = 0;
const record = (at: TestCollector, run: string, values: number[]) =>
  at.json(`/api/v1/runs/${run}/records`, {
    body: { client: `c${++client}`, seq: 1, items: values.map((loss) => ({ metrics: { loss } })) },
  });
const lossesOf = ({ payloads }: Scratch) =>
  payloads.flatMap((payload) => (JSON.parse(payload) as { loss?: number }).loss ?? []);

test("a message on which the broker hangs up is found and kept, and all else arrives in order", async () => {
  const up = await scratch();
  const at = collector();
  up.hates = (payload) => payload.includes('"loss": 666');
  await add(at, up.url);
  await create(at, "123");
  await record(at, "123", [1, 2, 3]);
  await record(at, "123", [4, 666, 5]);
  await record(at, "123", [6, 7]);
  const relay = await arrivedSoon(at);
  expect(relay).toMatchObject({ dead_letters: 1, error: null });
  const { dead_letters: letters } = await at.json("/api/v1/relays/fedml/dead-letters");
  expect(letters).toMatchObject([{ kind: "metric.appended", stream: "123", type: "refused" }]);
  const losses = lossesOf(up);
  // What is behind it in its entry is in the letter.
  expect([...new Set(losses)]).toEqual([1, 2, 3, 4, 6, 7]);
  up.hates = () => false;
  await at.json("/api/v1/relays/fedml/dead-letters", { body: { action: "requeue" } });
  expect(new Set(lossesOf(up))).toEqual(new Set([1, 2, 3, 4, 6, 7, 666, 5]));
});

const hangingUp = (at: TestCollector) =>
  until(
    async () => {
      await retry(at);
      return relayOf(at);
    },
    ({ error }) => error?.message === "Nothing that is sent is taken.",
    60_000,
  );

/** One attempt later. */
async function hangingUpAgain(at: TestCollector): Promise<void> {
  const { error } = await relayOf(at);
  await until(
    async () => {
      await retry(at);
      return relayOf(at);
    },
    (relay) => relay.error?.message === error!.message && relay.error.at !== error!.at,
  );
}

test("a broker that hangs up on everything, as one whose disk is full, makes no dead letters of it", async () => {
  const up = await scratch();
  const at = collector();
  await add(at, up.url);
  await create(at, "123");
  await arrivedSoon(at);
  up.hates = () => true;
  // One alone, and then many.
  await record(at, "123", [0]);
  expect(await hangingUp(at)).toMatchObject({ dead_letters: 0, backlog: { entries: 1 } });
  for (let i = 1; i < 6; i++) await record(at, "123", [i]);
  await hangingUpAgain(at);
  up.hates = () => false;
  expect(await arrivedSoon(at)).toMatchObject({ dead_letters: 0, error: null });
  expect(lossesOf(up)).toEqual([0, 1, 2, 3, 4, 5]);
});

test("a message on which the broker hangs up waits until another one shows that it is the reason", async () => {
  const up = await scratch();
  const at = collector();
  await add(at, up.url);
  await create(at, "123");
  await arrivedSoon(at);
  up.hates = (payload) => payload.includes('"loss": 666');
  await record(at, "123", [666]);
  await hangingUp(at);
  await record(at, "123", [7]);
  expect(await arrivedSoon(at)).toMatchObject({ dead_letters: 1, error: null });
  expect(lossesOf(up)).toEqual([7]);
});

test("letters that are sent again go on behind one that is still refused, beside what is new, over one connection", async () => {
  const up = await scratch();
  const at = collector();
  await add(at, up.url);
  await create(at, "123");
  await arrivedSoon(at);
  up.hates = (payload) => /"loss": 66/.test(payload);
  for (const loss of [666, 665, 1]) await record(at, "123", [loss]);
  expect(await arrivedSoon(at)).toMatchObject({ dead_letters: 2 });
  up.hates = (payload) => payload.includes('"loss": 666');
  up.most = 0;
  const again = at.json("/api/v1/relays/fedml/dead-letters", { body: { action: "requeue" } });
  for (let i = 0; i < 20; i++) await record(at, "123", [2]);
  expect(await again).toMatchObject({ settled: 1 });
  expect(await arrivedSoon(at)).toMatchObject({ dead_letters: 1, error: null });
  expect(new Set(lossesOf(up))).toEqual(new Set([1, 665, 2]));
  expect(up.most).toBe(1);
});

/** What stands between the message that is hung up on and the next one that is taken. */
const BETWEEN: Record<string, (at: TestCollector) => Promise<unknown>> = {
  "lines alone": async (at) => {
    for (let seq = 1; seq <= 3; seq++) {
      await at.json("/api/v1/runs/123/logs", { body: { client: "l", seq, items: [{ text: "line" }] } });
      await hangingUpAgain(at);
    }
  },
  "a run that is imported": async (at) => {
    const other = collector();
    await create(other, "456");
    await record(other, "456", [3]);
    expect((await importTo(at, await exportOf(other, "456"))).status).toBeLessThan(300);
  },
  "others that are hung up on": async (at) => {
    for (let i = 0; i < 6; i++) await record(at, "123", [666]);
  },
  "what the platform has no words for": async (at) => {
    await at.json("/api/v1/runs/123", { method: "PATCH", body: { name: "another" } });
    await hangingUpAgain(at);
  },
};

test.each(Object.keys(BETWEEN))(
  "a message on which the broker hangs up is found with %s behind it",
  async (what) => {
    const up = await scratch();
    const at = collector();
    await add(at, up.url);
    await create(at, "123");
    await arrivedSoon(at);
    up.hates = (payload) => payload.includes('"loss": 666');
    await record(at, "123", [666]);
    await hangingUp(at);
    await BETWEEN[what]!(at);
    await record(at, "123", [7]);
    const relay = await arrivedSoon(at);
    expect(relay).toMatchObject({ dead_letters: what.startsWith("others") ? 7 : 1, error: null });
    expect(lossesOf(up)).toEqual(what.includes("imported") ? [3, 7] : [7]);
  },
);

const artifactsOf = ({ topics, payloads }: Scratch) =>
  payloads
    .filter((_, i) => topics[i] === "launch_device/mlops/artifacts")
    .map((payload) => (JSON.parse(payload) as { artifact_name: string }).artifact_name);

test("files whose announcement is not taken are uploaded once; one that alone is refused is kept, and holds up no other", async () => {
  const up = await scratch();
  const at = collector();
  await add(at, up.url);
  await create(at, "123");
  await arrivedSoon(at);
  up.hates = (payload) => payload.includes("artifact_name");
  await logFiles(at.collector, "123", "bad", { files: { a: "1" } });
  const waiting = () =>
    until(
      async () => {
        await retry(at);
        return relayOf(at);
      },
      ({ content }) => /ends the connection whenever/.test(content?.error ?? ""),
      60_000,
    );
  await waiting();
  await logFiles(at.collector, "123", "good", { files: { a: "2" } });
  await until(
    async () => {
      await retry(at);
      return up.puts;
    },
    (puts) => puts.length === 2,
  );
  expect(await waiting()).toMatchObject({ dead_letters: 0, content: { files: 2 } });
  const deleting = Promise.withResolvers<void>();
  up.deleting = deleting.promise;
  up.hates = (payload) => payload.includes('"artifact_name": "bad"');
  const relay = await until(
    async () => {
      await retry(at);
      return relayOf(at);
    },
    ({ content }) => content?.files === 0,
    60_000,
  );
  expect(relay).toMatchObject({ dead_letters: 1, content: { error: null } });
  deleting.resolve();
  expect(artifactsOf(up)).toEqual(["good"]);
  expect(up.puts).toEqual([expect.stringContaining("bad"), expect.stringContaining("good")]);
});

test("whether anybody is there is found out before there is anything to send", async () => {
  const up = await scratch();
  const at = collector();
  up.password = "wrong";
  await add(at, up.url);
  const relay = await until(
    () => relayOf(at),
    ({ next_try_at }) => next_try_at !== null,
  );
  expect(relay).toMatchObject({ state: "waiting", backlog: { entries: 0 } });
  up.password = "right";
  await arrivedSoon(at);
});

test("a broker with another password, or one that says nothing, is waited for; other destinations go on", async () => {
  const up = await scratch();
  const good = await scratch();
  const at = collector();
  up.password = "wrong";
  await add(at, up.url);
  await at.json("/api/v1/relays", { body: { name: "good", url: good.url } });
  await create(at, "123");
  const troubled = await until(
    () => relayOf(at),
    ({ state, next_try_at }) => state === "waiting" && next_try_at !== null,
  );
  expect(troubled.error!.message).toContain("does not take the password");
  expect(JSON.stringify(troubled)).not.toContain("wrong");
  up.password = "right";
  up.isSilent = true;
  await retry(at);
  await record(at, "123", [1]);
  await until(
    () => lossesOf(good),
    (losses) => losses.length === 1,
  );
  up.isSilent = false;
  // It notices by itself, after MQTT.js's time for CONNACK.
  expect(await arrivedSoon(at)).toMatchObject({ error: null, dead_letters: 0 });
  expect(lossesOf(up)).toEqual([1]);
});

test("ids are numbers where they can be, values what Python writes, and each record stands alone", async () => {
  const up = await scratch();
  const at = collector();
  await add(at, up.url);
  const run = "1716563514434392064";
  await create(at, run);
  await at.json(`/api/v1/runs/${run}/records`, {
    body: {
      client: "d",
      seq: 1,
      items: [
        { step: 2, time: 1_700_000_000_000, metrics: { "Train/ACC": "NaN", epoch: 3, "a/b": 1, "A-B": 2 } },
        { step: 2, time: 1_700_000_000_000.5, metrics: { lr: "Infinity" }, x: [] },
      ],
    },
  });
  await arrivedSoon(at);
  const wire = up.topics.map((topic, i) => [topic, up.payloads[i]]);
  expect(wire.slice(0, 2)).toEqual([
    [
      "fl_run/fl_server/mlops/status",
      expect.stringMatching(
        /^\{"run_id": 1716563514434392064, "edge_id": 0, "status": "RUNNING", "role": "normal", "timestamp": \d{13}\}$/,
      ),
    ],
    [
      "fl_server/mlops/status",
      expect.stringMatching(/^\{"run_id": 1716563514434392064, .*"version": "v1.0", "timestamp": \d{13}\}$/),
    ],
  ]);
  const tail = `"run_id": "${run}", "is_endpoint": false}`;
  expect(wire.slice(2)).toEqual(
    [
      `{"x_axis_keys": ["step", "timestamp", "epoch"], "y_axis_keys": ["train-acc", "a-b"], "train-acc": NaN, "epoch": 3, "a-b": 1, "step": 2, "timestamp": 1700000000000.000, ${tail}`,
      `{"x_axis_keys": ["step", "timestamp"], "y_axis_keys": ["a-b"], "a-b": 2, "step": 2, "timestamp": 1700000000000.000, ${tail}`,
      `{"x_axis_keys": ["step", "timestamp"], "y_axis_keys": ["lr"], "lr": Infinity, "step": 2, "timestamp": 1700000000000.5, ${tail}`,
    ].map((payload) => ["fl_server/mlops/training_progress_and_eval", payload]),
  );
});
