import type { Write } from "./journal-rows.ts";

/** Versions that only this run logged: no alias leads to them, and no other run logged or used them. */
const OWN_VERSIONS = `(artifact_version.artifact, artifact_version.version) IN
    (SELECT artifact, version FROM run_artifact WHERE run = ?1 AND role = 'output')
  AND NOT EXISTS (SELECT 1 FROM run_artifact AS other WHERE other.artifact = artifact_version.artifact
    AND other.version = artifact_version.version AND other.run <> ?1)
  AND NOT EXISTS (SELECT 1 FROM artifact_alias WHERE artifact_alias.artifact = artifact_version.artifact
    AND artifact_alias.version = artifact_version.version)`;

/** Of versions that are about to be deleted those that a source may say again that it has. `where`: of `artifact_version`. */
export const writeOfDeleted = (where: string, params: Write["params"]): Write => ({
  sql: `INSERT OR IGNORE INTO source_deleted (source, kind, name, version, digest)
    SELECT of.source, of.kind, of.name, coalesce(artifact_version.source_version, artifact_version.version), artifact_version.digest
    FROM artifact_version JOIN artifact AS of ON of.id = artifact_version.artifact WHERE of.source <> '' AND ${where}`,
  params,
});

/** What goes with a run of the tables that others share. A name stays, so that its numbers are not used again. */
export const writesOfBurial = (run: string): Write[] => [
  writeOfDeleted(OWN_VERSIONS, [run]),
  { sql: `DELETE FROM artifact_version WHERE ${OWN_VERSIONS}`, params: [run] },
  { sql: "DELETE FROM run_artifact WHERE run = ?", params: [run] },
  { sql: "DELETE FROM object WHERE scope = ?1 OR run = ?1", params: [run] },
  { sql: "DELETE FROM object_upload WHERE scope = ?", params: [run] },
  { sql: "DELETE FROM announced WHERE run = ?", params: [run] },
];
