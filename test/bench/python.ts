import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Figures, Options } from "./measures.ts";
import { startServer } from "./server.ts";

const script = join(import.meta.dirname, "python_log.py");
const client = join(import.meta.dirname, "../../src/client/python");

/** Microseconds of one binnacle.log() call: against a live collector, and against one that accepts and never answers. */
export async function measurePython(_: Options): Promise<Figures> {
  const server = await startServer();
  const live = await runScript(`http://127.0.0.1:${server.port}`, server.token);
  await server.stop();
  const hung = createServer(() => {});
  await new Promise<void>((resolve) => hung.listen(0, "127.0.0.1", resolve));
  const { port } = hung.address() as { port: number };
  const stuck = await runScript(`http://127.0.0.1:${port}`, "none");
  hung.close();
  return {
    p50: live.p50!,
    p9999: live.p9999!,
    max: live.max!,
    emptyMax: live.emptyMax!,
    hungP50: stuck.p50!,
    hungP9999: stuck.p9999!,
    hungMax: stuck.max!,
    hungEmptyMax: stuck.emptyMax!,
    importMs: median3(() => importTime()),
  };
}

/** Not synchronous: a hung collector is played by this very process. */
function runScript(url: string, token: string): Promise<Figures> {
  const data = mkdtempSync(join(tmpdir(), "bench-python-"));
  const child = spawn("python3", [script], {
    stdio: ["ignore", "pipe", "inherit"],
    env: {
      ...process.env,
      PYTHONPATH: client,
      BINNACLE_URL: url,
      BINNACLE_TOKEN: token,
      BINNACLE_DATA: data,
    },
  });
  let output = "";
  child.stdout.on("data", (chunk) => (output += chunk));
  return new Promise((resolve, reject) =>
    child.on("close", (code) => {
      rmSync(data, { recursive: true, force: true });
      if (code !== 0) reject(new Error(`python_log.py ended with ${code}`));
      else resolve(JSON.parse(output) as Figures);
    }),
  );
}

function importTime(): number {
  const code =
    "import time; t = time.perf_counter(); import binnacle; print((time.perf_counter() - t) * 1000)";
  return Number(execFileSync("python3", ["-c", code], { env: { ...process.env, PYTHONPATH: client } }));
}

function median3(measure: () => number): number {
  return [measure(), measure(), measure()].toSorted((a, b) => a - b)[1]!;
}
