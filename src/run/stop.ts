import type { Collector } from "../collector.ts";
import { changeRun, inTurn, type RunRow } from "./change.ts";
import { getOwnRow } from "./find.ts";
import { isLive, type StopRun } from "./schema.ts";

/** Asks a run's writers to stop, over their heartbeats. Where nobody listens the run is KILLED at once; an ended run stays as it is. */
export function stopRun(collector: Collector, id: string, request: StopRun): Promise<RunRow> {
  return inTurn(collector, id, async () => {
    const row = await getOwnRow(collector, id);
    if (!isLive(row.status)) return row;
    const reason = request.reason ?? row.reason ?? "Stopped by request.";
    const heard = collector.presence.stop(id, { ...request, reason });
    if (heard > 0)
      return row.status === "STOPPING" ? row : changeRun(collector, row, { status: "STOPPING", reason });
    const killed = await changeRun(
      collector,
      row,
      { status: "KILLED", reason, finished: collector.now(), presumed: false },
      [{ what: "ended", outcome: "KILLED" }],
    );
    collector.presence.end(id, false);
    return killed;
  });
}
