/** What a start has to replay at most: points in entries from the oldest that is needed, such entries, and their bytes, logs among them. */
const MAX_POINTS = 4_000_000;
const MAX_ENTRIES = 60_000;
const MAX_BYTES = 64 * 1024 * 1024;

/** Knows how far the journal had come at some times, and so what is to be replayed from a given entry. */
export interface ReplayBound {
  /** So many points more were applied. */
  applied(points: number): void;
  /** The seq up to which entries must no longer be needed, where a start would have to replay too much; half of it is then left. */
  excess(position: { seq: number; bytes: number }, low: number): number | undefined;
}

export function createReplayBound({
  points: maxPoints = MAX_POINTS,
  entries: maxEntries = MAX_ENTRIES,
  bytes: maxBytes = MAX_BYTES,
}: {
  points?: number | undefined;
  entries?: number | undefined;
  bytes?: number | undefined;
}): ReplayBound {
  const marks = [{ seq: 0, points: 0, bytes: 0 }];
  let applied = 0;

  return {
    applied(points) {
      applied += points;
    },
    excess({ seq: last, bytes }, low) {
      if (last > marks.at(-1)!.seq) marks.push({ seq: last, points: applied, bytes });
      while (marks.length > 1 && marks[1]!.seq < low) marks.shift();
      const isWithin = (mark: (typeof marks)[number], share: number) =>
        applied - mark.points <= share * maxPoints &&
        last - Math.max(mark.seq, low) <= share * maxEntries &&
        bytes - mark.bytes <= share * maxBytes;
      if (isWithin(marks[0]!, 1)) return undefined;
      return marks.find((mark) => isWithin(mark, 0.5))?.seq ?? last;
    },
  };
}
