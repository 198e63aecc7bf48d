import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { writerOf } from "../store/counters.ts";

/**
 * A batch whose number was taken before is answered like the first time, once that one is durable. Where the first could not be stored
 * (the disk was full) this is the first: it is taken `again`.
 */
export async function answerRepetition<T>(
  { journal, counters }: Collector,
  run: string,
  { client, seq }: { client: string; seq: number },
  again: () => Promise<T>,
): Promise<T | { acked: number }> {
  await journal.settled();
  const stored = writerOf(counters.get(run), client).seq;
  if (seq <= stored) return { acked: seq };
  // No gap: who hears of one may take the missing batches for lost and pass over them.
  if (seq > stored + 1)
    throw new CollectorError("busy", "An earlier batch of this client could not be stored.", {
      hint: "Send its batches again, in order.",
    });
  return again();
}
