import { and, desc, eq, sql } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { relayed } from "../store/counters.ts";
import { sourceLabel } from "../store/source-label.ts";
import { run as runTable, writer as writerTable } from "../store/tables.ts";
import { toRun, type RunRow } from "./change.ts";
import type { RunDetail } from "./schema.ts";

/** The run with exactly this id, or undefined; a deleted one too. */
export async function findRow(collector: Collector, id: string): Promise<RunRow | undefined> {
  const [row] = await collector.db.select().from(runTable).where(eq(runTable.id, id));
  return row;
}

/** The run with exactly this id, or the error its caller should see. */
export async function getRow(collector: Collector, id: string): Promise<RunRow> {
  const row = await findRow(collector, id);
  if (!row) throw notFound(id);
  if (row.deleted)
    throw new CollectorError("gone", `Run ${id} was deleted.`, {
      hint: "Start a new run; a deleted id is not used again.",
    });
  return row;
}

/** The same for who would steer it, or write to it: a run that a source relays is that one's. */
export async function getOwnRow(collector: Collector, id: string): Promise<RunRow> {
  const row = await getRow(collector, id);
  requireOwn(collector, row);
  return row;
}

export function requireOwn({ connection }: Collector, { id, source }: RunRow): void {
  if (source !== null) throw relayed(id, sourceLabel(connection, source)!);
}

/** The run whose id is `prefix`, or the only one whose id begins with it. */
export async function findRun(collector: Collector, prefix: string): Promise<RunRow> {
  const exact = await findRow(collector, prefix);
  if (exact) return getRow(collector, prefix);
  const rows = await collector.db
    .select()
    .from(runTable)
    .where(and(eq(runTable.deleted, false), sql`substr(${runTable.id}, 1, ${prefix.length}) = ${prefix}`))
    .orderBy(desc(runTable.created))
    .limit(10);
  const [row, second] = rows;
  if (!row) throw notFound(prefix);
  if (second)
    throw new CollectorError("conflict", `More than one run's id begins with ${prefix}.`, {
      hint: `Give more of it: ${row.id} and ${second.id} both match.`,
      details: { candidates: rows.map(({ id, name }) => ({ id, name })) },
    });
  return row;
}

export async function getRunDetail(collector: Collector, row: RunRow): Promise<RunDetail> {
  const writers = await collector.db.select().from(writerTable).where(eq(writerTable.run, row.id));
  return {
    ...toRun(collector, row),
    config: row.config,
    tags: row.tags,
    notes: row.notes,
    command: row.command,
    contact_lost: collector.presence.silence(row.id),
    writers: writers.map(({ client, role, rank, device, pid }) => ({
      client,
      role,
      rank,
      device,
      pid,
      live: collector.presence.isConnected(row.id, client),
    })),
    last_step: collector.series.lastStep(row.id),
  };
}

const notFound = (id: string) =>
  new CollectorError("not-found", `There is no run ${id}.`, {
    hint: "See `binnacle run list` for the runs there are.",
  });
