import { collapse, isBlank } from "./collapse.ts";
import { createScreen } from "./screen.ts";
import { decodeLossless } from "./utf8.ts";

/** Longest piece of output that is kept as one line, in bytes; a longer one goes on in the next line. */
export const MAX_LINE_BYTES = 262_144;
const NEWLINE = 10;
const RETURN = 13;
const ESCAPE = 27;
/** What moves the cursor to another line: a newline, or CUU (ESC [ n A). */
const MOVES = /(\n|\u001b\[\d*A)/g;
const MOVE_UP = /\u001b\[(\d*)A/;

/** Makes lines of one stream's bytes, however they come in. */
export interface LineAssembler {
  /** Lines that are final by these bytes. A progress bar is so a moment after its end: it might be one of several. */
  feed(bytes: Uint8Array): string[];
  /** To be called now and then: lines that have stood unchanged since the last call. */
  settle(): string[];
  /** Whether `settle` will give more though nothing comes. */
  readonly isSettling: boolean;
  /** What is unfinished, as a terminal would show it; null where there is nothing. */
  readonly open: string | null;
  /** What is left when the stream has ended. */
  end(): string[];
}

export function createLineAssembler(): LineAssembler {
  const screen = createScreen();
  /** Bytes behind the last line's end; of a progress bar only the states that still count. */
  let rest: Uint8Array = new Uint8Array(0);

  function feed(bytes: Uint8Array): string[] {
    const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    const isPlain = screen.isEmpty && !all.includes(RETURN) && !movesUp(all);
    const end = isPlain ? all.lastIndexOf(NEWLINE) + 1 : endOfMoves(all);
    const complete = all.subarray(0, end);
    const lines = end === 0 ? [] : isPlain ? linesOf(complete.subarray(0, -1)) : replay(complete);
    // Copied: it would keep the whole piece that came from the pipe in memory.
    rest = Uint8Array.from(lastStates(all.subarray(end)));
    while (rest.length > MAX_LINE_BYTES) {
      const cut = cutAt(rest, MAX_LINE_BYTES);
      screen.write(decodeLossless(rest.subarray(0, cut)));
      lines.push(...screen.flush());
      rest = rest.slice(cut);
    }
    return lines;
  }

  /** Whole moves of the cursor, down and up, and what is written between them. */
  function replay(bytes: Uint8Array): string[] {
    const lines: string[] = [];
    for (const part of decodeLossless(bytes).split(MOVES)) {
      const move = MOVE_UP.exec(part);
      if (move) screen.up(Math.min(Number(move[1] || 1), 1000));
      else if (part === "\n") for (const line of screen.newline()) lines.push(...piecesOf(line));
      else screen.write(part);
    }
    return lines;
  }

  return {
    feed,
    settle: () => screen.settle(),
    get isSettling() {
      return screen.isSettling;
    },
    get open() {
      const row = collapse(decodeLossless(withoutTornEnd(rest)));
      const shown = (screen.isEmpty ? [row] : screen.others(row)).filter((text) => !isBlank(text));
      return shown.length === 0 ? null : shown.join("\n");
    },
    end() {
      const last = decodeLossless(rest);
      rest = new Uint8Array(0);
      if (collapse(last) !== "") screen.write(last);
      return screen.flush();
    },
  };
}

const latin1 = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");

const movesUp = (bytes: Uint8Array) => bytes.includes(ESCAPE) && MOVE_UP.test(latin1(bytes));

/** Behind the last newline or movement up. */
function endOfMoves(bytes: Uint8Array): number {
  let end = 0;
  for (const { 0: move, index } of latin1(bytes).matchAll(MOVES)) end = index + move.length;
  return end;
}

function linesOf(block: Uint8Array): string[] {
  const lines: string[] = [];
  for (const line of decodeLossless(block).split("\n")) {
    if (line.length <= MAX_LINE_BYTES) lines.push(line);
    else for (const piece of piecesOf(line)) lines.push(piece);
  }
  return lines;
}

function piecesOf(text: string): string[] {
  if (text.length <= MAX_LINE_BYTES) return [text];
  const pieces: string[] = [];
  for (let from = 0; from < text.length;) {
    let to = Math.min(from + MAX_LINE_BYTES, text.length);
    const high = text.charCodeAt(to - 1);
    if (to < text.length && high >= 0xd800 && high < 0xdc00) to--;
    pieces.push(text.slice(from, to));
    from = to;
  }
  return pieces;
}

/** Of an unfinished line: from the last state that shows anything on. Bounds a bar that never ends its line. */
function lastStates(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  for (;;) {
    const start = bytes.lastIndexOf(RETURN, end - 1) + 1;
    if (end === 0 || start === 0) return bytes;
    if (!isBlank(latin1(bytes.subarray(start, end)))) return bytes.subarray(start - 1);
    end = start - 1;
  }
}

/** The last place at or before `at` that does not part a character. */
function cutAt(bytes: Uint8Array, at: number): number {
  for (let cut = at; cut > at - 4 && cut > 0; cut--) if ((bytes[cut]! & 0xc0) !== 0x80) return cut;
  return at;
}

/** Without the first bytes of a character whose others are still to come. */
function withoutTornEnd(bytes: Uint8Array): Uint8Array {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needed > back ? bytes.subarray(0, bytes.length - back) : bytes;
  }
  return bytes;
}
