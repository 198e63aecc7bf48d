import { CollectorError, type ErrorCode } from "../../error.ts";

export interface RetryOptions {
  /** Given up when nothing has come through for so long (ms). */
  patienceMs: number;
  signal?: AbortSignal | undefined;
  /** A full disk is not given up: somebody looks on, and may make room. */
  waitsForRoom?: boolean | undefined;
  /** A script that has ended must not stay for a collector that is gone. */
  isBackground?: boolean | undefined;
  /** Told before each wait; undefined once something comes through again. */
  onWaiting?: ((error: CollectorError | undefined) => void) | undefined;
}

/** Another try may get another answer. */
const TRANSIENT = new Set<ErrorCode>(["unreachable", "busy", "disk-full"]);
const FIRST_WAIT_MS = 200;
const LAST_WAIT_MS = 5_000;

export type Retry = <T>(attempt: () => Promise<T>) => Promise<T>;

/** Tries again what may go better the next time, for all requests of one transfer: while some come through, none is given up. */
export function createRetry({
  patienceMs,
  signal,
  waitsForRoom = false,
  isBackground,
  onWaiting,
}: RetryOptions): Retry {
  let failingSince: number | undefined;

  return async (attempt) => {
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LAST_WAIT_MS)) {
      signal?.throwIfAborted();
      try {
        const answer = await attempt();
        if (failingSince !== undefined) onWaiting?.(undefined);
        failingSince = undefined;
        return answer;
      } catch (error) {
        signal?.throwIfAborted();
        if (!isTransient(error)) throw error;
        const now = performance.now();
        if (waitsForRoom && error.code === "disk-full") failingSince = now;
        else if (now - (failingSince ??= now) >= patienceMs) throw error;
        onWaiting?.(error);
        await sleep(delayOf(error, waitMs), signal, isBackground);
      }
    }
  };
}

const isTransient = (error: unknown): error is CollectorError =>
  error instanceof CollectorError && TRANSIENT.has(error.code);

/** Not all at once, when a collector is back: and no earlier than it asks for. */
export function delayOf(error: CollectorError, waitMs: number): number {
  const asked = error.details?.["retryAfter"];
  const jittered = waitMs * (0.5 + Math.random());
  return Math.max(jittered, typeof asked === "number" ? Math.min(asked * 1000, 60_000) : 0);
}

export function sleep(ms: number, signal?: AbortSignal, isBackground = false): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (isBackground) timer.unref();
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
