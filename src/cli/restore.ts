import { hostname } from "node:os";
import { restore } from "../backup/restore.ts";
import { findDataDir, readCollectorFile } from "../client/typescript/connection.ts";
import { CollectorError } from "../error.ts";
import { shownAddress } from "../relay/fedml/address.ts";
import { isProcessAlive } from "../run/machine.ts";
import { defineCommand, jsonFlag } from "./command.ts";
import { UsageError } from "./error.ts";
import { print, printJson } from "./output.ts";
import { createProgress } from "./progress.ts";
import { bytes } from "./units.ts";

export const command = defineCommand({
  name: "restore",
  usage: "FILE",
  maxPositionals: 1,
  summary: "Put a backup in the place of what a data folder holds. The collector must be stopped.",
  description:
    "Everything is written and checked beside its place before anything is replaced, and what was there is moved aside, not\n" +
    "deleted. Tokens, spools and the secrets of destinations stay as they are, and so do destinations that were added since.\n" +
    "At the next start the collector tells its platforms that it went back in time: they keep what they have, and nothing is\n" +
    "sent twice.",
  flags: {
    force: { type: "boolean", short: "f", help: "move aside what is there" },
    data: { type: "string", value: "DIR", help: "data folder (else $BINNACLE_DATA)" },
    ...jsonFlag,
  },
  examples: [
    ["restore binnacle.zip", "into an empty data folder"],
    ["restore binnacle.zip --data /srv/binnacle --force", "in the place of what is there"],
  ],
  async run({ values, positionals: [file], program }) {
    if (file === undefined) throw new UsageError("Say which file: FILE.zip.", "restore");
    const dataDir = findDataDir(values.data, process.env);
    requireStopped(dataDir);
    const progress = createProgress({ stream: process.stderr, program });
    const { description, replaced, destinations } = await restore(file, dataDir, {
      force: values.force,
      onProgress: (done, total) => progress.show({ verb: "Writing", done, total }),
    }).finally(() => progress.close());
    const { created, files, missing } = description;
    if (values.json) {
      const named = (of: readonly { name: string; url: string }[]) =>
        of.map(({ name, url }) => ({ name, url: shownAddress(url) }));
      await printJson({
        data: dataDir,
        created,
        bytes: description.bytes,
        files,
        missing,
        replaced,
        destinations: destinations
          ? { kept: named(destinations.kept), left: named(destinations.left) }
          : null,
      });
      return 0;
    }
    for (const sha256 of missing)
      process.stderr.write(`The file ${sha256} was damaged or gone already when the backup was made.\n`);
    if (replaced !== null) process.stderr.write(`What was there is in ${replaced} now.\n`);
    if (!destinations)
      process.stderr.write(
        "Where it was relayed to can't be read of what was there: see `binnacle relay status` after the start.\n",
      );
    for (const { name, url } of destinations?.kept ?? [])
      process.stderr.write(`The destination ${name} (${shownAddress(url)}) was added since, and stays.\n`);
    for (const { name, url } of destinations?.left ?? [])
      process.stderr.write(
        `The destination ${name} (${shownAddress(url)}) was another collector's: add it with its token if this is to go there.\n`,
      );
    process.stderr.write(
      `${bytes(description.bytes)} as of ${created}. Start the collector: binnacle start\n`,
    );
    await print(`${dataDir}\n`);
    return 0;
  },
});

function requireStopped(dataDir: string): void {
  const file = readCollectorFile(dataDir);
  if (!file || file.host !== hostname() || !isProcessAlive(file.pid)) return;
  throw new CollectorError("conflict", `Process ${file.pid} at ${file.url} has ${dataDir} open.`, {
    hint: "End it first: binnacle stop.",
  });
}
