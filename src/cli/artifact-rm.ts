import type { ArtifactKind } from "../artifact/schema.ts";
import { findVersion, versionPath } from "../client/typescript/artifacts.ts";
import { request } from "../client/typescript/http.ts";
import { findNamed, requireName } from "./artifact-name.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag, sourceFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { printJson, printText } from "./output.ts";

export const ofKind = (kind: ArtifactKind) =>
  defineCommand({
    name: `${kind} rm`,
    usage: "NAME[:VERSION]",
    maxPositionals: 1,
    summary: `Delete a version of ${kind === "model" ? "a model" : "an artifact"}, or all of them.`,
    description:
      "Without a version the whole name goes. What an alias leads to or a run uses goes only with --force, and so does a name\n" +
      "of which runs logged a version. Bytes that nothing else refers to follow within a day. A version's number is not given\n" +
      "to another one.",
    flags: {
      force: { type: "boolean", short: "f", help: "also what an alias leads to, or a run refers to" },
      ...sourceFlag,
      ...jsonFlag,
      ...connectionFlags,
    },
    examples: [
      [`${kind} rm digits:v3`, "delete version 3"],
      [`${kind} rm digits --force`, "delete digits with all its versions"],
    ],
    async run({ values, positionals }) {
      const connection = connect(values);
      const { artifact, version } = await findNamed(
        connection,
        kind,
        requireName(positionals[0], `${kind} rm`),
        values.source,
      );
      const { id, name, versions } = artifact;
      if (version !== undefined) {
        const found = await findVersion(connection, artifact, version);
        await request(connection, versionPath(found), {
          method: "DELETE",
          query: { force: values.force || undefined },
        });
        if (values.json) await printJson({ kind, name, version: found.version });
        else await printText(`${kind} ${oneLine(name)}:${found.version} is deleted.\n`);
        return 0;
      }
      await request(connection, `/api/v1/artifacts/${id}`, {
        method: "DELETE",
        query: { force: values.force || undefined },
      });
      if (values.json) await printJson({ kind, name, version: null });
      else
        await printText(
          `${kind} ${oneLine(name)} is deleted with ${versions === 1 ? "its version" : `its ${versions} versions`}.\n`,
        );
      return 0;
    },
  });
