import { and, eq, lt } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import type { Write } from "../store/journal-rows.ts";
import { device as deviceTable } from "../store/tables.ts";

/** What devices read last tells more exactly when they were seen, as long as this process lives. */
const EVERY_MS = 60_000;

const writtenAt = new WeakMap<Collector, Map<string, number>>();

/** Says with samples, once a minute, that their device was seen. */
export function writeSeen(collector: Collector, device: string, time: number): Write[] {
  let times = writtenAt.get(collector);
  if (!times) writtenAt.set(collector, (times = new Map()));
  if (time - (times.get(device) ?? -Infinity) < EVERY_MS) return [];
  times.set(device, time);
  return [
    collector.db
      .update(deviceTable)
      .set({ lastSeen: time })
      .where(and(eq(deviceTable.id, device), lt(deviceTable.lastSeen, time)))
      .toSQL(),
  ];
}
