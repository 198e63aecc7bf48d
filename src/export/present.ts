/** What each subject reads now, put together from samples that do not all hold every reading. */
import type { Latest } from "../sample/latest.ts";

/** A reader that slows down has ten seconds from sample to sample; what is older than two of them is no longer so. */
const SUBJECT_MS = 25_000;
/** Some readings are taken every half minute only. */
const READING_MS = 75_000;

export type PresentValues = ReadonlyMap<string, number>;

export interface Present {
  /** Readings of a subject that are not too old to be true; empty where it is no longer heard of. */
  of(subject: string): PresentValues;
  subjects(): string[];
  close(): void;
}

interface Known {
  time: number;
  byReading: Map<string, { time: number; value: number }>;
}

export function createPresent(latest: Latest, device: string, now: () => number): Present {
  const bySubject = new Map<string, Known>();
  /** Runs come and go. */
  function forgetSilent(time: number): void {
    for (const [subject, known] of bySubject) if (time - known.time > SUBJECT_MS) bySubject.delete(subject);
  }
  const unsubscribe = latest.subscribe((live) => {
    if (live.device !== device) return;
    for (const { subject, time, values } of live.samples) {
      let known = bySubject.get(subject);
      if (!known) {
        forgetSilent(time);
        bySubject.set(subject, (known = { time, byReading: new Map() }));
      }
      known.time = time;
      const { byReading } = known;
      for (const reading in values) {
        const value = values[reading]!;
        const before = byReading.get(reading);
        if (!before) byReading.set(reading, { time, value });
        else {
          before.time = time;
          before.value = value;
        }
      }
    }
  });
  return {
    of(subject) {
      const known = bySubject.get(subject);
      if (!known || now() - known.time > SUBJECT_MS) return new Map();
      const values = new Map<string, number>();
      for (const [reading, { time, value }] of known.byReading)
        if (now() - time <= READING_MS) values.set(reading, value);
      return values;
    },
    subjects: () => [...bySubject.keys()],
    close: unsubscribe,
  };
}
