import { requestJson } from "../client/typescript/http.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";
import { onPlatform } from "./source-list.ts";

export const command = defineCommand({
  name: "source add",
  usage: "NAME",
  maxPositionals: 1,
  summary: "Make a token with which another collector may relay here.",
  description:
    "The token is printed this once and kept nowhere; it lets its holder bring what it records, and see nothing. A name\n" +
    "that has a token gets another one besides: give that to the source, then revoke the older ones by --others.",
  flags: {
    expires: { type: "string", value: "TIME", help: "it ends after so long, such as 30d or 12h" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["source add lab > token", "write a token for the collector in the lab into a file"],
    ["source add lab --expires 30d", "one that ends in a month"],
  ],
  async run({ values, positionals: [name] }) {
    if (name === undefined) throw new UsageError("Say what the source is to be called.", "source add");
    const expires = values.expires === undefined ? undefined : Date.now() + spanOf(values.expires);
    const added = await onPlatform(
      requestJson<{ token: string }>(connect(values), "/api/v1/sources", { body: { name, expires } }),
    );
    if (values.json) await printJson(added);
    else await print(`${added.token}\n`);
    return 0;
  },
});

const MS_BY_UNIT = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;

/** "30d" in ms. */
export function spanOf(text: string): number {
  const [, number, unit] = /^(\d{1,6})([mhdw])$/.exec(text) ?? [];
  const ms = Number(number) * MS_BY_UNIT[unit as keyof typeof MS_BY_UNIT];
  if (ms > 0) return ms;
  throw new UsageError(`--expires wants a time such as 30d, 12h or 90m, not '${text}'.`, "source add");
}
