import { Interrupted } from "./error.ts";

const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** Work that Ctrl-C ends in good order, with `message`: what is done so far and what to do next. A second one ends it at once. */
export async function interruptible<T>(
  message: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const handlers = Object.entries(exitCodes).map(([signal, exitCode]) => {
    const end = () => {
      remove();
      stop.abort(new Interrupted(message, exitCode));
    };
    return [signal, end] as const;
  });
  const remove = () => {
    for (const [signal, end] of handlers) process.off(signal, end);
  };
  for (const [signal, end] of handlers) process.on(signal, end);
  try {
    return await work(stop.signal);
  } catch (error) {
    // What was under way says that it was cut off, each in its own words.
    throw stop.signal.aborted ? stop.signal.reason : error;
  } finally {
    remove();
  }
}
