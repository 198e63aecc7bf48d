import type { LogLine } from "../log/schema.ts";
import type { Bus } from "../store/bus.ts";

/** Characters over all runs of lines that may still be sent a second time; the client sends them within seconds. */
const MAX_SIZE = 4_000_000;
const MAX_LENGTH = 4000;

/**
 * `launch` keeps what a program prints; FedML's client prints its log, and sends it from its file as well. What was kept already as
 * it was printed is not kept again.
 */
export interface CapturedLines {
  /** Whether this very line of the run was printed. */
  has(run: string, raw: string): boolean;
  /** It has come from the file: another one like it is another line. */
  forget(run: string, raw: string): void;
}

export function createCaptured(bus: Bus): CapturedLines {
  const lines = new Set<string>();
  let size = 0;
  const keyOf = (run: string, raw: string) => `${run}\n${raw.replace(/\r?\n$/, "")}`;

  function remove(key: string): void {
    if (lines.delete(key)) size -= key.length;
  }

  bus.subscribe(({ kind, run, data }) => {
    if (kind !== "log.appended" || !Array.isArray(data)) return;
    for (const { prefix, text } of data as LogLine[]) {
      if (prefix !== undefined || !text.startsWith("[FedML-") || text.length > MAX_LENGTH) continue;
      const key = keyOf(run, text);
      remove(key);
      lines.add(key);
      size += key.length;
      while (size > MAX_SIZE) remove(lines.values().next().value!);
    }
  });
  return {
    has: (run, raw) => lines.size > 0 && lines.has(keyOf(run, raw)),
    forget: (run, raw) => remove(keyOf(run, raw)),
  };
}
