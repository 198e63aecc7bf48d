import type { Collector } from "../collector.ts";
import { changeRun, inTurn, type RunRow } from "./change.ts";
import { getOwnRow } from "./find.ts";
import { isLive, type RunStatus } from "./schema.ts";

const ORDER: readonly RunStatus[] = ["QUEUED", "STARTING", "RUNNING", "STOPPING"];

/**
 * Takes a live run on to a later live status; one that was only just made (`isNew`) also back, as it has not begun. What else
 * would lead back, or comes after the run's end, changes nothing.
 */
export function advanceRun(
  collector: Collector,
  id: string,
  status: RunStatus,
  isNew = false,
): Promise<RunRow> {
  return inTurn(collector, id, async () => {
    const row = await getOwnRow(collector, id);
    const at = ORDER.indexOf(status);
    const current = ORDER.indexOf(row.status);
    if (!isLive(row.status) || at < 0 || at === current || (at < current && !isNew)) return row;
    return changeRun(collector, row, { status });
  });
}
