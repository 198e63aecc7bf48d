/**
 * Backends as they are: an OpenTelemetry Collector, which hands on what it has read as JSON, and VictoriaMetrics, which answers queries
 * on it. Both are built from their sources by Go: minutes, so only where LONG=1; what was built once is used by every run.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { basename, join } from "node:path";
import { appendSamples } from "../src/sample/append.ts";
import { loudly } from "./helpers/binary.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { buildByGo, OTELCOL, VICTORIA_METRICS, type GoProgram } from "./helpers/go.ts";
import { until } from "./helpers/relay.ts";
import { makeDataDir } from "./helpers/store.ts";
import type { RelayList } from "../src/relay/schema.ts";

setDefaultTimeout(120_000);

const folder = makeDataDir();
const children: Bun.Subprocess[] = [];
let ports: number[] = [];

/** Where it stands; undefined, and said loudly, where it is not built and may not be or can't. */
function program(program: GoProgram): string | undefined {
  try {
    if (process.env.LONG || existsSync(program.path)) return buildByGo(program);
    throw new Error(`${basename(program.path)} is not built: LONG=1 builds it`);
  } catch (error) {
    loudly(`no test against a real backend: ${(error as Error).message}`);
    return undefined;
  }
}

const otelcol = program(OTELCOL);
const victoria = program(VICTORIA_METRICS);

beforeAll(async () => {
  ports = await Promise.all([freePort(), freePort()]);
});
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

async function start(command: string[], ready: string): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: Bun.file(join(folder, "stderr")) });
  children.push(child);
  await until(
    () => {
      if (child.exitCode !== null) throw new Error(`${command[0]} ended with ${child.exitCode}.`);
      // Whatever it answers, it listens.
      return fetch(ready, { method: "POST" }).catch(() => undefined);
    },
    (answer) => answer !== undefined,
  );
}

const TIME = Math.floor(Date.now() / 1000) * 1000 - 60_000;
const DEVICE = "0123456789abcdef";

/** Records, output and readings, of which the backend got all. */
async function relayTo(url: string): Promise<TestCollector> {
  const at = createTestCollector({ relays: true });
  await at.json("/api/v1/relays", { body: { name: "otel", url: `otlp+${url}` } });
  await at.json("/api/v1/runs", {
    body: { id: "a", name: "run a", writer: { client: "c", role: "client" } },
  });
  const items = [0.5, "NaN", "Infinity", 3].map((loss, i) => ({
    time: TIME + 1000 * i,
    metrics: { "train/loss": loss },
  }));
  await at.json("/api/v1/runs/a/records", { body: { client: "c", seq: 1, items } });
  const lines = [{ time: TIME, stream: "stderr", text: "ERROR: déjà vu" }];
  await at.json("/api/v1/runs/a/logs", { body: { client: "c", seq: 2, items: lines } });
  await appendSamples(at.collector, DEVICE, [
    { subject: "", time: TIME, values: { "cpu.utilization": 0.25 } },
    { subject: "GPU-1", time: TIME, values: { "gpu.power": 300, "gpu.energy": 1000 } },
  ]);
  const [relay] = (
    await until(
      () => at.json<RelayList>("/api/v1/relays"),
      ({ relays: [relay] }) => relay!.state === "idle" && relay!.backlog.entries === 0,
    )
  ).relays;
  expect(relay).toMatchObject({ error: null, notice: null, dead_letters: 0, dropped: { records: 0 } });
  return at;
}

// eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
type Json = any;

describe.skipIf(otelcol === undefined)("an OpenTelemetry Collector", () => {
  test("reads what is sent, and hands on the same", async () => {
    const seen: { path: string; body: Json }[] = [];
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      reusePort: false,
      async fetch(request) {
        seen.push({ path: new URL(request.url).pathname, body: await request.json() });
        return Response.json({});
      },
    });
    const [port] = ports as [number];
    const config = join(folder, "otelcol.yaml");
    writeFileSync(
      config,
      `receivers: { otlp: { protocols: { http: { endpoint: "127.0.0.1:${port}" } } } }
exporters: { otlp_http: { endpoint: "http://127.0.0.1:${server.port}", encoding: json, compression: none } }
service:
  pipelines:
    metrics: { receivers: [otlp], exporters: [otlp_http] }
    logs: { receivers: [otlp], exporters: [otlp_http] }
`,
    );
    await start([otelcol!, "--config", config], `http://127.0.0.1:${port}/v1/metrics`);
    const at = await relayTo(`http://127.0.0.1:${port}`);
    try {
      const metrics = () =>
        seen
          .filter(({ path }) => path === "/v1/metrics")
          .flatMap(({ body }) => body.resourceMetrics)
          .flatMap(({ scopeMetrics }: Json) => scopeMetrics)
          .flatMap(({ metrics }: Json) => metrics);
      const records = () =>
        seen
          .filter(({ path }) => path === "/v1/logs")
          .flatMap(({ body }) => body.resourceLogs)
          .flatMap(({ scopeLogs }: Json) => scopeLogs)
          .flatMap(({ logRecords }: Json) => logRecords);
      await until(metrics, ({ length }) => length === 4);
      await until(records, ({ length }) => length === 2);
      const of = (name: string) => metrics().find((metric: Json) => metric.name === name);
      const points = of("train/loss").gauge.dataPoints;
      expect(points.map(({ timeUnixNano }: Json) => timeUnixNano)).toEqual(
        [0, 1, 2, 3].map((i) => `${TIME + 1000 * i}00000${i}`),
      );
      expect(points.map(({ asDouble }: Json) => asDouble)).toEqual([0.5, "NaN", "Infinity", 3]);
      expect(of("system.cpu.utilization")).toMatchObject({
        unit: "1",
        gauge: { dataPoints: [{ asDouble: 0.25, timeUnixNano: `${TIME}000000` }] },
      });
      expect(of("hw.energy")).toMatchObject({
        unit: "J",
        sum: { isMonotonic: true, aggregationTemporality: 2, dataPoints: [{ asDouble: 1000 }] },
      });
      expect(records().at(-1)).toMatchObject({
        severityNumber: 17,
        severityText: "ERROR",
        body: { stringValue: "ERROR: déjà vu" },
        attributes: [
          { key: "log.iostream", value: { stringValue: "stderr" } },
          { key: "binnacle.line", value: { intValue: "1" } },
        ],
      });
      expect(records()[0]).toMatchObject({ eventName: "binnacle.run.created" });
      const { attributes } = seen.find(({ path }) => path === "/v1/logs")!.body.resourceLogs[0].resource;
      expect(attributes).toContainEqual({ key: "binnacle.run.id", value: { stringValue: "a" } });
    } finally {
      await at.close();
      await server.stop(true);
    }
  });
});

describe.skipIf(victoria === undefined)("VictoriaMetrics", () => {
  test("answers queries on what was sent", async () => {
    const [, port] = ports as [number, number];
    const address = `http://127.0.0.1:${port}`;
    await start(
      [victoria!, `-storageDataPath=${join(folder, "victoria")}`, `-httpListenAddr=127.0.0.1:${port}`],
      `${address}/health`,
    );
    // Logs are VictoriaLogs' affair.
    const at = await relayTo(`${address}/opentelemetry?logs=false`);
    try {
      await fetch(`${address}/internal/force_flush`);
      const exported = async (match: string) =>
        (await (await fetch(`${address}/api/v1/export?match[]=${encodeURIComponent(match)}`)).text())
          .trim()
          .split("\n")
          .filter((line) => line !== "")
          .map(
            (line) =>
              JSON.parse(line) as { metric: Record<string, string>; values: number[]; timestamps: number[] },
          );
      const [power] = await until(
        () => exported('{__name__=~"hw.power"}'),
        ({ length }) => length === 1,
      );
      expect(power).toMatchObject({
        metric: { "host.id": DEVICE, "hw.id": "GPU-1", "hw.type": "gpu" },
        values: [300],
        timestamps: [TIME],
      });
      const [loss] = await exported('{__name__="train/loss"}');
      expect(loss).toMatchObject({
        metric: { "binnacle.run.id": "a", "binnacle.run.name": "run a", "service.name": "binnacle" },
      });
      // What is no number or has no end VictoriaMetrics does not keep, or tells as null.
      const finite = loss!.timestamps.filter(
        (_, i) => Number.isFinite(loss!.values[i]) && loss!.values[i] !== null,
      );
      expect(finite).toEqual([TIME, TIME + 3000]);
    } finally {
      await at.close();
    }
  });
});
