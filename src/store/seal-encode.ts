import { decodePoints, encodeChunk, type EncodedChunk } from "./chunk.ts";
import { concatColumns, type PointColumns } from "./head.ts";

/** Points that become a chunk. */
export interface EncodeJob {
  /** Chunks of one group (a run's rank) hold the same records, where they are full. */
  group: string;
  full: boolean;
  /** What of this chunk is on disk already; `points` follow it. */
  tail: { axis: Uint8Array; values: Uint8Array } | null;
  points: PointColumns;
}

export interface EncodedJob {
  chunk: EncodedChunk;
  /** Index of the job whose chunk holds the axis of this one; null where it holds its own. */
  sharesWith: number | null;
}

/** Chunks of some jobs; those of the same records share one axis. */
export function encodeJobs(jobs: EncodeJob[]): EncodedJob[] {
  const holders: { job: number; group: string; points: PointColumns }[] = [];
  return jobs.map(({ group, full, tail, points }, job) => {
    const all = tail ? concatColumns([decodePoints(tail.axis, tail.values), points]) : points;
    // A chunk that is still to be rewritten can't hold the axis of another, nor lean on one.
    if (!full) return { chunk: encodeChunk(all), sharesWith: null };
    const holder = holders.find((holder) => holder.group === group && sameRecords(holder.points, all));
    if (!holder) holders.push({ job, group, points: all });
    return { chunk: encodeChunk(all, holder !== undefined), sharesWith: holder?.job ?? null };
  });
}

function sameRecords({ ordinal: a }: PointColumns, { ordinal: b }: PointColumns): boolean {
  if (a.length !== b.length || a[0] !== b[0] || a.at(-1) !== b.at(-1)) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
