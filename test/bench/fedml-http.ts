import { createKeys } from "../../src/fedml/keys.ts";
import { createTokens } from "../../src/token.ts";
import { Connection, requestHead } from "./http-load.ts";
import type { Figures, Options } from "./measures.ts";
import { startServer, type Server } from "./server.ts";
import { cpuSeconds, median, memoryMiB, quantile } from "./statistics.ts";

const RUN = "123456789012345";
/** What the client posts at most, each three seconds. */
const LINES = 1000;
const EDGES = 4;

/** `configs/fetch`, for which each `fedml.log` waits: by a connection of its own each, as the client asks, and by one kept open. */
export async function fedmlConfigs({ seconds }: Options): Promise<Figures> {
  const server = await startServer();
  try {
    const ask = asker(server);
    const fresh: number[] = [];
    const kept: number[] = [];
    await askFor(1, () => withConnection(server, ask));
    const cpu = cpuSeconds(server.pid);
    await askFor(seconds / 2, () => withConnection(server, ask), fresh);
    const used = cpuSeconds(server.pid) - cpu;
    await withConnection(server, (connection) => askFor(seconds / 2, () => ask(connection), kept));
    return {
      p50: median(fresh),
      p99: quantile(fresh, 0.99),
      keptP50: median(kept),
      cpu: (used / fresh.length) * 1e6,
    };
  } finally {
    await server.stop();
  }
}

/** Log posts of 1,000 lines of four edges at once, each answered when its lines are durable. */
export async function fedmlLogs({ seconds }: Options): Promise<Figures> {
  const server = await startServer();
  try {
    const warm = await postFor(server, 1, 1);
    const cpu = cpuSeconds(server.pid);
    const begun = performance.now();
    const latencies = await postFor(server, seconds, 1 + EDGES);
    const elapsed = (performance.now() - begun) / 1000;
    const used = cpuSeconds(server.pid) - cpu;
    await requireStored(server, (warm.length + latencies.length) * LINES);
    return {
      lines: (latencies.length * LINES) / elapsed,
      p50: median(latencies),
      p99: quantile(latencies, 0.99),
      cpu: (used / (latencies.length * LINES)) * 1e6,
      peak: memoryMiB(server.pid).peak,
    };
  } finally {
    await server.stop();
  }
}

/** The request that fedml.log makes, and a look at its answer. */
function asker(server: Server): (connection: Connection) => Promise<void> {
  const body = Buffer.from(
    JSON.stringify({
      config_name: ["mqtt_config", "s3_config", "ml_ops_config"],
      device_send_time: Date.now(),
    }),
  );
  const head = headOf(server, "/fedmlOpsServer/configs/fetch", body.length);
  return async (connection) => {
    const { status, body: answer } = await connection.send(head, body);
    if (status !== 200 || !answer.includes('"BROKER_PORT"')) throw new Error(`configs/fetch: ${status}`);
  };
}

async function askFor(seconds: number, ask: () => Promise<void>, latencies: number[] = []): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const begun = performance.now();
    await ask();
    latencies.push(performance.now() - begun);
  }
}

async function withConnection(server: Server, use: (connection: Connection) => Promise<void>): Promise<void> {
  const connection = await server.connection();
  try {
    await use(connection);
  } finally {
    connection.close();
  }
}

/** ms of each post. */
async function postFor(server: Server, seconds: number, firstEdge: number): Promise<number[]> {
  const latencies: number[] = [];
  await Promise.all(
    Array.from({ length: EDGES }, (_, index) =>
      withConnection(server, async (connection) => {
        const template = new LogTemplate(firstEdge + index);
        const head = headOf(server, "/fedmlLogsServer/logs/update", template.body.length);
        await askFor(
          seconds,
          async () => {
            const { status } = await connection.send(head, template.next());
            if (status !== 200) throw new Error(`logs/update: ${status}`);
          },
          latencies,
        );
      }),
    ),
  );
  return latencies;
}

function headOf(server: Server, path: string, length: number): string {
  const keys = createKeys(() => createTokens(server.token));
  return requestHead("POST", `/fedml/${keys.secretOf({ run: RUN })}${path}`, {
    port: server.port,
    token: "",
    length,
  });
}

/** A post as client 0.9.6 makes it, whose times go on by 3 ms a line, patched in place so that building it costs no load. */
class LogTemplate {
  readonly body: Buffer;
  private readonly timeAt: number[] = [];
  private line = 0;

  constructor(edge: number) {
    let text = `{"run_id": ${RUN}, "edge_id": ${edge}, "logs": [`;
    for (let index = 0; index < LINES; index++) {
      text += `${index ? ", " : ""}"[FedML-Client @device-id-${edge}] [Mon, 23 Nov 2026 `;
      this.timeAt.push(text.length);
      const level = index % 50 === 49 ? "WARNING" : "INFO";
      text += `00:00:00.000000000] [${level}] [train.py:${100 + (index % 40)}:train] epoch ${index % 10} step ${index} loss ${Math.sin(index).toFixed(6)} lr 0.001\\n"`;
    }
    const now = Date.now() / 1000;
    text += `], "create_time": ${now}, "update_time": ${now}, "created_by": "${edge}", "updated_by": "${edge}"}`;
    this.body = Buffer.from(text);
  }

  next(): Buffer {
    for (const at of this.timeAt) {
      const milliseconds = (this.line * 3) % 86_400_000;
      const time = new Date(milliseconds).toISOString().slice(11, 23);
      this.body.write(`${time}${String(this.line % 1e6).padStart(6, "0")}`, at, "latin1");
      this.line++;
    }
    return this.body;
  }
}

/** What was acknowledged and is not there would be no speed at all. */
async function requireStored(server: Server, lines: number): Promise<void> {
  const { total } = await server.call("GET", `/api/v1/runs/${RUN}/logs?limit=1`);
  if (total !== lines) throw new Error(`Of ${lines} lines acknowledged ${total} are there.`);
}
