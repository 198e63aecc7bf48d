/** What went out over the last seconds. */
export interface Meter {
  add(entries: number, bytes: number): void;
  /** A second; undefined where nothing went out lately. */
  rate(): { entries: number; bytes: number } | undefined;
}

const WINDOW_MS = 10_000;
const BUCKET_MS = 1000;

/** `now`: monotonic, ms. */
export function createMeter(now: () => number): Meter {
  /** Oldest first; never more than the window has buckets. */
  let buckets: { start: number; entries: number; bytes: number }[] = [];
  const forget = () => void (buckets = buckets.filter(({ start }) => now() - start < WINDOW_MS));

  return {
    add(entries, bytes) {
      const last = buckets.at(-1);
      if (last && now() - last.start < BUCKET_MS) {
        last.entries += entries;
        last.bytes += bytes;
        return;
      }
      forget();
      buckets.push({ start: now(), entries, bytes });
    },
    rate() {
      forget();
      const [first] = buckets;
      if (!first) return undefined;
      const seconds = Math.max(now() - first.start, BUCKET_MS) / 1000;
      const sum = (what: "entries" | "bytes") =>
        buckets.reduce((total, bucket) => total + bucket[what], 0) / seconds;
      return { entries: sum("entries"), bytes: sum("bytes") };
    },
  };
}
