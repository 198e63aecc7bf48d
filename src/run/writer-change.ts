import { and, eq, isNotNull, isNull } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import type { Write } from "../store/journal-rows.ts";
import { writer as writerTable } from "../store/tables.ts";
import type { RunStatus } from "./schema.ts";

export type WriterRow = typeof writerTable.$inferSelect;

/** What happened to a run's writers, as its journal entry tells it to whoever keeps a copy of the run. */
export type WriterChange =
  | { what: "joined"; writer: Omit<WriterRow, "run" | "seq" | "presumed"> }
  /** How one ended; null: it lives. `presumed`: it was taken for dead. */
  | { what: "outcome"; client: string; outcome: RunStatus | null; presumed?: boolean }
  /** With its run every writer has ended: one left open would count as live when the run is resumed. */
  | { what: "ended"; outcome: RunStatus }
  /** How writers ended before a run was resumed says nothing about how it ends next. */
  | { what: "resumed" };

export function writeOfWriter({ db }: Pick<Collector, "db">, run: string, change: WriterChange): Write {
  if (change.what === "joined")
    return db
      .insert(writerTable)
      .values({ run, ...change.writer })
      .onConflictDoUpdate({ target: [writerTable.run, writerTable.client], set: change.writer })
      .toSQL();
  if (change.what === "outcome")
    return db
      .update(writerTable)
      .set({ outcome: change.outcome, presumed: change.presumed ?? false })
      .where(and(eq(writerTable.run, run), eq(writerTable.client, change.client)))
      .toSQL();
  const isLive = isNull(writerTable.outcome);
  return db
    .update(writerTable)
    .set(change.what === "ended" ? { outcome: change.outcome } : { outcome: "FINISHED", presumed: false })
    .where(and(eq(writerTable.run, run), change.what === "ended" ? isLive : isNotNull(writerTable.outcome)))
    .toSQL();
}
