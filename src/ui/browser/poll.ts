/** Asks again and again while the page is seen; the dot in the corner says how that fares. */
import { showState } from "./live.ts";

export function poll(every: () => number, ask: () => Promise<void>): () => Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asking: Promise<void> | undefined;

  async function round(): Promise<void> {
    clearTimeout(timer);
    try {
      await ask();
      showState("live");
    } catch {
      showState("lost");
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(now, every());
  }

  /** One at a time: who asks meanwhile is answered by the round after. */
  function now(): Promise<void> {
    const before = asking;
    const mine = (before ? before.then(round) : round()).finally(() => {
      if (asking === mine) asking = undefined;
    });
    return (asking = mine);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void now();
    else {
      clearTimeout(timer);
      showState("paused");
    }
  });
  timer = setTimeout(now, 0);
  return now;
}
