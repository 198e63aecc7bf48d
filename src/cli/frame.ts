import { cut, widthOf } from "./cells.ts";

/** What a terminal can show. */
export interface Look {
  color: boolean;
  /** Beyond ASCII. */
  unicode: boolean;
}

export type Style = "bold" | "dim" | "good" | "warn" | "bad" | "inverse";

/** A piece of a line. */
export interface Span {
  text: string;
  style?: Style | undefined;
}

const codes: Record<Style, string> = {
  bold: "1",
  dim: "2",
  good: "32",
  warn: "33",
  bad: "31",
  inverse: "7",
};

/** One line of at most `width` columns. */
export function toLine(spans: Span[], width: number, { color, unicode }: Look): string {
  let line = "";
  let left = width;
  for (const { text, style } of spans) {
    const known = unicode ? text : inAscii(text);
    const shown = widthOf(known) <= left ? known : cut(known, left, unicode ? "…" : "~");
    left -= widthOf(shown);
    line += color && style && shown !== "" ? `\u001b[${codes[style]}m${shown}\u001b[m` : shown;
    if (shown !== known) break;
  }
  // Blanks at the end would wrap where a terminal is narrower than it says.
  return color ? line : line.trimEnd();
}

const inAscii = (text: string) =>
  text
    .replaceAll("°C", "C")
    .replaceAll("·", "-")
    .replaceAll("…", "~")
    .replace(/[^\u0020-\u007e]/gu, "?");

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** A share as a bar; one that is not known is a bar without anything in it. */
export function bar(share: number | undefined, width: number, { unicode }: Look): Span[] {
  if (width <= 0) return [];
  const filled = Math.max(0, Math.min(1, share ?? 0)) * width;
  const empty = (count: number) => ({ text: (unicode ? "░" : ".").repeat(count), style: "dim" as const });
  const style = share === undefined ? "dim" : share >= 0.9 ? "bad" : share >= 0.7 ? "warn" : "good";
  if (!unicode) {
    const whole = Math.round(filled);
    return [{ text: "#".repeat(whole), style }, empty(width - whole)];
  }
  const steps = Math.round(filled * 8);
  const text = "█".repeat(Math.floor(steps / 8)) + eighths[steps % 8];
  return [{ text, style }, empty(width - text.length)];
}

const heights = { unicode: " ▁▂▃▄▅▆▇█", ascii: " .:-=+*#@" };

/** Shares over time, the newest on the right; what is not known yet is empty. */
export function trend(shares: readonly number[], width: number, { unicode }: Look): Span[] {
  const steps = unicode ? heights.unicode : heights.ascii;
  const marks = shares
    .slice(-width)
    .map((share) => steps[1 + Math.round(Math.max(0, Math.min(1, share)) * (steps.length - 2))]);
  return [{ text: marks.join("").padStart(width), style: "good" }];
}

export interface Column {
  title: string;
  /** What goes first where there is too little room: the highest. 0 always stays. */
  rank: number;
  right?: boolean;
  /** Columns of the terminal it takes even where its cells are shorter: else all would jump with each digit. */
  least?: number;
  /** Of the last column: no more room is kept for it than this, and what is longer may be cut. */
  most?: number;
  /** Of each row. A cell may be a bar, whose spans are as wide in every row. */
  cells: Span[][];
}

const widthOfSpans = (spans: Span[]) => spans.reduce((sum, { text }) => sum + widthOf(text), 0);

/** A table of what fits, two spaces between columns, the title row first. */
export function table(columns: Column[], width: number, look: Look): Span[][] {
  const shown = columns.filter(({ cells }) => cells.length > 0);
  const ascii = (spans: Span[]) =>
    look.unicode ? spans : spans.map(({ text, style }) => ({ text: inAscii(text), style }));
  const widths = new Map(
    shown.map((column) => [
      column,
      Math.min(
        column.most ?? Infinity,
        Math.max(
          column.title.length,
          column.least ?? 0,
          ...column.cells.map((cell) => widthOfSpans(ascii(cell))),
        ),
      ),
    ]),
  );
  const total = () => shown.reduce((sum, column) => sum + widths.get(column)! + 2, -2);
  while (total() > width) {
    const least = shown.reduce((worst, column) => (column.rank >= worst.rank ? column : worst));
    if (least.rank === 0) break;
    shown.splice(shown.indexOf(least), 1);
  }
  const rows = columns[0]?.cells.length ?? 0;
  const lineOf = (cellOf: (column: Column) => Span[]) =>
    shown.flatMap((column, index) => {
      const cell = ascii(cellOf(column));
      const blank = { text: " ".repeat(Math.max(0, widths.get(column)! - widthOfSpans(cell))) };
      const gap = { text: "  " };
      if (index === shown.length - 1) return column.right ? [blank, ...cell] : cell;
      return column.right ? [blank, ...cell, gap] : [...cell, blank, gap];
    });
  const titles = lineOf(({ title }) => [{ text: title, style: "dim" }]);
  return [titles, ...Array.from({ length: rows }, (_, row) => lineOf(({ cells }) => cells[row]!))];
}
