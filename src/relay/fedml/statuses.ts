import type { RunStatus } from "../../run/schema.ts";
import { idOf, writeJson } from "./json.ts";
import type { Message } from "./message.ts";

/** How a run is, for the platform and for its pages. Our words are among FedML's. */
export function statusMessages(
  run: string,
  { status, reason, time }: { status: RunStatus; reason: string | null | undefined; time: number },
): Message[] {
  const fields = { run_id: idOf(run), edge_id: 0, status, role: "normal" };
  const more = { timestamp: Math.floor(time), ...(reason && { msg: reason }) };
  return [
    { topic: "fl_run/fl_server/mlops/status", payload: writeJson({ ...fields, ...more }) },
    { topic: "fl_server/mlops/status", payload: writeJson({ ...fields, version: "v1.0", ...more }) },
  ];
}
