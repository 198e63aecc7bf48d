import type { Collector } from "../collector.ts";
import type { ArtifactKind } from "./schema.ts";

export type ArtifactCounts = Record<ArtifactKind, number>;

const countsOf = (rows: unknown[]): ArtifactCounts => ({
  model: 0,
  artifact: 0,
  ...Object.fromEntries((rows as { kind: ArtifactKind; n: number }[]).map(({ kind, n }) => [kind, n])),
});

/** Names that have versions. */
export const countArtifacts = ({ connection }: Collector): ArtifactCounts =>
  countsOf(
    connection
      .prepare(
        `SELECT kind, count(*) AS n FROM artifact
          WHERE EXISTS (SELECT 1 FROM artifact_version WHERE artifact = artifact.id) GROUP BY kind`,
      )
      .all(),
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
