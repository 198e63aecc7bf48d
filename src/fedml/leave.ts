import type { Collector } from "../collector.ts";
import { findRow } from "../run/find.ts";
import { presumeFailed, presumeFinished } from "../run/finish.ts";
import { isLive } from "../run/schema.ts";
import { listLiveWriters } from "../run/writers.ts";
import { EDGE_CLIENT } from "./edge-writer.ts";

/** A client that lost its connection comes back within seconds. */
const BACK_WITHIN = 30_000;

export interface LeaveOptions {
  onError: (error: unknown) => void;
  backWithin?: number | undefined;
}

/**
 * A plain script never says that it is done: all that shows it is that its connections end. Its run counts as finished then, until more
 * of it comes; one whose edges said that they train, and left without a word, as failed. Where others write to a run, it goes on.
 */
export interface Leaves {
  /** Nobody is connected for the run any more. */
  left(run: string): void;
  /** Somebody is. */
  joined(run: string): void;
  close(): void;
}

export function createLeaves(
  collector: Collector,
  { onError, backWithin = BACK_WITHIN }: LeaveOptions,
): Leaves {
  const timers = new Map<string, ReturnType<typeof setTimeout>>();

  async function end(run: string, at: number): Promise<void> {
    const row = await findRow(collector, run);
    if (!row || row.deleted || row.source !== null || !isLive(row.status)) return;
    const writers = await listLiveWriters(collector, run);
    if (writers.some(({ client }) => !client.startsWith(EDGE_CLIENT))) return;
    for (const { client } of writers)
      await presumeFailed(collector, {
        run,
        client,
        reason: "Its connection ended, and it had not said how it ended.",
        at,
      });
    if (writers.length > 0) return;
    const reason = "Its client closed the connection; FedML's do not say how a script ended.";
    await presumeFinished(collector, { run, reason, at });
  }

  function forget(run: string): void {
    clearTimeout(timers.get(run));
    timers.delete(run);
  }

  return {
    joined: forget,
    left(run) {
      forget(run);
      const at = collector.now();
      const timer = setTimeout(() => {
        timers.delete(run);
        void end(run, at).catch(onError);
      }, backWithin);
      timer.unref();
      timers.set(run, timer);
    },
    close() {
      for (const run of timers.keys()) clearTimeout(timers.get(run));
      timers.clear();
    },
  };
}
