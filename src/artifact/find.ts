import { and, asc, desc, eq, inArray } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { isOfSource, sourceLabel } from "../store/source-label.ts";
import {
  artifact as artifactTable,
  artifactAlias,
  artifactFile,
  artifactVersion,
  runArtifact,
} from "../store/tables.ts";
import type { ArtifactFile, ArtifactKind, ArtifactVersion } from "./schema.ts";

type ArtifactRow = typeof artifactTable.$inferSelect;
type VersionRow = typeof artifactVersion.$inferSelect;

/** The artifact of this name, or the error its caller should see. Sources have names of their own; ours comes first. */
export async function getArtifactByName(
  { db, connection }: Collector,
  kind: ArtifactKind,
  name: string,
  source?: string,
): Promise<ArtifactRow> {
  const rows = await db
    .select()
    .from(artifactTable)
    .where(and(eq(artifactTable.kind, kind), eq(artifactTable.name, name), isOfSource(source)))
    .orderBy(asc(artifactTable.source));
  const [row] = rows;
  // What a source logged itself comes before what it relays of others.
  const isMeant = source === undefined ? row?.source === "" : row !== undefined && !row.source.includes("/");
  if (row && (isMeant || rows.length === 1)) return row;
  if (row)
    throw new CollectorError("conflict", `More than one source has a ${kind} called ${name}.`, {
      hint: `Say whose: ${rows.map((each) => sourceLabel(connection, each.source)).join(", ")}.`,
    });
  throw new CollectorError("not-found", `There is no ${kind} called ${name}.`, {
    hint: `See \`binnacle ${kind} list\` for those there are.`,
  });
}

export async function getArtifact({ db }: Collector, id: number): Promise<ArtifactRow> {
  const [row] = await db.select().from(artifactTable).where(eq(artifactTable.id, id));
  if (row) return row;
  throw new CollectorError("not-found", "There is no such model or artifact.", {
    hint: "It may have been deleted.",
  });
}

/** As entries call it: whoever they are relayed to knows it by its source, too. */
export const refOf = ({ kind, name, source }: ArtifactRow) => ({
  kind,
  name,
  ...(source !== "" && { from: source }),
});

/** The number behind "v3", an alias, or "latest". */
export async function resolveVersion({ db }: Collector, id: number, word: string): Promise<number> {
  const of = (condition: ReturnType<typeof eq>) =>
    db
      .select({ version: artifactVersion.version })
      .from(artifactVersion)
      .where(and(eq(artifactVersion.artifact, id), condition));
  const number = /^v(\d{1,9})$/.exec(word)?.[1];
  const rows =
    word === "latest"
      ? await db
          .select({ version: artifactVersion.version })
          .from(artifactVersion)
          .where(eq(artifactVersion.artifact, id))
          .orderBy(desc(artifactVersion.version))
          .limit(1)
      : number !== undefined
        ? await of(eq(artifactVersion.version, Number(number)))
        : await db
            .select({ version: artifactAlias.version })
            .from(artifactAlias)
            .where(and(eq(artifactAlias.artifact, id), eq(artifactAlias.alias, word)));
  const [row] = rows;
  if (row) return row.version;
  throw new CollectorError("not-found", `It has no version ${word}.`, {
    hint: "Versions are v1, v2, …, an alias, or latest.",
  });
}

export async function getVersion(
  collector: Collector,
  id: number,
  version: number,
): Promise<ArtifactVersion> {
  const { db } = collector;
  const row = await getArtifact(collector, id);
  const [found] = await db
    .select()
    .from(artifactVersion)
    .where(and(eq(artifactVersion.artifact, id), eq(artifactVersion.version, version)));
  if (!found)
    throw new CollectorError("not-found", `${row.name} has no version v${version}.`, {
      hint: "It may have been deleted.",
    });
  return (await describeVersions(collector, [{ artifact: row, version: found }]))[0]!;
}

/** Versions as every listing shows them: three queries, however many there are. */
export async function describeVersions(
  { db }: Collector,
  rows: { artifact: ArtifactRow; version: VersionRow }[],
): Promise<ArtifactVersion[]> {
  if (rows.length === 0) return [];
  const ids = [...new Set(rows.map(({ artifact }) => artifact.id))];
  const aliases = await db.select().from(artifactAlias).where(inArray(artifactAlias.artifact, ids));
  const uses = await db
    .select()
    .from(runArtifact)
    .where(inArray(runArtifact.artifact, ids))
    .orderBy(asc(runArtifact.time));
  const newest = await db
    .select({ id: artifactVersion.artifact, version: artifactVersion.version })
    .from(artifactVersion)
    .where(inArray(artifactVersion.artifact, ids))
    .orderBy(asc(artifactVersion.version));
  const newestById = new Map(newest.map(({ id, version }) => [id, version]));
  const isOf = (row: VersionRow) => (other: { artifact: number; version: number }) =>
    other.artifact === row.artifact && other.version === row.version;
  return rows.map(({ artifact, version }) => {
    const used = uses.filter(isOf(version));
    const runsWith = (role: "output" | "input") =>
      used.filter((use) => use.role === role).map(({ run }) => run);
    return {
      id: artifact.id,
      kind: artifact.kind,
      name: artifact.name,
      type: version.type ?? artifact.type,
      version: `v${version.version}`,
      aliases: [
        ...(newestById.get(artifact.id) === version.version ? ["latest"] : []),
        ...aliases
          .filter(isOf(version))
          .map(({ alias }) => alias)
          .sort(),
      ],
      digest: version.digest,
      size: version.size,
      files: version.files,
      description: version.description,
      metadata: version.metadata,
      created: new Date(version.created).toISOString(),
      produced_by: runsWith("output"),
      used_by: runsWith("input"),
    };
  });
}

/** Its files, by path, a page at a time: those after `after`. */
export async function listFiles(
  { connection }: Collector,
  id: number,
  version: number,
  { after = "", limit = 1000 }: { after?: string; limit?: number } = {},
): Promise<ArtifactFile[]> {
  return connection
    .prepare(
      "SELECT path, size, sha256 FROM artifact_file WHERE artifact = ? AND version = ? AND path > ? ORDER BY path LIMIT ?",
    )
    .all(id, version, after, limit) as ArtifactFile[];
}

/** Several of its files, in this order. */
export function getFiles(
  { connection }: Collector,
  id: number,
  version: number,
  paths: readonly string[],
): ArtifactFile[] {
  const select = connection.prepare(
    "SELECT path, size, sha256 FROM artifact_file WHERE artifact = ? AND version = ? AND path = ?",
  );
  return paths.map((path) => {
    const row = select.get(id, version, path) as ArtifactFile | undefined;
    return row ?? noSuchFile(path);
  });
}

function noSuchFile(path: string): never {
  throw new CollectorError("not-found", `It has no file ${path}.`, { hint: "See the list of its files." });
}

export async function getFile(
  { db }: Collector,
  id: number,
  version: number,
  path: string,
): Promise<ArtifactFile> {
  const [row] = await db
    .select({ path: artifactFile.path, size: artifactFile.size, sha256: artifactFile.sha256 })
    .from(artifactFile)
    .where(
      and(eq(artifactFile.artifact, id), eq(artifactFile.version, version), eq(artifactFile.path, path)),
    );
  return row ?? noSuchFile(path);
}
