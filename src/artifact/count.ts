import { and, countDistinct, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { isOfSource } from "../store/source-label.ts";
import { artifact as artifactTable, artifactVersion } from "../store/tables.ts";
import type { ArtifactKind } from "./schema.ts";

export type ArtifactCounts = Record<ArtifactKind, number>;

const countsOf = (rows: unknown[]): ArtifactCounts => ({
  model: 0,
  artifact: 0,
  ...Object.fromEntries((rows as { kind: ArtifactKind; n: number }[]).map(({ kind, n }) => [kind, n])),
});

/** Names that have versions; of all, or of one source by its label (OWN: ours). */
export const countArtifacts = async ({ db }: Collector, source?: string): Promise<ArtifactCounts> =>
  countsOf(
    await db
      .select({ kind: artifactTable.kind, n: countDistinct(artifactTable.id) })
      .from(artifactTable)
      .innerJoin(artifactVersion, eq(artifactVersion.artifact, artifactTable.id))
      .where(and(isOfSource(source)))
      .groupBy(artifactTable.kind),
  );

/** Versions that a run logged or used. */
export const countRunArtifacts = ({ connection }: Collector, run: string): ArtifactCounts =>
  countsOf(
    connection
      .prepare(
        `SELECT kind, count(*) AS n FROM run_artifact JOIN artifact ON artifact.id = run_artifact.artifact
          WHERE run = ? GROUP BY kind`,
      )
      .all(run),
  );
