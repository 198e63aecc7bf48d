import { and, eq, sql } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { run } from "../store/tables.ts";
import { placeFilters } from "./list.ts";
import type { ListRuns, RunStatus } from "./schema.ts";

export interface RunCount {
  project: string;
  status: RunStatus;
  count: number;
}

/** How many runs there are of each project and status; of all, or of those from one place. */
export const countRuns = (
  { db }: Collector,
  place: Pick<ListRuns, "source" | "device"> = {},
): Promise<RunCount[]> =>
  db
    .select({ project: run.project, status: run.status, count: sql<number>`count(*)` })
    .from(run)
    .where(and(eq(run.deleted, false), ...placeFilters(place)))
    .groupBy(run.project, run.status);
