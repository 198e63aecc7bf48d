/** Brings a page up to date when something was heard: at once, then at most this often. */
const EVERY_MS = 1000;

export function createRefresh(load: () => Promise<void>): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let loadedAt = -Infinity;
  return function refresh(): void {
    timer ??= setTimeout(
      async () => {
        loadedAt = performance.now();
        await load().catch(() => {});
        timer = undefined;
      },
      Math.max(50, loadedAt + EVERY_MS - performance.now()),
    );
  };
}
