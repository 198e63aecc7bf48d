import { basename } from "node:path";
import type { Connection } from "../client/typescript/connection.ts";
import { request } from "../client/typescript/http.ts";
import { listSpool, replaySpool, type ReplayResult } from "../client/typescript/spool.ts";

/**
 * Sends what the program's own clients left on disk: they keep to the address they were given, so after a collector came
 * back on another port only we know where it is. Returns what still stays.
 */
export async function sendLeftovers(connection: Connection, run: string): Promise<ReplayResult[]> {
  const staying: ReplayResult[] = [];
  for (const file of listSpool(connection.spoolDir)) {
    if (!basename(file).startsWith(`${run}-`)) continue;
    const result = await replaySpool(file, {
      post: (path, body, method) => request(connection, path, { method, body }),
    });
    if (result.outcome !== "sent") staying.push(result);
  }
  return staying;
}
