import type { Collector } from "../collector.ts";
import type { Appended } from "../metric/schema.ts";
import { answerRepetition } from "../run/repetition.ts";
import { claimBatch, writerOf } from "../store/counters.ts";
import { packLines } from "../store/log-chunk.ts";
import type { AppendLogs, LogLine } from "./schema.ts";
import { recogniseLevel } from "./level.ts";

/**
 * Stores a batch of lines, once. One that only says how the lines look that are still being rewritten takes no
 * number, since nothing of it is kept. (An empty one without `open` does: it fills a hole in its client's numbering.)
 */
export async function appendLogs(collector: Collector, run: string, input: AppendLogs): Promise<Appended> {
  const { client, seq, rank = 0, items } = input;
  await collector.logs.room();
  const counter = collector.counters.own(run);
  if (items.length === 0 && input.open) {
    announceOpen(collector, run, input);
    return { acked: writerOf(counter, client).seq };
  }
  if (!claimBatch(counter, client, seq))
    return answerRepetition(collector, run, input, () => appendLogs(collector, run, input));
  const first = counter.nextLine;
  counter.nextLine += items.length;
  const now = collector.now();
  const states = collector.logs.levelStates(run, client);
  const lines = items.map(({ time = now, stream = "stdout", level, prefix, text }, index): LogLine => {
    const line = first + index;
    if (level !== undefined) {
      states[stream] = "plain";
      return prefix === undefined
        ? { line, time, stream, level, rank, text }
        : { line, time, stream, level, rank, prefix, text };
    }
    const recognised = recogniseLevel(text, states[stream]);
    states[stream] = recognised.state;
    const spoken = { line, time, stream, level: recognised.level, rank, text };
    return prefix === undefined ? spoken : { ...spoken, prefix };
  });
  const { encoding, payload } = packLines(lines);
  await collector.journal.append(
    {
      kind: "log.appended",
      version: 1,
      run,
      client,
      clientSeq: seq,
      ordinal: first,
      nextStep: null,
      count: lines.length,
      time: now,
      encoding,
      payload,
    },
    lines,
  );
  announceOpen(collector, run, input);
  return { acked: seq };
}

function announceOpen(
  { bus, logs, journal }: Collector,
  run: string,
  { client, rank = 0, open }: AppendLogs,
): void {
  if (!open) return;
  const data = logs.open.set(run, client, rank, open);
  if (data) bus.publish({ seq: journal.bounds().last, kind: "log.open", run, data });
}
