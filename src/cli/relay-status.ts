import type { RelayDrop } from "../relay/schema.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { columns, print, printJson, printText } from "./output.ts";
import { behindOf, listRelays, notesOf, oldestOf, rateOf, stateOf } from "./relay-state.ts";
import { localTime } from "./text.ts";

/** Drops told in words; --json has more of them. */
const SHOWN_DROPS = 10;

export const command = defineCommand({
  name: "relay status",
  summary: "Show where everything goes on to, how far that has come, and what is wrong.",
  flags: { ...jsonFlag, ...connectionFlags },
  examples: [
    ["relay status", "show every destination"],
    ["relay status --json", "print it for scripts"],
  ],
  async run({ values }) {
    const list = await listRelays(connect(values));
    if (values.json) await printJson(list);
    else if (list.relays.length === 0)
      await print("Nothing is relayed. Add a platform with `binnacle relay add NAME URL`.\n");
    else {
      const rows = list.relays.map((relay) => [
        relay.name,
        stateOf(relay),
        behindOf(relay),
        oldestOf(relay),
        rateOf(relay),
        relay.url,
      ]);
      await printText(columns([["NAME", "STATE", "BEHIND", "OLDEST", "RATE", "ADDRESS"], ...rows]));
      for (const relay of list.relays) {
        const notes = notesOf(relay);
        if (notes.length > 0)
          await printText(`\n${relay.name}:\n${notes.map((note) => `  ${note}\n`).join("")}`);
      }
      if (list.drops.length > 0) await printText(`\nNever arriving:\n${dropTable(list.drops)}`);
    }
    return 0;
  },
});

const dropTable = (drops: RelayDrop[]) =>
  drops
    .slice(0, SHOWN_DROPS)
    .map(({ destination, stream, kind, records, first_time, last_time, reason }) => {
      const span = first_time === null ? "" : ` of ${localTime(first_time)} to ${localTime(last_time)}`;
      return `  ${destination ?? "anywhere"}: ${records} records (${[kind, oneLine(stream)].filter((word) => word !== "").join(", ")})${span}: ${oneLine(reason)}\n`;
    })
    .join("") + (drops.length > SHOWN_DROPS ? "  … and more: see --json\n" : "");
