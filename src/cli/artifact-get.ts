import { ArtifactName, type ArtifactKind, type ArtifactVersion } from "../artifact/schema.ts";
import type { Connection } from "../client/typescript/connection.ts";
import { downloadVersion } from "../client/typescript/download.ts";
import { requestJson } from "../client/typescript/http.ts";
import { quoted } from "../client/typescript/walk.ts";
import { CollectorError } from "../error.ts";
import { findNamedVersion, readingsOf, requireName } from "./artifact-name.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag, sourceFlag } from "./command.ts";
import { connect, currentRun, findRun, runPath } from "./connect.ts";
import { UsageError } from "./error.ts";
import { interruptible } from "./interrupt.ts";
import { print, printJson } from "./output.ts";
import { createProgress, took } from "./progress.ts";

const INTERRUPTED = "Interrupted. Call again: what has come is not asked for again.";

export const ofKind = (kind: ArtifactKind) =>
  defineCommand({
    name: `${kind} get`,
    usage: "NAME[:VERSION]",
    maxPositionals: 1,
    summary: `Write the files of ${kind === "model" ? "a model" : "an artifact"} into a folder, and print which.`,
    description:
      "VERSION is v3, an alias, or latest (the default). Every file is checked by its digest before it gets its name;\n" +
      "what an interrupted call has brought is not asked for again. Files that are there and differ are kept, unless\n" +
      "--force says otherwise. Within a run, or with -rid, the run is noted as one that uses this version.",
    flags: {
      ...runFlag,
      output: {
        type: "string",
        short: "o",
        value: "DIR",
        help: "the folder to write to (else ./NAME-VERSION)",
      },
      force: { type: "boolean", short: "f", help: "replace files that differ" },
      ...sourceFlag,
      ...jsonFlag,
      ...connectionFlags,
    },
    examples: [
      [`${kind} get digits`, "write the newest version to ./digits-v3, if that is its number"],
      [`${kind} get digits:best -o ./checkpoint`, "write the version with the alias best to ./checkpoint"],
    ],
    async run({ values, positionals, program }) {
      const text = requireName(positionals[0], `${kind} get`);
      if (values.output === "") throw new UsageError("-o wants a folder.");
      const connection = connect(values);
      const id = values["run-id"] ?? currentRun();
      const version = await (id === undefined
        ? findNamedVersion(connection, kind, text, values.source)
        : useNamedVersion(
            connection,
            await findRun(connection, id, `${kind} get`),
            kind,
            text,
            values.source,
          ));
      const folder = values.output ?? folderOf(version);

      const progress = createProgress({ stream: process.stderr, program });
      const begun = performance.now();
      try {
        const { files, bytes, received, unchanged } = await interruptible(INTERRUPTED, (signal) =>
          downloadVersion(version, folder, {
            connection: () => connect(values),
            force: values.force,
            signal,
            onProgress: ({ done, bytes: total }) => progress.show({ verb: "Fetching", done, total }),
            onWaiting: (error) => progress.waiting(error),
          }),
        );
        progress.close();
        if (values.json) {
          const { id, name, digest } = version;
          const about = { id, kind, name, version: version.version, digest };
          await printJson({ ...about, folder, files, bytes, received, unchanged });
        } else {
          process.stderr.write(
            `${files} ${files === 1 ? "file" : "files"}: ` +
              `${received === 0 ? "all here already" : took(received, performance.now() - begun)}.\n`,
          );
          await print(`${folder}\n`);
        }
        return 0;
      } catch (error) {
        progress.close();
        throw error;
      }
    },
  });

/** To a run's own token only what the run uses is readable. */
async function useNamedVersion(
  connection: Connection,
  run: { id: string },
  kind: ArtifactKind,
  text: string,
  source: string | undefined,
): Promise<ArtifactVersion> {
  const [first, ...others] = readingsOf(text);
  const use = ({ name, version = "latest" }: ReturnType<typeof readingsOf>[number]) =>
    requestJson<ArtifactVersion>(connection, runPath(run.id, "/inputs"), {
      body: { kind, name, version, ...(source !== undefined && { source }) },
    });
  try {
    return await use(first!);
  } catch (error) {
    const isNotThere = error instanceof CollectorError && error.code === "not-found";
    if (!isNotThere || others.length === 0) throw error;
    return use(others[0]!).catch(() => {
      throw error;
    });
  }
}

/** A name is one folder's name, whatever a collector says. */
function folderOf({ name, version }: ArtifactVersion): string {
  if (ArtifactName.safeParse(name).success && /^v\d+$/.test(version)) return `./${name}-${version}`;
  throw new CollectorError(
    "internal",
    `The collector names no version of ours: ${quoted(`${name}:${version}`)}.`,
    {
      hint: "Name a folder with -o DIR.",
    },
  );
}
