/** How long work without a pause may hold the event loop. */
const SLICE_MS = 8;

/** For loops of promises that never wait for anything outside: lets others have their turn once a slice is over. */
export function createTurns(): () => Promise<void> | undefined {
  let until = performance.now() + SLICE_MS;
  return () => {
    if (performance.now() < until) return undefined;
    return new Promise((resolve) =>
      setImmediate(() => {
        until = performance.now() + SLICE_MS;
        resolve();
      }),
    );
  };
}
