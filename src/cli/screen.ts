import { writeSync } from "node:fs";
import type { Look } from "./frame.ts";
import { print } from "./output.ts";

const ENTER = "\u001b[?1049h\u001b[?25l\u001b[2J\u001b[H";
const LEAVE = "\u001b[m\u001b[?25h\u001b[?1049l";
/** Terminals that know it show all of a frame at once; others ignore it. */
const BEGIN_FRAME = "\u001b[?2026h";
const END_FRAME = "\u001b[?2026l";

/** What this process's terminal can show, by what its user has set. */
export function lookOf(env: Record<string, string | undefined>, isTerminal: boolean): Look {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  return {
    color: isTerminal && !env["NO_COLOR"] && env["TERM"] !== "dumb",
    unicode: /utf-?8/i.test(locale),
  };
}

export type Key = "quit" | "suspend" | "redraw";

const keys: Record<string, Key> = {
  q: "quit",
  Q: "quit",
  "\u0003": "quit",
  "\u001a": "suspend",
  "\u000c": "redraw",
};

export interface Screen {
  readonly width: number;
  readonly height: number;
  /** Shows these lines in the place of those before. A terminal that is slow gets the newest frame, not all of them. */
  draw(lines: string[]): Promise<void>;
  /** Gives the terminal back for as long as this process is stopped. */
  pause(): void;
  /** Leaves the terminal as it was found. */
  close(): void;
}

/**
 * The whole terminal, on the screen that programs such as editors use: what stood there before comes back. Keys are read
 * where the input is a terminal too.
 */
export function openScreen(handlers: { onKey: (key: Key) => void; onResize: () => void }): Screen {
  const { stdin, stdout } = process;
  const hasKeys = stdin.isTTY === true;
  let isOpen = false;
  let shown: string[] = [];
  let writing: Promise<void> | undefined;
  let next: string[] | undefined;

  function enter(): void {
    if (isOpen) return;
    isOpen = true;
    shown = [];
    if (hasKeys) stdin.setRawMode(true);
    writeNow(ENTER);
  }

  function leave(): void {
    if (!isOpen) return;
    isOpen = false;
    writeNow(LEAVE);
    if (hasKeys) stdin.setRawMode(false);
  }

  const onData = (bytes: Buffer) => {
    const text = bytes.toString("latin1");
    // An arrow, or what a terminal says of itself: its letters are no keys.
    if (text.startsWith("\u001b")) return;
    for (const character of text) if (keys[character]) handlers.onKey(keys[character]);
  };
  const onResize = () => {
    shown = [];
    if (isOpen) writeNow("\u001b[2J");
    handlers.onResize();
  };
  const onContinue = () => {
    // Whoever stopped us may have left the terminal in any state.
    if (hasKeys) stdin.setRawMode(false);
    isOpen = false;
    enter();
    handlers.onResize();
  };

  process.on("exit", leave);
  process.on("SIGCONT", onContinue);
  stdout.on("resize", onResize);
  if (hasKeys) stdin.on("data", onData).resume();
  enter();

  /** Only lines that differ: a slow connection is not to carry the whole screen every second. */
  function frameOf(lines: string[]): string {
    let frame = "";
    for (let row = 0; row < Math.max(lines.length, shown.length); row++)
      // Cleared first: behind a line that fills the terminal the cursor stands on its last character.
      if (lines[row] !== shown[row]) frame += `\u001b[${row + 1};1H\u001b[2K${lines[row] ?? ""}`;
    shown = lines;
    return frame;
  }

  async function write(): Promise<void> {
    while (next && isOpen) {
      const frame = frameOf(next);
      next = undefined;
      if (frame !== "") await print(BEGIN_FRAME + frame + END_FRAME);
    }
  }

  return {
    get width() {
      return stdout.columns || 80;
    },
    get height() {
      return stdout.rows || 24;
    },
    async draw(lines) {
      next = lines;
      if (writing) return;
      writing = write();
      try {
        await writing;
      } finally {
        writing = undefined;
      }
    },
    pause: leave,
    close() {
      process.off("exit", leave);
      process.off("SIGCONT", onContinue);
      stdout.off("resize", onResize);
      if (hasKeys) stdin.off("data", onData).pause();
      leave();
    },
  };
}

/** At once, also while the process ends; a terminal that is gone needs nothing. */
function writeNow(text: string): void {
  try {
    writeSync(process.stdout.fd, text);
  } catch {
    // Its window was closed.
  }
}
