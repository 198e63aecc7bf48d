import type { Collector } from "../collector.ts";
import type { LogLine } from "../log/schema.ts";
import { packLines, sizeOf } from "../store/log-chunk.ts";
import type { Frame } from "./contract.ts";
import { blankFrame, type HistoryPiece } from "./piece.ts";

/** Of a frame, and of a piece. */
const FRAME_CHARACTERS = 512 * 1024;
const PIECE_CHARACTERS = 2 * 1024 * 1024;

/** Lines of a run as they are numbered. A number that is missing (its batch met a full disk) parts two frames. */
export async function* logsHistory(
  collector: Collector,
  run: string,
  { from, before, single = false }: { from: number; before: number; single?: boolean },
): AsyncGenerator<HistoryPiece, void> {
  const time = collector.now();
  let start = Math.max(1, from);
  let frames: Frame[] = [];
  let characters = 0;
  for await (const lines of pieces(collector, run, { from: start, before, single })) {
    frames.push(frameOf(run, lines, time));
    for (const line of lines) characters += sizeOf(line);
    if (!single && characters < PIECE_CHARACTERS) continue;
    const to = lines.at(-1)!.line + 1;
    yield { from: start, to, frames };
    start = to;
    frames = [];
    characters = 0;
  }
  if (start < before && collector.counters.find(run)?.deleted === false)
    yield { from: start, to: before, frames };
}

/** Lines that follow each other without a gap. */
async function* pieces(
  { logs }: Collector,
  run: string,
  { from, before, single }: { from: number; before: number; single: boolean },
): AsyncGenerator<LogLine[], void> {
  let lines: LogLine[] = [];
  let characters = 0;
  for (let after = from - 1; ;) {
    const chunk = logs.after(run, after, {});
    if (!chunk) break;
    // The head's own list grows under whoever holds it.
    for (const line of chunk) {
      if (line.line <= after) continue;
      if (line.line >= before) break;
      const isFull = single || characters >= FRAME_CHARACTERS;
      if (lines.length > 0 && (isFull || line.line !== lines.at(-1)!.line + 1)) {
        yield lines;
        lines = [];
        characters = 0;
      }
      lines.push(line);
      characters += sizeOf(line);
    }
    const last = chunk.at(-1)!.line;
    if (last >= before - 1) break;
    after = Math.max(after, last);
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (lines.length > 0) yield lines;
}

function frameOf(run: string, lines: LogLine[], time: number): Frame {
  const { encoding, payload } = packLines(lines);
  return {
    ...blankFrame,
    kind: "log.appended",
    version: 1,
    run,
    ordinal: lines[0]!.line,
    count: lines.length,
    time,
    encoding,
    payload,
  };
}
