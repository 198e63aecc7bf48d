/**
 * The OpenTelemetry Collector with its queue in a file (file_storage, as it comes: without fsync), on the same values: the program that
 * $BENCH_OTELCOL names, with otlpreceiver, otlphttpexporter and filestorage. Who receives from it counts, and stores nothing.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Connection } from "./http-load.ts";
import type { Figures, Options } from "./measures.ts";
import { CONNECTIONS, createWalk, KEYS, RECORDS } from "./relay-pair.ts";
import { freePort, until } from "./server.ts";
import { memoryMiB } from "./statistics.ts";

const BODIES = 16;

export async function measureRelayPeer({ seconds }: Options): Promise<Record<string, Figures>> {
  const program = process.env.BENCH_OTELCOL;
  if (program === undefined || !existsSync(program)) {
    console.error("SKIPPED: no OpenTelemetry Collector beside the relay; $BENCH_OTELCOL names none");
    return {};
  }
  const work = mkdtempSync(join(tmpdir(), "bench-otel-"));
  const sink = await startSink();
  const port = await freePort();
  mkdirSync(join(work, "queue"));
  const config = {
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    extensions: { file_storage: { directory: join(work, "queue") } },
    exporters: {
      otlp_http: {
        endpoint: `http://127.0.0.1:${sink.port}`,
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
  try {
    await until(async () => (await Connection.open(port)).close());
    const writers = Array.from({ length: CONNECTIONS }, (_, index) => createBodies(index + 1));
    const begun = performance.now();
    const counts = await Promise.all(writers.map((bodies) => post(port, bodies, seconds)));
    const requests = counts.reduce((sum, count) => sum + count, 0);
    await until(
      async () => {
        if (sink.requests() < requests) throw new Error(`${sink.requests()} of ${requests} arrived`);
      },
      { timeout: 120_000 },
    );
    const points = requests * RECORDS * KEYS.length;
    const rate = points / ((performance.now() - begun) / 1000);
    return { otel: { rate, bytes: sink.bytes() / points, memory: memoryMiB(child.pid!).peak } };
  } finally {
    child.kill("SIGTERM");
    await gone;
    sink.close();
    rmSync(work, { recursive: true, force: true });
  }
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
