import { spawn } from "node:child_process";
import { statSync } from "node:fs";
import Database from "libsql";
import { CollectorError } from "../error.ts";
import { whileStill } from "./backup.ts";
import type { Connection } from "./open.ts";

/** The WAL grows while the file is read: beyond this it is not worth it. */
const MAX_WAL_BYTES = 1024 ** 3;
const LOOK_MS = 1000;
/** One damaged page can have thousands of consequences. */
const MAX_PROBLEMS = 20;

export interface DatabaseCheck {
  problems: string[];
  /** Of the file. */
  bytes: number;
}

/**
 * Looks through the whole database in a process of its own, while the collector goes on: commits go to the WAL alone for as
 * long as it takes, so that the file stands still. On the one connection a gigabyte would hold everything up for 2.5 s.
 * `command` runs this program.
 */
export function checkDatabase(
  connection: Connection,
  path: string,
  command: readonly string[],
  signal: AbortSignal,
): Promise<DatabaseCheck> {
  return whileStill(connection, () => checkStill(path, command, signal));
}

async function checkStill(
  path: string,
  command: readonly string[],
  signal: AbortSignal,
): Promise<DatabaseCheck> {
  const before = stampOf(path);
  const stop = new AbortController();
  const timer = setInterval(() => {
    if ((statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > MAX_WAL_BYTES) stop.abort();
  }, LOOK_MS);
  try {
    const output = await outputOf(
      [...command, "check-database", path],
      AbortSignal.any([signal, stop.signal]),
    );
    // Then it was read while it changed, and what was found says nothing.
    if (stampOf(path) !== before) throw tooBusy();
    return JSON.parse(output) as DatabaseCheck;
  } catch (error) {
    signal.throwIfAborted();
    if (stop.signal.aborted) throw tooBusy();
    throw error;
  } finally {
    clearInterval(timer);
  }
}

const tooBusy = () =>
  new CollectorError("busy", "Too much was being written.", { hint: "Ask again when less is written." });

function stampOf(path: string): string {
  const { size, mtimeMs } = statSync(path);
  return `${size} ${mtimeMs}`;
}

function outputOf([program, ...args]: string[], signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program!, args, { stdio: ["ignore", "pipe", "pipe"], signal, killSignal: "SIGKILL" });
    const parts = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name].setEncoding("utf8").on("data", (text: string) => void (parts[name] += text));
    child.once("error", reject);
    child.once("close", (code, killed) =>
      code === 0
        ? resolve(parts.stdout)
        : reject(
            new CollectorError(
              "internal",
              `Its reader ended with ${code ?? killed}: ${parts.stderr.trim().slice(-300)}`,
            ),
          ),
    );
  });
}

/** What that process does. Takes no lock, and does not look at the WAL: the file is known to stand still. */
export function readDatabase(path: string): DatabaseCheck {
  const bytes = statSync(path).size;
  try {
    const connection = new Database(
      `file:${encodeURI(path).replaceAll(/[?#]/g, encodeURIComponent)}?immutable=1`,
    );
    const rows = connection.prepare(`PRAGMA integrity_check(${MAX_PROBLEMS})`).raw(true).all() as [string][];
    connection.close();
    const lines = rows.flatMap(([text]) => text.split("\n"));
    return { problems: lines.filter((line) => line !== "ok" && !line.startsWith("*** in database")), bytes };
  } catch (error) {
    // Too damaged to be looked through.
    const { code = "", message } = error as { code?: string; message: string };
    if (!/^SQLITE_(CORRUPT|NOTADB|IOERR)/.test(code) && !/malformed|not a database/.test(message))
      throw error;
    return { problems: [message], bytes };
  }
}
