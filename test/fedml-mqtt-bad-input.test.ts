import { afterEach, describe, expect, test } from "bun:test";
import { startTestBroker, type TestBroker, type TestBrokerOptions } from "./helpers/fedml-broker.ts";
import {
  connectPacket,
  lengthOf,
  publishPacket,
  RawMqtt,
  short,
  subscribePacket,
  text,
} from "./helpers/mqtt.ts";

const METRICS = "fedml_slave/fedml_master/metrics/0";
const RUN = "123456789012345";
const MiB = 1024 * 1024;
let broker: TestBroker;
afterEach(() => broker.close());
const start = async (options?: TestBrokerOptions) => (broker = await startTestBroker(options));

/** Whatever one client did, another is served. */
async function expectServed(): Promise<void> {
  const raw = await broker.connect("after", { client: `after-${crypto.randomUUID()}` });
  await raw.publish(METRICS, `{"fine": 1, "step": 0, "timestamp": ${Date.now()}}`);
  raw.socket.destroy();
  expect((await broker.points("after", "fine")).length).toBeGreaterThan(0);
}

describe("a message that is nothing", () => {
  test.each([
    ["malformed JSON", '{"acc": 0.1,', "malformed"],
    ["no JSON at all", "hello", "malformed"],
    ["a list", "[1, 2]", "malformed"],
    ["nothing", "", "malformed"],
    ["bytes that are no UTF-8", new Uint8Array([0x7b, 0xff, 0xfe]), "malformed"],
    ["nested ten thousand deep", `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`, "malformed"],
    [
      "more keys than a record may have",
      JSON.stringify(Object.fromEntries(Array.from({ length: 10_001 }, (_, at) => [`k${at}`, at]))),
      "malformed",
    ],
  ])("%s is answered, counted and forgotten", async (_what, payload, counted) => {
    await start();
    const raw = await broker.connect(RUN);
    await raw.publish(METRICS, payload);
    await raw.publish(METRICS, '{"acc": 0.5, "step": 1, "timestamp": 1795478344338.5}', { id: 2 });
    expect(await broker.points(RUN, "acc")).toEqual([[1, 0.5]]);
    expect(broker.counted(counted)).toBe(1);
    expect(broker.said).toEqual([]);
  });

  test("on a topic that we don't know is answered and counted", async () => {
    await start();
    const raw = await broker.connect(RUN);
    for (const [at, topic] of [
      "nobody/knows",
      "fedml_slave/fedml_master/metrics",
      "$SYS/x",
      "/",
      `${"a/".repeat(90)}b`,
    ].entries())
      await raw.publish(topic, "{}", { id: at + 1 });
    expect(broker.counted("unknown-topic")).toBe(5);
    await raw.publish(METRICS, '{"acc": 0.5, "step": 1}', { id: 9 });
  });

  test("for a run that was deleted is answered and counted", async () => {
    await start();
    const raw = await broker.connect(RUN);
    await raw.publish(METRICS, '{"acc": 0.5, "step": 1}');
    await broker.request(`/api/v1/runs/${RUN}?force=true`, { method: "DELETE" });
    await raw.publish(METRICS, '{"acc": 0.5, "step": 2}', { id: 2 });
    expect(broker.counted("gone")).toBe(1);
  });

  test("by QoS 0 and 1 is taken the same way", async () => {
    await start();
    const raw = await broker.connect(RUN);
    raw.send(publishPacket(METRICS, '{"acc": 1, "step": 0}', { qos: 0 }));
    raw.send(publishPacket(METRICS, '{"acc": 2, "step": 1}', { qos: 1, id: 5 }));
    expect((await raw.next("puback")).id).toBe(5);
    await raw.publish(METRICS, '{"acc": 3, "step": 2}');
    expect(await broker.points(RUN, "acc")).toEqual([
      [0, 1],
      [1, 2],
      [2, 3],
    ]);
  });
});

describe("a packet that is none", () => {
  test.each([
    ["300 MB, more than MQTT can say,", 300_000_000],
    ["256 MiB", 256 * MiB - 1],
    ["17 MiB", 17 * MiB],
  ])(
    "of %s is refused by its head: closed, counted, and none of it kept",
    async (_size, length) => {
      await start();
      await expectServed();
      Bun.gc(true);
      const before = process.memoryUsage.rss();
      let highest = before;
      const watch = setInterval(() => (highest = Math.max(highest, process.memoryUsage.rss())), 5);
      const raw = await broker.connect(RUN);
      const piece = Buffer.alloc(MiB, 0x20);
      raw.socket.write(Buffer.from([0x34, ...lengthOf(length)]));
      let sent = 0;
      while (!raw.isClosed && sent < 300) {
        sent++;
        if (!raw.socket.write(piece))
          await Promise.race([new Promise((resolve) => raw.socket.once("drain", resolve)), raw.closed]);
      }
      await raw.closed;
      clearInterval(watch);
      expect(broker.counted("too-large")).toBe(1);
      // The sender's own buffers are in this process, too.
      expect(sent).toBeLessThan(64);
      expect((highest - before) / MiB).toBeLessThan(64);
      await expectServed();
    },
    30_000,
  );

  test("many large ones that never end hold a bounded share", async () => {
    await start();
    const raws: RawMqtt[] = [];
    for (let at = 0; at < 6; at++) {
      const raw = await broker.connect(RUN, { client: `large-${at}` });
      raw.send(Buffer.from([0x34, ...lengthOf(15 * MiB)]), Buffer.alloc(1000));
      raws.push(raw);
      if (at >= 4) await raw.closed;
    }
    expect(raws.map(({ isClosed }) => isClosed)).toEqual([false, false, false, false, true, true]);
    await expectServed();
    for (const raw of raws) await raw.vanish();
    // What they held is free again.
    const raw = await broker.connect(RUN);
    await raw.publish(METRICS, `{"acc": 1, "step": 0, "pad": "${" ".repeat(10 * MiB)}"}`);
    expect(await broker.points(RUN, "acc")).toEqual([[0, 1]]);
  }, 30_000);

  test.each<[string, (hello: Buffer) => Buffer]>([
    ["something that is not MQTT", () => Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["PUBLISH before CONNECT", () => publishPacket(METRICS, "{}")],
    [
      "a length of five bytes",
      (hello) => Buffer.concat([hello, Buffer.from([0x34, 0xff, 0xff, 0xff, 0xff, 0x7f])]),
    ],
    ["a kind that does not exist", (hello) => Buffer.concat([hello, Buffer.from([0x00, 0x00])])],
    [
      "PUBLISH whose topic is longer than it",
      (hello) => Buffer.concat([hello, Buffer.from([0x34, 4, 0xff, 0xff, 0, 1])]),
    ],
    ["PUBLISH to a wildcard", (hello) => Buffer.concat([hello, publishPacket("a/+/b", "{}")])],
    ["QoS 3", (hello) => Buffer.concat([hello, Buffer.from([0x36, 7]), text("abc"), short(1)])],
    ["CONNECT twice", (hello) => Buffer.concat([hello, hello])],
    [
      "a CONNECT of a megabyte",
      () => connectPacket({ client: "x".repeat(60_000), will: { topic: "t", payload: "y".repeat(60_000) } }),
    ],
  ])("%s: closed, and nothing else suffers", async (what, bytes) => {
    await start();
    const raw = await RawMqtt.open(broker.port);
    raw.send(bytes(connectPacket({ client: "bad", ...broker.keys.mqttOf({ run: RUN }) })));
    await raw.closed;
    await expectServed();
    expect(broker.counts.list().map(({ what, count }) => [what, count])).toEqual([
      [/megabyte|five/.test(what) ? "too-large" : "malformed", 1],
    ]);
  });

  test("random bytes behind CONNECT end one connection at most", async () => {
    await start();
    let seed = 42;
    const random = () => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) >>> 16;
    await Promise.all(
      Array.from({ length: 200 }, async (_, at) => {
        const raw = await RawMqtt.open(broker.port);
        const noise = Buffer.from(Array.from({ length: 1 + (random() % 300) }, () => random() & 0xff));
        raw.send(connectPacket({ client: `noise-${at}`, ...broker.keys.mqttOf({ run: RUN }) }), noise);
        raw.socket.end();
        await raw.closed;
      }),
    );
    await expectServed();
  }, 30_000);
});

describe("connections", () => {
  test("that vanish in the middle of their handshake leave nothing behind", async () => {
    await start();
    const hello = connectPacket({ client: "gone", ...broker.keys.mqttOf({ run: RUN }) });
    for (let length = 0; length < hello.length; length++) {
      const raw = await RawMqtt.open(broker.port);
      if (length > 0) raw.send(hello.subarray(0, length));
      raw.socket.end();
      await raw.closed;
    }
    expect(broker.counted("broken-off")).toBe(hello.length);
    await expectServed();
  }, 30_000);

  test("that never say who they are are closed in time", async () => {
    await start({ limits: { connectWithin: 50 } });
    const [silent, half] = await Promise.all([RawMqtt.open(broker.port), RawMqtt.open(broker.port)]);
    half.send(Buffer.from([0x10, 50, 0, 4]));
    await Promise.all([silent.closed, half.closed]);
    expect(broker.counted("broken-off")).toBe(2);
    const raw = await broker.connect(RUN);
    await raw.publish(METRICS, '{"acc": 1, "step": 0}');
    expect(raw.isClosed).toBe(false);
  });

  test("beyond the number of half-open ones push out the oldest of these, not who is in", async () => {
    await start({ limits: { halfOpen: 5 } });
    const inside = await broker.connect(RUN);
    const waiting: RawMqtt[] = [];
    for (let at = 0; at < 12; at++) waiting.push(await RawMqtt.open(broker.port));
    await Promise.all(waiting.slice(0, 7).map(({ closed }) => closed));
    await inside.publish(METRICS, '{"acc": 1, "step": 0}');
    await expectServed();
    for (const raw of waiting) await raw.vanish();
  });

  test("of one run beyond its share are refused; another run's are not", async () => {
    await start({ limits: { ofScope: 3 } });
    for (let at = 0; at < 3; at++) await broker.connect(RUN, { client: `c${at}` });
    const refused = await RawMqtt.open(broker.port);
    refused.send(connectPacket({ client: "fourth", ...broker.keys.mqttOf({ run: RUN }) }));
    expect([...(await refused.next("connack")).body]).toEqual([0, 3]);
    await refused.closed;
    await expectServed();
  });

  test("beyond all that there may be are closed at once", async () => {
    await start({ limits: { connections: 2 } });
    const first = await broker.connect(RUN, { client: "a" });
    await broker.connect(RUN, { client: "b" });
    const third = await RawMqtt.open(broker.port);
    await third.closed;
    await first.vanish();
    await expectServed();
  });

  test("that name a topic of a hundred levels are closed, and said to be refused", async () => {
    await start();
    const raw = await broker.connect(RUN);
    raw.send(publishPacket("a/".repeat(100), "{}"));
    await raw.closed;
    expect(broker.counts.list().map(({ what, count }) => [what, count])).toEqual([["refused", 1]]);
    await expectServed();
  });

  test("that ask for hundreds of topics are given as many as may be", async () => {
    await start();
    const raw = await broker.connect(RUN);
    let refused = 0;
    for (let at = 0; at < 210; at++) {
      raw.send(subscribePacket(at + 1, `topic/${at}`));
      if ((await raw.next("suback")).body[2] === 128) refused++;
    }
    expect(refused).toBe(10);
    await raw.publish(METRICS, '{"acc": 1, "step": 0}', { id: 300 });
  });
});
