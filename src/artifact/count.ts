import type { Collector } from "../collector.ts";
import { OWN } from "../store/source-label.ts";
import type { ArtifactKind } from "./schema.ts";

export type ArtifactCounts = Record<ArtifactKind, number>;

const countsOf = (rows: unknown[]): ArtifactCounts => ({
  model: 0,
  artifact: 0,
  ...Object.fromEntries((rows as { kind: ArtifactKind; n: number }[]).map(({ kind, n }) => [kind, n])),
});

/** Names that have versions; of all, or of one source by its label (OWN: ours). */
export function countArtifacts({ connection }: Collector, source?: string): ArtifactCounts {
  const isOf =
    source === undefined
      ? ""
      : source === OWN
        ? " AND source = ''"
        : " AND source = (SELECT id FROM source WHERE label = ?)";
  return countsOf(
    connection
      .prepare(
        `SELECT kind, count(*) AS n FROM artifact
          WHERE EXISTS (SELECT 1 FROM artifact_version WHERE artifact = artifact.id)${isOf} GROUP BY kind`,
      )
      .all(...(isOf.includes("?") ? [source] : [])),
  );
}

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
