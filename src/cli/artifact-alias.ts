import { Alias, type ArtifactKind, type ArtifactVersion } from "../artifact/schema.ts";
import { findVersion, versionPath } from "../client/typescript/artifacts.ts";
import { requestJson } from "../client/typescript/http.ts";
import { quoted } from "../client/typescript/walk.ts";
import { CollectorError } from "../error.ts";
import { sayIssue } from "../issue.ts";
import { findNamed, publicVersion, requireName } from "./artifact-name.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag, sourceFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { printJson, printText } from "./output.ts";

export const ofKind = (kind: ArtifactKind) =>
  defineCommand({
    name: `${kind} alias`,
    usage: "NAME[:VERSION] ALIAS…",
    maxPositionals: 101,
    summary: "Give a version another name, or take one away.",
    description:
      "VERSION is v3, another alias, or latest (the default). An alias that leads to another version moves here.\n" +
      "The alias latest is always the newest version.",
    flags: {
      remove: { type: "boolean", help: "take the aliases away; the version need not be named" },
      ...sourceFlag,
      ...jsonFlag,
      ...connectionFlags,
    },
    examples: [
      [`${kind} alias digits:v3 best`, "let digits:best be version 3"],
      [`${kind} alias digits best --remove`, "take the alias best away, wherever it leads"],
    ],
    async run({ values, positionals: [first, ...aliases] }) {
      const text = requireName(first, `${kind} alias`);
      if (aliases.length === 0) throw new UsageError("Say which alias.");
      for (const alias of aliases) checkAlias(alias);
      const connection = connect(values);
      const { artifact, version } = await findNamed(connection, kind, text, values.source);
      let changed: ArtifactVersion | undefined;
      if (values.remove)
        for (const alias of aliases) {
          const found = await findVersion(connection, artifact, alias);
          if (
            version !== undefined &&
            (await findVersion(connection, artifact, version)).version !== found.version
          )
            throw new CollectorError("conflict", `${alias} leads to ${found.version}.`, {
              hint: `Take it away with \`binnacle ${kind} alias ${artifact.name} ${alias} --remove\`.`,
            });
          changed = await change(found, { remove_aliases: [alias] });
        }
      else
        changed = await change(await findVersion(connection, artifact, version ?? "latest"), {
          add_aliases: aliases,
        });

      if (values.json) await printJson(publicVersion(changed!));
      else
        await printText(
          `${oneLine(artifact.name)}:${changed!.version} is now ${changed!.aliases.join(", ") || "without an alias"}.\n`,
        );
      return 0;

      function change(found: ArtifactVersion, body: object): Promise<ArtifactVersion> {
        return requestJson(connection, versionPath(found), { method: "PATCH", body });
      }
    },
  });

function checkAlias(alias: string): void {
  const parsed = Alias.safeParse(alias);
  if (!parsed.success)
    throw new UsageError(`The alias ${quoted(alias)} ${sayIssue(parsed.error.issues[0]!)}.`);
}
