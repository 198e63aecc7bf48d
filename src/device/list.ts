import { and, asc, eq, isNull } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { isLive } from "../run/schema.ts";
import { OWN } from "../entry.ts";
import { sourceLabel } from "../store/source-label.ts";
import { device as deviceTable, run as runTable, runDevice } from "../store/tables.ts";
import { findDevice, type DeviceRow } from "./find.ts";
import { freshMs } from "./fresh.ts";
import type { Device, ListDevices } from "./schema.ts";

/** Every machine that was ever seen, the collector's own first, then by name. */
export async function listDevices(collector: Collector, { source }: ListDevices = {}): Promise<Device[]> {
  const rows = await collector.db.select().from(deviceTable).orderBy(asc(deviceTable.name));
  const isAsked = (row: DeviceRow) =>
    source === undefined || (sourceLabel(collector.connection, row.source) ?? OWN) === source;
  const devices = await Promise.all(rows.filter(isAsked).map((row) => toDevice(collector, row)));
  return devices.sort((left, right) => Number(right.local) - Number(left.local));
}

/** One machine by its id, the beginning of it, or its host name. */
export const getDevice = async (collector: Collector, text: string): Promise<Device> =>
  toDevice(collector, await findDevice(collector, text));

async function toDevice(collector: Collector, row: DeviceRow): Promise<Device> {
  const runs = await collector.db
    .select({ id: runTable.id, status: runTable.status })
    .from(runDevice)
    .innerJoin(runTable, eq(runTable.id, runDevice.run))
    .where(and(eq(runDevice.device, row.id), isNull(runDevice.to), eq(runTable.deleted, false)))
    .orderBy(asc(runDevice.from));
  return {
    ...row.facts,
    id: row.id,
    local: row.id === collector.device,
    source: sourceLabel(collector.connection, row.source),
    first_seen: new Date(row.firstSeen).toISOString(),
    last_seen: new Date(lastSeen(collector, row)).toISOString(),
    runs: runs.filter(({ status }) => isLive(status)).map(({ id }) => id),
    latest: latestOf(collector, row),
  };
}

function lastSeen({ latest }: Collector, row: DeviceRow): number {
  let last = row.lastSeen;
  for (const { time } of latest.of(row.id).values()) last = Math.max(last, time);
  return last;
}

function latestOf({ latest, now }: Collector, row: DeviceRow): Device["latest"] {
  const time = now();
  const fresh: Device["latest"] = {};
  for (const [subject, sample] of latest.of(row.id))
    // A time ahead of ours is no fresher: the clock was set back.
    if (Math.abs(time - sample.time) <= freshMs({ source: row.source, os: row.facts.os }))
      fresh[subject] = { time: new Date(sample.time).toISOString(), values: { ...sample.values } };
  return fresh;
}
