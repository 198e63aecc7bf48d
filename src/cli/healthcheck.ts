import { requestJson } from "../client/typescript/http.ts";
import { connect } from "./connect.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { print, printJson } from "./output.ts";

interface Health {
  status: string;
  version: string;
}

export const command = defineCommand({
  name: "healthcheck",
  summary: "Ask the collector whether it is well; for containers and supervisors.",
  flags: { ...jsonFlag, ...connectionFlags },
  examples: [["healthcheck", "exit with 0 if the collector answers, with 4 if it does not"]],
  async run({ values }) {
    const connection = connect(values);
    const health = await requestJson<Health>({ url: connection.url, token: undefined }, "/healthz", {
      timeout: 4000,
    });
    if (values.json) await printJson(health);
    else await print(`${health.status}: binnacle ${health.version} at ${connection.url}\n`);
    // A supervisor that restarted it would make no room.
    return ["ok", "disk-full"].includes(health.status) ? 0 : 1;
  },
});
