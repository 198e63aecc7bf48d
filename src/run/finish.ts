import { eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { writer as writerTable } from "../store/tables.ts";
import { changeRun, inTurn, type RunRow } from "./change.ts";
import { getOwnRow } from "./find.ts";
import { isLive, type FinishRun, type RunStatus, type WriterRole } from "./schema.ts";
import type { WriterChange } from "./writer-change.ts";

/** What the end rule needs to know of a writer; outcome null: it lives. */
export interface WriterEnd {
  client: string;
  role: WriterRole;
  outcome: RunStatus | null;
}

/** While what it launched goes on. */
const LAUNCH_VANISHED = "`launch` ended without saying so (killed, or crashed).";

type EndStatus = "FINISHED" | "FAILED" | "KILLED";

/**
 * The status a run ends with once `client` has ended with `status`; undefined while it goes on. The word of `launch` is
 * final: it has seen the exit code. Of several the last one's is, and one that was taken for dead (`presumed`) has said
 * nothing. Without it the run ends with its last writer. It ends as badly as the worst of them.
 */
export function endOfRun(
  writers: WriterEnd[],
  client: string | undefined,
  status: EndStatus,
  stopping: boolean,
  presumed = false,
): EndStatus | undefined {
  const others = writers.filter((writer) => writer.client !== client);
  const own = writers.find((writer) => writer.client === client);
  const launches = others.filter((writer) => writer.role === "launch");
  const lives = (writer: WriterEnd) => writer.outcome === null;
  const isFinal = own?.role === "launch" && !presumed && !launches.some(lives);
  if (client !== undefined && !isFinal && others.some(lives)) return undefined;
  if (stopping) return "KILLED";
  if (client === undefined) return status;
  const outcomes = new Set<RunStatus | null>([status]);
  for (const writer of isFinal ? launches : others) outcomes.add(writer.outcome);
  if (outcomes.has("FAILED")) return "FAILED";
  return outcomes.has("KILLED") ? "KILLED" : "FINISHED";
}

/** A writer, or with no client the whole run, says that it is done. Saying it again changes nothing. */
export function finishRun(collector: Collector, id: string, input: FinishRun): Promise<RunRow> {
  return inTurn(collector, id, () => finishInTurn(collector, id, input, false));
}

/** Takes a writer that vanished for failed; with client null a run that nobody writes to. Later data reopens it. */
export function presumeFailed(
  collector: Collector,
  { run, client, reason, at }: { run: string; client: string | null; reason: string; at: number },
): Promise<RunRow> {
  return inTurn(collector, run, () =>
    finishInTurn(
      collector,
      run,
      { ...(client !== null && { client }), status: "FAILED", reason, finished: at },
      true,
    ),
  );
}

/** Takes a run for finished that cannot say so. Later data reopens it. */
export function presumeFinished(
  collector: Collector,
  { run, reason, at }: { run: string; reason: string; at: number },
): Promise<RunRow> {
  return inTurn(collector, run, () =>
    finishInTurn(collector, run, { status: "FINISHED", reason, finished: at }, true),
  );
}

async function finishInTurn(
  collector: Collector,
  id: string,
  { client, status, reason, exit_code, finished }: FinishRun,
  presumed: boolean,
): Promise<RunRow> {
  const row = await getOwnRow(collector, id);
  const writers = await collector.db.select().from(writerTable).where(eq(writerTable.run, id));
  const own = writers.find((writer) => writer.client === client);
  const isEnded = !isLive(row.status) && !row.presumed;
  if (isEnded && (own === undefined || own.outcome !== null)) return row;

  const ended: WriterChange[] = [];
  if (client !== undefined && own)
    ended.push({ what: "outcome", client, outcome: status, ...(presumed && { presumed }) });
  if (client !== undefined) collector.presence.leave(id, client, presumed);
  const end = isEnded ? undefined : endOfRun(writers, client, status, row.status === "STOPPING", presumed);
  const isPresumed = presumed && row.status !== "STOPPING";
  const change: Partial<RunRow> = {};
  if (end !== undefined) {
    Object.assign(change, {
      status: end,
      reason: reasonOf(end, reason, row),
      finished: finished ?? collector.now(),
      // A run that was being stopped and went silent is stopped: its writer, should it come back, is told so.
      presumed: isPresumed,
    });
    // Not the 0 of one that ended well after another had failed.
    if (exit_code !== undefined && (end === status || row.status === "STOPPING")) change.exitCode = exit_code;
    ended.push({ what: "ended", outcome: end });
  } else if (status !== "FINISHED" && reason !== undefined && row.reason === null && !isEnded) {
    // The first cause: what the run fails of when its other writers have ended too.
    change.reason = presumed && own?.role === "launch" ? LAUNCH_VANISHED : reason;
    if (own?.role === "launch" && exit_code !== undefined) change.exitCode = exit_code;
  }
  if (end === undefined && ended.length === 0 && Object.keys(change).length === 0) return row;
  const changed = await changeRun(collector, row, change, ended);
  if (end !== undefined) collector.presence.end(id, isPresumed);
  return changed;
}

function reasonOf(end: EndStatus, reason: string | undefined, row: RunRow): string | null {
  if (row.status === "STOPPING") return row.reason ?? reason ?? null;
  if (end === "FINISHED") return reason ?? null;
  return (row.presumed ? undefined : row.reason) ?? reason ?? null;
}
