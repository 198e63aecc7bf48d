import type { SetRun } from "../run/schema.ts";
import { UsageError } from "./error.ts";

/** A flag that wants a whole number. */
export function wholeNumber(text: string | undefined, flag: string, min = 0): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < min)
    throw new UsageError(`${flag} wants a whole number of at least ${min}, not '${text}'.`);
  return value;
}

const isoTime = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$/;
const unitMs: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A point in time as people give it: "10m" ago, RFC 3339 (local time without a zone), or a date; ms since the epoch. */
export function pointInTime(text: string | undefined, flag: string, now = Date.now()): number | undefined {
  if (text === undefined) return undefined;
  const ago = /^(\d+(?:\.\d+)?)([smhd])$/.exec(text);
  if (ago) return now - Number(ago[1]) * unitMs[ago[2]!]!;
  // Date.parse alone takes "5" for the month of May 2001, and a bare date for one in London.
  const time = isoTime.test(text)
    ? Date.parse(text.length === 10 ? `${text}T00:00` : text.replace(" ", "T"))
    : NaN;
  if (Number.isNaN(time))
    throw new UsageError(`${flag} wants a time such as 10m, 2h or 2026-01-31T12:00:00Z, not '${text}'.`);
  return time;
}

type Json = NonNullable<SetRun["config"]>[string];

/** A flag that wants KEY=VALUE: JSON, else text; nothing behind the sign is null. */
export function keyAndValue(text: string, flag: string): [key: string, value: Json] {
  const at = text.indexOf("=");
  if (at <= 0) throw new UsageError(`${flag} wants KEY=VALUE, not '${text}'.`);
  const [key, value] = [text.slice(0, at), text.slice(at + 1)];
  if (value === "") return [key, null];
  try {
    return [key, parseJson(value) as Json];
  } catch {
    return [key, value];
  }
}

/** An id of 19 digits would come back with other digits, also from inside a list. */
export const parseJson = (text: string): unknown =>
  JSON.parse(text, (_key, value: unknown, ...context: unknown[]) => {
    const { source = "" } = (context[0] ?? {}) as { source?: string };
    const isRounded = typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER;
    return isRounded && /^-?\d+$/.test(source) ? source : value;
  });
