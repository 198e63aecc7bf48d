import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Connection, requestHead } from "./http-load.ts";

/** Another build, where $BENCH_BINARY names one. */
export const binary = process.env.BENCH_BINARY ?? join(import.meta.dirname, "../../dist/binnacle");

export interface Server {
  port: number;
  pid: number;
  token: string;
  dataDir: string;
  connection(): Promise<Connection>;
  /** A request outside the measured load; throws unless it is answered with 2xx. */
  call(method: string, path: string, body?: unknown): Promise<any>;
  createRun(id: string): Promise<void>;
  /** Ends the process; the data folder goes with it unless kept. */
  stop(options?: { keep?: boolean }): Promise<void>;
  /** ms from starting the process until it answered. */
  startedIn: number;
}

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}

export async function until<T>(attempt: () => Promise<T>, { timeout = 30_000, pause = 5 } = {}): Promise<T> {
  const end = performance.now() + timeout;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** Starts the compiled binary on a data folder of its own: what is measured is what people run. */
export async function startServer(
  dataDir = mkdtempSync(join(tmpdir(), "binnacle-bench-")),
  {
    args = [],
    env = {},
    port: givenPort,
  }: { args?: string[]; env?: Record<string, string>; port?: number } = {},
): Promise<Server> {
  const port = givenPort ?? (await freePort());
  const begun = performance.now();
  const child: ChildProcess = spawn(binary, ["start", "--port", String(port), "--data", dataDir, ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, ...env },
  });
  await until(async () => {
    const connection = await Connection.open(port);
    const reply = await connection.send(requestHead("GET", "/healthz", { port, token: "" }), undefined);
    connection.close();
    if (reply.status !== 200) throw new Error(`healthz answered ${reply.status}`);
  });
  const startedIn = performance.now() - begun;
  const token = readFileSync(join(dataDir, "token"), "utf8").trim();
  const server: Server = {
    port,
    pid: child.pid!,
    token,
    dataDir,
    startedIn,
    connection: () => Connection.open(port),
    async call(method, path, body) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body ? { "content-type": "application/json" } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text ? JSON.parse(text) : undefined;
    },
    createRun: async (id) => void (await server.call("POST", "/api/v1/runs", { id, name: id })),
    async stop({ keep = false } = {}) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
      if (!keep) rmSync(dataDir, { recursive: true, force: true });
    },
  };
  return server;
}
