import { join } from "node:path";
import { connectionFlags, defineCommand } from "./command.ts";
import { print } from "./output.ts";

export const command = defineCommand({
  name: "python",
  summary: "Print the folder to put on PYTHONPATH: it has the modules binnacle and fedml.",
  flags: { data: connectionFlags.data },
  examples: [
    ["python", "print the folder"],
    ["python) python3 train.py", "use it"],
  ],
  async run() {
    await print(`${join(import.meta.dirname, "../client/python")}\n`);
    return 0;
  },
});
