/** Brings a page up to date when something was heard: at once, then at most this often. */
const EVERY_MS = 1000;

export function createRefresh(load: () => Promise<void>): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let loadedAt = -Infinity;
  let isLoading = false;
  /** What was asked for may have been read before what was heard happened. */
  let isAsked = false;

  function refresh(): void {
    if (isLoading) isAsked = true;
    else timer ??= setTimeout(() => void run(), Math.max(50, loadedAt + EVERY_MS - performance.now()));
  }

  async function run(): Promise<void> {
    timer = undefined;
    isLoading = true;
    isAsked = false;
    loadedAt = performance.now();
    await load().catch(() => {});
    isLoading = false;
    if (isAsked) refresh();
  }

  return refresh;
}
