import { asc, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { source as sourceTable } from "../store/tables.ts";
import { findSource } from "./state.ts";

/** What a page of something that was relayed says of where it comes from. */
export interface KnownSource {
  label: string;
  host: string | null;
  last_seen: string;
}

/** Of all installations that ever relayed here, by label. */
export const sourceLabels = async ({ db }: Collector): Promise<string[]> =>
  (await db.select({ label: sourceTable.label }).from(sourceTable).orderBy(asc(sourceTable.label))).map(
    ({ label }) => label,
  );

/** undefined: nobody of that label relays here. */
export async function knownSource(collector: Collector, label: string): Promise<KnownSource | undefined> {
  const [row] = await collector.db.select().from(sourceTable).where(eq(sourceTable.label, label));
  if (!row) return undefined;
  // What it says in between is not written each time.
  const heard = Math.max(row.lastSeen, findSource(collector, row.id)?.state.heard ?? 0);
  return { label, host: row.host, last_seen: new Date(heard).toISOString() };
}
