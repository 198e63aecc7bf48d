import { eq, sql } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { run } from "../store/tables.ts";
import type { RunStatus } from "./schema.ts";

export interface RunCount {
  project: string;
  status: RunStatus;
  count: number;
}

/** How many runs there are of each project and status. */
export const countRuns = ({ db }: Collector): Promise<RunCount[]> =>
  db
    .select({ project: run.project, status: run.status, count: sql<number>`count(*)` })
    .from(run)
    .where(eq(run.deleted, false))
    .groupBy(run.project, run.status);
