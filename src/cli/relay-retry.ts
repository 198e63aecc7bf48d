import { requestJson } from "../client/typescript/http.ts";
import type { Relay } from "../relay/schema.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { printJson, printText } from "./output.ts";
import { notesOf, relayPath, settledRelay, stateOf } from "./relay-state.ts";

export const command = defineCommand({
  name: "relay retry",
  usage: "NAME",
  maxPositionals: 1,
  summary: "Try now what a destination waits to try.",
  flags: { ...jsonFlag, ...connectionFlags },
  examples: [["relay retry main", "after the platform, its token or the network was mended"]],
  async run({ values, positionals: [name] }) {
    if (name === undefined) throw new UsageError("Say which destination.", "relay retry");
    const connection = connect(values);
    const before = await requestJson<Relay>(connection, relayPath(name, "/retry"), { method: "POST" });
    const relay = await settledRelay(connection, name, before);
    if (values.json) await printJson(relay);
    else await printText(`${[`${name} is ${stateOf(relay)}.`, ...notesOf(relay)].join("\n")}\n`);
    return 0;
  },
});
