import type { CollectorError } from "../error.ts";
import { cut } from "./cells.ts";
import { lookOf } from "./screen.ts";
import { age, bytes, bytesASecond, bytesOf, percent } from "./units.ts";
import { createWaiting } from "./waiting.ts";

/** What is under way, in bytes. */
export interface Transfer {
  /** "Sending". */
  verb: string;
  done: number;
  total: number;
}

/** A line that says how far something has come, on a terminal; elsewhere only what a person must know. */
export interface Progress {
  show(transfer: Transfer): void;
  /** Why nothing moves; undefined: it does again. */
  waiting(error: CollectorError | undefined): void;
  /** Takes the line away. */
  close(): void;
}

export interface ProgressOptions {
  stream: { isTTY?: boolean; columns?: number; write(text: string): unknown };
  program: string;
  unicode?: boolean;
  now?: () => number;
}

const EVERY_MS = 100;
const WAITING_EVERY_MS = 1000;
/** The rate is that of the last few seconds. */
const RATE_MS = 5_000;
const CLEAR = "\r\u001b[K";

export function createProgress({
  stream,
  program,
  unicode = lookOf(process.env, true).unicode,
  now = () => performance.now(),
}: ProgressOptions): Progress {
  const rate = createRate();
  let shownAt = -Infinity;
  let verb: string | undefined;
  let last: Transfer | undefined;
  let isWaiting = false;
  const reason = createWaiting(program, now, stream.isTTY ?? false);
  let timer: ReturnType<typeof setInterval> | undefined;
  /** Nothing where nothing was shown. */
  const clear = () => (stream.isTTY && shownAt > -Infinity ? CLEAR : "");
  // A line that fills the terminal would go on in the next one.
  const draw = (line: string) => stream.write(CLEAR + cut(line, (stream.columns || 80) - 1, ""));

  function drawWaiting(): void {
    shownAt = now();
    const far =
      last && last.total > 0 ? `${percent(last.done / last.total)}  ${bytesOf(last.done, last.total)}  ` : "";
    draw(`Waiting  ${far}${reason.since()}`);
  }

  return {
    show(transfer) {
      const time = now();
      if (transfer.verb !== verb) rate.reset();
      verb = transfer.verb;
      last = transfer;
      rate.note(time, transfer.done);
      if (!stream.isTTY || isWaiting || time - shownAt < EVERY_MS) return;
      shownAt = time;
      draw(progressLine(transfer, rate.bytesASecond(), unicode));
    },
    waiting(error) {
      isWaiting = error !== undefined;
      if (error) {
        const line = reason.begin(error);
        if (line !== undefined) stream.write(clear() + line);
        if (!stream.isTTY) return;
        drawWaiting();
        timer ??= setInterval(drawWaiting, WAITING_EVERY_MS);
      } else {
        reason.end();
        clearInterval(timer);
        timer = undefined;
      }
    },
    close() {
      clearInterval(timer);
      stream.write(clear());
    },
  };
}

/** "Sending  ━━━━━─────   45 %  1.2/5.0 GiB   312 MiB/s  12 s left". */
export function progressLine(
  { verb, done, total }: Transfer,
  rate: number | undefined,
  unicode: boolean,
): string {
  const share = total === 0 ? 1 : Math.max(0, Math.min(1, done / total));
  const width = 20;
  const full = Math.round(share * width);
  const bar = (unicode ? "━" : "#").repeat(full) + (unicode ? "─" : ".").repeat(width - full);
  // Never full before it is: the last bytes may take the longest.
  const shown = percent(done < total ? Math.min(share, 0.99) : 1).padStart(5);
  const left = rate !== undefined && rate > 0 ? `  ${age((1000 * (total - done)) / rate)} left` : "";
  return `${verb}  ${bar} ${shown}  ${bytesOf(done, total)}  ${bytesASecond(rate)}${left}`;
}

function createRate() {
  let seen: { time: number; done: number }[] = [];
  return {
    reset: () => void (seen = []),
    note(time: number, done: number): void {
      const last = seen.at(-1);
      if (last && time - last.time < EVERY_MS) return;
      seen.push({ time, done });
      while (seen.length > 2 && seen[1]!.time < time - RATE_MS) seen.shift();
    },
    bytesASecond(): number | undefined {
      const [first, last] = [seen[0], seen.at(-1)];
      if (!first || !last || last.time - first.time < 2 * EVERY_MS) return undefined;
      return Math.max(0, (1000 * (last.done - first.done)) / (last.time - first.time));
    },
  };
}

const COUNT_MS = 200;

/** How much of a file is written so far: how much it will be nobody knows before the end. */
export function createCount() {
  const { stderr } = process;
  let shownAt = -Infinity;
  return {
    show(size: number) {
      if (!stderr.isTTY || performance.now() - shownAt < COUNT_MS) return;
      shownAt = performance.now();
      stderr.write(`\r\u001b[KWriting  ${bytes(size)}`);
    },
    close() {
      if (shownAt > -Infinity) stderr.write("\r\u001b[K");
    },
  };
}

/** "45.1 MiB in 3.2 s (14.1 MiB/s)". Of a few bytes a rate says nothing. */
export function took(count: number, ms: number): string {
  if (count < 1024 ** 2) return bytes(count);
  const seconds = Math.max(ms / 1000, 0.001);
  return `${bytes(count)} in ${seconds < 100 ? seconds.toFixed(1) : seconds.toFixed(0)} s (${bytesASecond(count / seconds)})`;
}
