import { createLogStore, type LogStore, type LogStoreOptions } from "../store/log-store.ts";
import { isLive, type Run } from "../run/schema.ts";
import type { Bus } from "../store/bus.ts";
import type { Connection } from "../store/open.ts";
import type { LevelState } from "./level.ts";
import { createOpenLineStore, trim, type OpenLineStore } from "./open.ts";
import type { LogStream } from "./schema.ts";

export type LevelStates = Record<LogStream, LevelState>;

/** The logs of all runs: what is stored, and what is only so in this moment. */
export interface Logs extends LogStore {
  readonly open: OpenLineStore;
  /** What the last line of each of a writer's streams means for the next; callers change it. */
  levelStates(run: string, client: string): LevelStates;
}

const MAX_WRITERS = 10_000;

export function createLogs(connection: Connection, bus: Bus, options: LogStoreOptions): Logs {
  const store = createLogStore(connection, options);
  const open = createOpenLineStore();
  // A writer that was killed leaves its progress bar standing.
  bus.subscribe(({ kind, run, data }) => {
    if (kind === "run.changed" && !isLive((data as Run).status)) open.delete(run);
  });
  const statesByWriter = new Map<string, LevelStates>();
  return {
    ...store,
    open,
    levelStates(run, client) {
      const key = `${run}\n${client}`;
      const states = statesByWriter.get(key) ?? { stdout: "plain", stderr: "plain" };
      statesByWriter.delete(key);
      statesByWriter.set(key, states);
      trim(statesByWriter, MAX_WRITERS);
      return states;
    },
    purge(run) {
      open.delete(run);
      return store.purge(run);
    },
  };
}
