import { eq, sql, type SQL } from "drizzle-orm";
import { OWN } from "../entry.ts";
import type { Connection } from "./open.ts";
import { prepared } from "./prepared.ts";
import { artifact as artifactTable, source as sourceTable } from "./tables.ts";

/** So much of an installation's id tells it from others. */
const SHORT = 8;

/** What a source is called here; null for what is our own. What it relays of others stands under its label and their id. */
export function sourceLabel(connection: Connection, source: string | null): string | null {
  if (source === null || source === "") return null;
  const [id = "", ...from] = source.split("/");
  const row = prepared(connection, "SELECT label FROM source WHERE id = ?").get(id) as
    | { label: string }
    | undefined;
  const label = row?.label ?? id;
  return from.length === 0 ? label : `${label}/${from.join("/").slice(0, SHORT)}`;
}

const BEHIND = " ▸ ";

/** Whose a run is, as this installation sees it: "site ▸ box" is what site has from box; null for our own. */
export function runSource(
  connection: Connection,
  { source, origin }: { source: string | null; origin: string | null },
): string | null {
  const label = sourceLabel(connection, source);
  return label === null || origin === null ? label : `${label}${BEHIND}${origin}`;
}

/** What `runSource` says, as a label and what stands behind it. */
export function splitSource(source: string): { label: string; origin: string | undefined } {
  const [label = "", ...origin] = source.split(BEHIND);
  return { label, origin: origin.length === 0 ? undefined : origin.join(BEHIND) };
}

/** Artifacts of a source by its label, with those that it relays of others unless one of these is meant; OWN: ours. */
export function isOfSource(source: string | undefined): SQL | undefined {
  if (source === undefined) return undefined;
  if (source === OWN) return eq(artifactTable.source, "");
  const [label = "", ...from] = source.split("/");
  const id = sql`(SELECT ${sourceTable.id} FROM ${sourceTable} WHERE ${sourceTable.label} = ${label})`;
  const begins = (text: SQL) => sql`substr(${artifactTable.source}, 1, length(${text})) = ${text}`;
  if (from.length > 0) return begins(sql`(${id} || '/' || ${from.join("/")})`);
  return sql`(${artifactTable.source} = ${id} OR ${begins(sql`(${id} || '/')`)})`;
}
