import { request } from "../client/typescript/http.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, findRun, runPath } from "./connect.ts";
import { print, printJson } from "./output.ts";

export const command = defineCommand({
  name: "run delete",
  summary: "Delete a run that has ended, with everything it logged.",
  usage: "[ID…]",
  maxPositionals: 1000,
  flags: {
    ...runFlag,
    force: { type: "boolean", help: "stop it first if it is still running" },
    upstream: { type: "boolean", help: "on the platforms that it was relayed to, too: else it stays there" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["run delete -rid 483", "delete the run whose id begins with 483"],
    ["run delete -rid 483 --force", "stop it first"],
  ],
  async run({ values, positionals }) {
    const connection = connect(values);
    const given = [values["run-id"], ...positionals].filter((id) => id !== undefined);
    const deleted: { id: string; name: string }[] = [];
    try {
      for (const id of given.length > 0 ? given : [undefined]) {
        const run = await findRun(connection, id, "run delete");
        await request(connection, runPath(run.id), {
          method: "DELETE",
          query: { force: values.force || undefined, upstream: values.upstream || undefined },
        });
        deleted.push({ id: run.id, name: run.name });
        if (!values.json) await print(`Run ${run.id} is deleted.\n`);
      }
    } finally {
      // Also those before one that could not be.
      if (values.json && deleted.length > 0) await printJson(deleted);
    }
    return 0;
  },
});
