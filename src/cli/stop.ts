import { readCollectorFile, type Connection } from "../client/typescript/connection.ts";
import { request } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";
import { isProcessAlive } from "../run/machine.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { print, printJson } from "./output.ts";

const PATIENCE_MS = 60_000;

export const command = defineCommand({
  name: "stop",
  summary: "End the collector. What runs go on to log is kept by them and sent when it is back.",
  flags: { ...jsonFlag, ...connectionFlags },
  examples: [
    ["stop", "end the collector on this machine"],
    ["stop --data /srv/binnacle", "end the one that has this data folder"],
  ],
  async run({ values }) {
    const connection = connect(values);
    // Read before it goes: a collector takes its file with it.
    const file = readCollectorFile(connection.dataDir);
    const pid = file?.url.replace(/\/+$/, "") === connection.url ? file.pid : undefined;
    await request(connection, "/api/v1/shutdown", { method: "POST", body: {} });
    await untilGone(connection, pid);
    if (values.json) await printJson({ url: connection.url, pid: pid ?? null });
    else await print("The collector is stopped.\n");
    return 0;
  },
});

/** The process, where it is on this machine: only then is the data folder free for the next one. */
async function untilGone(connection: Connection, pid: number | undefined): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (pid === undefined ? await answers(connection) : isProcessAlive(pid)) {
    if (Date.now() > deadline)
      throw new CollectorError("busy", `The collector at ${connection.url} has not ended yet.`, {
        hint:
          pid === undefined ? "Look at its diagnostics." : `Look at its diagnostics, or end process ${pid}.`,
      });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function answers(connection: Connection): Promise<boolean> {
  try {
    await request(connection, "/healthz", { timeout: 2000 });
    return true;
  } catch (error) {
    return !(error instanceof CollectorError && error.code === "unreachable");
  }
}
