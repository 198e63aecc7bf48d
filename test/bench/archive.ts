/** A run of ten million points as one zip, out of a collector and into another one, through the command line. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requestHead } from "./http-load.ts";
import { createRandom, fillSeries, TEN_KEYS, trainingValue } from "./load.ts";
import type { Figures, Options } from "./measures.ts";
import { startServer, type Server } from "./server.ts";
import { memoryMiB, quantile } from "./statistics.ts";

const binary = join(import.meta.dirname, "../../dist/binnacle");
const PROBE_MS = 10;

/**
 * Each in a process that has done nothing else, so that its peak is its own. What holds the event loop is seen by who asks
 * /healthz all the while.
 */
export async function archive({ million }: Options): Promise<Figures> {
  const work = mkdtempSync(join(tmpdir(), "bench-archive-"));
  const file = join(work, "run.zip");
  let from = await startServer();
  let to: Server | undefined;
  try {
    await from.createRun("large");
    await fillSeries(from, "large", million, TEN_KEYS, trainingValue(createRandom(1)));
    await from.call("POST", "/api/v1/runs/large/finish", {});
    await from.stop({ keep: true });
    from = await startServer(from.dataDir);
    const out = await probed(from, () => cli(from, "run", "export", "-rid", "large", "-o", file));
    to = await startServer();
    const { points, took } = {
      points: 10 * million,
      took: await probed(to, () => cli(to!, "run", "import", file)),
    };
    const { metrics } = (await to.call("GET", "/api/v1/runs/large/metrics")) as {
      metrics: { count: number }[];
    };
    const there = metrics.reduce((sum, { count }) => sum + count, 0);
    if (there !== points) throw new Error(`${there} of ${points} points came across`);
    return {
      exportRate: points / out.seconds,
      exportPeak: out.peak,
      exportHold: out.hold,
      exportP99: out.p99,
      importRate: points / took.seconds,
      importPeak: took.peak,
      importHold: took.hold,
      importP99: took.p99,
      bytes: statSync(file).size / points,
    };
  } finally {
    await from.stop();
    await to?.stop();
    rmSync(work, { recursive: true, force: true });
  }
}

interface Probed {
  seconds: number;
  /** MiB. */
  peak: number;
  /** ms: the longest that somebody waited. */
  hold: number;
  p99: number;
}

async function probed(server: Server, work: () => Promise<void>): Promise<Probed> {
  const connection = await server.connection();
  const head = requestHead("GET", "/healthz", { port: server.port, token: "" });
  const waits: number[] = [];
  let isDone = false;
  const begun = performance.now();
  const working = work().finally(() => (isDone = true));
  while (!isDone) {
    const asked = performance.now();
    await connection.send(head, undefined);
    waits.push(performance.now() - asked);
    await new Promise((resolve) => setTimeout(resolve, PROBE_MS));
  }
  await working;
  const seconds = (performance.now() - begun) / 1000;
  connection.close();
  return { seconds, peak: memoryMiB(server.pid).peak, hold: Math.max(...waits), p99: quantile(waits, 0.99) };
}

async function cli({ port, token, dataDir }: Server, ...args: string[]): Promise<void> {
  const child = spawn(binary, args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      ...process.env,
      BINNACLE_URL: `http://127.0.0.1:${port}`,
      BINNACLE_TOKEN: token,
      BINNACLE_DATA: dataDir,
    },
  });
  const code = await new Promise((resolve) => child.once("exit", resolve));
  if (code !== 0) throw new Error(`binnacle ${args.join(" ")} ended with ${code}`);
}
