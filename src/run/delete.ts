import { eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { writesOfBurial } from "../store/bury.ts";
import { run as runTable } from "../store/tables.ts";
import { appendRunEntry, inTurn, type RunRow } from "./change.ts";
import { getRow } from "./find.ts";
import { isLive } from "./schema.ts";

/**
 * Deletes an ended run; with `force` a live one too, whose writers are told to stop. Its id stays taken: late writes hear 410. A
 * platform that it was relayed to keeps it, with a mark, unless it is to go `upstream`, too.
 */
export function deleteRun(collector: Collector, id: string, force: boolean, upstream = false): Promise<void> {
  return inTurn(collector, id, async () => {
    const row = await getRow(collector, id);
    if (isLive(row.status)) {
      if (!force)
        throw new CollectorError("conflict", `Run ${id} is ${row.status}.`, {
          hint: "Stop it first, or delete with --force (?force=true).",
        });
      collector.presence.stop(id, { force: true, reason: "The run was deleted." });
    }
    await buryRun(collector, row, "run.deleted", upstream);
  });
}

/** What is left of a row. */
export const TOMBSTONE = {
  name: "",
  config: {},
  tags: [],
  notes: null,
  command: null,
  reason: null,
  presumed: false,
  deleted: true,
} satisfies Partial<RunRow>;

/** By which one sees of a row that it was deleted everywhere. */
export const UPSTREAM = "upstream";

/** Only its row stays, emptied, by which late writes hear that it is gone; its data goes when the entry is announced. */
export async function buryRun(
  collector: Collector,
  row: RunRow,
  kind: "run.deleted" | "run.pruned",
  upstream = false,
): Promise<void> {
  const { id } = row;
  const status = isLive(row.status) ? "KILLED" : row.status;
  const isDeleted = kind === "run.deleted";
  const tombstone: Partial<RunRow> = {
    ...TOMBSTONE,
    // Told to platforms that miss the entry. Retention is nobody else's affair.
    deletedAtSource: isDeleted ? collector.now() : null,
    reason: upstream ? UPSTREAM : null,
  };
  await appendRunEntry(collector, kind, { ...row, status }, { id, ...(upstream && { upstream }) }, [
    collector.db
      .update(runTable)
      .set({ status, ...tombstone })
      .where(eq(runTable.id, id))
      .toSQL(),
    ...writesOfBurial(id),
  ]);
  collector.presence.end(id, false);
}
