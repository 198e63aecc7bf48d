import { and, eq, isNull, ne } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { Encoding } from "../entry.ts";
import { isLive } from "../run/schema.ts";
import { device as deviceTable, run as runTable, runDevice, type GpuUse } from "../store/tables.ts";
import type { RunDevice } from "./schema.ts";

/** A run's life on a device and what it used there, up to now. Times are ms since the epoch. */
export interface RunUse {
  run: string;
  from: number;
  /** null while it is live there. */
  to: number | null;
  attribution: RunDevice["attribution"];
  cpuSeconds: number;
  /** By UUID. */
  gpus: Record<string, GpuUse>;
  note: string | null;
}

/** What is known so far; undefined where the run has not been there. */
export async function findUse({ db }: Collector, device: string, run: string): Promise<RunUse | undefined> {
  const [row] = await db
    .select()
    .from(runDevice)
    .where(and(eq(runDevice.run, run), eq(runDevice.device, device)));
  return row && toUse(row);
}

/** Takes the place of what was known. */
export async function recordUse(collector: Collector, device: string, use: RunUse): Promise<void> {
  const { run, from, to, attribution, cpuSeconds, gpus, note } = use;
  const columns = { from, to, attribution, cpuSeconds, gpus, note };
  const write = collector.db
    .insert(runDevice)
    .values({ run, device, ...columns })
    .onConflictDoUpdate({ target: [runDevice.run, runDevice.device], set: columns })
    .toSQL();
  await collector.journal.append(
    {
      kind: "use.changed",
      version: 1,
      run,
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: 1,
      time: collector.now(),
      encoding: Encoding.json,
      payload: new TextEncoder().encode(JSON.stringify({ device, ...use })),
    },
    { device, ...use },
    [write],
  );
}

/** Closes what a collector that was killed left open: of runs that have ended meanwhile, or went on elsewhere. */
export async function closeUses(
  collector: Collector,
  device: string,
  isHere: (run: string) => boolean,
): Promise<void> {
  const rows = await collector.db
    .select({ use: runDevice, status: runTable.status, finished: runTable.finished })
    .from(runDevice)
    .innerJoin(runTable, eq(runTable.id, runDevice.run))
    .where(and(eq(runDevice.device, device), isNull(runDevice.to), eq(runTable.deleted, false)));
  for (const { use, status, finished } of rows)
    if (!isHere(use.run))
      await recordUse(collector, device, {
        ...toUse(use),
        to: Math.max(use.from, isLive(status) ? collector.now() : (finished ?? collector.now())),
      });
}

const toUse = ({
  run,
  from,
  to,
  attribution,
  cpuSeconds,
  gpus,
  note,
}: typeof runDevice.$inferSelect): RunUse => ({ run, from, to, attribution, cpuSeconds, gpus, note });

/** The same for devices that are not this collector's own and don't come by a source: who tells of them says so again. */
export async function closeUsesElsewhere(collector: Collector): Promise<void> {
  const rows = await collector.db
    .selectDistinct({ device: runDevice.device })
    .from(runDevice)
    .innerJoin(deviceTable, eq(deviceTable.id, runDevice.device))
    .where(and(isNull(runDevice.to), isNull(deviceTable.source), ne(runDevice.device, collector.device)));
  for (const { device } of rows) await closeUses(collector, device, () => false);
}
