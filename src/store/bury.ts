import type { Write } from "./journal.ts";

/** Versions that only this run logged: no alias leads to them, and no other run logged or used them. */
const DELETE_OWN_VERSIONS = `DELETE FROM artifact_version WHERE (artifact, version) IN
    (SELECT artifact, version FROM run_artifact WHERE run = ?1 AND role = 'output')
  AND NOT EXISTS (SELECT 1 FROM run_artifact AS other WHERE other.artifact = artifact_version.artifact
    AND other.version = artifact_version.version AND other.run <> ?1)
  AND NOT EXISTS (SELECT 1 FROM artifact_alias WHERE artifact_alias.artifact = artifact_version.artifact
    AND artifact_alias.version = artifact_version.version)`;

/** What goes with a run of the tables that others share. A name stays, so that its numbers are not used again. */
export const writesOfBurial = (run: string): Write[] => [
  { sql: DELETE_OWN_VERSIONS, params: [run] },
  { sql: "DELETE FROM run_artifact WHERE run = ?", params: [run] },
];
