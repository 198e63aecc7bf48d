import { exportRun } from "../client/typescript/archive.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, currentRun, findRun } from "./connect.ts";
import { print, printJson } from "./output.ts";
import { createCount, took } from "./progress.ts";

export const command = defineCommand({
  name: "run export",
  usage: "[ID]",
  maxPositionals: 1,
  summary: "Write everything of a run into a zip: metrics, logs, hardware, models, artifacts, config.",
  description:
    "Metrics and hardware are Parquet and CSV, logs are text: docs/export.md says what stands where. Every file is named with\n" +
    "its digest. `binnacle run import` brings it back, here or elsewhere.",
  flags: {
    ...runFlag,
    output: {
      type: "string",
      short: "o",
      value: "FILE",
      help: "where to write it (else ./run-ID.zip)",
    },
    force: { type: "boolean", short: "f", help: "replace a file that is there" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["run export -rid 483 -o digits.zip", "write the run whose id begins with 483 into digits.zip"],
    ["run export -rid 483 -o digits.zip --force --json", "in a script, replacing what is there"],
  ],
  async run({ values, positionals }) {
    const connection = connect(values);
    const run = await findRun(connection, values["run-id"] ?? positionals[0] ?? currentRun(), "run export");
    const file = values.output ?? `run-${run.id}.zip`;
    const progress = createCount();
    const begun = performance.now();
    let size: number;
    try {
      size = await exportRun(connection, run.id, file, { force: values.force, onProgress: progress.show });
    } finally {
      progress.close();
    }
    if (values.json) await printJson({ run: run.id, file, bytes: size });
    else {
      process.stderr.write(`${took(size, performance.now() - begun)}.\n`);
      await print(`${file}\n`);
    }
    return 0;
  },
});
