import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dirname, "../../src/cli/main.ts");

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
  bytes: Buffer;
}

export interface CliOptions {
  env?: Record<string, string>;
  cwd?: string;
  /** Called with each piece of stdout; may end the process through `kill`. */
  onStdout?: (text: string, kill: (signal?: NodeJS.Signals) => void) => void;
  /** Command in the place of `bun src/cli/main.ts`. */
  program?: string[];
}

/** An environment without any collector of this machine's. */
export function cleanEnv(env: Record<string, string> = {}): Record<string, string> {
  const kept = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && !/^(BINNACLE_|XDG_STATE)/.test(entry[0]),
  );
  return { ...Object.fromEntries(kept), ...env };
}

/** Runs the real command line in a process of its own. */
export function runCli(
  args: string[],
  { env = {}, cwd, onStdout, program }: CliOptions = {},
): Promise<CliResult> {
  const [command, ...before] = program ?? [process.execPath, main];
  const child = spawn(command!, [...before, ...args], {
    env: cleanEnv(env),
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const chunks: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    onStdout?.(chunk.toString(), (signal) => child.kill(signal));
  });
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const bytes = Buffer.concat(chunks);
      resolve({ code: code ?? (signal ? 128 : -1), stdout: bytes.toString(), stderr, bytes });
    });
  });
}

export interface TestServer {
  url: string;
  dataDir: string;
  pid: number;
  /** The command line, on this server's data folder. */
  cli(...args: string[]): Promise<CliResult>;
  /** Its JSON output. */
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  json<T = any>(...args: string[]): Promise<T>;
  /** A request with the admin token. */
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  api<T = any>(path: string, body?: unknown, method?: string): Promise<T>;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Ends it and removes its folder. */
  close(): Promise<void>;
}

/** The real server in a process of its own, with a folder of its own. */
export async function startServer({
  dataDir = mkdtempSync(join(tmpdir(), "binnacle-cli-")),
  port = 0,
  args = [],
  env = {},
}: {
  dataDir?: string;
  port?: number;
  /** Further ones of `start`. */
  args?: string[];
  env?: Record<string, string>;
} = {}): Promise<TestServer> {
  const start = [main, "start", "--port", String(port), "--data", dataDir, ...args];
  const child = spawn(process.execPath, start, {
    env: cleanEnv(env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const url = await new Promise<string>((resolve, reject) => {
    let output = "";
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const found = /listens on (\S+),/.exec(output)?.[1];
      if (found) resolve(found);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("close", () => reject(new Error(`the server did not start: ${output}`)));
  });
  const cli = (...args: string[]) => runCli(args, { env: { BINNACLE_DATA: dataDir } });
  let token: string | undefined;

  return {
    url,
    dataDir,
    pid: child.pid!,
    cli,
    async json(...args) {
      const { stdout, stderr, code } = await cli(...args);
      if (code !== 0) throw new Error(`${args.join(" ")} exited with ${code}: ${stderr}`);
      return JSON.parse(stdout);
    },
    async api(path, body, method) {
      token ??= (await cli("token")).stdout.trim();
      const response = await fetch(url + path, {
        method: method ?? (body === undefined ? "GET" : "POST"),
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
      return response.json();
    },
    async kill(signal) {
      child.kill(signal);
      await ended;
    },
    async close() {
      child.kill("SIGKILL");
      await ended;
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
