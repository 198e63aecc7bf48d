/** How destinations fare, in words. Pure. */
import { deviceOfStream, isRunStream } from "../entry.ts";
import { isWanted } from "../relay/reasons.ts";
import type { Relay, RelayDrop, RelayList } from "../relay/schema.ts";
import { formatCount, formatDuration, formatTime, plural } from "./format.ts";
import { formatReading } from "./units.ts";

export type Tone = "good" | "busy" | "warn" | "bad" | "idle";

export interface RelayWords {
  tone: Tone;
  word: string;
  /** What is wrong, in the words of whoever found out. */
  problem: string | null;
  /** What a person can do. */
  advice: string | null;
  /** What goes on by itself. */
  next: string | null;
}

const calm: Record<Exclude<Relay["state"], "waiting" | "paused" | "in-use">, [Tone, string]> = {
  starting: ["idle", "Connecting"],
  history: ["busy", "Catching up with history"],
  sending: ["busy", "Sending"],
  idle: ["good", "Up to date"],
};

export function relayWords(relay: Relay, now: number): RelayWords {
  const { state, error, attempts } = relay;
  const about = { problem: error?.message ?? null, advice: error?.hint ?? null };
  const again = nextTry(relay, now);
  if (state === "waiting") {
    const failed = attempts > 1 ? `, after ${formatCount(attempts)} that failed` : "";
    return {
      tone: "warn",
      word: "Waiting to try again",
      ...about,
      next: `Next attempt ${again ?? "soon"}${failed}. Everything is kept for it meanwhile.`,
    };
  }
  if (state === "paused" || state === "in-use")
    return {
      tone: "bad",
      word: state === "paused" ? "Paused" : "In use elsewhere",
      ...about,
      next: `Everything is kept for it meanwhile; it is looked at again ${again ?? "every few minutes"}.`,
    };
  const [tone, word] = calm[state];
  return { tone, word, ...about, next: null };
}

function nextTry({ next_try_at }: Relay, now: number): string | null {
  if (next_try_at === null) return null;
  const wait = Math.ceil((Date.parse(next_try_at) - now) / 1000);
  if (wait < 1) return "now";
  return `in ${wait < 60 ? `${wait} s` : formatDuration(wait * 1000)}`;
}

/** What has not arrived; null where there is nothing. */
export function backlogWords({ backlog: { entries, bytes } }: Relay): string | null {
  if (entries === 0) return null;
  const count = plural(entries, "entry", "entries");
  return bytes === null ? count : `${count}, ${formatReading("B", bytes)}`;
}

export function rateWords({ rate }: Relay): string | null {
  if (rate === null) return null;
  const entries = rate.entries < 10 ? Math.round(rate.entries * 10) / 10 : Math.round(rate.entries);
  return `${formatCount(entries)} ${entries === 1 ? "entry" : "entries"}/s, ${formatReading("B/s", rate.bytes)}`;
}

/** Files that the destination has not got; null where nobody knows. */
export function contentWords({ content }: Relay): string | null {
  if (content === null || content.files === null) return null;
  if (content.files === 0) return "none";
  return `${plural(content.files, "file")}, ${formatReading("B", content.bytes ?? 0)}`;
}

export interface HistoryWords {
  text: string;
  /** 0 to 1; null where the whole is not known yet. */
  share: number | null;
}

export function historyWords({ history }: Relay): HistoryWords | null {
  if (history === null) return null;
  const { done, total } = history;
  if (total === null || total === 0) return { text: "Looking what the destination has already", share: null };
  return {
    text: `${formatCount(done)} of ${plural(total, "part")} of what was kept before`,
    share: Math.min(1, done / total),
  };
}

const kinds: [prefix: string, words: string][] = [
  ["metric.", "metrics"],
  ["log.", "output"],
  ["sample.", "hardware readings"],
  ["event.", "hardware events"],
  ["device.", "a machine's description"],
  ["use.", "a run's use of hardware"],
  ["artifact.", "a model or an artifact"],
  ["run.", "a run's own data"],
];

/** What an entry of the journal holds. */
export const kindWords = (kind: string): string =>
  kinds.find(([prefix]) => kind.startsWith(prefix))?.[1] ?? kind;

export interface StreamWords {
  text: string;
  href: string | null;
}

/** Whose entry it is. */
export function streamWords(stream: string): StreamWords {
  const device = deviceOfStream(stream);
  if (device !== undefined)
    return { text: `device ${device}`, href: `/devices/${encodeURIComponent(device)}` };
  if (stream === "" || !isRunStream(stream)) return { text: "", href: null };
  return { text: `run ${stream}`, href: `/runs/${encodeURIComponent(stream)}` };
}

/** Of which entries and of what time, as far as is known. */
export function dropRange({ first_seq, last_seq, first_time, last_time }: RelayDrop): string {
  const seqs =
    first_seq === null
      ? []
      : [
          last_seq === null || last_seq === first_seq
            ? `entry ${formatCount(first_seq)}`
            : `entries ${formatCount(first_seq)} to ${formatCount(last_seq)}`,
        ];
  const times =
    first_time === null
      ? []
      : [
          [first_time, last_time ?? first_time]
            .map((time) => formatTime(Date.parse(time)))
            .filter((time, i, all) => all.indexOf(time) === i)
            .join(" to "),
        ];
  return [...seqs, ...times].join(", ") || "—";
}

export const amountWords = ({ records, bytes }: { records: number; bytes: number }): string =>
  `${plural(records, "record")}, ${formatReading("B", bytes)}`;

/** A drop so young that more are likely to follow. */
const RECENT_MS = 10 * 60_000;

export interface Banner {
  text: string;
  tone: "bad" | "warn";
}

/** The line on every page while something is wrong that a person must see to; null while nothing is. */
export function relayBanner(
  { relays, drops }: Pick<RelayList, "relays" | "drops">,
  now: number,
): Banner | null {
  const stuck = relays.filter(({ state }) => state === "paused" || state === "in-use");
  const lost = drops.find(({ at, reason }) => now - Date.parse(at) < RECENT_MS && !isWanted(reason));
  const parts: string[] = [];
  const [first] = stuck;
  if (stuck.length > 1) parts.push(`Relays to ${stuck.map(({ name }) => name).join(", ")} are paused.`);
  else if (first) parts.push(`The relay to ${first.name} is paused.`, sentence(first.error?.message));
  if (lost) {
    const to = lost.destination === null ? "" : ` for ${lost.destination}`;
    parts.push(`Records${to} are being dropped.`, sentence(lost.reason));
  }
  const text = parts.filter((part) => part !== "").join(" ");
  return text === "" ? null : { text, tone: "bad" };
}

const sentence = (text = "") => {
  const plain = text.replaceAll("`", "");
  return plain === "" || /[.!?]$/.test(plain) ? plain : `${plain}.`;
};
