import { desc, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { device as deviceTable } from "../store/tables.ts";

export type DeviceRow = typeof deviceTable.$inferSelect;

/** The device with this id or this host name, or the only one whose id begins so. */
export async function findDevice({ db }: Collector, text: string): Promise<DeviceRow> {
  const [exact] = await db.select().from(deviceTable).where(eq(deviceTable.id, text));
  if (exact) return exact;
  // Few: a row for each machine that was ever seen.
  const all = await db.select().from(deviceTable).orderBy(desc(deviceTable.lastSeen));
  const named = all.filter(({ name }) => name === text);
  const found = named.length > 0 ? named : all.filter(({ id }) => text !== "" && id.startsWith(text));
  const [row, second] = found;
  if (!row)
    throw new CollectorError("not-found", `There is no device ${text}.`, {
      hint: "See `binnacle device list` for the devices there are.",
    });
  if (second)
    throw new CollectorError(
      "conflict",
      named.length > 0
        ? `More than one device is named ${text}.`
        : `More than one device's id begins with ${text}.`,
      {
        hint: `Give more of its id: ${row.id} and ${second.id} both match.`,
        details: { candidates: found.map(({ id, name }) => ({ id, name })) },
      },
    );
  return row;
}
