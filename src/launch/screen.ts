import { collapse, isBlank } from "./collapse.ts";

/** More rows than any set of progress bars has: the topmost is final. */
const MAX_ROWS = 64;

interface Row {
  text: string;
  /** It was rewritten by a carriage return: a progress bar, to which the cursor may come back from below. */
  isBar: boolean;
  /** Its last state shows nothing, or is about to be written over: what comes next does not continue it. */
  isErased: boolean;
}

/**
 * The rows that a program may still rewrite by moving the cursor up, as nested progress bars do (each of their updates is a
 * newline, the bar below, and a way back up: without this, a line of log each).
 */
export interface Screen {
  /** Text without line ends and without movements up. */
  write(text: string): void;
  /** Returns the lines that are final by it. */
  newline(): string[];
  up(rows: number): void;
  /** Rows that the cursor has not come back to since the last call. */
  settle(): string[];
  /** Everything, finished or not. */
  flush(): string[];
  /** Nothing is held back. */
  readonly isEmpty: boolean;
  /** Whether `settle` would give more later, though nothing happens. */
  readonly isSettling: boolean;
  /** What stands there, but for the row of the cursor. */
  others(row: string): string[];
}

export function createScreen(): Screen {
  let rows: Row[] = [];
  let cursor = 0;
  /** The highest row the cursor was in since the last `settle`. */
  let highest = 0;
  /** The cursor has moved up: newlines end nothing for the time being. */
  let isBlock = false;
  /** It has done so since the last `settle`. */
  let hasMoved = false;

  function take(count: number): string[] {
    const taken = rows.slice(0, count);
    rows = rows.slice(count);
    cursor = Math.max(0, cursor - count);
    highest = Math.max(0, highest - count);
    if (rows.length === 0) isBlock = false;
    return taken.filter(({ text, isBar }) => !isBar || !isBlank(text)).map(({ text }) => text);
  }

  return {
    write(text) {
      if (text === "") return;
      const row = (rows[cursor] ??= { text: "", isBar: false, isErased: false });
      row.isBar ||= /\r./s.test(text.replace(/\r+$/, ""));
      const whole = row.isErased ? text : row.text + text;
      row.text = whole.includes("\r") ? collapse(whole) : whole;
      row.isErased = whole.includes("\r") && isBlank(whole.slice(whole.lastIndexOf("\r") + 1));
    },
    newline() {
      const row = (rows[cursor] ??= { text: "", isBar: false, isErased: false });
      cursor++;
      const below = rows[cursor];
      if (below) below.isErased = true;
      if (isBlock) return rows.length > MAX_ROWS && cursor > rows.length - MAX_ROWS ? take(1) : [];
      return take(row.isBar ? rows.length - 1 : rows.length);
    },
    up(count) {
      // What has been there is final.
      if (rows.length === 0) return;
      isBlock = true;
      hasMoved = true;
      cursor = Math.max(0, cursor - count);
      highest = Math.min(highest, cursor);
    },
    settle() {
      const lines = take(highest);
      highest = cursor;
      if (!hasMoved && cursor >= rows.length - 1) isBlock = false;
      hasMoved = false;
      return lines;
    },
    flush: () => take(rows.length),
    get isEmpty() {
      return rows.length === 0;
    },
    get isSettling() {
      return cursor > 0;
    },
    others(row) {
      const texts = rows.map(({ text }, index) => (index === cursor && row !== "" ? row : text));
      if (cursor >= rows.length) texts.push(row);
      return texts;
    },
  };
}
