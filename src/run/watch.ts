import { and, eq, inArray, isNull } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { run as runTable, writer as writerTable } from "../store/tables.ts";
import { presumeFailed } from "./finish.ts";

/** Takes up the runs that were live when this process started. Those of sources have their writers elsewhere. */
export async function restoreRuns({ db, presence }: Collector): Promise<void> {
  const live = await db
    .select({ id: runTable.id })
    .from(runTable)
    .where(
      and(
        eq(runTable.deleted, false),
        isNull(runTable.source),
        inArray(runTable.status, ["QUEUED", "STARTING", "RUNNING", "STOPPING"]),
      ),
    );
  const watch = async (id: string) => {
    presence.watch(id);
    for (const writer of await db.select().from(writerTable).where(eq(writerTable.run, id)))
      if (writer.presumed) presence.leave(id, writer.client, true);
      else if (writer.outcome === null)
        presence.join(id, writer.client, { pid: writer.pid, boot: writer.boot }, true);
  };
  for (const { id } of live) await watch(id);
  const presumed = await db
    .select({ id: runTable.id })
    .from(runTable)
    .where(and(eq(runTable.deleted, false), isNull(runTable.source), eq(runTable.presumed, true)));
  for (const { id } of presumed) {
    await watch(id);
    presence.end(id, true);
  }
}

/** Judges every writer once. */
export async function reviewRuns(collector: Collector): Promise<void> {
  for (const verdict of collector.presence.review()) await presumeFailed(collector, verdict);
}

/** Judges every writer each second; returns the function that ends it. */
export function watchRuns(collector: Collector, onError: (error: unknown) => void): () => void {
  let busy = false;
  const timer = setInterval(async () => {
    if (busy) return;
    busy = true;
    try {
      await reviewRuns(collector);
    } catch (error) {
      onError(error);
    } finally {
      busy = false;
    }
  }, 1000);
  return () => clearInterval(timer);
}
