import type { AppendLogs, LogPage, LogStream } from "./schema.ts";

/** State of the lines that a writer is still rewriting; live only, so in memory only. */
export interface OpenLines {
  rank: number;
  stdout: string | null;
  stderr: string | null;
}

export interface OpenLineStore {
  /** Takes over what a batch says; returns the new state where that changed anything. */
  set(
    run: string,
    client: string,
    rank: number,
    open: NonNullable<AppendLogs["open"]>,
  ): OpenLines | undefined;
  get(run: string): LogPage["open"];
  delete(run: string): void;
}

/** Writers that vanish leave their last state behind: only so many runs' are kept. */
const MAX_RUNS = 1000;
const MAX_WRITERS = 64;

export function createOpenLineStore(): OpenLineStore {
  const byRun = new Map<string, Map<string, OpenLines>>();

  function newest(run: string, stream: LogStream): string | null {
    let text: string | null = null;
    for (const lines of byRun.get(run)?.values() ?? []) text = lines[stream] ?? text;
    return text;
  }

  return {
    set(run, client, rank, open) {
      const writers = byRun.get(run) ?? new Map<string, OpenLines>();
      const before = writers.get(client);
      const after = {
        rank,
        stdout: open.stdout === undefined ? (before?.stdout ?? null) : open.stdout,
        stderr: open.stderr === undefined ? (before?.stderr ?? null) : open.stderr,
      };
      if (before?.stdout === after.stdout && before?.stderr === after.stderr) return undefined;
      writers.delete(client);
      byRun.delete(run);
      if (after.stdout !== null || after.stderr !== null) writers.set(client, after);
      else if (before === undefined) return undefined;
      trim(writers, MAX_WRITERS);
      if (writers.size > 0) byRun.set(run, writers);
      trim(byRun, MAX_RUNS);
      return after;
    },
    get: (run) => ({ stdout: newest(run, "stdout"), stderr: newest(run, "stderr") }),
    delete: (run) => void byRun.delete(run),
  };
}

/** Lets the oldest go. */
export function trim(map: Map<string, unknown>, size: number): void {
  for (const key of map.keys()) {
    if (map.size <= size) return;
    map.delete(key);
  }
}
