import { afterAll, beforeAll, expect, test } from "bun:test";
import { S3Client } from "bun";
import { FEDML_COUNTS, type FedmlCount } from "../src/fedml/counts.ts";
import type { Examination } from "../src/doctor/schema.ts";
import { connectPacket, lengthOf, publishPacket, pubrelPacket, RawMqtt } from "./helpers/mqtt.ts";
import { createTestStorage, type TestStorage } from "./helpers/storage.ts";

const RUN = "123456789012345";
const METRICS = "fedml_slave/fedml_master/metrics/0";
const MiB = 1024 * 1024;

let it: TestStorage;
beforeAll(async () => {
  it = await createTestStorage();
});
afterAll(() => it.close());

const mqtt = (keys = {}) =>
  RawMqtt.connect(it.edge.port!, {
    ...it.edge.keys.mqttOf({ run: RUN }),
    client: crypto.randomUUID(),
    ...keys,
  });

const s3 = (keys = {}) => new S3Client({ ...it.of(RUN), region: "us-east-1", bucket: "run", ...keys });
const quietly = (promise: Promise<unknown>) => promise.catch(() => {});

/** How often doctor says each, in its own words. */
async function told(): Promise<Map<string, number>> {
  const response = await it.request("/api/v1/doctor", { body: { quick: true } });
  const last = (await response.text()).trim().split("\n").at(-1)!;
  const { checks } = (JSON.parse(last) as { examination: Examination }).examination;
  const { text } = checks.find(({ name }) => name === "fedml")!;
  const counts = new Map<string, number>();
  for (const [, count, words] of text.matchAll(/(\d+) × (.+?)(?:; |\.$)/g)) counts.set(words!, Number(count));
  return counts;
}

/** What a client does wrong, once, over the wire; and what doctor has to say. */
const wrongs: [what: FedmlCount, does: string, act: () => Promise<unknown>][] = [
  [
    "malformed",
    "an MQTT message that is no JSON",
    async () => {
      const raw = await mqtt();
      await raw.publish(METRICS, '{"acc": 0.1,');
      await raw.vanish();
    },
  ],
  [
    "too-large",
    "an MQTT message whose head says 20 MiB",
    async () => {
      const raw = await mqtt();
      raw.socket.write(Buffer.from([0x34, ...lengthOf(20 * MiB), 0]));
      await raw.closed;
    },
  ],
  [
    "wrong-password",
    "an MQTT connection with another's password",
    async () => {
      const raw = await RawMqtt.open(it.edge.port!);
      raw.send(connectPacket({ ...it.edge.keys.mqttOf({ run: RUN }), password: "x" }));
      expect((await raw.next("connack")).body[1]).toBe(4);
      await raw.closed;
    },
  ],
  [
    "replayed",
    "an MQTT packet that comes again before its release",
    async () => {
      const raw = await mqtt();
      const message = '{"acc": 0.5, "step": 1, "timestamp": 1795478344338.5}';
      raw.send(publishPacket(METRICS, message));
      await raw.next("pubrec");
      raw.send(publishPacket(METRICS, message, { dup: true }));
      await raw.next("pubrec");
      raw.send(pubrelPacket(1));
      await raw.next("pubcomp");
      await raw.vanish();
    },
  ],
  [
    "unknown-topic",
    "an MQTT message on a topic of nobody's",
    async () => {
      const raw = await mqtt();
      await raw.publish("nobody/knows", "{}");
      await raw.vanish();
    },
  ],
  [
    "unsigned",
    "a PUT whose signature is another's",
    () => quietly(s3({ secretAccessKey: "x" }).write("a.zip", "a")),
  ],
  [
    "bad-object",
    "a PUT of a key with ..",
    () => fetch(`${it.of(RUN).endpoint}/run/a%2f..%2f..%2fb`, { method: "PUT", body: "a" }),
  ],
  ["broken-off", "a PUT that ends in the middle", () => brokenPut()],
];

/** It says more bytes than come. */
async function brokenPut(): Promise<void> {
  const url = s3().presign("broken.zip", { method: "PUT", expiresIn: 60 });
  const { hostname, port, pathname, search } = new URL(url);
  await new Promise<void>((resolve, reject) => {
    void Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        open(socket) {
          socket.write(
            `PUT ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Length: 1000\r\n\r\nhalf`,
          );
          socket.shutdown();
        },
        data() {},
        close: () => resolve(),
        error: (_, error) => reject(error),
      },
    });
  });
}

for (const [what, does, act] of wrongs)
  test(`doctor tells of ${does}`, async () => {
    const before = await told();
    await act();
    const after = await told();
    expect(after.get(FEDML_COUNTS[what])).toBe((before.get(FEDML_COUNTS[what]) ?? 0) + 1);
    // And of nothing else.
    const sum = (counts: Map<string, number>) =>
      [...counts.values()].reduce((total, count) => total + count, 0);
    expect(sum(after)).toBe(sum(before) + 1);
  });

test("what was right beside it arrived once, and no wrong word of it stands in a run", async () => {
  const { points } = await it.json(`/api/v1/runs/${RUN}/points?key=acc`);
  expect(points).toEqual([[1, 0.5]]);
  expect((await it.json(`/api/v1/runs/${RUN}`)).id).toBe(RUN);
});
