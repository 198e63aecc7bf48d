import type { LogLevel } from "./schema.ts";

/** What a line leaves behind for the next one of its stream. */
export type LevelState = "plain" | "traceback";

const levelByWord: Record<string, LogLevel> = {
  TRACE: "DEBUG",
  VERBOSE: "DEBUG",
  DEBUG: "DEBUG",
  DBG: "DEBUG",
  INFO: "INFO",
  NOTICE: "INFO",
  SUCCESS: "INFO",
  WARN: "WARNING",
  WARNING: "WARNING",
  ERR: "ERROR",
  ERROR: "ERROR",
  SEVERE: "ERROR",
  CRIT: "CRITICAL",
  CRITICAL: "CRITICAL",
  FATAL: "CRITICAL",
  ALERT: "CRITICAL",
  EMERG: "CRITICAL",
  PANIC: "CRITICAL",
};
const levelByLetter: Record<string, LogLevel> = {
  D: "DEBUG",
  V: "DEBUG",
  I: "INFO",
  W: "WARNING",
  E: "ERROR",
  F: "CRITICAL",
  C: "CRITICAL",
};

/** A level stands near the start of its line; the rest is message, where "error" is only a word. */
const LOOK_AT = 400;
const WORD = Object.keys(levelByWord).join("|");

// eslint-disable-next-line no-control-regex
const ANSI = /\u001b\[[0-9;:?]*[ -/]*[@-~]/g;
/** No line without one of these has a level: most output is passed by on this test alone. */
const CANDIDATE =
  /trace|verbose|debug|dbg|info|notice|success|warn|err|severe|crit|fatal|alert|emerg|panic|exception|fault|interrupt|"level|^[\s[]*(?:\S{1,40}\s)?[DIWEFV][\d ]|: [DIWEF] /i;

/** Traceback header, with whatever a launcher puts before it ("[rank0]: "). */
const TRACEBACK = /^(?:\S{1,40} ?)?\s*(?:\+ )?(?:Exception Group )?Traceback \(most recent call last\):/;
const TRACEBACK_BRIDGE =
  /^(?:\[\w+\]:)?\s*(?:During handling of the above exception|The above exception was the direct cause)/;
const TRACEBACK_INSIDE = /^(?:\[\w+\]: )?(?:\s|$)|^\[\w+\]:$/;

const PREFIX = String.raw`^(?:[\d\s:.,TZ+/\-|]|\[[^\]]{0,80}\]|\([^)]{0,80}\)){0,60}`;
/** In the order of how sure they are; the first that matches decides. */
const rules: { pattern: RegExp; level: (match: RegExpExecArray) => LogLevel | undefined }[] = [
  // glog, absl, klog: "E1123 10:00:00.123456 …", "I20261123 10:…"
  { pattern: /^([DIWEFV])\d{4}(?:\d{4})? \d\d:\d\d:\d\d/, level: (m) => levelByLetter[m[1]!] },
  // TensorFlow: "2026-11-23 10:00:00.1: W tensorflow/…"
  { pattern: /^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S*: ([DIWEF]) /, level: (m) => levelByLetter[m[1]!] },
  // [INFO], [ info ], [INFO|trainer.py:12], <warning>, and after other brackets
  {
    pattern: new RegExp(String.raw`[[<(]\s*(${WORD})\s*(?:[\]>)]|[|:]\S)`, "i"),
    // In small letters only near the start, and not in parentheses, where it would be prose.
    level: (m) => (isShout(m[1]!) || (m.index < 60 && m[0][0] !== "(") ? word(m[1]!) : undefined),
  },
  // "… - INFO - message", "| INFO     |", tab INFO tab
  { pattern: new RegExp(String.raw`(?: - |\|\s*|\t)(${WORD})(?:\s*- |\s*\||\t)`), level: (m) => word(m[1]!) },
  // Only a time, numbers or brackets before it: "2026-11-23 10:00:00 INFO message", "INFO 11-23 10:00 …"
  {
    pattern: new RegExp(String.raw`${PREFIX}(${WORD})(?=[\s:\]!-]|$)`),
    level: (m) => word(m[1]!),
  },
  // "error: message", "Warning: message", "npm WARN", "fatal error: …"
  {
    pattern: new RegExp(String.raw`^(${WORD})(?: error)?(?:\[\w+\])?:(?:\s|$)`, "i"),
    level: (m) => word(m[1]!),
  },
  { pattern: new RegExp(String.raw`\b(?:npm|NCCL) (${WORD})\b`), level: (m) => word(m[1]!) },
  // logfmt
  { pattern: /(?:^|\s)(?:level|lvl|severity)="?([A-Za-z]+)"?(?:\s|$)/, level: (m) => word(m[1]!) },
  // "name:ERROR: …", compiler output "file.c:1:2: error: …", Python's warnings "x.py:3: UserWarning: …"
  { pattern: /^\S+?:\d+(?::\d+)?: (?:\w+\.)*\w*Warning: /, level: () => "WARNING" },
  { pattern: /^\S+?:\d+(?::\d+)?: (fatal|error|warning)(?: error)?: /i, level: (m) => word(m[1]!) },
  // An exception's last line, without its traceback
  {
    pattern: /^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?:: |$)/,
    level: () => "ERROR",
  },
  { pattern: /^(?:[A-Za-z_]\w*\.)*[A-Z]\w*Warning: /, level: () => "WARNING" },
  {
    pattern: /^(?:Segmentation fault|Bus error|Floating point exception|thread '.{0,80}' panicked at)/,
    level: () => "ERROR",
  },
];

const isShout = (text: string) => text === text.toUpperCase();

const word = (text: string): LogLevel | undefined => levelByWord[text.toUpperCase()];

/** pino and bunyan number their levels. */
const numbered = (level: number): LogLevel | undefined =>
  level >= 60
    ? "CRITICAL"
    : level >= 50
      ? "ERROR"
      : level >= 40
        ? "WARNING"
        : level >= 30
          ? "INFO"
          : level >= 10
            ? "DEBUG"
            : undefined;

function jsonLevel(text: string): LogLevel | undefined {
  const match =
    /"(?:level|levelname|log_level|loglevel|lvl|severity)"\s*:\s*(?:"\s*([A-Za-z]+)\s*"|(\d{1,2})\b)/i.exec(
      text,
    );
  if (!match) return undefined;
  return match[1] === undefined ? numbered(Number(match[2])) : word(match[1]);
}

/** The level a line speaks of itself, or null. `state` is what the line before it on the same stream returned. */
export function recogniseLevel(
  text: string,
  state: LevelState,
): { level: LogLevel | null; state: LevelState } {
  if (state === "traceback") {
    if (TRACEBACK_INSIDE.test(text) || TRACEBACK_BRIDGE.test(text) || TRACEBACK.test(text))
      return { level: "ERROR", state: "traceback" };
    // The exception itself ends it, unless what follows says "During handling …".
    if (!hasOtherLevel(text)) return { level: "ERROR", state: "plain" };
  }
  const head = text.length > LOOK_AT ? text.slice(0, LOOK_AT) : text;
  if (!CANDIDATE.test(head)) return { level: null, state: "plain" };
  const plain = head.includes("\u001b") ? head.replace(ANSI, "") : head;
  if (TRACEBACK.test(plain) || TRACEBACK_BRIDGE.test(plain)) return { level: "ERROR", state: "traceback" };
  return { level: spokenLevel(plain) ?? null, state: "plain" };
}

function spokenLevel(text: string): LogLevel | undefined {
  if (/^\s*\{/.test(text)) return jsonLevel(text);
  for (const { pattern, level } of rules) {
    const match = pattern.exec(text);
    if (match) {
      const found = level(match);
      if (found) return found;
    }
  }
  return undefined;
}

/** A line that says it is something else cannot be the exception of a traceback that was cut off. */
function hasOtherLevel(text: string): boolean {
  const level = spokenLevel(text.slice(0, LOOK_AT).replace(ANSI, ""));
  return level !== undefined && level !== "ERROR" && level !== "CRITICAL";
}

export function withoutAnsi(text: string): string {
  return text.includes("\u001b") ? text.replace(ANSI, "") : text;
}
