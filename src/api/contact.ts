import type { Collector } from "../collector.ts";
import { reopenRun } from "../run/reopen.ts";

/** A batch is a sign of life; one from a writer taken for dead reopens its run. */
export function noteContact(collector: Collector, run: string, client: string): Promise<void> | undefined {
  return collector.presence.contact(run, client) ? reopenRun(collector, run, client) : undefined;
}
