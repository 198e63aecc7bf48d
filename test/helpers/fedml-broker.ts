import type { BrokerLimits } from "../../src/fedml/broker.ts";
import { createBroker } from "../../src/fedml/broker.ts";
import { createCounts, type FedmlCounts } from "../../src/fedml/counts.ts";
import { endpointTopics } from "../../src/fedml/endpoint.ts";
import { createKeys, type FedmlKeys } from "../../src/fedml/keys.ts";
import { llmTopics } from "../../src/fedml/llm.ts";
import { metricTopics } from "../../src/fedml/metrics.ts";
import { statusTopics } from "../../src/fedml/status.ts";
import type { FedmlContext, FedmlTopic } from "../../src/fedml/topic.ts";
import { createWriter } from "../../src/fedml/writer.ts";
import { restoreRuns } from "../../src/run/watch.ts";
import { createTestCollector, type TestCollector } from "./collector.ts";
import { RawMqtt, type ConnectOptions } from "./mqtt.ts";

export interface TestBroker extends TestCollector {
  /** Its connections end, and the same data folder is opened again, as a restart does. */
  restart(): Promise<TestBroker>;
  port: number;
  keys: FedmlKeys;
  counts: FedmlCounts;
  /** How often something went wrong. */
  counted(what: string): number;
  said: string[];
  /** A raw connection with the keys of a run, or with run undefined the open ones. */
  connect(run?: string, options?: ConnectOptions): Promise<RawMqtt>;
  /** All points of a metric, [x, y], in the order of arrival. */
  points(run: string, key: string, x?: string): Promise<[number, unknown][]>;
  run(id: string): Promise<{
    status: string;
    reason: string | null;
    name: string;
    writers: { client: string; live: boolean }[];
  }>;
}

export interface TestBrokerOptions {
  open?: boolean;
  limits?: Partial<BrokerLimits>;
  port?: number;
  topics?: (context: FedmlContext) => FedmlTopic[];
  test?: TestCollector;
}

/** The broker on a port of its own, before a collector in a temporary folder. */
export async function startTestBroker({
  open = false,
  limits = {},
  port = 0,
  topics = (context) => [
    ...metricTopics(context),
    ...llmTopics(context),
    ...endpointTopics(context),
    ...statusTopics(context),
  ],
  test = createTestCollector(),
}: TestBrokerOptions = {}): Promise<TestBroker> {
  const { collector } = test;
  const keys = createKeys(() => test.trust.tokens, { open });
  const counts = createCounts();
  const context = { collector, writer: createWriter(collector), counts, keys };
  const said: string[] = [];
  const broker = await createBroker({
    ...context,
    host: "127.0.0.1",
    port,
    onDiagnostic: (line) => void said.push(line),
    topics: topics(context),
    limits,
  });
  const raws: RawMqtt[] = [];

  async function closeBroker(): Promise<void> {
    for (const raw of raws) raw.socket.destroy();
    await broker.close();
  }

  return {
    ...test,
    port: broker.port,
    keys,
    counts,
    counted: (what) => counts.list().find((one) => one.what === what)?.count ?? 0,
    said,
    async connect(run, options) {
      const raw = await RawMqtt.connect(broker.port, { ...keys.mqttOf({ run }), ...options });
      raws.push(raw);
      return raw;
    },
    async points(run, key, x = "step") {
      return (await test.json(`/api/v1/runs/${run}/points?key=${encodeURIComponent(key)}&x=${x}`)).points;
    },
    run: (id) => test.json(`/api/v1/runs/${id}`),
    async close() {
      await closeBroker();
      await test.close();
    },
    async restart() {
      await closeBroker();
      const again = await test.restart();
      await restoreRuns(again.collector);
      return startTestBroker({ open, limits, port, topics, test: again });
    },
  };
}
