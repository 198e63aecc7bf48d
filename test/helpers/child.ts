import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import type { CollectorOptions } from "../../src/collector.ts";
import { temporaryFolder } from "./binary.ts";
import { mutantPlugin } from "./mutants.ts";

export const ADMIN_TOKEN = `bnc_admin_${"0123456789abcdef".repeat(4)}`;

export interface ChildOptions extends Pick<CollectorOptions, "series" | "trim" | "quota"> {
  /** Others may relay here. */
  platform?: boolean;
  /** It can relay to others. */
  relays?: boolean;
  /** It takes what FedML's clients send, all but MQTT. */
  fedml?: boolean;
}

/** A collector in a process of its own, whatever it was started from. */
export interface Party {
  port: number;
  /** The administrator's. */
  token: string;
  /** What it said on stderr so far. */
  stderr(): string;
  /** `path`: below /api/v1. */
  request(path: string, body?: unknown): Promise<Response>;
  /** kill -9; resolves when it is gone. */
  kill(): Promise<void>;
}

/** serve-child.ts. */
export interface Child extends Party {
  process: ChildProcess;
  /** Resolves with the exit code. */
  exited: Promise<number | null>;
}

const root = join(import.meta.dirname, "../..");
let program: Promise<string> | undefined;

/** serve-child.ts compiled once: from its sources a start takes 0.21 s of processor time, so 0.08 s. Its workers remain the sources. */
async function bundle(): Promise<string> {
  const outdir = temporaryFolder("binnacle-child-");
  symlinkSync(join(root, "node_modules"), join(outdir, "node_modules"));
  await Bun.build({
    entrypoints: [join(import.meta.dirname, "serve-child.ts")],
    outdir,
    target: "bun",
    format: "cjs",
    bytecode: true,
    sourcemap: "linked",
    external: ["libsql", "koffi"],
    plugins: process.env.MUTANT === undefined ? [] : [mutantPlugin(process.env.MUTANT)],
  });
  return join(outdir, "serve-child.js");
}

/** `through`: a command line that runs the one after it, such as strace's. */
export async function startChild(
  dataDir: string,
  options: ChildOptions = {},
  through: string[] = [],
): Promise<Child> {
  const line = [...through, process.execPath, await (program ??= bundle()), dataDir, JSON.stringify(options)];
  const child = spawn(line[0]!, line.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
  const exited = once(child, "exit").then(([code]) => code as number | null);
  const port = await new Promise<number>((resolve, reject) => {
    let stdout = "";
    child.stdout.on("data", (bytes: Buffer) => {
      stdout += bytes.toString();
      const ready = /ready (\d+)/.exec(stdout);
      if (ready) resolve(Number(ready[1]));
    });
    void exited.then((code) => reject(new Error(`the collector ended with ${code}: ${stderr}`)));
  });
  return {
    process: child,
    port,
    token: ADMIN_TOKEN,
    stderr: () => stderr,
    exited,
    request: (path, body) =>
      fetch(`http://127.0.0.1:${port}/api/v1${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
