import { and, count, desc, eq, sql } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { isOfSource, sourceLabel } from "../store/source-label.ts";
import { artifact as artifactTable, artifactVersion, runArtifact } from "../store/tables.ts";
import { describeVersions } from "./find.ts";
import type { Artifact, ArtifactKind, ArtifactVersion, LogArtifact } from "./schema.ts";

export interface ListArtifacts {
  id?: number | undefined;
  kind?: ArtifactKind | undefined;
  name?: string | undefined;
  /** Its label; OWN: those logged here. */
  source?: string | undefined;
  /** Part of a name or type, whatever its case. */
  search?: string | undefined;
  limit?: number | undefined;
  /** Id of the last one of the page before. */
  after?: number | undefined;
}

/** Artifacts with their newest version, the last updated first. */
export async function listArtifacts(
  collector: Collector,
  { id, kind, name, source, search, limit = 100, after }: ListArtifacts,
): Promise<Artifact[]> {
  const { db } = collector;
  const pattern = search === undefined ? undefined : `%${search.replace(/[\\%_]/g, "\\$&")}%`;
  const newest = db
    .select({
      artifact: artifactVersion.artifact,
      version: sql<number>`max(${artifactVersion.version})`.as("newest"),
      versions: count().as("versions"),
    })
    .from(artifactVersion)
    .groupBy(artifactVersion.artifact)
    .as("newest");
  const rows = await db
    .select({ artifact: artifactTable, version: artifactVersion, versions: newest.versions })
    .from(artifactTable)
    .innerJoin(newest, eq(newest.artifact, artifactTable.id))
    .innerJoin(
      artifactVersion,
      and(eq(artifactVersion.artifact, artifactTable.id), eq(artifactVersion.version, newest.version)),
    )
    .where(
      and(
        id === undefined ? undefined : eq(artifactTable.id, id),
        kind && eq(artifactTable.kind, kind),
        name === undefined ? undefined : eq(artifactTable.name, name),
        isOfSource(source),
        pattern === undefined
          ? undefined
          : sql`(${artifactTable.name} LIKE ${pattern} ESCAPE '\\' OR ${artifactTable.type} LIKE ${pattern} ESCAPE '\\')`,
        after === undefined
          ? undefined
          : sql`(${artifactTable.updated}, ${artifactTable.id}) < (SELECT updated, id FROM artifact WHERE id = ${after})`,
      ),
    )
    .orderBy(desc(artifactTable.updated), desc(artifactTable.id))
    .limit(limit);
  const versions = await describeVersions(collector, rows);
  return rows.map(({ artifact, versions: number }, index) => ({
    id: artifact.id,
    kind: artifact.kind,
    name: artifact.name,
    type: artifact.type,
    description: artifact.description,
    created: new Date(artifact.created).toISOString(),
    updated: new Date(artifact.updated).toISOString(),
    versions: number,
    source: sourceLabel(collector.connection, artifact.source),
    latest: versions[index]!,
  }));
}

/** Versions of one artifact, the newest first. */
export async function listVersions(
  collector: Collector,
  id: number,
  { limit = 1000, before = Number.MAX_SAFE_INTEGER }: { limit?: number; before?: number } = {},
): Promise<ArtifactVersion[]> {
  const rows = await collector.db
    .select({ artifact: artifactTable, version: artifactVersion })
    .from(artifactVersion)
    .innerJoin(artifactTable, eq(artifactTable.id, artifactVersion.artifact))
    .where(and(eq(artifactVersion.artifact, id), sql`${artifactVersion.version} < ${before}`))
    .orderBy(desc(artifactVersion.version))
    .limit(limit);
  return describeVersions(collector, rows);
}

/** What a run logged ("output") or used ("input"), in the order in which it did. */
export async function listRunArtifacts(
  collector: Collector,
  run: string,
): Promise<
  { role: "output" | "input"; time: string; origin: LogArtifact["origin"]; version: ArtifactVersion }[]
> {
  const rows = await collector.db
    .select({ artifact: artifactTable, version: artifactVersion, use: runArtifact })
    .from(runArtifact)
    .innerJoin(artifactTable, eq(artifactTable.id, runArtifact.artifact))
    .innerJoin(
      artifactVersion,
      and(
        eq(artifactVersion.artifact, runArtifact.artifact),
        eq(artifactVersion.version, runArtifact.version),
      ),
    )
    .where(eq(runArtifact.run, run))
    .orderBy(runArtifact.time);
  const versions = await describeVersions(collector, rows);
  return rows.map(({ use }, index) => ({
    role: use.role,
    time: new Date(use.time).toISOString(),
    origin: use.origin,
    version: versions[index]!,
  }));
}
