import type { Collector } from "../collector.ts";
import type { Write } from "../store/journal-rows.ts";
import { findEdited, writeOfEdited } from "../store/source-edit.ts";
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
    if (Object.keys(change).length === 0) return row;
    return changeRun(collector, row, change, [], editOf(collector, row, change));
  });
}

/** Of a run that is relayed here: its source does not undo it by saying once more what it said before. */
function editOf({ connection }: Collector, row: RunRow, change: Partial<RunRow>): Write[] {
  if (row.source === null) return [];
  const said = Object.fromEntries(Object.keys(change).map((name) => [name, row[name as keyof RunRow]]));
  return [writeOfEdited(row.id, { ...said, ...findEdited(connection, row.id) })];
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
