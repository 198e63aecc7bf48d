import { basename } from "node:path";
import type { Connection } from "../client/typescript/connection.ts";
import { request } from "../client/typescript/http.ts";
import { listSpool, replaySpool, type ReplayResult } from "../client/typescript/spool.ts";
import { listOrders, sendOrder } from "../client/typescript/upload-order.ts";

/** So long the collector may be away in the middle of an upload. */
const PATIENCE_MS = 10_000;

export interface LeftoverOptions {
  /** Ends the sending; what is not sent stays. */
  signal: AbortSignal;
  /** Bytes of files that are to be sent, and how many are with the collector. */
  onProgress: (progress: { done: number; bytes: number }) => void;
}

/**
 * Sends what the program's own clients left on disk: they keep to the address they were given, so after a collector came
 * back on another port only we know where it is. Returns what still stays.
 */
export async function sendLeftovers(
  connection: () => Connection,
  run: string,
  { signal, onProgress }: LeftoverOptions,
): Promise<ReplayResult[]> {
  const { spoolDir } = connection();
  const staying: ReplayResult[] = [];
  const isOfTheRun = (file: string) => basename(file).startsWith(`${run}-`);
  for (const file of listSpool(spoolDir).filter(isOfTheRun)) {
    const result = await replaySpool(file, {
      post: (path, body, method) => request(connection(), path, { method, body }),
    });
    if (result.outcome !== "sent") staying.push(result);
  }
  for (const file of listOrders(spoolDir).filter(isOfTheRun)) {
    const result = await sendOrder(file, { connection, patienceMs: PATIENCE_MS, signal, onProgress });
    if (result.outcome !== "sent") staying.push(result);
  }
  return staying;
}
