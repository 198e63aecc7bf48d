import { CollectorError } from "../error.ts";

const MAX_WAIT_MS = 10_000;

/** Where writers wait while more points are in memory than should be. */
export interface WaitingRoom {
  /** Resolves when no more than so many are; rejects after a while. */
  wait(most: number): Promise<void>;
  /** Fewer are in memory now: who may go on, does. */
  admit(): void;
  /** Waiting is in vain. */
  admitAll(): void;
}

export function createWaitingRoom(pending: () => number): WaitingRoom {
  /** With the points in memory at which each goes on. */
  const waiting = new Map<() => void, number>();

  function admit(atLeast: number): void {
    for (const [goOn, most] of waiting) {
      if (pending() > Math.max(most, atLeast)) continue;
      waiting.delete(goOn);
      goOn();
    }
  }

  return {
    wait: (most) =>
      new Promise((resolve, reject) => {
        const goOn = () => {
          clearTimeout(timer);
          resolve();
        };
        const timer = setTimeout(() => {
          waiting.delete(goOn);
          reject(
            new CollectorError("busy", "More points wait to be compressed than fit into memory.", {
              hint: "Send the batch again in a while; if it goes on, look whether the disk is full.",
            }),
          );
        }, MAX_WAIT_MS);
        timer.unref();
        waiting.set(goOn, most);
      }),
    admit: () => admit(0),
    admitAll: () => admit(Infinity),
  };
}
