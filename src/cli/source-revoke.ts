import { requestJson } from "../client/typescript/http.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";
import { onPlatform } from "./source-list.ts";

export const command = defineCommand({
  name: "source revoke",
  usage: "NAME",
  maxPositionals: 1,
  summary: "End the tokens of a source.",
  description:
    "What came with them stays. The source keeps what it records, and says that it needs a new token.",
  flags: {
    others: { type: "boolean", help: "all but the newest one" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["source revoke lab", "nothing more is taken from the collector in the lab"],
    ["source revoke lab --others", "end the tokens that a new one has taken the place of"],
  ],
  async run({ values, positionals: [name] }) {
    if (name === undefined) throw new UsageError("Say whose tokens.", "source revoke");
    const answer = await onPlatform(
      requestJson<{ name: string; revoked: number }>(
        connect(values),
        `/api/v1/sources/${encodeURIComponent(name)}`,
        { method: "DELETE", query: { others: values.others || undefined } },
      ),
    );
    if (values.json) await printJson(answer);
    else await print(`${answer.revoked} ${answer.revoked === 1 ? "token" : "tokens"} of ${name} ended.\n`);
    return 0;
  },
});
