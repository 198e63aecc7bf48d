import { randomUUID } from "node:crypto";
import { CollectorError } from "../error.ts";

/** Longer text than this is no message of a client: it is refused before it is looked at. */
const MAX_TEXT = 64 * 1024 * 1024;
/** Whoever looks at the result recursively must not run out of stack. */
const MAX_DEPTH = 64;

/**
 * JSON as FedML's clients write it: Python's bare NaN, Infinity and -Infinity are numbers, and an integer beyond 2^53 (ids are)
 * is a string of its digits. Everything else as JSON.parse has it.
 */
export function parseFedmlJson(text: string): unknown {
  if (text.length > MAX_TEXT)
    throw new CollectorError("too-large", `The message is longer than ${MAX_TEXT / 1024 / 1024} MiB.`, {
      hint: "Send less at once.",
    });
  if (!NEEDS_CARE.test(text)) return shallow(parse(text));
  // What no sender can guess: a look for one that the text does not hold would take as long as the sender likes.
  const nan = text.includes("NaN") ? `NaN ${randomUUID()}` : "";
  return shallow(parse(rewrite(text, nan)), nan);
}

/** Not what stands behind a decimal point: most floats have as many digits. */
const NEEDS_CARE = /(?<![.\d])\d{16}|NaN|Infinity/;
const TOKEN = /-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|NaN|-?Infinity/g;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CollectorError("invalid", `This is not JSON: ${(error as Error).message.slice(0, 200)}`, {
      hint: "Send JSON, as FedML's client does.",
    });
  }
}

/** Only what stands outside of strings changes. */
function rewrite(text: string, nan: string): string {
  const pieces: string[] = [];
  let copied = 0;
  let at = 0;
  while (at < text.length) {
    const quote = text.indexOf('"', at);
    const end = quote === -1 ? text.length : quote;
    if (end - at > 2) {
      const outside = text.slice(at, end);
      if (NEEDS_CARE.test(outside)) {
        pieces.push(
          text.slice(copied, at),
          outside.replace(TOKEN, (token) => rewriteToken(token, nan)),
        );
        copied = end;
      }
    }
    if (quote === -1) break;
    at = endOfString(text, quote + 1);
  }
  return copied === 0 ? text : pieces.join("") + text.slice(copied);
}

/** Spaces around: what was no JSON (1Infinity) must not become some. */
function rewriteToken(token: string, nan: string): string {
  if (token === "NaN") return ` "${nan}" `;
  if (token.endsWith("y")) return token.startsWith("-") ? " -1e999 " : " 1e999 ";
  return /^-?[1-9]\d*$/.test(token) && !Number.isSafeInteger(Number(token)) ? ` "${token}" ` : token;
}

/** Where the string goes on that begins before `at`: behind its quote. */
function endOfString(text: string, at: number): number {
  for (;;) {
    const quote = text.indexOf('"', at);
    if (quote === -1) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === 0x5c) backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}

/** Refuses what is nested too deeply, and puts NaN where `nan` stands for it. */
function shallow(value: unknown, nan = ""): unknown {
  if (nan !== "" && value === nan) return Number.NaN;
  let level = isNested(value) ? [value] : [];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth >= MAX_DEPTH)
      throw new CollectorError("invalid", "The JSON is nested too deeply.", { hint: "Flatten it." });
    const next: object[] = [];
    for (const holder of level)
      for (const key of Array.isArray(holder) ? holder.keys() : Object.keys(holder)) {
        const inner = (holder as Record<string, unknown>)[key];
        if (isNested(inner)) next.push(inner);
        else if (nan !== "" && inner === nan)
          // An assignment to __proto__ would be none.
          Object.defineProperty(holder, key, {
            value: Number.NaN,
            enumerable: true,
            writable: true,
            configurable: true,
          });
      }
    level = next;
  }
  return value;
}

const isNested = (value: unknown): value is object => typeof value === "object" && value !== null;
