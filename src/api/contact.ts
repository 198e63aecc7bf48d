import type { Collector } from "../collector.ts";
import { reopenRun } from "../run/reopen.ts";

/** A batch is a sign of life; one from a writer taken for dead reopens its run. */
export async function noteContact(collector: Collector, run: string, client: string): Promise<void> {
  if (collector.presence.contact(run, client)) await reopenRun(collector, run, client);
}
