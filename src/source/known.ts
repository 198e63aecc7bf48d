import { asc, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { source as sourceTable } from "../store/tables.ts";

/** What a page of something that was relayed says of where it comes from. */
export interface KnownSource {
  label: string;
  host: string | null;
  last_seen: string;
}

const columns = { label: sourceTable.label, host: sourceTable.host, lastSeen: sourceTable.lastSeen };

/** Of all installations that ever relayed here, by label. */
export const sourceLabels = async ({ db }: Collector): Promise<string[]> =>
  (await db.select({ label: sourceTable.label }).from(sourceTable).orderBy(asc(sourceTable.label))).map(
    ({ label }) => label,
  );

/** undefined: nobody of that label relays here. */
export async function knownSource({ db }: Collector, label: string): Promise<KnownSource | undefined> {
  const [row] = await db.select(columns).from(sourceTable).where(eq(sourceTable.label, label));
  return row && { label: row.label, host: row.host, last_seen: new Date(row.lastSeen).toISOString() };
}
