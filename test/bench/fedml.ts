import { createKeys } from "../../src/fedml/keys.ts";
import { createTokens } from "../../src/token.ts";
import type { Figures, Options } from "./measures.ts";
import { startMosquitto } from "./mosquitto.ts";
import { publishFor } from "./mqtt-load.ts";
import { startServer, type Server } from "./server.ts";
import { cpuSeconds, median, memoryMiB, quantile } from "./statistics.ts";

const CLIENTS = 32;
const RUN = "123456789012345";

/** Records of 32 FedML clients by MQTT, each message's four packets exchanged and the record durable before it is answered. */
export async function fedmlMqtt({ seconds }: Options): Promise<Figures> {
  const server = await startServer();
  try {
    const keys = createKeys(() => createTokens(server.token));
    const load = { port: await brokerPort(server, keys.secretOf({ run: RUN })), clients: CLIENTS };
    const { user, password } = keys.mqttOf({ run: RUN });
    // As a compiler gets to know the program only while it runs.
    const warm = await publishFor({ ...load, user, password, seconds: 1, name: "warm" });
    const cpu = cpuSeconds(server.pid);
    const { messages, latencies, ...measured } = await publishFor({ ...load, user, password, seconds });
    const used = cpuSeconds(server.pid) - cpu;
    await requireStored(server, { warm: warm.messages, acc: messages });
    return {
      messages: messages / measured.seconds,
      p50: median(latencies),
      p99: quantile(latencies, 0.99),
      cpu: (used / messages) * 1e6,
      peak: memoryMiB(server.pid).peak,
    };
  } finally {
    await server.stop();
  }
}

/** Mosquitto, which forwards them to nobody and stores nothing: it merely acknowledges. */
export async function measureMosquitto({ seconds }: Options): Promise<Record<string, Figures>> {
  const mosquitto = await startMosquitto();
  try {
    const load = { port: mosquitto.port, clients: CLIENTS };
    await publishFor({ ...load, seconds: 1, name: "warm" });
    const cpu = cpuSeconds(mosquitto.pid);
    const { messages, latencies, ...measured } = await publishFor({ ...load, seconds });
    const used = cpuSeconds(mosquitto.pid) - cpu;
    return {
      mosquitto: {
        messages: messages / measured.seconds,
        p50: median(latencies),
        p99: quantile(latencies, 0.99),
        cpu: (used / messages) * 1e6,
      },
    };
  } finally {
    await mosquitto.stop();
  }
}

/** As the clients are told. */
async function brokerPort({ port }: Server, secret: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/fedml/${secret}/fedmlOpsServer/configs/fetch`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ config_name: ["mqtt_config", "ml_ops_config"], device_send_time: Date.now() }),
  });
  const { data } = (await response.json()) as { data: { mqtt_config: { BROKER_PORT: number } } };
  return data.mqtt_config.BROKER_PORT;
}

/** What was acknowledged and is not there would be no speed at all. */
async function requireStored(server: Server, expected: Record<string, number>): Promise<void> {
  const { metrics } = await server.call("GET", `/api/v1/runs/${RUN}/metrics`);
  for (const [name, count] of Object.entries(expected)) {
    const stored = metrics.find((one: { name: string }) => one.name === name)?.count;
    if (stored !== count)
      throw new Error(`Of ${count} messages acknowledged, ${stored} records of ${name} are there.`);
  }
}
