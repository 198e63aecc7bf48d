import { requestJson } from "../client/typescript/http.ts";
import type { RunDetail, SetRun } from "../run/schema.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, findRun, runPath } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";
import { keyAndValue } from "./values.ts";

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
    if (values.config.length > 0)
      change.config = Object.fromEntries(values.config.map((text) => keyAndValue(text, "--config")));
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
