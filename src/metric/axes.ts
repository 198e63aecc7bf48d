import type { MetricBatch } from "./batch.ts";
import type { Series } from "./series.ts";

/** Notes of a run's series which of them serve as x axes, and over which each was last logged. Series by rank, by key. */
export function applyAxes(
  byKey: ReadonlyMap<string, ReadonlyMap<number, Series>>,
  { axes, numbers, texts, rank, count }: MetricBatch,
): void {
  const axisByRecord = new Map<number, string>();
  for (const { keys, index } of axes) {
    for (const key of keys) {
      const series = byKey.get(key)?.get(rank);
      if (series) series.stats.axis = true;
    }
    for (let i = 0; i < (index?.length ?? count); i++) axisByRecord.set(index ? index[i]! : i, keys[0]!);
  }
  for (const { key, index } of [...numbers, ...texts]) {
    const { stats } = byKey.get(key)!.get(rank)!;
    const x = axisByRecord.get(index ? index.at(-1)! : count - 1) ?? null;
    // The axis itself is drawn over what it was drawn over before.
    if (x !== key) stats.x = x;
  }
}
