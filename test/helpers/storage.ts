import { connectAsync, type MqttClient } from "mqtt";
import { createObjects, type Objects } from "../../src/blob/objects.ts";
import type { FedmlEdge } from "../../src/fedml/edge.ts";
import { serve } from "../../src/runtime.ts";
import { createTestCollector, type TestCollector, type TestCollectorOptions } from "./collector.ts";

/** A collector that listens for FedML's clients: signatures are about what goes over the wire. */
export interface TestStorage extends TestCollector {
  edge: FedmlEdge;
  objects: Objects;
  port: number;
  /** Where a run's objects are, and by which keys. */
  of(run: string): StorageOf;
  /** With the user and password of a run. */
  mqtt(run: string): Promise<MqttClient>;
  restart(): Promise<TestStorage>;
}

export interface StorageOf {
  endpoint: string;
  accessKeyId: string;
  secretAccessKey: string;
}

export async function createTestStorage(options: TestCollectorOptions = {}): Promise<TestStorage> {
  return listen(createTestCollector({ fedml: "on", ...options }));
}

async function listen(test: TestCollector): Promise<TestStorage> {
  const edge = test.fedml!;
  await edge.listen({ host: "127.0.0.1", port: 0 });
  const server = serve({ hostname: "127.0.0.1", port: 0, fetch: test.app.fetch });
  const clients: MqttClient[] = [];
  async function stop(): Promise<void> {
    for (const client of clients) await client.endAsync(true);
    await server.stop(0);
  }
  return {
    ...test,
    edge,
    objects: createObjects(test.collector),
    port: server.port,
    of: (run) => ({
      endpoint: `http://127.0.0.1:${server.port}/fedml/${edge.keys.secretOf({ run })}/s3`,
      ...edge.keys.s3Of({ run }),
    }),
    async mqtt(run) {
      const { user, password } = edge.keys.mqttOf({ run });
      const client = await connectAsync({
        host: "127.0.0.1",
        port: edge.port!,
        protocol: "mqtt",
        protocolVersion: 4,
        username: user,
        password,
      });
      clients.push(client);
      return client;
    },
    async close() {
      await stop();
      await test.close();
    },
    async restart() {
      await stop();
      return listen(await test.restart());
    },
  };
}
