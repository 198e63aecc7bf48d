import { requestJson } from "../client/typescript/http.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, findRun, runPath } from "./connect.ts";
import { CollectorError } from "../error.ts";
import { isLive, type Run } from "../run/schema.ts";
import { print, printJson } from "./output.ts";

export const command = defineCommand({
  name: "run stop",
  summary: "Stop a run: its processes are asked to end.",
  usage: "[ID]",
  maxPositionals: 1,
  flags: {
    ...runFlag,
    force: { type: "boolean", help: "kill them at once" },
    reason: { type: "string", value: "TEXT", help: "why, kept with the run" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["run stop -rid 483", "stop the run whose id begins with 483"],
    ["run stop -rid 483 --force", "kill it without waiting for it to clean up"],
  ],
  async run({ values, positionals, program }) {
    const connection = connect(values);
    const given = values["run-id"] ?? positionals[0];
    const run = await findRun(connection, given, "run stop").catch(async (error: unknown) => {
      if (program === "fedml" && !values.json && error instanceof CollectorError)
        await print(`Failed to stop Run ${given}. ${error.message}\n`);
      throw error;
    });
    const asked = await requestJson<Run>(connection, runPath(run.id, "/stop"), {
      body: { force: values.force, ...(values.reason === undefined ? {} : { reason: values.reason }) },
    });
    const { status } = asked;
    if (values.json) await printJson(asked);
    else if (program === "fedml") await print(`Run ${run.id} is stopped successfully.\n`);
    else if (!isLive(run.status)) await print(`Run ${run.id} had ended before: ${status}.\n`);
    else if (status === "STOPPING") await print(`Run ${run.id} is being stopped.\n`);
    else await print(`Run ${run.id} is stopped.\n`);
    return 0;
  },
});
