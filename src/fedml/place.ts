import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { createRun } from "../run/create.ts";
import { RunId } from "../run/schema.ts";
import type { FedmlScope } from "./keys.ts";

export const PROJECT = "fedml";
/** Where data without a run goes: plain scripts say run "0", or nothing. */
export const NO_RUN = "fedml-0";

/**
 * The run that something belongs to, which exists afterwards. What comes by a run's own keys is that run's, whatever run it
 * names: simulations have numbers of their own, and plain scripts say "0".
 */
export async function placeRun(collector: Collector, scope: FedmlScope, id: unknown): Promise<string> {
  const run = runOf(scope, id);
  if (collector.counters.find(run) === undefined)
    await createRun(collector, {
      id: run,
      name: nameOf(run),
      project: PROJECT,
    });
  // Deleted, or a source's: the error that every writer sees.
  collector.counters.own(run);
  return run;
}

/** What a run is called that nobody gave a name. */
export const nameOf = (run: string): string => (run === NO_RUN ? "FedML, no run id" : `FedML ${run}`);

/** Its id, whether it exists or not. */
export function runOf(scope: FedmlScope, id: unknown): string {
  if (scope.run !== undefined) return scope.run;
  if (id === undefined || id === null) return NO_RUN;
  const text = typeof id === "string" ? id.trim() : Number.isSafeInteger(id) ? String(id) : undefined;
  if (text === "" || text === "0" || text === "None" || text === "null") return NO_RUN;
  const parsed = RunId.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new CollectorError("invalid", "That is no run's id.", {
    hint: "Use letters, digits, '.', '_' and '-', as FEDML_CURRENT_RUN_ID has it.",
  });
}
