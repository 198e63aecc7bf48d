import { readDatabase } from "../store/check.ts";
import { defineCommand, idleConnectionFlags } from "./command.ts";
import { UsageError } from "./error.ts";
import { printJson } from "./output.ts";

/** What the collector starts to look through its database; nobody types it. */
export const command = defineCommand({
  name: "check-database",
  summary: "Look through a database that stands still.",
  usage: "FILE",
  maxPositionals: 1,
  flags: { ...idleConnectionFlags },
  examples: [["check-database binnacle.db", "print what is wrong with it"]],
  async run({ positionals: [file] }) {
    if (file === undefined) throw new UsageError("Say which file.", "check-database");
    await printJson(readDatabase(file));
    return 0;
  },
});
