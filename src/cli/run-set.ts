import { requestJson } from "../client/typescript/http.ts";
import type { RunDetail, SetRun } from "../run/schema.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, findRun, runPath } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";

export const command = defineCommand({
  name: "run set",
  usage: "[ID]",
  maxPositionals: 1,
  summary: "Change a run's name, project, config, tags or notes.",
  flags: {
    ...runFlag,
    name: { type: "string", short: "n", value: "NAME", help: "its new name" },
    project: { type: "string", short: "p", value: "NAME", help: "the project it belongs to" },
    config: {
      type: "string",
      short: "c",
      multiple: true,
      value: "KEY=VALUE",
      help: "set a configuration value (JSON, else text); KEY= removes it",
    },
    tag: { type: "string", short: "t", multiple: true, value: "TAG", help: "add a tag" },
    untag: { type: "string", multiple: true, value: "TAG", help: "remove a tag" },
    notes: { type: "string", value: "TEXT", help: "its notes; empty removes them" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["run set -rid 483 --name baseline --tag paper", "name a run and tag it"],
    ["run set -rid 483 -c lr=0.01 -c optimizer=adam", "correct its configuration"],
  ],
  async run({ values, positionals }) {
    const connection = connect(values);
    const run = await findRun(connection, values["run-id"] ?? positionals[0], "run set");
    const change: SetRun = {};
    if (values.name !== undefined) change.name = values.name;
    if (values.project !== undefined) change.project = values.project;
    if (values.config.length > 0) change.config = Object.fromEntries(values.config.map(setting));
    if (values.tag.length > 0 || values.untag.length > 0)
      change.tags = [...new Set([...run.tags, ...values.tag])].filter((tag) => !values.untag.includes(tag));
    if (values.notes !== undefined) change.notes = values.notes === "" ? null : values.notes;
    if (Object.keys(change).length === 0) throw new UsageError("There is nothing to set.", "run set");

    const changed = await requestJson<RunDetail>(connection, runPath(run.id), {
      method: "PATCH",
      body: change,
    });
    if (values.json) await printJson(changed);
    else await print(`Run ${run.id} is changed.\n`);
    return 0;
  },
});

function setting(text: string): [string, NonNullable<SetRun["config"]>[string]] {
  const at = text.indexOf("=");
  if (at <= 0) throw new UsageError(`--config wants KEY=VALUE, not '${text}'.`, "run set");
  const [key, value] = [text.slice(0, at), text.slice(at + 1)];
  if (value === "") return [key, null];
  try {
    return [key, JSON.parse(value, keepDigits) as NonNullable<SetRun["config"]>[string]];
  } catch {
    return [key, value];
  }
}

/** An id of 19 digits would come back with other digits, also from inside a list. */
function keepDigits(_key: string, value: unknown, context?: { source?: string }): unknown {
  const isRounded = typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER;
  const source = context?.source ?? "";
  return isRounded && /^-?\d+$/.test(source) ? source : value;
}
