/** Browsers allow 100 changes of the address in half a minute, and a slider makes that in one. */
const EVERY_MS = 350;

/** Writes the query of what is shown into the address: at once, as the next thing may be a reload, but only so often. */
export function createAddress(query: () => string): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let writtenAt = -Infinity;
  function write(): void {
    timer = undefined;
    writtenAt = performance.now();
    history.replaceState(null, "", location.pathname + query());
  }
  return function follow(): void {
    if (timer !== undefined) return;
    const wait = writtenAt + EVERY_MS - performance.now();
    if (wait <= 0) write();
    else timer = setTimeout(write, wait);
  };
}
