/** Terminal output as styled text. Pure, linear in the length of the line; what is no colour or weight is dropped. */

/** "ansi-0" … "ansi-15" name a colour of the style sheet; anything else is "#rrggbb". */
export type AnsiColor = string;

export interface AnsiStyle {
  color?: AnsiColor;
  background?: AnsiColor;
  bold?: true;
  dim?: true;
  italic?: true;
  underline?: true;
  strike?: true;
  inverse?: true;
}

export interface AnsiSpan extends AnsiStyle {
  text: string;
}

export interface AnsiLine {
  spans: AnsiSpan[];
  /** Characters left out at the end. */
  left: number;
}

/** A line of a megabyte is a dump, not something to read: the download has it whole. */
export const MAX_SHOWN = 10_000;
const MAX_SPANS = 1000;

const ESC = 0x1b;
const BEL = 0x07;
const ST = 0x9c;

export function parseAnsi(line: string, limit = MAX_SHOWN): AnsiLine {
  const spans: AnsiSpan[] = [];
  let style: AnsiStyle = {};
  let text = "";
  let shown = 0;
  let i = 0;
  // Whether a terminator lies ahead, found out once: asking again at each unfinished string would take quadratic time.
  let bells = true;
  let terminators = true;

  const flush = () => {
    if (text !== "") spans.push({ text, ...style });
    text = "";
  };

  /** Index after the string that began before `from`; without an end it is no string, and what follows is text. */
  const skipString = (from: number, bellEnds: boolean): number => {
    const bell = bellEnds && bells ? line.indexOf("\x07", from) : -1;
    if (bellEnds && bell < 0) bells = false;
    const end = terminators ? indexOfTerminator(line, from) : undefined;
    if (!end) terminators = false;
    if (end && (bell < 0 || end.at < bell)) return end.at + end.length;
    return bell < 0 ? from : bell + 1;
  };

  const startSequence = (kind: number, from: number): number => {
    if (kind === 0x5b) {
      const end = endOfControl(line, from);
      // Past the limit styles end too: a line of nothing but colours costs no more than one of text.
      if (line.charCodeAt(end - 1) === 0x6d && spans.length < MAX_SPANS) {
        flush();
        style = applySgr(style, line.slice(from, end - 1));
      }
      return end;
    }
    if (kind === 0x5d) return skipString(from, true);
    if (kind === 0x50 || kind === 0x58 || kind === 0x5e || kind === 0x5f) return skipString(from, false);
    return from;
  };

  while (i < line.length && shown < limit) {
    const code = line.charCodeAt(i);
    if (code === ESC) {
      const kind = line.charCodeAt(i + 1);
      if ("[]PX^_".includes(line.charAt(i + 1)) && i + 1 < line.length) i = startSequence(kind, i + 2);
      else i = endOfEscape(line, i + 1);
    } else if (code >= 0x80 && code <= 0x9f) {
      // The same sequences in one character.
      i = startSequence(code - 0x40, i + 1);
    } else {
      text += visible(line[i]!, code, line.charCodeAt(i + 1));
      if (code >= 0xd800 && code <= 0xdbff && isLow(line.charCodeAt(i + 1))) text += line[++i]!;
      i++;
      shown++;
    }
  }
  flush();
  return { spans, left: line.length - i };
}

const isLow = (code: number) => code >= 0xdc00 && code <= 0xdfff;

/** What has no glyph is given one; a byte that was no UTF-8 shows its number. */
function visible(char: string, code: number, next: number): string {
  if (code === 0x09 || (code >= 0x20 && code < 0x7f)) return char;
  if (code === BEL) return "";
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
  if (isLow(code) || (code >= 0xd800 && code <= 0xdbff && !isLow(next))) return "\ufffd";
  return char;
}

function indexOfTerminator(line: string, from: number): { at: number; length: number } | undefined {
  const long = line.indexOf("\x1b\\", from);
  const short = line.indexOf(String.fromCharCode(ST), from);
  if (long >= 0 && (short < 0 || long < short)) return { at: long, length: 2 };
  return short >= 0 ? { at: short, length: 1 } : undefined;
}

/** Index after a control sequence: parameters, intermediates, one final. A character that fits nowhere ends it and is text. */
function endOfControl(line: string, from: number): number {
  let i = from;
  while (i < line.length) {
    const code = line.charCodeAt(i);
    if (code >= 0x40 && code <= 0x7e) return i + 1;
    if (code < 0x20 || code > 0x3f) return i;
    i++;
  }
  return i;
}

function endOfEscape(line: string, from: number): number {
  let i = from;
  while (i < line.length && line.charCodeAt(i) >= 0x20 && line.charCodeAt(i) <= 0x2f) i++;
  const code = line.charCodeAt(i);
  return code >= 0x30 && code <= 0x7e ? i + 1 : i;
}

function applySgr(style: AnsiStyle, parameters: string): AnsiStyle {
  if (!/^[\d;:]*$/.test(parameters)) return style;
  const next = { ...style };
  const groups = parameters.split(";").slice(0, 64);
  for (let i = 0; i < groups.length; i++) {
    const parts = groups[i]!.split(":").map(Number);
    const code = parts[0]!;
    if (code === 38 || code === 48) {
      const { color, used } = parts.length > 1 ? colonColor(parts) : semicolonColor(groups, i);
      i += used;
      if (color !== undefined) next[code === 38 ? "color" : "background"] = color;
    } else applyCode(next, code, parts[1]);
  }
  return next;
}

const flags: Record<number, "bold" | "dim" | "italic" | "underline" | "inverse" | "strike"> = {
  1: "bold",
  2: "dim",
  3: "italic",
  4: "underline",
  7: "inverse",
  9: "strike",
  21: "underline",
};

const resets: Record<number, (keyof AnsiStyle)[]> = {
  22: ["bold", "dim"],
  23: ["italic"],
  24: ["underline"],
  27: ["inverse"],
  29: ["strike"],
  39: ["color"],
  49: ["background"],
};

function applyCode(style: AnsiStyle, code: number, detail: number | undefined): void {
  const flag = flags[code];
  // 4:0 is "no underline".
  if (flag && !(code === 4 && detail === 0)) style[flag] = true;
  else if (code === 0) for (const key of Object.keys(style)) delete style[key as keyof AnsiStyle];
  else if (code === 4) delete style.underline;
  else if (resets[code]) for (const key of resets[code]) delete style[key];
  else if (code >= 30 && code <= 37) style.color = `ansi-${code - 30}`;
  else if (code >= 40 && code <= 47) style.background = `ansi-${code - 40}`;
  else if (code >= 90 && code <= 97) style.color = `ansi-${code - 82}`;
  else if (code >= 100 && code <= 107) style.background = `ansi-${code - 92}`;
}

/** 38;5;n and 38;2;r;g;b. */
function semicolonColor(groups: string[], at: number): { color: AnsiColor | undefined; used: number } {
  const number = (offset: number) => Number(groups[at + offset] ?? NaN);
  if (number(1) === 5) return { color: paletteColor(number(2)), used: 2 };
  if (number(1) === 2) return { color: rgb(number(2), number(3), number(4)), used: 4 };
  return { color: undefined, used: 1 };
}

/** 38:5:n, 38:2:r:g:b and, with a colour space, 38:2::r:g:b. */
function colonColor(parts: number[]): { color: AnsiColor | undefined; used: number } {
  if (parts[1] === 5) return { color: paletteColor(parts[2]!), used: 0 };
  const [r, g, b] = parts.slice(-3);
  return { color: parts[1] === 2 && parts.length >= 5 ? rgb(r!, g!, b!) : undefined, used: 0 };
}

const isByte = (value: number) => Number.isInteger(value) && value >= 0 && value <= 255;

function rgb(r: number, g: number, b: number): AnsiColor | undefined {
  if (![r, g, b].every(isByte)) return undefined;
  return `#${[r, g, b].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function paletteColor(index: number): AnsiColor | undefined {
  if (!isByte(index)) return undefined;
  if (index < 16) return `ansi-${index}`;
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return rgb(grey, grey, grey);
  }
  const level = (value: number) => (value === 0 ? 0 : 55 + value * 40);
  const cube = index - 16;
  return rgb(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}
