import { backUp } from "../client/typescript/archive.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";
import { createCount, took } from "./progress.ts";

export const command = defineCommand({
  name: "backup",
  usage: "FILE",
  maxPositionals: 1,
  summary: "Write everything the collector keeps into one file, while it goes on working.",
  description:
    "Runs, metrics, logs, hardware, models and artifacts as of one moment, as a zip. Tokens are not in it. For the time it\n" +
    "takes the data folder's disk holds a second copy of the database. Needs the admin's token.",
  flags: {
    force: { type: "boolean", short: "f", help: "replace a file that is there" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["backup /mnt/backup/binnacle.zip", "write a backup"],
    ["backup nightly.zip --force --json", "every night, for a script"],
  ],
  async run({ values, positionals: [file] }) {
    if (file === undefined) throw new UsageError("Say where to: FILE.zip.", "backup");
    const connection = connect(values);
    const count = createCount();
    const begun = performance.now();
    let size: number;
    try {
      size = await backUp(connection, file, { force: values.force, onProgress: count.show });
    } finally {
      count.close();
    }
    if (values.json) await printJson({ file, bytes: size });
    else {
      process.stderr.write(`${took(size, performance.now() - begun)}.\n`);
      await print(`${file}\n`);
    }
    return 0;
  },
});
