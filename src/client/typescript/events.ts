import { CollectorError } from "../../error.ts";

export interface ServerEvent {
  event: string;
  data: string;
  id: string | undefined;
}

/**
 * The events of a text/event-stream answer, until it ends. A connection whose other end vanished is never closed:
 * after `silence` ms without a byte it is given up.
 */
export async function* eventsOf(
  response: Response,
  { silence, onContact }: { silence: number; onContact?: () => void },
): AsyncGenerator<ServerEvent> {
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let pending = "";
  try {
    for (;;) {
      const { done, value } = await withDeadline(reader.read(), silence, response.url);
      if (done) return;
      onContact?.();
      pending += decoder.decode(value, { stream: true });
      const blocks = pending.split(/\r?\n\r?\n/);
      pending = blocks.pop()!;
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** One block of lines; undefined for a comment. */
export function parseEvent(block: string): ServerEvent | undefined {
  let event = "message";
  let id: string | undefined;
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    const at = line.indexOf(":");
    if (at === 0) continue;
    const field = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
  }
  return data.length > 0 ? { event, data: data.join("\n"), id } : undefined;
}

async function withDeadline<T>(promise: Promise<T>, ms: number, url: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new CollectorError("unreachable", `Nothing came from ${url} for ${ms / 1000} s.`)),
      ms,
    );
  });
  try {
    return await Promise.race([promise, deadline]);
  } catch (error) {
    if (error instanceof CollectorError) throw error;
    throw new CollectorError("unreachable", `The connection to ${url} broke.`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
