import type { Collector } from "../collector.ts";
import type { ArtifactFile } from "./schema.ts";

/** A file whose bytes are on their way from the source that relayed its version. */
export interface ListedFile extends ArtifactFile {
  pending?: true;
}

export function markPending(
  { connection }: Pick<Collector, "connection">,
  files: readonly ArtifactFile[],
): ListedFile[] {
  const rows = connection
    .prepare("SELECT sha256 FROM blob WHERE pending = 1 AND sha256 IN (SELECT value FROM json_each(?))")
    .raw(true)
    .all(JSON.stringify(files.map(({ sha256 }) => sha256))) as [string][];
  const pending = new Set(rows.map(([sha256]) => sha256));
  return files.map((file) => (pending.has(file.sha256) ? { ...file, pending: true } : file));
}

/** How many files of a version are still on their way. */
export function countPending(
  { connection }: Pick<Collector, "connection">,
  artifact: number,
  version: number,
): number {
  const row = connection
    .prepare(
      `SELECT count(*) AS n FROM artifact_file JOIN blob ON blob.sha256 = artifact_file.sha256
        WHERE artifact = ? AND version = ? AND pending = 1`,
    )
    .get(artifact, version) as { n: number };
  return row.n;
}
