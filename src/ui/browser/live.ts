/** Events of the collector as they happen. A hidden tab listens to nothing and catches up when it is seen again. */
export type LiveHandlers = Record<string, (data: never) => void>;

export interface Live {
  close(): void;
}

type LiveState = "live" | "lost" | "paused" | "connecting";

const words: Record<LiveState, string> = {
  live: "Live",
  lost: "Reconnecting…",
  paused: "Paused",
  connecting: "Connecting",
};

/** The dot in the corner of every page. */
export function showState(state: LiveState): void {
  const dot = document.getElementById("live");
  if (!dot || dot.dataset["state"] === state) return;
  dot.dataset["state"] = state;
  dot.textContent = words[state];
}

/** A tab shows for a moment when a person walks through their tabs: it closes its stream only after this. */
const HIDE_AFTER_MS = 2000;
const RETRY_MS = [500, 1000, 2000, 5000, 10_000];

export interface LiveOptions {
  /** Another stream than that of runs. */
  path?: string;
  /** Another stream of the page shows how the connection fares. */
  quiet?: boolean;
}

/**
 * `handlers` by event name. `onGap` is called when events may have been missed that the collector can't repeat: reload.
 */
export function openLive(
  query: Record<string, string>,
  handlers: LiveHandlers,
  onGap: () => void,
  { path = "/api/v1/live", quiet = false }: LiveOptions = {},
): Live {
  let source: EventSource | undefined;
  let lastSeq = "";
  let failures = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let hide: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  const show = quiet ? () => {} : showState;

  function connect(): void {
    clearTimeout(retry);
    if (closed || source) return;
    const params = new URLSearchParams(query);
    if (lastSeq) params.set("after", lastSeq);
    const opened = new EventSource(`${path}?${params}`);
    source = opened;
    opened.addEventListener("open", () => {
      failures = 0;
      show("live");
    });
    // Our own retries, not EventSource's: it gives up for good after an answer other than 200.
    opened.addEventListener("error", () => {
      disconnect();
      show("lost");
      retry = setTimeout(() => void reconnect(), RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
    });
    opened.addEventListener("ready", remember);
    opened.addEventListener("reset", (event) => {
      remember(event);
      onGap();
    });
    for (const [name, handle] of Object.entries(handlers))
      opened.addEventListener(name, (event) => {
        // The connection itself announces an `open`, too.
        if (!(event instanceof MessageEvent)) return;
        remember(event);
        handle(JSON.parse(event.data as string) as never);
      });
  }

  /** EventSource does not say why it failed: after a restart with another token, or a deletion, it would try for ever. */
  async function reconnect(): Promise<void> {
    const abort = new AbortController();
    try {
      const { status } = await fetch(`${path}?${new URLSearchParams(query)}`, { signal: abort.signal });
      if (status === 401) location.reload();
      if (status === 404 || status === 410) closed = true;
    } catch {
      // Nobody answers yet.
    } finally {
      abort.abort();
    }
    connect();
  }

  function remember(event: Event): void {
    const { lastEventId } = event as MessageEvent;
    if (lastEventId) lastSeq = lastEventId;
  }

  function disconnect(): void {
    source?.close();
    source = undefined;
  }

  function onVisibility(): void {
    clearTimeout(hide);
    if (!document.hidden) connect();
    else
      hide = setTimeout(() => {
        clearTimeout(retry);
        disconnect();
        show("paused");
      }, HIDE_AFTER_MS);
  }

  document.addEventListener("visibilitychange", onVisibility);
  // A page kept for the back button would hold one of the browser's six connections to us.
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", onVisibility);
  onVisibility();
  return {
    close() {
      closed = true;
      clearTimeout(retry);
      disconnect();
      document.removeEventListener("visibilitychange", onVisibility);
    },
  };
}
