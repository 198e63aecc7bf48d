import type { Collector } from "../collector.ts";
import { prepared } from "../store/prepared.ts";

/** When this round of a run ended, last before a time; undefined where nobody has heard of it. */
export function findRound(
  { connection }: Collector,
  run: string,
  round: number,
  before: number,
): number | undefined {
  const [row] = prepared(
    connection,
    `SELECT ended FROM span WHERE run = ? AND edge = '' AND kind = 'round' AND name = 'round' AND round = ? AND ended <= ?
     ORDER BY ended DESC LIMIT 1`,
  ).all(run, round, before) as { ended: number }[];
  return row?.ended;
}
