import type { AppContext } from "./route.ts";

/** One open text/event-stream answer. */
export interface EventStream {
  /** False where the reader is so far behind that nothing was sent. */
  send(text: string): boolean;
  close(): void;
}

export interface StreamOptions {
  /** The server is about to stop. */
  ending: AbortSignal;
  pingEvery: number;
  /** Bytes the reader may be behind before nothing more is sent to it. */
  maxBehind?: number;
  /** Called before each ping. */
  onPing?: () => void;
  /** Called when the stream stands; returns what to do at its end, which is called once. */
  open(stream: EventStream): () => void;
}

/** Bytes a reader may be behind: a browser that was put to sleep must not fill our memory. */
const MAX_BEHIND = 4 * 1024 * 1024;
/** A comment: ignored by readers, but it shows that we are there. */
const PING = ": \n\n";

const STREAM_HEADERS = { "content-type": "text/event-stream; charset=utf-8" };

export const eventText = (event: string, data: unknown, id?: number): string =>
  `event: ${event}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;

export function streamEvents(
  c: AppContext,
  { ending, pingEvery, maxBehind = MAX_BEHIND, onPing, open }: StreamOptions,
): Response {
  const request = c.req.raw;
  c.env?.keepOpen?.(request);
  const encoder = new TextEncoder();
  let close = () => {};

  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        let closed = false;
        let onEnd = () => {};
        close = () => {
          if (closed) return;
          closed = true;
          clearInterval(timer);
          ending.removeEventListener("abort", close);
          request.signal.removeEventListener("abort", close);
          onEnd();
          try {
            controller.close();
          } catch {
            // The reader has cancelled: it is closed.
          }
        };
        const send = (text: string): boolean => {
          if (closed || (controller.desiredSize ?? 0) <= 0) return false;
          controller.enqueue(encoder.encode(text));
          return true;
        };
        const timer = setInterval(() => {
          onPing?.();
          send(PING);
        }, pingEvery);
        ending.addEventListener("abort", close);
        request.signal.addEventListener("abort", close);
        // At once: some servers hold the head of an answer back until its first byte.
        send(PING);
        onEnd = open({ send, close });
        if (ending.aborted || request.signal.aborted) close();
      },
      cancel: () => close(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: maxBehind }),
  );
  return new Response(body, { headers: STREAM_HEADERS });
}

/** The head of a stream alone, for who asks for it with HEAD: nobody would ever close the stream itself. */
export const streamHead = (c: AppContext): Response | undefined =>
  c.req.method === "HEAD" ? new Response(null, { headers: STREAM_HEADERS }) : undefined;
