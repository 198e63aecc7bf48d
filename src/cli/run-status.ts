import { requestJson } from "../client/typescript/http.ts";
import type { RunDetail } from "../run/schema.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, currentRun, findRun } from "./connect.ts";
import { printRunTable } from "./fedml-output.ts";
import { columns, printText, printJson } from "./output.ts";
import { duration, localTime, shortValue } from "./text.ts";
import { listRuns } from "./run-list.ts";
import { UsageError } from "./error.ts";
import type { Connection } from "../client/typescript/connection.ts";

export const command = defineCommand({
  name: "run status",
  summary: "Show one run: its status, and all that is known about it.",
  flags: {
    ...runFlag,
    name: {
      type: "string",
      short: "r",
      aliases: ["run_name", "rn"],
      value: "NAME",
      help: "the run with this name, where only one has it",
    },
    ...jsonFlag,
    ...connectionFlags,
  },
  maxPositionals: 1,
  usage: "[ID]",
  examples: [
    ["run status -rid 483", "show the run whose id begins with 483"],
    ["run status -rid 483 --json | jq .config", "print its configuration"],
  ],
  async run({ values, positionals, program }) {
    const connection = connect(values);
    const given =
      values["run-id"] ?? positionals[0] ?? (values.name === undefined ? currentRun() : undefined);
    const run =
      values.name !== undefined && given === undefined
        ? await findByName(connection, values.name)
        : await findRun(connection, given, "run status");
    if (values.json) await printJson(run);
    else if (program === "fedml") await printRunTable([run]);
    else await printRun(run);
    return 0;
  },
});

async function findByName(connection: Connection, name: string): Promise<RunDetail> {
  const found: string[] = [];
  for await (const run of listRuns(connection, { search: name })) if (run.name === name) found.push(run.id);
  if (found.length === 1) return requestJson(connection, `/api/v1/runs/${found[0]}`);
  if (found.length === 0) return findRun(connection, name, "run status");
  throw new UsageError(
    `${found.length} runs are named ${name}: ${found.slice(0, 10).join(", ")}.`,
    "run status",
  );
}

async function printRun(run: RunDetail): Promise<void> {
  const rows: [string, string | null][] = [
    ["id", run.id],
    ["name", run.name],
    ["project", run.project],
    ["status", run.contact_lost === null ? run.status : `${run.status}, contact lost`],
    ["reason", run.reason],
    ["created", localTime(run.created)],
    ["started", run.started && localTime(run.started)],
    ["finished", run.finished && localTime(run.finished)],
    ["took", run.started && duration(run.started, run.finished)],
    ["device", run.device],
    ["exit code", run.exit_code === null ? null : String(run.exit_code)],
    ["command", run.command],
    ["tags", run.tags.length > 0 ? run.tags.join(", ") : null],
    ["notes", run.notes],
    ["last step", run.last_step === null ? null : String(run.last_step)],
    ...run.writers.map(({ role, rank, device, pid, live }): [string, string] => [
      "writer",
      `${role}, rank ${rank}${device ? ` on ${device}` : ""}${pid ? `, pid ${pid}` : ""}${live ? ", connected" : ""}`,
    ]),
    ...Object.entries(run.config).map(([key, value]): [string, string] => [
      `config ${key}`,
      shortValue(value),
    ]),
  ];
  await printText(columns(rows.filter((row): row is [string, string] => row[1] !== null)));
}
