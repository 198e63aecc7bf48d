import { CollectorError, type ErrorCode } from "../../error.ts";
import type { FinishRun } from "../../run/schema.ts";
import type { Connection } from "./connection.ts";
import { requestJson } from "./http.ts";
import type { Delivery } from "./delivery.ts";

/** Answers of a collector that lives and lets us in, but takes no data now. */
const TAKES_NO_DATA = new Set<ErrorCode>(["disk-full", "busy", "internal"]);
const WITHIN_MS = 2_000;

/**
 * Says that a writer is done ahead of its data that could not be sent: behind that data it would come too late, and who
 * ended well would be taken for dead. It is repeated behind the data, and changes nothing then. Returns whether it was heard.
 */
export async function finishAhead(
  { delivered, stats: { online, error } }: Delivery,
  connection: () => Pick<Connection, "url" | "token">,
  run: string,
  finish: FinishRun,
): Promise<boolean> {
  if (delivered) return false;
  if (!online && !(error instanceof CollectorError && TAKES_NO_DATA.has(error.code))) return false;
  try {
    await requestJson(connection(), `/api/v1/runs/${run}/finish`, { body: finish, timeout: WITHIN_MS });
    return true;
  } catch {
    return false; // It comes behind the data.
  }
}
