import type { Collector } from "../collector.ts";
import { answerRepetition } from "../run/repetition.ts";
import { claimBatch, writerOf, type RunCounter } from "../store/counters.ts";
import { BATCH_VERSION, encodeBatch } from "./batch.ts";
import { parseRecords, type ParsedRecords } from "./parse.ts";
import { MAX_STEP, type Appended } from "./schema.ts";

/**
 * Takes a batch of records (the parsed JSON of AppendRecords) into the journal. Everything from the claim of the
 * batch's number to the call of the journal happens in one tick, so the journal's order is the order of the numbers.
 */
export async function appendRecords(collector: Collector, run: string, body: unknown): Promise<Appended> {
  const parsed = parseRecords(body);
  const full = collector.series.room();
  if (full) await full;
  const counter = collector.counters.own(run);
  const { client, seq } = parsed;
  if (seq <= writerOf(counter, client).seq)
    return answerRepetition(collector, run, parsed, () => appendRecords(collector, run, body));
  collector.series.admit(run, parsed.batch);
  claimBatch(counter, client, seq);
  return append(collector, counter, parsed);
}

async function append(collector: Collector, counter: RunCounter, parsed: ParsedRecords): Promise<Appended> {
  const { client, seq, batch } = parsed;
  const { run } = counter;
  const writer = writerOf(counter, client);
  const time = collector.now();
  batch.ordinal = counter.nextOrdinal;
  counter.nextOrdinal += batch.count;
  writer.nextStep = countSteps(batch.step, writer.nextStep);
  for (let i = 0; i < batch.count; i++) if (Number.isNaN(batch.time[i])) batch.time[i] = time;
  const { encoding, payload } = encodeBatch(batch);
  await collector.journal.append(
    {
      kind: "metric.appended",
      version: BATCH_VERSION,
      run,
      client,
      clientSeq: seq,
      ordinal: batch.ordinal,
      nextStep: writer.nextStep,
      count: batch.count,
      time,
      encoding,
      payload,
    },
    batch,
  );
  return { acked: seq };
}

/**
 * Gives steps to the records that bring none (NaN); returns the writer's next. An explicit step moves the counter past it, but
 * never beyond what a record may bring: a start would not take such a batch out of the journal.
 */
export function countSteps(step: Float64Array, next: number): number {
  for (let i = 0; i < step.length; i++) {
    if (Number.isNaN(step[i])) step[i] = next;
    next = Math.max(next, Math.min(Math.floor(step[i]!) + 1, MAX_STEP));
  }
  return next;
}
