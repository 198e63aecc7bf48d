import type { Collector } from "../collector.ts";
import { queryLogs } from "../log/query.ts";

/** After so many lines of a device it is noted where the next one stands. */
const STRIDE = 1000;
const MAX_LINES = 10_000;
/** Devices of which it is remembered. */
const MAX_REMEMBERED = 1000;

/** Where the lines of one device stand among those of its run. Lines stay where they are: what was counted once is known. */
export interface LogRanks {
  find(run: string, rank: number): Promise<RankLines>;
}

export interface RankLines {
  total: number;
  /** The number of the last line that was looked at, of whatever device. */
  end: number;
  /** marks[n]: the number before that of the device's line n * STRIDE. */
  marks: readonly number[];
}

export function createLogRanks(collector: Collector): LogRanks {
  const knownByRank = new Map<string, RankLines>();
  return {
    async find(run, rank) {
      const key = `${run}\n${rank}`;
      const end = collector.logs.total(run);
      const known = knownByRank.get(key);
      // A run that was deleted and imported again may have less.
      const from = known && known.end <= end ? known : { total: 0, end: 0, marks: [] };
      const marks = [...from.marks];
      let { total } = from;
      for (let after: number | null = from.end; after !== null && after < end;) {
        const found = await queryLogs(collector, run, { after, before: end + 1, rank, limit: MAX_LINES });
        for (const { line } of found.lines) if (total++ % STRIDE === 0) marks.push(line - 1);
        after = found.next;
      }
      const lines = { total, end, marks };
      if (knownByRank.size >= MAX_REMEMBERED) knownByRank.clear();
      knownByRank.set(key, lines);
      return lines;
    },
  };
}

/** A line's number after which the device's line `index`, from 0, comes when `skip` others of its have. */
export function placeOf({ marks, end }: RankLines, index: number): { after: number; skip: number } {
  const mark = marks[Math.floor(index / STRIDE)];
  return mark === undefined ? { after: end, skip: 0 } : { after: mark, skip: index % STRIDE };
}
