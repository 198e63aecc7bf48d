/**
 * The OpenTelemetry Collector with its queue in a file (file_storage), on the same values, by OTLP/HTTP: built by Go, or the program that
 * $BENCH_OTELCOL names, with otlpreceiver, otlphttpexporter and filestorage. Who receives from it counts, and stores nothing.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildByGo, OTELCOL } from "../helpers/go.ts";
import { Connection } from "./http-load.ts";
import type { Figures, Options } from "./measures.ts";
import { CONNECTIONS, createWalk, KEYS, RECORDS } from "./relay-pair.ts";
import { freePort, until } from "./server.ts";
import { cpuSeconds, medians, memoryMiB } from "./statistics.ts";

const BODIES = 16;

/** `otel` syncs its file as we do before it answers, `otelUnsynced` is as it comes. */
export async function measureRelayPeer(options: Options): Promise<Record<string, Figures>> {
  const program = findProgram();
  if (program === undefined) return {};
  const synced: Figures[] = [];
  const unsynced: Figures[] = [];
  for (let index = 0; index < options.repetitions; index++) {
    synced.push(await relayThrough(program, options, { fsync: true }));
    unsynced.push(await relayThrough(program, options, { fsync: false }));
  }
  return { otel: medians(synced), otelUnsynced: medians(unsynced) };
}

function findProgram(): string | undefined {
  const given = process.env.BENCH_OTELCOL;
  try {
    if (given === undefined) {
      console.error("building the OpenTelemetry Collector, where that was not done before …");
      return buildByGo(OTELCOL);
    }
    const found = Bun.which(given);
    if (found === null) throw new Error(`$BENCH_OTELCOL names ${given}, which is no program`);
    return found;
  } catch (error) {
    console.error(`SKIPPED: no OpenTelemetry Collector beside the relay: ${(error as Error).message}`);
    return undefined;
  }
}

/** From the first request to it until the last of its points is at the other side. */
async function relayThrough(
  program: string,
  { seconds }: Options,
  { fsync }: { fsync: boolean },
): Promise<Figures> {
  const sink = await startSink();
  const collector = await startCollector(program, sink.port, { fsync });
  try {
    await until(async () => (await Connection.open(collector.port)).close());
    const writers = Array.from({ length: CONNECTIONS }, (_, index) => createBodies(index + 1));
    const load = async (length: number) => {
      const before = sink.requests();
      const counts = await Promise.all(writers.map((bodies) => post(collector.port, bodies, length)));
      const requests = counts.reduce((sum, count) => sum + count, 0);
      await until(
        async () => {
          const arrived = sink.requests() - before;
          if (arrived < requests) throw new Error(`${arrived} of ${requests} arrived`);
        },
        { timeout: 120_000 },
      );
      return requests * RECORDS * KEYS.length;
    };
    await load(1);
    const [cpu, bytes, begun] = [cpuSeconds(collector.pid), sink.bytes(), performance.now()];
    const points = await load(seconds);
    return {
      rate: points / ((performance.now() - begun) / 1000),
      bytes: (sink.bytes() - bytes) / points,
      memory: memoryMiB(collector.pid).peak,
      cpu: ((cpuSeconds(collector.pid) - cpu) / points) * 1e6,
    };
  } finally {
    await collector.stop();
    sink.close();
  }
}

async function startCollector(program: string, sink: number, { fsync }: { fsync: boolean }) {
  const work = mkdtempSync(join(tmpdir(), "bench-otel-"));
  const port = await freePort();
  mkdirSync(join(work, "queue"));
  const config = {
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    extensions: { file_storage: { directory: join(work, "queue"), fsync } },
    exporters: {
      otlp_http: {
        endpoint: `http://127.0.0.1:${sink}`,
        sending_queue: { storage: "file_storage", queue_size: 10_000, block_on_overflow: true },
      },
    },
    service: {
      extensions: ["file_storage"],
      telemetry: { metrics: { level: "none" }, logs: { level: "error" } },
      pipelines: { metrics: { receivers: ["otlp"], exporters: ["otlp_http"] } },
    },
  };
  // JSON is YAML.
  writeFileSync(join(work, "config.yaml"), JSON.stringify(config));
  const child = spawn(program, ["--config", `file:${join(work, "config.yaml")}`], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const gone = new Promise((resolve) => child.once("exit", resolve));
  return {
    port,
    pid: child.pid!,
    async stop() {
      child.kill("SIGTERM");
      await gone;
      rmSync(work, { recursive: true, force: true });
    },
  };
}

async function startSink() {
  let requests = 0;
  let bytes = 0;
  const server = createServer((request, response) => {
    request.on("data", (chunk: Buffer) => void (bytes += chunk.length));
    request.on("end", () => {
      requests++;
      response.writeHead(200, { "content-type": "application/x-protobuf", "content-length": "0" }).end();
    });
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return { port, requests: () => requests, bytes: () => bytes, close: () => void server.close() };
}

/** Over one connection; resolves with how many were taken. */
async function post(port: number, bodies: readonly Buffer[], seconds: number): Promise<number> {
  const connection = await Connection.open(port);
  const begun = performance.now();
  let count = 0;
  while (performance.now() - begun < seconds * 1000) {
    const body = bodies[count % bodies.length]!;
    const head =
      `POST /v1/metrics HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/x-protobuf\r\n` +
      `Content-Length: ${body.length}\r\n\r\n`;
    const { status, body: answer } = await connection.send(head, body);
    if (status !== 200) throw new Error(`the OpenTelemetry Collector: ${status} ${answer.toString()}`);
    count++;
  }
  connection.close();
  return count;
}

/** ExportMetricsServiceRequest: a gauge a key, with a point a record. */
function createBodies(seed: number): Buffer[] {
  const next = createWalk(seed);
  return Array.from({ length: BODIES }, (_, body) => {
    const values = KEYS.map((): number[] => []);
    for (let record = 0; record < RECORDS; record++)
      KEYS.forEach((_, key) => void values[key]!.push(next(key)));
    const metrics = KEYS.map((name, key) => {
      const points = values[key]!.map((value, record) => pointOf(value, body * RECORDS + record));
      return field(2, Buffer.concat([field(1, Buffer.from(name)), field(5, Buffer.concat(points))]));
    });
    // resource_metrics, scope_metrics
    return field(1, field(2, Buffer.concat(metrics)));
  });
}

function pointOf(value: number, at: number): Buffer {
  const bytes = Buffer.alloc(18);
  bytes[0] = 0x19;
  bytes.writeBigUInt64LE((1_700_000_000_000n + BigInt(at)) * 1_000_000n, 1);
  bytes[9] = 0x21;
  bytes.writeDoubleLE(value, 10);
  return field(1, bytes);
}

function field(number: number, bytes: Buffer): Buffer {
  const head = [(number << 3) | 2];
  let size = bytes.length;
  for (; size > 127; size = Math.floor(size / 128)) head.push((size % 128) | 128);
  head.push(size);
  return Buffer.concat([Buffer.from(head), bytes]);
}
