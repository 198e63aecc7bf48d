import type { Artifact, ArtifactKind, ArtifactVersion } from "../artifact/schema.ts";
import { findArtifact, findVersion, shown } from "../client/typescript/artifacts.ts";
import type { Connection } from "../client/typescript/connection.ts";
import { CollectorError } from "../error.ts";
import { ANSWER_WITHIN_MS } from "./connect.ts";
import { UsageError } from "./error.ts";

/** What a command line names: "digits", "digits:v3", "digits:best". */
export interface NamedVersion {
  name: string;
  /** undefined: none is named. */
  version: string | undefined;
}

/** Names may have colons too: each way to read it, the likelier one first. */
export function readingsOf(text: string): NamedVersion[] {
  const at = text.lastIndexOf(":");
  const whole = { name: text, version: undefined };
  return at > 0 && at < text.length - 1
    ? [{ name: text.slice(0, at), version: text.slice(at + 1) }, whole]
    : [whole];
}

export function requireName(text: string | undefined, command: string): string {
  if (text) return text;
  throw new UsageError(`Say which ${command.split(" ")[0]} by its name.`, command);
}

/** The model or artifact that is meant, and the version's word where one is named. */
export async function findNamed(
  connection: Connection,
  kind: ArtifactKind,
  text: string,
  source?: string,
): Promise<{ artifact: Artifact; version: string | undefined }> {
  for (const { name, version } of readingsOf(text)) {
    const artifact = await findArtifact(connection, kind, name, { source, timeout: ANSWER_WITHIN_MS });
    if (artifact) return { artifact, version };
  }
  throw new CollectorError("not-found", `There is no ${kind} called ${shown(readingsOf(text)[0]!.name)}.`, {
    hint: `See \`binnacle ${kind} list\` for those there are.`,
  });
}

export async function findNamedVersion(
  connection: Connection,
  kind: ArtifactKind,
  text: string,
  source?: string,
): Promise<ArtifactVersion> {
  const { artifact, version = "latest" } = await findNamed(connection, kind, text, source);
  return findVersion(connection, artifact, version);
}

/** The documented fields and no others. */
export function publicVersion(version: ArtifactVersion): ArtifactVersion {
  const { id, kind, name, type, aliases, digest, size, files, description, metadata, created } = version;
  const { produced_by, used_by } = version;
  const about = { type, version: version.version, aliases, digest, size, files, description, metadata };
  return { id, kind, name, ...about, created, produced_by, used_by };
}
