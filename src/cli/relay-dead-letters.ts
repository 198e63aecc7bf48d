import type { Connection } from "../client/typescript/connection.ts";
import { requestJson } from "../client/typescript/http.ts";
import type { DeadLetter, DeadLetterPage } from "../relay/schema.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { ANSWER_WITHIN_MS, connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { columns, print, printJson, printText } from "./output.ts";
import { findRelay, listRelays, relayPath } from "./relay-state.ts";
import { localTime } from "./text.ts";
import { bytes } from "./units.ts";

export const command = defineCommand({
  name: "relay dead-letters",
  usage: "[NAME]",
  maxPositionals: 1,
  summary: "List what a destination refused for good, and settle it.",
  description: "Such entries are kept whole, and hold nothing else up.",
  flags: {
    requeue: { type: "boolean", help: "send them again, as after an upgrade of the platform" },
    discard: { type: "boolean", help: "give them up, which is counted" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["relay dead-letters", "list those of every destination"],
    ["relay dead-letters main --requeue", "send those of main again"],
    ["relay dead-letters main --discard", "give those of main up"],
  ],
  async run({ values, positionals: [name] }) {
    const connection = connect(values);
    const action = actionOf(values);
    if (action) {
      if (name === undefined) throw new UsageError("Say which destination.", "relay dead-letters");
      const { settled } = await requestJson<{ settled: number }>(
        connection,
        relayPath(name, "/dead-letters"),
        { body: { action }, timeout: 0 },
      );
      const word = action === "requeue" ? "have arrived" : "are given up";
      if (values.json) await printJson({ settled });
      else await print(`${settled} ${settled === 1 ? "entry" : "entries"} ${word}.\n`);
      return 0;
    }
    const list = await listRelays(connection);
    const names = name === undefined ? list.relays.map((relay) => relay.name) : [findRelay(list, name).name];
    const letters: (DeadLetter & { destination: string })[] = [];
    for (const destination of names)
      for await (const letter of lettersOf(connection, destination)) letters.push({ destination, ...letter });
    if (values.json) await printJson(letters);
    else if (letters.length === 0) await print("There are no dead letters.\n");
    else await printText(letterTable(letters));
    return 0;
  },
});

function actionOf({ requeue, discard }: { requeue: boolean; discard: boolean }) {
  if (requeue && discard) throw new UsageError("Give --requeue or --discard: one of them.");
  return requeue ? "requeue" : discard ? "discard" : undefined;
}

async function* lettersOf(connection: Connection, name: string): AsyncGenerator<DeadLetter> {
  let after: string | undefined;
  do {
    const page: DeadLetterPage = await requestJson(connection, relayPath(name, "/dead-letters"), {
      query: { limit: 1000, after },
      timeout: ANSWER_WITHIN_MS,
    });
    yield* page.dead_letters;
    after = page.next ?? undefined;
  } while (after !== undefined);
}

const letterTable = (letters: (DeadLetter & { destination: string })[]) =>
  columns([
    ["DESTINATION", "ENTRY", "WHAT", "OF", "RECORDS", "SIZE", "REFUSED", "WHY"],
    ...letters.map((letter) => [
      letter.destination,
      letter.seq === 0 ? "history" : String(letter.seq),
      letter.kind,
      oneLine(letter.stream),
      String(letter.records),
      bytes(letter.bytes),
      localTime(letter.at),
      `${letter.type}: ${oneLine(letter.detail)}`,
    ]),
  ]);
