import type { Collector } from "../collector.ts";
import { changeRun, inTurn, type RunRow } from "./change.ts";
import { getRow } from "./find.ts";
import type { Config, SetRun } from "./schema.ts";

/** Changes what people say about a run; what is absent stays. */
export function setRun(collector: Collector, id: string, input: SetRun): Promise<RunRow> {
  return inTurn(collector, id, async () => {
    const row = await getRow(collector, id);
    const change: Partial<RunRow> = {};
    if (input.name !== undefined) change.name = input.name;
    if (input.project !== undefined) change.project = input.project;
    if (input.tags !== undefined) change.tags = [...new Set(input.tags)];
    if (input.notes !== undefined) change.notes = input.notes;
    if (input.config !== undefined) change.config = mergeConfig(row.config, input.config);
    return Object.keys(change).length === 0 ? row : changeRun(collector, row, change);
  });
}

/** Key by key; null removes a key. */
export function mergeConfig(config: Config, change: Config): Config {
  const merged = new Map(Object.entries(config));
  for (const [key, value] of Object.entries(change)) {
    if (value === null) merged.delete(key);
    else merged.set(key, value);
  }
  return Object.fromEntries(merged);
}
