import { requestJson } from "../client/typescript/http.ts";
import type { RemovedRelay } from "../relay/schema.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";
import { relayPath } from "./relay-state.ts";

export const command = defineCommand({
  name: "relay remove",
  usage: "NAME",
  maxPositionals: 1,
  summary: "Send nothing more to a destination.",
  description:
    "What it has stays there. While something has not arrived, it says how much that is, and removes nothing.",
  flags: {
    discard: { type: "boolean", help: "though something has not arrived: it never will" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["relay remove main", "if main has everything"],
    ["relay remove main --discard", "in any case; what is given up is counted"],
  ],
  async run({ values, positionals: [name] }) {
    if (name === undefined) throw new UsageError("Say which destination.", "relay remove");
    const answer = await requestJson<RemovedRelay>(connect(values), relayPath(name), {
      method: "DELETE",
      query: { discard: values.discard || undefined },
    });
    if (values.json) await printJson(answer);
    else
      await print(
        `${name} is removed.${answer.history ? " It had not got all that is kept of before: how much that is was not counted." : ""}\n`,
      );
    return 0;
  },
});
