import { and, eq, inArray, isNull, sql, type SQL } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { OWN } from "../entry.ts";
import { splitSource } from "../store/source-label.ts";
import { device as deviceTable, run as runTable, runDevice, source as sourceTable } from "../store/tables.ts";
import { toRun } from "./change.ts";
import { RunStatus, type ListRuns, type RunPage } from "./schema.ts";

const columnBySort = {
  created: runTable.created,
  name: runTable.name,
  project: runTable.project,
  status: runTable.status,
  started: runTable.started,
  finished: runTable.finished,
};

/** Runs that match every filter, a page at a time. The id breaks ties, so that no run is met twice or never. */
export async function listRuns(collector: Collector, query: ListRuns): Promise<RunPage> {
  const isText = query.sort === "name" || query.sort === "project" || query.sort === "status";
  const order = query.order ?? (isText ? "asc" : "desc");
  const column = columnBySort[query.sort];
  // A row value with a NULL in it compares as unknown, which would end the listing there.
  const key = isText ? sql`lower(${column})` : sql`coalesce(${column}, 0)`;
  const conditions = [eq(runTable.deleted, false), ...placeFilters(query), ...filters(query)];
  if (query.after !== undefined) {
    const compare = order === "asc" ? sql`>` : sql`<`;
    conditions.push(
      sql`(${key}, ${runTable.id}) ${compare} (SELECT ${key}, ${runTable.id} FROM ${runTable} WHERE ${runTable.id} = ${query.after})`,
    );
  }
  const direction = order === "asc" ? sql`ASC` : sql`DESC`;
  const rows = await collector.db
    .select()
    .from(runTable)
    .where(and(...conditions))
    .orderBy(sql`${key} ${direction}`, sql`${runTable.id} ${direction}`)
    .limit(query.limit + 1);
  const page = rows.slice(0, query.limit);
  return {
    runs: page.map((row) => toRun(collector, row)),
    next: rows.length > query.limit ? (page.at(-1)?.id ?? null) : null,
  };
}

/** Where a run comes from and where it ran. */
export function placeFilters({ source, device }: Pick<ListRuns, "source" | "device">): SQL[] {
  const conditions: SQL[] = [];
  if (source === OWN) conditions.push(isNull(runTable.source));
  else if (source !== undefined) {
    const { label, origin } = splitSource(source);
    conditions.push(
      sql`${runTable.source} = (SELECT ${sourceTable.id} FROM ${sourceTable} WHERE ${sourceTable.label} = ${label})`,
      ...(origin === undefined ? [] : [eq(runTable.origin, origin)]),
    );
  }
  // Of a machine that reads no hardware there is no more than the name that its writers gave.
  if (device !== undefined)
    conditions.push(
      sql`(${runTable.device} = ${device}
        OR ${runTable.id} IN (SELECT ${runDevice.run} FROM ${runDevice} JOIN ${deviceTable} ON ${deviceTable.id} = ${runDevice.device} WHERE ${device} IN (${deviceTable.id}, ${deviceTable.name}))
        OR EXISTS (SELECT 1 FROM ${deviceTable} WHERE ${deviceTable.id} = ${device} AND ${deviceTable.name} = ${runTable.device} AND ${deviceTable.source} IS ${runTable.source}))`,
    );
  return conditions;
}

function filters({ status, project, search }: ListRuns): SQL[] {
  const conditions: SQL[] = [];
  if (status !== undefined) conditions.push(inArray(runTable.status, status.split(",").map(statusOf)));
  if (project !== undefined) conditions.push(eq(runTable.project, project));
  if (search !== undefined && search !== "") {
    const pattern = `%${search.replace(/[\\%_]/g, "\\$&")}%`;
    const columns = [runTable.name, runTable.id, runTable.project, runTable.tags, runTable.notes];
    const matches = columns.map((column) => sql`${column} LIKE ${pattern} ESCAPE '\\'`);
    conditions.push(sql`(${sql.join(matches, sql` OR `)})`);
  }
  return conditions;
}

function statusOf(word: string): RunStatus {
  const parsed = RunStatus.safeParse(word);
  if (!parsed.success)
    throw new CollectorError("invalid", `There is no status ${word}.`, {
      hint: `Use ${RunStatus.options.join(", ")}.`,
    });
  return parsed.data;
}
