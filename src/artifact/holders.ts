import type { Collector } from "../collector.ts";

/** Where a file stands. */
export interface Holder {
  kind: string;
  name: string;
  version: string;
  path: string;
}

/** Versions that have this file, the first so many. */
export function holdersOf({ connection }: Collector, sha256: string, limit: number): Holder[] {
  const rows = connection
    .prepare(
      `SELECT kind, name, 'v' || version AS version, path FROM artifact_file
       JOIN artifact ON artifact.id = artifact_file.artifact
       WHERE sha256 = ? ORDER BY kind, name, artifact_file.version, path LIMIT ?`,
    )
    .raw(true)
    .all(sha256, limit) as [string, string, string, string][];
  return rows.map(([kind, name, version, path]) => ({ kind, name, version, path }));
}
