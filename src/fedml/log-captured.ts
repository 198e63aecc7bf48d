import type { LogLine } from "../log/schema.ts";
import type { Bus } from "../store/bus.ts";

/** Lines over all runs that may still be sent a second time; the client sends them within seconds. */
const MAX_LINES = 20_000;
const MAX_LENGTH = 4000;

/**
 * `launch` keeps what a program prints; FedML's client prints its log, and sends it from its file as well. What was kept already as
 * it was printed is not kept again.
 */
export interface CapturedLines {
  /** True, once, where this very line of the run was printed. */
  take(run: string, raw: string): boolean;
}

export function createCaptured(bus: Bus): CapturedLines {
  const lines = new Set<string>();
  const keyOf = (run: string, raw: string) => `${run}\n${raw}`;
  bus.subscribe(({ kind, run, data }) => {
    if (kind !== "log.appended" || !Array.isArray(data)) return;
    for (const { prefix, text } of data as LogLine[]) {
      if (prefix !== undefined || !text.startsWith("[FedML-") || text.length > MAX_LENGTH) continue;
      lines.add(keyOf(run, text));
      if (lines.size > MAX_LINES) lines.delete(lines.values().next().value!);
    }
  });
  return {
    take: (run, raw) => lines.size > 0 && lines.delete(keyOf(run, raw.replace(/\r?\n$/, ""))),
  };
}
