import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import {
  DEFAULT_URL,
  findConnection,
  readCollectorFile,
  type Connection,
} from "../client/typescript/connection.ts";
import { request } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";

const START_WITHIN_MS = 15_000;
const ANSWER_WITHIN_MS = 2_000;

/** The command line that runs this program again: the binary itself, or the runtime with the source's main file. */
export function selfCommand(): string[] {
  if (import.meta.url.includes("$bunfs") || "Deno" in globalThis) {
    // Deno comes as `deno run -A main.ts`; compiled, Bun's executable is the program.
    if (!("Deno" in globalThis)) return [process.execPath];
    return [process.execPath, "run", "-A", mainFile()];
  }
  return [process.execPath, mainFile()];
}

const mainFile = () => fileURLToPath(new URL("../cli/main.ts", import.meta.url));

export interface FoundCollector {
  connection: Connection;
  /** What a person should know: that one was started, or why none answers. */
  notice: string | undefined;
}

/**
 * The collector a launch reports to. One is started only where none was named and none answers; it outlives the launch
 * and is ended by `binnacle stop`. Without any the launch goes on all the same, into its spool.
 */
export async function ensureCollector(given: {
  url?: string | undefined;
  data?: string | undefined;
  env: Record<string, string | undefined>;
}): Promise<FoundCollector> {
  const connection = findConnection(given);
  const isNamed = Boolean(given.url) || (!given.data && Boolean(given.env["BINNACLE_URL"]));
  const problem = await problemWith(connection, isNamed);
  if (!problem) return { connection, notice: undefined };
  if (isNamed) return { connection, notice: problem };
  const { dataDir } = connection;
  const failure = await startCollector(dataDir, problem === "not-ours" ? ["--port", "0"] : []);
  const started = findConnection(given);
  if (failure === undefined) return { connection: started, notice: `started a collector at ${started.url}` };
  return { connection: started, notice: failure };
}

/** undefined where it answers and takes what we send. */
async function problemWith(connection: Connection, isNamed: boolean): Promise<string | undefined> {
  try {
    await request(connection, "/healthz", { timeout: ANSWER_WITHIN_MS });
    // At the default address, but not of our data folder: another user's, or another folder's, who has the port.
    const isGuess = connection.url === DEFAULT_URL && !isNamed && !readCollectorFile(connection.dataDir);
    if (isGuess)
      await request(connection, "/api/v1/runs", { query: { limit: 1 }, timeout: ANSWER_WITHIN_MS });
    return undefined;
  } catch (error) {
    if (error instanceof CollectorError && error.code !== "unreachable" && !isNamed) return "not-ours";
    return error instanceof Error ? error.message : String(error);
  }
}

/** Starts one in the background; resolves when it answers, with the reason where it does not. */
async function startCollector(dataDir: string, flags: string[]): Promise<string | undefined> {
  const log = join(dataDir, "collector.log");
  let fd: number;
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    fd = openSync(log, "a", 0o600);
  } catch (error) {
    return `no collector could be started: ${(error as Error).message}`;
  }
  const from = statSync(log).size;
  const [file, ...args] = [...selfCommand(), "start", "--data", dataDir, ...flags];
  const child = spawn(file!, args, { detached: true, stdio: ["ignore", fd, fd] });
  closeSync(fd);
  child.unref();
  let ended = false;
  child.once("error", () => (ended = true));
  child.once("exit", () => (ended = true));

  const deadline = Date.now() + START_WITHIN_MS;
  while (Date.now() < deadline) {
    if (await isUp(dataDir)) return undefined;
    if (ended) {
      // Perhaps another launch was quicker, and its collector is just coming up.
      await new Promise((resolve) => setTimeout(resolve, 500));
      if (await isUp(dataDir)) return undefined;
      const said = readFileSync(log).subarray(from).toString().trim().split("\n").at(-1);
      const file = readCollectorFile(dataDir);
      if (file && said?.includes(`Process ${file.pid} `))
        return `the collector at ${file.url} (process ${file.pid}) does not answer; end that process if it stays so`;
      if (flags.length === 0 && /port|in use|EADDRINUSE/i.test(said ?? ""))
        return startCollector(dataDir, ["--port", "0"]);
      return `no collector could be started: ${bare(said ?? "") || `see ${log}`}`;
    }
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return `the collector that was started does not answer; see ${log}`;
}

/** What another of us has said, to be part of a sentence of ours. */
const bare = (line: string) => line.replace(/^binnacle: /, "").replace(/\.$/, "");

async function isUp(dataDir: string): Promise<boolean> {
  const url = readCollectorFile(dataDir)?.url;
  if (url === undefined) return false;
  try {
    await request({ url: url.replace(/\/+$/, ""), token: undefined }, "/healthz", {
      timeout: ANSWER_WITHIN_MS,
    });
    return true;
  } catch {
    return false;
  }
}
