import type { Collector } from "../collector.ts";
import { LogLine } from "../log/schema.ts";
import { MAX_TIME } from "../metric/schema.ts";
import { packLines } from "../store/log-chunk.ts";
import { lineOf, linesOf } from "./check.ts";
import type { ArchivedRun } from "./schema.ts";
import { damaged, type ArchiveEntry } from "./zip-read.ts";

const BATCH_LINES = 5000;
const BATCH_LENGTH = 1024 * 1024;
/** A million characters, each as an escape. */
const MAX_LINE_BYTES = 8 * 1024 * 1024;
const MAX_LENGTH = 1_048_576;

/** Takes an archive's lines into the journal under the numbers they had; resolves with how many there were. */
export async function importLogs(
  collector: Collector,
  run: string,
  { lines: entry, run: { next_line } }: { lines: ArchiveEntry; run: ArchivedRun },
): Promise<number> {
  let batch: LogLine[] = [];
  let length = 0;
  let last = 0;
  let count = 0;

  async function flush(): Promise<void> {
    if (batch.length === 0) return;
    await collector.logs.room();
    const lines = batch;
    batch = [];
    length = 0;
    const { encoding, payload } = packLines(lines);
    await collector.journal.append(
      {
        kind: "log.appended",
        version: 1,
        run,
        client: null,
        clientSeq: null,
        ordinal: lines[0]!.line,
        nextStep: null,
        count: lines.length,
        time: collector.now(),
        encoding,
        payload,
      },
      lines,
    );
  }

  for await (const json of linesOf(entry, MAX_LINE_BYTES)) {
    const line = lineOf(entry, LogLine, json);
    if (!Number.isSafeInteger(line.line) || line.line <= last || line.line >= next_line)
      throw damaged(`line ${line.line} is out of its order`);
    if (!(line.time >= 0 && line.time <= MAX_TIME) || line.text.length > MAX_LENGTH)
      throw damaged(`line ${line.line} has an impossible time or length`);
    if (!Number.isInteger(line.rank) || line.rank < 0 || line.rank > 1_000_000)
      throw damaged(`line ${line.line} has an impossible rank`);
    // Numbers of a batch that a full disk refused are missing, and an entry counts its lines from the first.
    if (line.line !== last + 1 || batch.length >= BATCH_LINES || length >= BATCH_LENGTH) await flush();
    last = line.line;
    batch.push(line);
    length += line.text.length;
    count++;
  }
  await flush();
  return count;
}
