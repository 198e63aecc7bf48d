/** A collector that relays to a platform, both as the binary that people run, and the load that they get. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BatchTemplate, requestHead } from "./http-load.ts";
import { createRandom } from "./load.ts";
import { freePort, startServer, type Server } from "./server.ts";

export const CONNECTIONS = 4;
export const RECORDS = 1000;
export const KEYS = Array.from({ length: 10 }, (_, index) => `metric/${index}`);
/** So many bodies a connection: nothing that is packed together holds the same values twice. */
const BODIES = 16;

export interface Pair {
  collector: Server;
  platform: Server;
  /** Restarts on the port and the data that it had. */
  startPlatform(): Promise<void>;
  stopPlatform(): Promise<void>;
  /** `port`: of a proxy before the platform. */
  relay(options?: { port?: number }): Promise<void>;
  retry(): Promise<void>;
  /** Until nothing is left to send, and whether it went by history; rejects where the relay says what is wrong. */
  drained(): Promise<{ byHistory: boolean }>;
  /** Throws unless the platform has so many points of each metric of a run. */
  check(run: string, points: number): Promise<void>;
  close(): Promise<void>;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const NAME = "platform";

export async function startPair(): Promise<Pair> {
  const platformData = mkdtempSync(join(tmpdir(), "binnacle-bench-"));
  const port = await freePort();
  const startPlatform = () =>
    startServer(platformData, { port, args: ["--role", "platform", "--no-hardware"] });
  let platform = await startPlatform();
  const { token } = await platform.call("POST", "/api/v1/sources", { name: "bench" });
  const collector = await startServer(undefined, { args: ["--no-hardware"] });

  async function status(): Promise<{
    state: string;
    error: { message: string } | null;
    backlog: { entries: number };
    history: object | null;
  }> {
    return (await collector.call("GET", "/api/v1/relays")).relays[0];
  }

  return {
    collector,
    get platform() {
      return platform;
    },
    async startPlatform() {
      platform = await startPlatform();
    },
    stopPlatform: () => platform.stop({ keep: true }),
    async relay({ port: through = port } = {}) {
      const url = `http://127.0.0.1:${through}`;
      await collector.call("POST", "/api/v1/relays", { name: NAME, url, token });
    },
    async retry() {
      await collector.call("POST", `/api/v1/relays/${NAME}/retry`);
    },
    async drained() {
      for (let byHistory = false; ;) {
        const { state, backlog, error, history } = await status();
        byHistory ||= history !== null;
        if (state === "paused") throw new Error(`the relay is paused: ${error?.message}`);
        if (state === "idle" && backlog.entries === 0) return { byHistory };
        await sleep(20);
      }
    },
    async check(run, points) {
      const { metrics } = await platform.call("GET", `/api/v1/runs/${run}/metrics`);
      for (const { name, count } of metrics as { name: string; count: number }[])
        if (count !== points)
          throw new Error(`the platform has ${count} points of ${name} of ${run}, not ${points}`);
      if (metrics.length === 0) throw new Error(`the platform has nothing of ${run}`);
    },
    async close() {
      await collector.stop();
      await platform.stop().catch(() => {});
      rmSync(platformData, { recursive: true, force: true });
    },
  };
}

/** Noise that goes on from where it was: what a loss looks like to whoever packs it. */
export function createWalk(seed: number): (key: number) => number {
  const random = createRandom(seed);
  const values = KEYS.map((_, key) => key + 1);
  return (key) => (values[key]! += (random() - 0.5) * 0.1);
}

export interface Writer {
  run: string;
  records: number;
  /** One after another; each has values of its own. */
  templates: BatchTemplate[];
  /** Batches that were taken. */
  taken: number;
  refused: number;
}

export function createWriter(
  run: string,
  client: string,
  seed: number,
  { records = RECORDS, bodies = BODIES }: { records?: number; bodies?: number } = {},
): Writer {
  const next = createWalk(seed);
  const templates = Array.from({ length: bodies }, () => new BatchTemplate(client, records, KEYS, next));
  return { run, records, templates, taken: 0, refused: 0 };
}

/** Over one connection, until the time is over or so many batches were taken. */
export async function write(
  server: Server,
  writer: Writer,
  {
    seconds = Infinity,
    batches = Infinity,
    rate = Infinity,
  }: { seconds?: number; batches?: number; rate?: number },
): Promise<void> {
  const connection = await server.connection();
  const begun = performance.now();
  const before = writer.taken;
  const { run, records, templates } = writer;
  while (performance.now() - begun < seconds * 1000 && writer.taken - before < batches) {
    const template = templates[writer.taken % templates.length]!;
    const step = writer.taken * records;
    const body = template.fill(writer.taken + 1, step, 1_700_000_000_000 + step);
    const head = requestHead("POST", `/api/v1/runs/${run}/records`, { ...server, length: body.length });
    const { status, body: answer } = await connection.send(head, body);
    if (status === 200) writer.taken++;
    else if (status === 429 || status === 503) {
      writer.refused++;
      await sleep(5);
    } else throw new Error(`${run}: ${status} ${answer.toString().slice(0, 300)}`);
    const points = (writer.taken - before) * template.points;
    const ahead = points / rate - (performance.now() - begun) / 1000;
    if (ahead > 0) await sleep(ahead * 1000);
  }
  connection.close();
}

/** One writer a run, on connections of their own. */
export async function createWriters(server: Server, name: string): Promise<Writer[]> {
  const writers = Array.from({ length: CONNECTIONS }, (_, index) =>
    createWriter(`${name}-${index}`, "load", index + 1),
  );
  for (const { run } of writers) await server.createRun(run);
  return writers;
}

export const pointsOf = (writers: readonly Writer[]): number =>
  writers.reduce((sum, { taken, records }) => sum + taken * records * KEYS.length, 0);
