/**
 * Records what a training does.
 *
 *     import * as binnacle from "binnacle";
 *
 *     binnacle.init({ project: "digits", config: { lr: 0.01 } });
 *     for (const loss of train()) binnacle.log({ "train/loss": loss });
 *     await binnacle.finish();
 *
 * `log` never waits for the network: what was logged is sent in the background, and kept on disk while no collector answers.
 */
import { installExitHooks } from "./exit-hooks.ts";
import {
  createRun,
  type FinishOptions,
  type InitOptions,
  type LineOptions,
  type LogOptions,
  type Run,
} from "./run.ts";
import type { LoggedArtifact } from "../../artifact/schema.ts";
import type { ArtifactOptions, ModelOptions, UseOptions } from "./run-files.ts";
import type { Delivery } from "./delivery.ts";
import type { Metrics } from "./values.ts";

let current: Run | undefined;
const runs = new Set<Run>();

/** Begins a run and makes it the current one. A run that was begun before is finished, unless it is the same one. */
export function init(options: InitOptions = {}): Run {
  const given = options.runId ?? process.env["BINNACLE_RUN_ID"];
  if (current && !current.isFinished && current.id === given) {
    Object.assign(current.config, options.config);
    return current;
  }
  const run = createRun(options);
  runs.add(run);
  if (current && !current.isFinished) void current.finish();
  current = run;
  installExitHooks(runs);
  return run;
}

/**
 * Records metrics at one step: by default the run's counter, which moves on by one. Steps may repeat and go backwards.
 * With `commit: false` they go with the next call that commits, in one record. Without init() it begins a run by itself.
 */
export function log(metrics: Metrics, options?: LogOptions): void {
  live().log(metrics, options);
}

/** As log(). */
export const logMetric = log;

/** Records lines of output, where `binnacle launch` does not capture them. */
export function logLine(text: string, options?: LineOptions): void {
  live().logLine(text, options);
}

/**
 * Logs a file, or a folder with all that lies in it, as the next version of a model; the same files as its newest version are
 * that version. Sent in the background; resolves when it is with the collector.
 */
export function logModel(name: string, path: string, options?: ModelOptions): Promise<LoggedArtifact> {
  return live().logModel(name, path, options);
}

/** Logs files and folders as the next version of an artifact, as logModel does. */
export function logArtifact(
  name: string,
  paths: string | string[],
  options?: ArtifactOptions,
): Promise<LoggedArtifact> {
  return live().logArtifact(name, paths, options);
}

/** Fetches a version of an artifact (or of a model), notes that the run uses it, and resolves with the folder. */
export function useArtifact(name: string, options?: UseOptions): Promise<string> {
  return live().useArtifact(name, options);
}

/** Ends the current run; at the end of a script this happens by itself. */
export async function finish(options?: FinishOptions): Promise<Delivery | undefined> {
  return current?.finish(options);
}

/** The current run's configuration; assigning to a key records that too. */
export const config: Record<string, unknown> = new Proxy({} as Record<string, unknown>, {
  get: (_, key) => Reflect.get(live().config, key),
  set: (_, key, value) => Reflect.set(live().config, key, value),
  has: (_, key) => Reflect.has(live().config, key),
  deleteProperty: (_, key) => Reflect.deleteProperty(live().config, key),
  ownKeys: () => Reflect.ownKeys(live().config),
  getOwnPropertyDescriptor: (_, key) => Reflect.getOwnPropertyDescriptor(live().config, key),
});

const live = () => current ?? init();

export type {
  ArtifactOptions,
  Delivery,
  FinishOptions,
  InitOptions,
  LineOptions,
  LoggedArtifact,
  LogOptions,
  Metrics,
  ModelOptions,
  Run,
  UseOptions,
};
