import { createHash } from "node:crypto";
import type { Frame } from "./contract.ts";

/** What tells an entry from any other that could have its seq: its time is in it, which a timeline that was left has not. */
export function digestOf(frame: Frame): string {
  const { kind, run, client, clientSeq, ordinal, count, time, encoding, payload } = frame;
  return createHash("sha256")
    .update(JSON.stringify([kind, run, client, clientSeq, ordinal, count, time, encoding]))
    .update(payload)
    .digest("hex");
}

/** Of what the headers of a request say: one digit more of a batch's end, and what it has not brought would count as there. */
export const digestOfHeaders = (headers: Record<string, string>): string =>
  createHash("sha256")
    .update(JSON.stringify(Object.entries(headers).sort(([a], [b]) => (a < b ? -1 : 1))))
    .digest("hex");
