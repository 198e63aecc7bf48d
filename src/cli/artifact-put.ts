import type { ArtifactKind } from "../artifact/schema.ts";
import { requestJson } from "../client/typescript/http.ts";
import { putPaths } from "../client/typescript/put.ts";
import { publicVersion, requireName } from "./artifact-name.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { ANSWER_WITHIN_MS, connect, currentRun, findRun } from "./connect.ts";
import { UsageError } from "./error.ts";
import { interruptible } from "./interrupt.ts";
import { printJson, printText } from "./output.ts";
import { createProgress, took } from "./progress.ts";
import { bytes } from "./units.ts";
import { keyAndValue, parseJson } from "./values.ts";

const INTERRUPTED =
  "Interrupted. Call again: what was sent is kept for a day at least, and only the rest goes.";

export const ofKind = (kind: ArtifactKind) =>
  defineCommand({
    name: `${kind} put`,
    usage: "NAME PATH…",
    maxPositionals: 1000,
    summary: `Keep files as a new version of ${kind === "model" ? "a model" : "an artifact"}.`,
    description:
      "One folder is kept with all that lies in it; of several paths each stands under its own name. Symbolic links,\n" +
      "devices and FIFOs are refused. What the collector has already is not sent: after an interruption, call again.\n" +
      "The same files as the newest version's are that version.",
    flags: {
      ...runFlag,
      type: {
        type: "string",
        short: "t",
        value: "TYPE",
        help: `${kind === "model" ? "what it is" : "general, dataset, source code, log, or any word"} (else ${typeOf(kind)})`,
      },
      alias: {
        type: "string",
        short: "a",
        multiple: true,
        value: "ALIAS",
        help: "a name for this version, such as best",
      },
      metadata: {
        type: "string",
        short: "m",
        multiple: true,
        value: "KEY=VALUE",
        help: "a fact about it (the value as JSON, else text), or a JSON object with several",
      },
      description: { type: "string", value: "TEXT", help: "what it is, in words" },
      ...jsonFlag,
      ...connectionFlags,
    },
    examples: [
      [
        `${kind} put digits model.pt -rid 483 --alias best`,
        "keep a file as a version of digits that run 483 made",
      ],
      [`${kind} put digits ./checkpoint -m accuracy=0.98`, "keep a folder, with a fact about it"],
    ],
    async run({ values, positionals: [first, ...paths], program }) {
      const name = requireName(first, `${kind} put`);
      if (paths.length === 0) throw new UsageError(`Say which files: ${kind} put ${name} PATH.`);
      if (/:(v\d+|latest)$/.test(name))
        throw new UsageError("The collector numbers versions by itself; give a name without one.");
      const metadata = values.metadata.length > 0 ? { metadata: metadataOf(values.metadata) } : {};

      const connection = connect(values);
      const id = values["run-id"] ?? currentRun();
      // One who is not there, or does not let us in, is to be known before gigabytes are read.
      const run = id === undefined ? undefined : (await findRun(connection, id, `${kind} put`)).id;
      if (run === undefined) await requestJson(connection, "/healthz", { timeout: ANSWER_WITHIN_MS });

      const progress = createProgress({ stream: process.stderr, program });
      const begun = performance.now();
      try {
        const head = {
          kind,
          name,
          type: values.type ?? typeOf(kind),
          aliases: values.alias,
          ...(values.description !== undefined && { description: values.description }),
          ...metadata,
        };
        const { logged, sent } = await interruptible(INTERRUPTED, (signal) =>
          putPaths(head, paths, {
            // Asked anew: a collector that was restarted may have another port or token.
            connection: () => connect(values),
            run,
            signal,
            waitsForRoom: true,
            onProgress: ({ read, done, bytes: total }) =>
              progress.show(
                done === 0 && read < total
                  ? { verb: "Reading", done: read, total }
                  : { verb: "Sending", done, total },
              ),
            onWaiting: (error) => progress.waiting(error),
          }),
        );
        progress.close();
        if (values.json) await printJson({ ...publicVersion(logged), is_new: logged.is_new, sent });
        else
          await printText(
            `${kind} ${oneLine(logged.name)}:${logged.version} ${logged.is_new ? "is kept" : "has these files already"}: ` +
              `${logged.files} ${logged.files === 1 ? "file" : "files"}, ${bytes(logged.size)}; ` +
              `${sent === 0 ? "nothing had to be sent" : `sent ${took(sent, performance.now() - begun)}`}.\n`,
          );
        return 0;
      } catch (error) {
        progress.close();
        throw error;
      }
    },
  });

const typeOf = (kind: ArtifactKind) => (kind === "model" ? "model" : "general");

function metadataOf(texts: string[]): Record<string, never> {
  const metadata = new Map<string, unknown>();
  for (const text of texts) {
    const pairs = text.startsWith("{") ? Object.entries(objectOf(text)) : [keyAndValue(text, "--metadata")];
    for (const [key, value] of pairs) {
      if (hasPrototypeKey({ [key]: value }))
        throw new UsageError("--metadata can't have a key __proto__: choose another name.");
      metadata.set(key, value);
    }
  }
  // The collector's schema says what it may hold.
  return Object.fromEntries(metadata) as Record<string, never>;
}

/** Nobody who reads it would get it. */
function hasPrototypeKey(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, member]) => key === "__proto__" || hasPrototypeKey(member));
}

function objectOf(text: string): object {
  try {
    const value = parseJson(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Falls through.
  }
  throw new UsageError(`--metadata wants KEY=VALUE or a JSON object, not '${text}'.`);
}
