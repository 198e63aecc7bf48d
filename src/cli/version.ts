import { VERSION } from "../version.ts";
import { defineCommand, idleConnectionFlags, jsonFlag } from "./command.ts";
import { print, printJson } from "./output.ts";

export const command = defineCommand({
  name: "version",
  summary: "Print the version.",
  flags: { ...jsonFlag, ...idleConnectionFlags },
  examples: [["version", "print this program's version"]],
  async run({ values, program }) {
    if (values.json) await printJson({ version: VERSION });
    else
      await print(program === "fedml" ? `fedml version: ${VERSION} (binnacle)\n` : `binnacle ${VERSION}\n`);
    return 0;
  },
});
