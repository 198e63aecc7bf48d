import { readFileSync } from "node:fs";
import { join } from "node:path";
import { findDataDir } from "../client/typescript/connection.ts";
import { request } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";
import { createTokens } from "../token.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, findRun } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";

export const command = defineCommand({
  name: "token",
  summary: "Print a token for clients, scripts or other machines.",
  description:
    "admin may do everything, write may create runs and log to them, read may look at everything. With -rid the token\n" +
    "is for writing to that run alone. Needs the collector's data folder.",
  flags: {
    scope: { type: "string", value: "SCOPE", help: "admin (default), write or read" },
    ...runFlag,
    run: { type: "string", value: "ID", help: "same as --run-id", hidden: true },
    rotate: { type: "boolean", help: "make a new admin token first: all tokens and sign-ins so far end" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["token", "print the token that may do everything"],
    ["token --scope write", "print one for training scripts on other machines"],
    ["token -rid 483", "print one that can only write to this run"],
  ],
  async run({ values }) {
    if (values.rotate) await request(connect(values), "/api/v1/token/rotate", { method: "POST", body: {} });
    const tokens = createTokens(adminToken(values.data));
    const given = values["run-id"] ?? values.run;
    if (given !== undefined && values.scope !== undefined && values.scope !== "write")
      throw new UsageError("A token for one run has the scope write.", "token");
    const scope = given === undefined ? (values.scope ?? "admin") : "run";
    if (scope !== "admin" && scope !== "write" && scope !== "read" && scope !== "run")
      throw new UsageError(`--scope wants admin, write or read, not '${scope}'.`, "token");

    const run = given === undefined ? null : (await findRun(connect(values), given, "token")).id;
    const token = run === null ? tokens[scope as "admin" | "write" | "read"] : tokens.ofRun(run);
    if (values.json) await printJson({ scope: run === null ? scope : "write", run, token });
    else await print(`${token}\n`);
    return 0;
  },
});

function adminToken(data: string | undefined): string {
  const dataDir = findDataDir(data);
  try {
    return readFileSync(join(dataDir, "token"), "utf8").trim();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT")
      throw new CollectorError("not-found", `There is no token in ${dataDir}.`, {
        hint: "Start a collector there first (`binnacle start`), or name its data folder with --data.",
        cause,
      });
    throw new CollectorError("forbidden", `The token in ${dataDir} can't be read.`, {
      hint: "It belongs to the user who started the collector.",
      cause,
    });
  }
}
