import { eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { writer as writerTable } from "../store/tables.ts";
import { changeRun, inTurn } from "./change.ts";
import { findRow } from "./find.ts";
import { isLive } from "./schema.ts";

/** A writer that was taken for dead has sent something: its run goes on. */
export function reopenRun(collector: Collector, id: string, client: string): Promise<void> {
  return inTurn(collector, id, async () => {
    const row = await findRow(collector, id);
    if (!row || row.deleted || (!row.presumed && !isLive(row.status))) return;
    const writers = await collector.db.select().from(writerTable).where(eq(writerTable.run, id));
    const writer = writers.find((one) => one.client === client);
    const hasCause = writers.some(
      (one) => one.client !== client && one.outcome !== null && one.outcome !== "FINISHED",
    );
    await changeRun(
      collector,
      row,
      row.presumed
        ? { status: "RUNNING", reason: null, finished: null, presumed: false }
        : // That it seemed dead is no longer what the run may fail of.
          row.status === "RUNNING" && row.reason !== null && !hasCause
          ? { reason: null }
          : {},
      writer ? [{ what: "outcome", client, outcome: null }] : [],
    );
    collector.presence.watch(id);
    collector.presence.join(id, client, { pid: writer?.pid ?? null, boot: writer?.boot ?? null });
  });
}
