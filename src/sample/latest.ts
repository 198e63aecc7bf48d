import type { ReadingKey } from "./reading.ts";
import type { Sample } from "./schema.ts";

/** The newest sample of a subject. Older than a few seconds it is history, not the present: its time tells. */
export interface LatestSample {
  time: number;
  values: Readonly<Record<ReadingKey, number>>;
}

/** One tick of one device, as it was read: for who watches live. Not yet durable. */
export interface LiveSamples {
  device: string;
  samples: Sample[];
}

/** The present state of every device, in memory alone. What is shown live is not worth a commit a second. */
export interface Latest {
  put(device: string, samples: Sample[]): void;
  /** By subject; empty for a device that has not been heard of since the start. */
  of(device: string): ReadonlyMap<string, LatestSample>;
  /** A subject that is no more: a run that ended, a GPU that was taken out. */
  forget(device: string, subject: string): void;
  /** Returns what ends the subscription. */
  subscribe(listener: (live: LiveSamples) => void): () => void;
}

export function createLatest(onError: (error: unknown) => void): Latest {
  const byDevice = new Map<string, Map<string, LatestSample>>();
  const listeners = new Set<(live: LiveSamples) => void>();
  return {
    put(device, samples) {
      let subjects = byDevice.get(device);
      if (!subjects) byDevice.set(device, (subjects = new Map()));
      for (const { subject, time, values } of samples) subjects.set(subject, { time, values });
      for (const listener of listeners) {
        try {
          listener({ device, samples });
        } catch (error) {
          onError(error);
        }
      }
    },
    of: (device) => byDevice.get(device) ?? new Map(),
    forget: (device, subject) => void byDevice.get(device)?.delete(subject),
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
