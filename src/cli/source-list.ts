import { requestJson } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";
import type { SourceList, SourceToken } from "../source/schema.ts";
import { oneLine } from "./cells.ts";
import { ANSWER_WITHIN_MS, connect } from "./connect.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { columns, print, printJson, printText } from "./output.ts";
import { localTime } from "./text.ts";

export const command = defineCommand({
  name: "source list",
  summary: "List who relays here, and the tokens that were given out.",
  flags: { ...jsonFlag, ...connectionFlags },
  examples: [
    ["source list", "show who relays here, and who may"],
    ["source list --json | jq -r '.sources[].label'", "print what they are called"],
  ],
  async run({ values }) {
    const list = await onPlatform(
      requestJson<SourceList>(connect(values), "/api/v1/sources", { timeout: ANSWER_WITHIN_MS }),
    );
    if (values.json) await printJson(list);
    else await printList(list);
    return 0;
  },
});

/** A collector that is no platform has nothing there. */
export function onPlatform<T>(answer: Promise<T>): Promise<T> {
  return answer.catch((error: unknown) => {
    if (
      !(error instanceof CollectorError) ||
      error.code !== "not-found" ||
      error.message !== "There is nothing here."
    )
      throw error;
    throw new CollectorError("conflict", "This collector is no platform: nobody may relay here.", {
      hint: "Start it with `binnacle start --role platform`.",
      cause: error,
    });
  });
}

async function printList({ sources, tokens }: SourceList): Promise<void> {
  if (sources.length === 0 && tokens.length === 0)
    return print("No sources. Make a token for one with `binnacle source add NAME`.\n");
  if (sources.length > 0)
    await printText(
      columns([
        ["SOURCE", "HOST", "VERSION", "SEEN", "RUNS", "DEVICES", "ENTRIES", "BEHIND"],
        ...sources.map(({ label, host, version, last_seen, runs, devices, entries, behind }) => [
          label,
          host === null ? "-" : oneLine(host),
          version === null ? "-" : oneLine(version),
          localTime(last_seen),
          String(runs),
          String(devices),
          String(entries),
          behind === null ? "-" : String(behind),
        ]),
      ]),
    );
  if (sources.length > 0 && tokens.length > 0) await print("\n");
  if (tokens.length > 0)
    await printText(
      columns([
        ["TOKEN OF", "MADE", "USED", "STATE"],
        ...tokens.map((token) => [
          token.name,
          localTime(token.created),
          token.used === null ? "-" : localTime(token.used),
          stateOf(token),
        ]),
      ]),
    );
}

function stateOf({ revoked, expires }: SourceToken): string {
  if (revoked !== null) return `revoked ${localTime(revoked)}`;
  if (expires === null) return "good";
  return Date.parse(expires) <= Date.now()
    ? `expired ${localTime(expires)}`
    : `good until ${localTime(expires)}`;
}
