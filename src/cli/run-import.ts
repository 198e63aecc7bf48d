import type { ImportedRun } from "../archive/schema.ts";
import { importRun } from "../client/typescript/archive.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";
import { createProgress } from "./progress.ts";
import { terminalText } from "./terminal.ts";

export const command = defineCommand({
  name: "run import",
  usage: "FILE.zip",
  maxPositionals: 1,
  summary: "Bring in a run that `run export` wrote, exactly as it was and under its id.",
  description:
    "Every file is compared with its digest first; the run appears whole, or not at all. A version of a model or an artifact\n" +
    "whose number is taken here gets the next one. Nothing that is here is changed.",
  flags: {
    "new-id": {
      type: "boolean",
      aliases: ["new_id"],
      help: "under a new id, as where its own is taken",
    },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["run import digits.zip", "bring in the run of that file"],
    ["run import digits.zip --new-id", "once more, beside the first"],
  ],
  async run({ values, positionals: [file], program }) {
    if (file === undefined) throw new UsageError("Say which file: FILE.zip.", "run import");
    const connection = connect(values);
    const progress = createProgress({ stream: process.stderr, program });
    let imported: ImportedRun;
    try {
      imported = await importRun(connection, file, {
        newId: values["new-id"],
        onProgress: (done, total) => progress.show({ verb: "Sending", done, total: total ?? done }),
      });
    } finally {
      progress.close();
    }
    if (values.json) {
      await printJson(imported);
      return 0;
    }
    for (const note of notesOf(imported)) process.stderr.write(`${terminalText(note)}\n`);
    await print(`${imported.run}\n`);
    return 0;
  },
});

function notesOf({ points, texts, lines, samples, events, spans, versions, notes }: ImportedRun): string[] {
  const all = [
    `${points + texts} values, ${lines} lines, ${samples} readings, ${events} events, ` +
      `${spans > 0 ? `${spans} spans, ` : ""}${versions.length} ${versions.length === 1 ? "version" : "versions"} of models and artifacts.`,
    ...notes,
  ];
  for (const { kind, name, exported_as, version, aliases_left } of versions) {
    if (version !== exported_as) all.push(`The ${kind} ${name} ${exported_as} is ${version} here.`);
    if (aliases_left.length > 0)
      all.push(
        `${aliases_left.join(", ")} of the ${kind} ${name} lead to another version here, and still do.`,
      );
  }
  return all;
}
