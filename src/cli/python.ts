import { findDataDir } from "../client/typescript/connection.ts";
import { unpackPython } from "../client/python-files.ts";
import { CollectorError } from "../error.ts";
import { connectionFlags, defineCommand, idleConnectionFlags, jsonFlag } from "./command.ts";
import { print, printJson } from "./output.ts";

export const command = defineCommand({
  name: "python",
  summary: "Print the folder to put on PYTHONPATH: it has the modules binnacle and fedml.",
  description: "`launch` puts it there by itself.",
  flags: { ...jsonFlag, ...idleConnectionFlags, data: connectionFlags.data },
  examples: [
    ["python", "print the folder"],
    ["python --data /srv/binnacle", "lay the modules down below this data folder"],
  ],
  async run({ values }) {
    const folder = unpack(findDataDir(values.data));
    if (values.json) await printJson({ folder });
    else await print(`${folder}\n`);
    return 0;
  },
});

function unpack(dataDir: string): string {
  try {
    return unpackPython(dataDir);
  } catch (cause) {
    throw new CollectorError(
      "forbidden",
      `The modules can't be written below ${dataDir}: ${(cause as Error).message}.`,
      { hint: "Name another data folder with --data DIR or $BINNACLE_DATA.", cause },
    );
  }
}
