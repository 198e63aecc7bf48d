import type { Collector } from "../collector.ts";
import type { LogLine } from "../log/schema.ts";

/** A run's lines before one, some at a time. */
export async function* logPieces(
  collector: Collector,
  run: string,
  nextLine: number,
): AsyncGenerator<LogLine[]> {
  for (let after = 0; ;) {
    const piece = collector.logs.after(run, after, {})?.filter(({ line }) => line > after && line < nextLine);
    if (!piece || piece.length === 0) return;
    // The head's own list grows under whoever holds it.
    yield [...piece];
    after = piece.at(-1)!.line;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
