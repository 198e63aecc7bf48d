import { afterEach, describe, expect, test } from "bun:test";
import { connectAsync } from "mqtt";
import { CollectorError } from "../src/error.ts";
import { startTestBroker, type TestBroker, type TestBrokerOptions } from "./helpers/fedml-broker.ts";
import {
  connectPacket,
  DISCONNECT,
  publishPacket,
  pubrelPacket,
  RawMqtt,
  subscribePacket,
} from "./helpers/mqtt.ts";

const METRICS = "fedml_slave/fedml_master/metrics/0";
const RUN = "123456789012345";
let broker: TestBroker;
afterEach(() => broker.close());
const start = async (options?: TestBrokerOptions) => (broker = await startTestBroker(options));

/** A record as the client of 2024 sends it. */
const record = (step: number, metrics: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  JSON.stringify({
    x_axis_keys: ["step", "timestamp"],
    y_axis_keys: Object.keys(metrics),
    ...metrics,
    step,
    run_id: "0",
    timestamp: 1_795_478_344_338.046 + step,
    is_endpoint: false,
    ...more,
  });

/** Nothing but its packet's id tells that it is the same: records with a time are recognised by that, too. */
const timeless = (step: number, metrics: Record<string, unknown>) =>
  record(step, metrics, { timestamp: null });

describe("a message by QoS 2", () => {
  test("is durable when it is answered, and in its run whatever run it names", async () => {
    await start();
    const client = await connectAsync({ host: "127.0.0.1", port: broker.port, ...mqttOf(RUN) });
    await client.publishAsync(METRICS, record(3, { acc: 0.25 }), { qos: 2, retain: true });
    await client.endAsync();
    expect(await broker.points(RUN, "acc")).toEqual([[3, 0.25]]);
    expect(await broker.points(RUN, "acc", "time")).toEqual([[1_795_478_344_341.046, 0.25]]);
  });

  test("is answered by PUBREC, then its PUBREL by PUBCOMP", async () => {
    await start();
    const raw = await broker.connect(RUN);
    raw.send(publishPacket(METRICS, record(0, { acc: 1 }), { id: 258 }));
    expect((await raw.next("pubrec")).id).toBe(258);
    raw.send(pubrelPacket(258));
    expect((await raw.next("pubcomp")).id).toBe(258);
    // One that we know nothing of, as after a restart of ours, is answered, too: its client would ask for ever.
    raw.send(pubrelPacket(77));
    expect((await raw.next("pubcomp")).id).toBe(77);
  });

  test("that comes again before its PUBREL is taken once", async () => {
    await start();
    const raw = await broker.connect(RUN);
    const message = timeless(0, { acc: 1 });
    raw.send(publishPacket(METRICS, message), publishPacket(METRICS, message, { dup: true }));
    await raw.next("pubrec");
    await raw.next("pubrec");
    raw.send(publishPacket(METRICS, message, { dup: true }));
    await raw.next("pubrec");
    raw.send(pubrelPacket(1));
    await raw.next("pubcomp");
    await raw.publish(METRICS, record(1, { acc: 2 }));
    expect(await broker.points(RUN, "acc")).toEqual([
      [0, 1],
      [1, 2],
    ]);
    expect(broker.counted("replayed")).toBe(2);
  });

  test.each([["before"], ["behind"]])(
    "that comes again by a new connection, lost %s its PUBREL, is taken once",
    async (when) => {
      await start();
      const message = timeless(0, { acc: 1 });
      const first = await broker.connect(RUN, { client: "paho" });
      first.send(publishPacket(METRICS, message, { id: 9 }));
      await first.next("pubrec");
      if (when === "behind") {
        first.send(pubrelPacket(9));
        await first.next("pubcomp");
      }
      await first.vanish();
      const second = await broker.connect(RUN, { client: "paho" });
      await second.publish(METRICS, message, { id: 9, dup: true });
      expect(await broker.points(RUN, "acc")).toEqual([[0, 1]]);
    },
  );

  test("of a new process that counts from the same number is new", async () => {
    await start();
    const first = await broker.connect(RUN, { client: "same" });
    first.send(publishPacket(METRICS, record(0, { acc: 1 })));
    await first.next("pubrec");
    await first.vanish();
    const second = await broker.connect(RUN, { client: "same" });
    await second.publish(METRICS, record(1, { acc: 2 }));
    expect(await broker.points(RUN, "acc")).toHaveLength(2);
  });

  test("that cannot be stored now is not answered, and taken when it comes again", async () => {
    await start();
    const raw = await broker.connect(RUN, { client: "paho" });
    await raw.publish(METRICS, record(0, { acc: 1 }));
    broker.collector.journal.refuse(new CollectorError("disk-full", "No space left."));
    raw.send(publishPacket(METRICS, record(1, { acc: 2 }), { id: 2 }));
    await raw.closed;
    expect(raw.received.map(({ kind }) => kind)).toEqual([]);
    broker.collector.journal.refuse(undefined);
    const again = await broker.connect(RUN, { client: "paho" });
    await again.publish(METRICS, record(1, { acc: 2 }), { id: 2, dup: true });
    expect(await broker.points(RUN, "acc")).toEqual([
      [0, 1],
      [1, 2],
    ]);
  });
});

test("a message that met a fault of the database is not answered, and taken when it comes again; its values are not said", async () => {
  await start();
  const { connection } = broker.collector;
  const STATUS = "fl_run/fl_client/mlops/status";
  const message = `{"edge_id": 3, "run_id": "0", "status": "TRAINING"}`;
  await (await broker.connect(RUN)).publish(METRICS, record(0, { acc: 1 }));
  connection.exec("ALTER TABLE writer RENAME TO away");
  for (let at = 0; at < 3; at++) {
    const raw = await broker.connect(RUN, { client: "paho" });
    raw.send(publishPacket(STATUS, message, { id: 5, dup: at > 0 }));
    await raw.closed;
    expect(raw.received.map(({ kind }) => kind)).toEqual([]);
  }
  connection.exec("ALTER TABLE away RENAME TO writer");
  const raw = await broker.connect(RUN, { client: "paho" });
  await raw.publish(STATUS, message, { id: 5, dup: true });
  expect((await broker.run(RUN)).writers.map(({ client }) => client)).toEqual(["fedml-edge-3"]);
  expect(broker.counted("refused")).toBe(3);
  expect(broker.said).toHaveLength(1);
  expect(broker.said[0]).toContain("no such table: writer");
  expect(broker.said[0]).not.toContain(RUN);
});

describe("a client that leaves at once", () => {
  const CLIENTS = 40;

  test.each([
    ["behind CONNACK, with DISCONNECT", true, true],
    ["behind CONNACK, without a word", true, false],
    ["with all it has to say in one packet", false, true],
    ["without waiting for anything, without a word", false, false],
  ])("has said what it said: 40 of 40, %s", async (_how, waits, saysBye) => {
    await start();
    await Promise.all(
      Array.from({ length: CLIENTS }, async (_, index) => {
        const raw = await RawMqtt.open(broker.port);
        const hello = connectPacket({ client: `async-${index}`, ...keysOf(RUN) });
        const message = publishPacket(METRICS, record(index, { acc: index }), { retain: true });
        if (waits) {
          raw.send(hello);
          await raw.next("connack");
          raw.send(message, ...(saysBye ? [DISCONNECT] : []));
        } else raw.send(hello, message, ...(saysBye ? [DISCONNECT] : []));
        // Sends its FIN behind what was written, as the end of a process does.
        raw.socket.end();
        await raw.closed;
      }),
    );
    await settled(async () => (await broker.points(RUN, "acc")).length === CLIENTS);
    const steps = (await broker.points(RUN, "acc")).map(([step]) => step);
    expect(steps.sort((a, b) => a - b)).toEqual(Array.from({ length: CLIENTS }, (_, index) => index));
  });
});

test("the port next to ours is another's: any other is taken", async () => {
  await start();
  const second = await startTestBroker({ port: broker.port });
  try {
    expect(second.port).not.toBe(broker.port);
    const raw = await second.connect(RUN);
    await raw.publish(METRICS, record(0, { acc: 1 }));
    expect(await second.points(RUN, "acc")).toEqual([[0, 1]]);
  } finally {
    await second.close();
  }
});

describe("keys", () => {
  test("a wrong password is told so, counted, and the connection closed", async () => {
    await start();
    for (const password of ["", "wrong", mqttOf("999").password]) {
      const raw = await RawMqtt.open(broker.port);
      raw.send(connectPacket({ user: keysOf(RUN).user, password }));
      expect([...(await raw.next("connack")).body]).toEqual([0, 4]);
      await raw.closed;
    }
    const nobody = await RawMqtt.open(broker.port);
    nobody.send(connectPacket());
    expect([...(await nobody.next("connack")).body]).toEqual([0, 4]);
    expect(broker.counted("wrong-password")).toBe(4);
    const unasked = await RawMqtt.open(broker.port);
    unasked.send(
      connectPacket({ user: "open", password: "x" }),
      publishPacket(METRICS, record(0, { acc: 1 })),
    );
    await unasked.closed;
    expect(broker.collector.counters.find("fedml-0")).toBeUndefined();
  });

  test("end with the token that they were derived from, connections too", async () => {
    await start({ limits: { verifyEvery: 20 } });
    const raw = await broker.connect(RUN);
    const old = keysOf(RUN);
    await raw.publish(METRICS, record(0, { acc: 1 }));
    broker.trust.rotate(`bnc_admin_${"f".repeat(64)}`);
    await raw.closed;
    const again = await RawMqtt.open(broker.port);
    again.send(connectPacket(old));
    expect([...(await again.next("connack")).body]).toEqual([0, 4]);
    await (await broker.connect(RUN)).publish(METRICS, record(1, { acc: 2 }));
  });

  test("open ones place a message by the run it names", async () => {
    await start({ open: true });
    const raw = await broker.connect(undefined);
    await raw.publish(METRICS, record(0, { acc: 1 }));
    await raw.publish(METRICS, record(0, { acc: 2 }, { run_id: "1716563514434392064" }), { id: 2 });
    await raw.publish(
      "fedml_slave/fedml_master/metrics/1716563514434392065",
      '{"acc": 3, "step": 0, "run_id": 1716563514434392065, "timestamp": 1795478344338.5}',
      { id: 3 },
    );
    expect(await broker.points("fedml-0", "acc")).toEqual([[0, 1]]);
    expect(await broker.points("1716563514434392064", "acc")).toEqual([[0, 2]]);
    expect(await broker.points("1716563514434392065", "acc")).toEqual([[0, 3]]);
  });
});

describe("subscribers", () => {
  test("hear of their own run alone, and nothing is retained for them", async () => {
    await start();
    const [mine, other] = await Promise.all([broker.connect("1", { client: "s" }), broker.connect("2")]);
    for (const raw of [mine, other]) {
      raw.send(subscribePacket(1, "#"));
      await raw.next("suback");
    }
    const speaker = await broker.connect("1", { client: "p" });
    await speaker.publish("flserver_agent/0/stop_train", "{}", { retain: true });
    const heard = await mine.next("publish");
    expect(heard.body.toString()).toContain("flserver_agent/0/stop_train");
    // Not the flag either: FedML's own subscribers drop what has it.
    expect(heard.flags & 1).toBe(0);
    await speaker.publish("flserver_agent/0/stop_train", "{}", { id: 2, retain: true });
    await mine.next("publish");
    expect(other.received.filter(({ kind }) => kind === "publish")).toEqual([]);
    const late = await broker.connect("1", { client: "late" });
    late.send(subscribePacket(1, "flserver_agent/#"));
    await late.next("suback");
    await speaker.publish("flserver_agent/0/other", "{}", { id: 3 });
    expect((await late.next("publish")).body.toString()).toContain("flserver_agent/0/other");
    expect(late.received).toEqual([]);
    expect(broker.counted("retained")).toBe(2);
    // It was theirs, and nothing that we should have known.
    expect(broker.counted("unknown-topic")).toBe(0);
  });

  test("of one run do not end those of another by taking their name", async () => {
    await start();
    const mine = await broker.connect("1", { client: "name" });
    const other = await broker.connect("2", { client: "name" });
    await mine.publish(METRICS, record(0, { acc: 1 }));
    await other.publish(METRICS, record(0, { acc: 1 }));
    expect(mine.isClosed).toBe(false);
    // Within a run the newer one counts, as MQTT says.
    await broker.connect("1", { client: "name" });
    await mine.closed;
  });

  test("that do not read hold up nobody, and are cut off", async () => {
    await start();
    const slow = await broker.connect("1", { client: "slow" });
    slow.send(subscribePacket(1, "#", 0));
    await slow.next("suback");
    slow.socket.pause();
    const speaker = await broker.connect("1", { client: "speaker" });
    const bulk = Buffer.alloc(512 * 1024, 0x20);
    for (let id = 1; broker.counted("refused") === 0 && id < 100; id++)
      await speaker.publish("fedml_1_0", bulk, { id });
    expect(broker.counted("refused")).toBe(1);
    slow.socket.resume();
    await slow.closed;
    await speaker.publish(METRICS, record(0, { acc: 1 }), { id: 200 });
    expect(await broker.points("1", "acc")).toEqual([[0, 1]]);
  });
});

test("a will is a message", async () => {
  await start();
  const raw = await broker.connect(RUN, { will: { topic: METRICS, payload: record(5, { last: 1 }) } });
  await raw.vanish();
  await settled(async () => (await broker.points(RUN, "last")).length === 1);
  const polite = await broker.connect(RUN, { will: { topic: METRICS, payload: record(6, { polite: 1 }) } });
  polite.send(DISCONNECT);
  await polite.closed;
  const after = await broker.connect(RUN);
  await after.publish(METRICS, record(7, { after: 1 }));
  expect((await broker.json(`/api/v1/runs/${RUN}/metrics`)).metrics.map((one: any) => one.name)).toEqual([
    "last",
    "after",
  ]);
});

test.each([[true], [false]])(
  "a client that loses its connection again and again has said everything once; with DUP %p",
  async (dup) => {
    await start();
    const open = new Map<number, number>();
    let next = 0;
    const message = (id: number, step: number, again: boolean) =>
      publishPacket(METRICS, timeless(step, { acc: step }), { id, dup: again && dup });
    for (let life = 0; life < 25; life++) {
      const raw = await broker.connect(RUN, { client: "paho" });
      for (const [id, step] of open) raw.send(message(id, step, true));
      for (let answers = 0; answers < 5 + life; answers++) {
        for (let id = 1; open.size < 20; id++) {
          if (open.has(id)) continue;
          open.set(id, next);
          raw.send(message(id, next++, false));
        }
        const { id } = await raw.next("pubrec");
        raw.send(pubrelPacket(id));
        await raw.next("pubcomp");
        open.delete(id);
      }
      await raw.vanish();
    }
    const last = await broker.connect(RUN, { client: "paho" });
    for (const [id, step] of open) await last.publish(METRICS, timeless(step, { acc: step }), { id, dup });
    const steps = (await broker.points(RUN, "acc")).map(([step]) => step).sort((a, b) => a - b);
    expect(steps).toEqual(Array.from({ length: next }, (_, step) => step));
  },
  30_000,
);

const keysOf = (run: string) => broker.keys.mqttOf({ run });
function mqttOf(run: string) {
  const { user: username, password } = keysOf(run);
  return { username, password, protocolVersion: 4 as const };
}

/** What comes of a client that has left is not announced to anybody who could wait for it. */
async function settled(isSo: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await isSo().catch(() => false))) {
    if (performance.now() > end) throw new Error("It never came to be so.");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
