import { decodeLossless } from "./utf8.ts";

/** Longest piece of output that is kept as one line, in bytes; a longer one goes on in the next line. */
export const MAX_LINE_BYTES = 262_144;
const NEWLINE = 10;
const RETURN = 13;

/** Makes lines of one stream's bytes, however they come in. */
export interface LineAssembler {
  /** Lines that these bytes end. */
  feed(bytes: Uint8Array): string[];
  /** The unfinished line, as a terminal would show it; null where there is none. */
  readonly open: string | null;
  /** What is left when the stream has ended. */
  end(): string[];
}

export function createLineAssembler(): LineAssembler {
  /** Bytes behind the last line's end; of a progress bar only the states that still count. */
  let rest: Uint8Array = new Uint8Array(0);

  function feed(bytes: Uint8Array): string[] {
    const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    const end = all.lastIndexOf(NEWLINE);
    const lines = end < 0 ? [] : linesOf(all.subarray(0, end));
    // Copied: it would keep the whole piece that came from the pipe in memory.
    rest = Uint8Array.from(lastStates(all.subarray(end + 1)));
    while (rest.length > MAX_LINE_BYTES) {
      const cut = cutAt(rest, MAX_LINE_BYTES);
      lines.push(collapse(decodeLossless(rest.subarray(0, cut))));
      rest = rest.slice(cut);
    }
    return lines;
  }

  return {
    feed,
    get open() {
      const text = collapse(decodeLossless(withoutTornEnd(rest)));
      return isBlank(text) ? null : text;
    },
    end() {
      const left = collapse(decodeLossless(rest));
      const isBar = rest.includes(RETURN);
      rest = new Uint8Array(0);
      return left === "" || (isBar && isBlank(left)) ? [] : [left];
    },
  };
}

function linesOf(block: Uint8Array): string[] {
  const lines: string[] = [];
  for (const line of decodeLossless(block).split("\n")) {
    const text = line.includes("\r") ? collapse(line) : line;
    if (text.length <= MAX_LINE_BYTES) lines.push(text);
    else lines.push(...piecesOf(text));
  }
  return lines;
}

function piecesOf(text: string): string[] {
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

/** A carriage return rewrites the line: of its states the last that shows anything is what remains. */
export function collapse(line: string): string {
  let end = line.length;
  while (end > 0 && line.charCodeAt(end - 1) === RETURN) end--;
  while (end > 0) {
    const start = line.lastIndexOf("\r", end - 1) + 1;
    const state = line.slice(start, end);
    if (start === 0 || !isBlank(state)) return state;
    end = start - 1;
  }
  return "";
}

/** Nothing to see: spaces and escape sequences, the last of which may still be incomplete. */
function isBlank(state: string): boolean {
  return /^(?:[ \t\r]|\u001b\[[0-9;?]*[A-Za-z])*(?:\u001b(?:\[[0-9;?]*)?)?$/.test(state);
}

/** Of an unfinished line: from the last state that shows anything on. Bounds a bar that never ends its line. */
function lastStates(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  for (;;) {
    const start = bytes.lastIndexOf(RETURN, end - 1) + 1;
    if (end === 0 || start === 0) return bytes;
    if (!isBlank(Buffer.from(bytes.subarray(start, end)).toString("latin1"))) return bytes.subarray(start);
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
