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
