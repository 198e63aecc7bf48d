import type { Connection } from "../client/typescript/connection.ts";
import { eventsOf } from "../client/typescript/events.ts";
import { request, requestJson } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";
import type { Run } from "../run/schema.ts";
import { runPath } from "./connect.ts";

const ended = new Set<string>(["FINISHED", "FAILED", "KILLED"]);
/** How long to wait for a collector that went away: an upgrade takes seconds, a forgotten terminal should not wait for ever. */
const PATIENCE_MS = 10 * 60_000;
/** The collector pings every few seconds: silence for longer means the connection is dead, though nobody closed it. */
const SILENCE_MS = 30_000;

/**
 * Calls `showNew` whenever the run has new output, until the run has ended. Events only wake it: what to print is asked for by
 * line number, so a restarted collector or a lost event leaves no gap and nothing twice.
 */
export async function follow(
  find: () => Connection,
  run: string,
  showNew: (connection: Connection) => Promise<void>,
): Promise<void> {
  let lastContact = Date.now();
  let told = false;
  for (let attempt = 0; ; attempt++) {
    // Asked before every attempt: a collector that was restarted may have another port or token.
    const connection = find();
    try {
      if (
        await followOnce(connection, run, showNew, () => {
          lastContact = Date.now();
          attempt = 0;
          told = false;
        })
      )
        return;
    } catch (error) {
      if (!isPassing(error) || Date.now() - lastContact > PATIENCE_MS) throw error;
    }
    if (!told && Date.now() - lastContact > 3000) {
      told = true;
      process.stderr.write(`Waiting for the collector at ${connection.url} to come back.\n`);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(2000, 100 * 2 ** attempt)));
  }
}

/** One connection; true when the run has ended and all was shown. */
async function followOnce(
  connection: Connection,
  run: string,
  showNew: (connection: Connection) => Promise<void>,
  onContact: () => void,
): Promise<boolean> {
  const abort = new AbortController();
  try {
    const response = await request(connection, "/api/v1/live", {
      query: { run },
      headers: { accept: "text/event-stream" },
      timeout: 0,
      signal: abort.signal,
    });
    // The state is read after the subscription stands, else an end between the two would never be noticed.
    const { status } = await requestJson<Run>(connection, runPath(run));
    await showNew(connection);
    onContact();
    if (ended.has(status)) return true;
    for await (const { event, data } of eventsOf(response, { silence: SILENCE_MS, onContact })) {
      if (event === "log" || event === "reset") await showNew(connection);
      if (event === "run" && ended.has(statusOf(data))) {
        await showNew(connection);
        return true;
      }
    }
    return false;
  } finally {
    abort.abort();
  }
}

function statusOf(data: string): string {
  const run = JSON.parse(data) as Partial<Run>;
  return run.status ?? "";
}

/** A collector that is away, starting or overloaded will be back. */
function isPassing(error: unknown): boolean {
  return error instanceof CollectorError && (error.code === "unreachable" || error.code === "busy");
}
