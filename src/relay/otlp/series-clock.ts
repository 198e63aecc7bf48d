import type { Time } from "./protobuf.ts";

/** Times of points: strictly increasing within a series, as two points of one time are one to a backend. */
export interface SeriesClock {
  /** `order` tells records of the same ms apart, by their place in the run: after a restart as before it. */
  at(series: string, ms: number, order: number): Time;
}

/** Series remembered: of one that is forgotten the times are as they were recorded. */
const MAX_SERIES = 100_000;
/** A clock that was set back by more is told as it is: else the series would stand still until it is there again. */
const MAX_BACK_MS = 10 * 60_000;
const NS = 1_000_000;

export function createSeriesClock(maxSeries = MAX_SERIES): SeriesClock {
  /** The longest unused first. */
  const lastBySeries = new Map<string, Time>();

  return {
    at(series, given, order) {
      const time = toTime(given, order);
      const last = lastBySeries.get(series);
      if (last && !isAfter(time, last) && last.ms - time.ms <= MAX_BACK_MS) {
        time.ms = last.ns + 1 < NS ? last.ms : last.ms + 1;
        time.ns = (last.ns + 1) % NS;
      }
      lastBySeries.delete(series);
      lastBySeries.set(series, time);
      if (lastBySeries.size > maxSeries) lastBySeries.delete(lastBySeries.keys().next().value!);
      return time;
    },
  };
}

/** What an int64 of ns holds: the year 2262. */
const MAX_MS = 9_223_372_036_853;

/** A time that is told in whole ms says nothing of what is below: there stands the order. */
export function toTime(given: number, order = 0): Time {
  const bounded = Math.min(Math.max(given, 0), MAX_MS);
  const ms = Math.floor(bounded);
  return { ms, ns: ms === bounded ? order % NS : Math.floor((bounded - ms) * NS) };
}

const isAfter = (a: Time, b: Time): boolean => a.ms > b.ms || (a.ms === b.ms && a.ns > b.ns);
