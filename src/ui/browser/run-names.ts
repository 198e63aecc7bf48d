import type { Run } from "../../run/schema.ts";
import { request } from "./http.ts";

/** Names of runs that a device tells by their id; each is asked for once. */
export function createRunNames(
  known: Record<string, string>,
  onNames: (names: Record<string, string>) => void,
) {
  let names = known;
  const asked = new Set(Object.keys(known));
  return async function need(ids: readonly string[]): Promise<void> {
    const missing = ids.filter((id) => !asked.has(id));
    for (const id of missing) asked.add(id);
    const found = await Promise.all(
      missing.map((id) => request<Run>(`/api/v1/runs/${id}`).catch(() => undefined)),
    );
    if (missing.length === 0) return;
    names = { ...names };
    for (const run of found) if (run) names[run.id] = run.name;
    onNames(names);
  };
}
