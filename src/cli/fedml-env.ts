import { requestJson } from "../client/typescript/http.ts";
import { newRunId } from "../client/typescript/writer.ts";
import { CollectorError } from "../error.ts";
import { overrideWarning, toldEnv } from "../fedml/env.ts";
import { sayIssue } from "../issue.ts";
import { Label, RunId, type RunDetail } from "../run/schema.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect, runPath } from "./connect.ts";
import { ExitCode, UsageError } from "./error.ts";
import { printJson, printText } from "./output.ts";
import type { Connection } from "../client/typescript/connection.ts";

export const command = defineCommand({
  name: "fedml env",
  summary: "Print variables that let an unmodified FedML script track here.",
  description:
    "For `eval`: what the shell starts afterwards and imports FedML's own module reports to one run. Without -rid that is a\n" +
    "new run; an id that is not there yet is made. Whoever has the variables can write to this run, and to no other.\n" +
    "`binnacle launch` sets them by itself.",
  flags: {
    "run-id": {
      type: "string",
      aliases: ["rid", "run_id"],
      value: "ID",
      help: "this run, or a new one of this id; also -rid ID (default: a new one)",
    },
    name: {
      type: "string",
      short: "n",
      value: "NAME",
      help: "a name for a new run (default: a memorable one)",
    },
    project: { type: "string", short: "p", value: "PROJECT", help: "the project a new run belongs to" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ['eval "$(binnacle fedml env)"', "from now on in this shell: a new run"],
    ["fedml env -rid 483920175526711", "for the same run again, or on another machine"],
  ],
  async run({ values }) {
    const connection = connect(values);
    const wanted = check(values);
    const { id } = wanted;
    // Asked first: a collector that serves no such clients must not be left with a run that nobody writes to.
    const env = toldEnv(await requestJson(connection, runPath(id, "/fedml")));
    const { name } = await findOrCreate(connection, wanted);
    const warning = overrideWarning(env, process.env);
    const url = `${connection.url}/runs/${id}`;
    if (warning !== undefined) process.stderr.write(`binnacle: ${warning}\n`);
    if (values.json) {
      await printJson({ run: id, url, env, warning: warning ?? null });
      return ExitCode.ok;
    }
    process.stderr.write(`binnacle: run ${id} (${name}) · ${url}\n`);
    const lines = Object.entries(env).map(
      ([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`,
    );
    await printText(lines.join(""));
    return ExitCode.ok;
  },
});

interface Given {
  "run-id": string | undefined;
  name: string | undefined;
  project: string | undefined;
}

interface Wanted {
  id: string;
  /** It may be there already. */
  isNamed: boolean;
  name: string | undefined;
  project: string | undefined;
}

function check({ "run-id": id, name, project }: Given): Wanted {
  if (id !== undefined && !RunId.safeParse(id).success)
    throw new UsageError(`'${id}' is no run id: use letters, digits, '.', '_' and '-'.`, "fedml env");
  return {
    id: id ?? newRunId(),
    isNamed: id !== undefined,
    name: labelOf("--name", name),
    project: labelOf("--project", project),
  };
}

/** A run that has ended stays so until something comes. */
async function findOrCreate(
  connection: Connection,
  { id, isNamed, name, project }: Wanted,
): Promise<RunDetail> {
  if (isNamed)
    try {
      return await requestJson<RunDetail>(connection, runPath(id));
    } catch (error) {
      if (!(error instanceof CollectorError) || error.code !== "not-found") throw error;
    }
  return requestJson<RunDetail>(connection, "/api/v1/runs", {
    body: {
      id,
      ...(name !== undefined && { name }),
      ...(project !== undefined && { project }),
    },
  });
}

function labelOf(flag: string, given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  const parsed = Label.safeParse(given);
  if (parsed.success) return given;
  throw new UsageError(`${flag} ${sayIssue(parsed.error.issues[0]!)}.`, "fedml env");
}
