import { and, eq, inArray, isNull } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { run as runTable, writer as writerTable } from "../store/tables.ts";
import type { WriterRole } from "./schema.ts";

/** A writer of a live run that has not said that it is done. */
export interface LiveWriter {
  run: string;
  /** When the run started, ms since the epoch. */
  started: number;
  client: string;
  role: WriterRole;
  pid: number | null;
  boot: string | null;
  start: number | null;
  device: string | null;
}

/** Those of one run, or of all; not of runs that sources relay: a pid means something on its own machine alone. */
export async function listLiveWriters({ db }: Collector, run?: string): Promise<LiveWriter[]> {
  const rows = await db
    .select({ writer: writerTable, started: runTable.started, created: runTable.created })
    .from(writerTable)
    .innerJoin(runTable, eq(runTable.id, writerTable.run))
    .where(
      and(
        ...(run === undefined ? [] : [eq(writerTable.run, run)]),
        isNull(writerTable.outcome),
        eq(runTable.deleted, false),
        isNull(runTable.source),
        inArray(runTable.status, ["QUEUED", "STARTING", "RUNNING", "STOPPING"]),
      ),
    );
  return rows.map(({ writer: { run, client, role, pid, boot, start, device }, started, created }) => ({
    run,
    started: started ?? created,
    client,
    role,
    pid,
    boot,
    start,
    device,
  }));
}
