import type { Readable } from "node:stream";
import type { Sender } from "../client/typescript/sender.ts";
import type { LogItem, LogStream } from "../log/schema.ts";
import { createLineAssembler } from "./lines.ts";

/** State of a line that is still being rewritten goes out this often. */
const OPEN_EVERY_MS = 200;
const MAX_OPEN_LENGTH = 10_000;

/** Where captured output is also shown, as it is; resolves when there is room for more. */
export type Show = (bytes: Uint8Array) => Promise<void>;

export interface Pulse {
  /** Streams that are held up by us, not by the program. */
  waiting: number;
}

/**
 * Reads one of a program's streams to its end: bytes are shown as they come, lines are sent. What neither takes is not read,
 * so that a program that writes faster than we can keep is slowed by its pipe instead of losing output.
 */
export async function capture(
  source: Readable,
  stream: LogStream,
  sender: Sender,
  show: Show,
  pulse: Pulse,
): Promise<void> {
  const assembler = createLineAssembler();
  let shown: string | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function settle(): void {
    timer = undefined;
    send(assembler.settle());
    announceOpen();
    if (assembler.isSettling) timer = setTimeout(settle, OPEN_EVERY_MS);
  }

  function announceOpen(): void {
    const open = assembler.open?.slice(0, MAX_OPEN_LENGTH) ?? null;
    if (open === shown) return;
    shown = open;
    sender.open({ [stream]: open });
  }

  function send(lines: string[]): void {
    if (lines.length === 0) return;
    const time = Date.now();
    sender.logs(lines.map((text): LogItem => ({ time, stream, text })));
  }

  try {
    for await (const bytes of source as AsyncIterable<Buffer>) {
      pulse.waiting++;
      await show(bytes);
      send(assembler.feed(bytes));
      timer ??= setTimeout(settle, OPEN_EVERY_MS);
      await sender.room();
      pulse.waiting--;
    }
  } catch {
    // The pipe was closed under us: whatever came until then counts.
  } finally {
    clearTimeout(timer);
    send(assembler.end());
    announceOpen();
  }
}

/** Writes to one of our own streams. A reader that went away ends the showing, not the run. */
export function createShow(target: NodeJS.WriteStream): Show {
  let gone = false;
  target.on("error", () => (gone = true));
  return async (bytes) => {
    if (gone) return;
    await new Promise<void>((resolve) => {
      target.write(bytes, (error) => {
        if (error) gone = true;
        resolve();
      });
    });
  };
}
