import type { Write } from "./journal-rows.ts";
import type { Connection } from "./open.ts";
import { prepared } from "./prepared.ts";

/** By member of a run's row what its source had said of it before a person changed it here. */
export type Edited = Record<string, unknown>;

export function findEdited(connection: Connection, local: string): Edited {
  const row = prepared(connection, "SELECT edited FROM source_run WHERE local = ?").get(local) as
    | { edited: string | null }
    | undefined;
  return row?.edited == null ? {} : (JSON.parse(row.edited) as Edited);
}

export const writeOfEdited = (local: string, edited: Edited): Write => ({
  sql: "UPDATE source_run SET edited = ? WHERE local = ?",
  params: [Object.keys(edited).length === 0 ? null : JSON.stringify(edited), local],
});

/** The same of a version; `aliases`: all that its source had said to lead to it. */
export interface EditedVersion {
  description?: string | null;
  metadata?: Record<string, unknown>;
  aliases?: string[];
}

export const writeOfEditedVersion = (artifact: number, version: number, edited: EditedVersion): Write => ({
  sql: "UPDATE artifact_version SET edited = ? WHERE artifact = ? AND version = ?",
  params: [Object.keys(edited).length === 0 ? null : JSON.stringify(edited), artifact, version],
});
