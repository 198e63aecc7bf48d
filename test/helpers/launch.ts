import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cleanEnv, type TestServer } from "./cli.ts";

const main = join(import.meta.dirname, "../../src/cli/main.ts");

export interface TestLaunch {
  child: ChildProcess;
  /** The run's id, once launch has said it. */
  id: Promise<string>;
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stdout: Buffer; stderr: string }>;
  /** Resolves when stdout or stderr matches. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
}

export interface LaunchTestOptions {
  dataDir: string;
  env?: Record<string, string>;
  cwd?: string;
  stdin?: "ignore" | "pipe";
}

const running = new Set<TestLaunch>();

/** `binnacle launch …` in a process of its own, on this data folder. */
export function startLaunch(
  args: string[],
  { dataDir, env = {}, cwd, stdin = "ignore" }: LaunchTestOptions,
): TestLaunch {
  const child = spawn(process.execPath, [main, "launch", ...args], {
    env: cleanEnv({ BINNACLE_DATA: dataDir, ...env }),
    cwd,
    stdio: [stdin, "pipe", "pipe"],
  });
  const chunks: Buffer[] = [];
  let stderr = "";
  const looking = new Set<() => void>();
  const look = () => {
    for (const one of looking) one();
  };
  const text = () => `${Buffer.concat(chunks).toString()}\n${stderr}`;
  child.stdout!.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    look();
  });
  child.stderr!.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
    look();
  });
  const launch: TestLaunch = {
    child,
    ended: new Promise((resolve) =>
      child.on("close", (code, signal) => {
        running.delete(launch);
        look();
        resolve({ code, signal, stdout: Buffer.concat(chunks), stderr });
      }),
    ),
    says(pattern) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(text());
          if (!match && child.exitCode === null) return;
          looking.delete(look);
          if (match) resolve(match);
          else reject(new Error(`launch ended without ${pattern}: ${text()}`));
        };
        looking.add(look);
        look();
      });
    },
    get id() {
      return launch.says(/binnacle: run (\S+)/).then((match) => match[1]!);
    },
  };
  running.add(launch);
  return launch;
}

/** Runs it to its end, and reads back what was kept. */
export async function launchOn(server: TestServer, args: string[], options: Partial<LaunchTestOptions> = {}) {
  const launch = startLaunch(args, { dataDir: server.dataDir, ...options });
  const id = await launch.id;
  const ended = await launch.ended;
  return { ...ended, id, run: await readRun(server, id), lines: await readLines(server, id) };
}

export const readRun = (server: TestServer, id: string) => server.api(`/api/v1/runs/${id}`);

/** Every line of a run, page by page. */
export async function readLines(server: TestServer, id: string) {
  const all: { line: number; time: number; stream: string; level: string | null; text: string }[] = [];
  for (let after: number | null = 0; after !== null;) {
    const page: { lines: typeof all; next: number | null } = await server.api(
      `/api/v1/runs/${id}/logs?limit=10000&after=${after}`,
    );
    all.push(...page.lines);
    after = page.next;
  }
  return all;
}

/** Asks again until `get` gives something. */
export async function until<T>(
  get: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  ms = 15_000,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (;;) {
    const value = await get();
    if (value !== undefined && value !== null && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`It did not happen within ${ms} ms.`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Not merely dead and not yet collected. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Nothing a failed test leaves behind shall go on. */
export function killLaunches(): void {
  for (const { child } of running) child.kill("SIGKILL");
}
