import { asc, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { getRow } from "../run/find.ts";
import { device as deviceTable, runDevice } from "../store/tables.ts";
import type { RunDevice } from "./schema.ts";

/** Where a run lived, in the order in which it came there, and what it used; empty where nothing was recorded. */
export async function listRunDevices(collector: Collector, run: string): Promise<RunDevice[]> {
  await getRow(collector, run);
  const rows = await collector.db
    .select({ use: runDevice, name: deviceTable.name })
    .from(runDevice)
    .leftJoin(deviceTable, eq(deviceTable.id, runDevice.device))
    .where(eq(runDevice.run, run))
    .orderBy(asc(runDevice.from), asc(runDevice.device));
  return rows.map(({ use, name }) => ({
    device: use.device,
    name: name ?? use.device,
    from: new Date(use.from).toISOString(),
    to: use.to === null ? null : new Date(use.to).toISOString(),
    attribution: use.attribution,
    cpu_seconds: use.cpuSeconds,
    gpus: Object.entries(use.gpus)
      .map(([uuid, gpu]) => ({ uuid, ...gpu }))
      .sort((left, right) => left.index - right.index),
    note: use.note,
  }));
}
