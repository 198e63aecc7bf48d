import type { Blobs } from "./blobs.ts";

const EVERY_MS = 24 * 3600 * 1000;
/** After a start: clients that were cut off first say what they still want. */
const FIRST_MS = 10 * 60 * 1000;

/** Deletes what nothing refers to, each day; returns the function that ends it. */
export function watchBlobs(
  blobs: Blobs,
  onError: (error: unknown) => void,
  { firstMs = FIRST_MS, everyMs = EVERY_MS } = {},
): () => void {
  let timer = setTimeout(look, firstMs);
  timer.unref();
  let ended = false;

  async function look(): Promise<void> {
    try {
      await blobs.collect();
    } catch (error) {
      onError(error);
    }
    if (ended) return;
    timer = setTimeout(look, everyMs);
    timer.unref();
  }

  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
