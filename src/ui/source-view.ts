/** Where things come from, in words. Pure. */
import type { Source, SourceToken } from "../source/schema.ts";
import { formatDuration } from "./format.ts";

/** A source greets three times a minute: so long without a word is silence. */
const SILENT_MS = 65_000;
/** A difference of clocks that people would notice. */
const SKEW_MS = 2000;

export type Voice = "heard" | "silent";

export const voiceOf = ({ last_seen }: { last_seen: string }, now: number): Voice =>
  now - Date.parse(last_seen) > SILENT_MS ? "silent" : "heard";

/** "Silent for 2 h 05 min" */
export const voiceWords = (source: { last_seen: string }, now: number): string =>
  voiceOf(source, now) === "heard"
    ? "Connected"
    : `Silent for ${formatDuration(now - Date.parse(source.last_seen))}`;

/** `skew` is our clock less the source's. */
export function skewWords(skew: number | null): string | null {
  if (skew === null || Math.abs(skew) <= SKEW_MS) return null;
  return `Its clock is ${formatDuration(Math.abs(skew))} ${skew > 0 ? "behind" : "ahead"}`;
}

export type TokenState = "waiting" | "used" | "expired" | "revoked";

export function tokenState({ expires, revoked, used }: SourceToken, now: number): TokenState {
  if (revoked !== null) return "revoked";
  if (expires !== null && Date.parse(expires) <= now) return "expired";
  return used === null ? "waiting" : "used";
}

export const tokenWords: Record<TokenState, string> = {
  waiting: "Not used yet",
  used: "In use",
  expired: "Expired",
  revoked: "Revoked",
};

/** Names whose token was given out and that have not been heard of. */
export const expected = (
  tokens: readonly SourceToken[],
  sources: readonly Source[],
  now: number,
): SourceToken[] => {
  const heard = new Set(sources.map(({ name }) => name));
  return tokens.filter((token) => !heard.has(token.name) && tokenState(token, now) === "waiting");
};
