import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { createKeys } from "../src/fedml/keys.ts";
import { createTokens } from "../src/token.ts";
import { startBinary, temporaryFolder, type RunningBinary } from "./helpers/binary.ts";
import { publishPacket, pubrelPacket, RawMqtt } from "./helpers/mqtt.ts";

const KILLS = Number(process.env.FEDML_KILLS ?? 5);
const CLIENTS = 8;
const WINDOW = 20;
const RUN = "123456789012345";
const TOPIC = "fedml_slave/fedml_master/metrics/0";

/** One client: values count up, each is sent until it is answered. */
interface Publisher {
  name: string;
  next: number;
  /** By packet id. */
  open: Map<number, number>;
  answered: number[];
}

test(`what was answered is there after kill -9, ${KILLS} times over, and what was not is there once when it comes again`, async () => {
  const dataDir = temporaryFolder();
  const publishers = Array.from({ length: CLIENTS }, (_, at): Publisher => ({
    name: `c${at}`,
    next: 0,
    open: new Map(),
    answered: [],
  }));
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const binary = await startBinary({ dataDir });
      let left = 200 + kill * 150;
      const answered = Promise.withResolvers<void>();
      const port = await brokerPort(binary);
      const { user, password } = createKeys(() => createTokens(binary.token)).mqttOf({ run: RUN });
      const ends = publishers.map((publisher) =>
        publishUntilGone(publisher, port, user, password, () => {
          if (--left === 0) answered.resolve();
        }),
      );
      await answered.promise;
      binary.process.kill("SIGKILL");
      await Promise.all(ends);
      await binary.process.exited;
    }
    const binary = await startBinary({ dataDir });
    let sent = 0;
    for (const { name, answered, open } of publishers) {
      const { points } = (await (await binary.request(`/api/v1/runs/${RUN}/points?key=${name}`)).json()) as {
        points: [number, number][];
      };
      const counts = new Map<number, number>();
      for (const [, value] of points) counts.set(value, (counts.get(value) ?? 0) + 1);
      for (const value of answered) expect([name, value, counts.get(value)]).toEqual([name, value, 1]);
      // Sent, and no answer came: there once or not at all.
      for (const value of open.values()) expect(counts.get(value) ?? 0).toBeLessThanOrEqual(1);
      expect(counts.size).toBeLessThanOrEqual(answered.length + open.size);
      sent += answered.length;
    }
    expect(sent).toBeGreaterThanOrEqual(200 * KILLS);
    expect(await binary.stop()).toBe(0);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}, 120_000);

/** Sends what is open again, as FedML's client does, and goes on until the connection ends. */
async function publishUntilGone(
  publisher: Publisher,
  port: number,
  user: string,
  password: string,
  onAnswer: () => void,
): Promise<void> {
  const raw = await RawMqtt.connect(port, { client: publisher.name, user, password });
  for (const [id, value] of publisher.open) raw.send(message(publisher, id, value, true));
  try {
    for (let id = 1; ; id = (id % 5000) + 1) {
      while (publisher.open.size >= WINDOW) await takeAnswer();
      if (publisher.open.has(id)) continue;
      const value = publisher.next++;
      publisher.open.set(id, value);
      raw.send(message(publisher, id, value, false));
      while (raw.received.length > 0) await takeAnswer();
    }
  } catch {
    // It is gone.
  }

  async function takeAnswer(): Promise<void> {
    const { id } = await raw.next("pubrec");
    publisher.answered.push(publisher.open.get(id)!);
    publisher.open.delete(id);
    raw.send(pubrelPacket(id));
    onAnswer();
    while (raw.received.some(({ kind }) => kind === "pubcomp")) await raw.next("pubcomp");
  }
}

const message = ({ name }: Publisher, id: number, value: number, dup: boolean) =>
  publishPacket(
    TOPIC,
    JSON.stringify({ [name]: value, step: value, timestamp: 1795478344338.046 + value, run_id: "0" }),
    { id, dup },
  );

async function brokerPort(binary: RunningBinary): Promise<number> {
  const secret = createKeys(() => createTokens(binary.token)).secretOf({ run: RUN });
  const response = await fetch(`${binary.url}/fedml/${secret}/fedmlOpsServer/configs/fetch`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ config_name: ["mqtt_config", "ml_ops_config"], device_send_time: Date.now() }),
  });
  return ((await response.json()) as any).data.mqtt_config.BROKER_PORT;
}
