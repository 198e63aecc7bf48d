import type { EntryKind } from "../entry.ts";

/** What happened, announced after it is durable. `data` is the decoded batch; listeners must not change it. */
export interface Announcement {
  seq: number;
  /** "log.open" is the one kind that is announced and never stored: a line still being rewritten. */
  kind: EntryKind | "log.open";
  run: string;
  data: unknown;
}

export type Listener = (announcement: Announcement) => void;

export interface Bus {
  publish(announcement: Announcement): void;
  /** Returns the function that ends the subscription. */
  subscribe(listener: Listener): () => void;
}

/** A throwing listener is reported and skipped: the commit it hears of has already happened. */
export function createBus(onError: (error: unknown) => void): Bus {
  const listeners = new Set<Listener>();
  return {
    publish(announcement) {
      for (const listener of listeners) {
        try {
          listener(announcement);
        } catch (error) {
          onError(error);
        }
      }
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
