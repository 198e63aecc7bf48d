import { LogLevel, MAX_PREFIX_LENGTH, type LogItem } from "../log/schema.ts";
import { MAX_TIME } from "../metric/schema.ts";

/** Beyond it a line is cut: nobody reads on, and it would not be taken. */
const MAX_LINE = 1_000_000;
const LEVELS: ReadonlySet<string> = new Set(LogLevel.options);

/**
 * "[FedML-Client @device-id-17] [Mon, 23 Nov 2026 09:33:34.938608884] [INFO] [train.py:12:main] epoch 1". Older clients write
 * FedML-Client(0), no fraction or an offset; what follows the first line of a message (a traceback) has no place of its own.
 */
const LINE = /^\[(FedML-[^\]]*)\] \[([^\]]+)\] \[([A-Za-z]+)\] (?:\[([^\]:]*:\d+(?::[^\]]*)?)\] )?/;
const TIME =
  /^(?:[^\s,]+, )?(\d{1,2}) (\S+) (\d{4}) (\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?: ?([+-])(\d\d):?(\d\d))?$/;
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

export interface FedmlLine extends LogItem {
  /** Who wrote it, as it says: "FedML-Client @device-id-17". */
  writer?: string | undefined;
  /** Where in the program: "train.py:12:main". */
  source?: string | undefined;
}

/** Takes a line of FedML's apart, such that prefix and text are the line again. What is none is text, with no time and level of its own. */
export function parseFedmlLine(raw: string): FedmlLine {
  const line = chop(raw);
  const match = LINE.exec(line);
  if (!match || match[0].length > MAX_PREFIX_LENGTH) return { text: line };
  const [prefix, writer, timeText = "", word = "", source] = match;
  const time = parseFedmlTime(timeText);
  const level = word.toUpperCase();
  const parsed: FedmlLine = { prefix, text: line.slice(prefix.length), writer, source };
  if (time !== undefined) parsed.time = time;
  if (LEVELS.has(level)) parsed.level = level as LogLevel;
  return parsed;
}

function chop(raw: string): string {
  let end = raw.length;
  if (raw.charCodeAt(end - 1) === 0x0a) end--;
  if (raw.charCodeAt(end - 1) === 0x0d) end--;
  return raw.slice(0, Math.min(end, MAX_LINE));
}

/** Lines of a batch mostly share their second. */
let lastText = "";
let lastTime: number | undefined;

/** ms since the epoch, as exactly as a number can be; UTC where it names no offset. */
export function parseFedmlTime(text: string): number | undefined {
  const dot = text.indexOf(".");
  // With an offset behind it the fraction is no plain number.
  const isPlain = dot > 0 && text.length - dot === 10;
  const head = isPlain ? text.slice(0, dot) : text;
  if (head !== lastText) {
    lastText = head;
    lastTime = parseSeconds(head);
  }
  if (lastTime === undefined || !isPlain) return lastTime;
  const time = lastTime + Number(text.slice(dot + 1)) / 1e6;
  return time >= 0 && time <= MAX_TIME ? time : undefined;
}

function parseSeconds(text: string): number | undefined {
  const match = TIME.exec(text);
  if (!match) return undefined;
  const [
    ,
    day,
    name = "",
    year,
    hour,
    minute,
    second,
    fraction = "",
    sign,
    offsetHours = "0",
    offsetMinutes = "0",
  ] = match;
  const month = MONTHS.indexOf(name.slice(0, 3).toLowerCase());
  if (month < 0) return undefined;
  const utc = Date.UTC(Number(year), month, Number(day), Number(hour), Number(minute), Number(second));
  const offset = (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000;
  const time = utc - (sign === "-" ? -offset : offset) + Number(fraction.padEnd(9, "0")) / 1e6;
  return time >= 0 && time <= MAX_TIME ? time : undefined;
}
