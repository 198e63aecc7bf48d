/** Where each span of a run stands in its timeline, and what it is called. Pure, the same on the server and in the browser. */
import type { Span } from "../span/schema.ts";
import { formatDuration } from "./format.ts";

/** A span where it is drawn. Times are ms since the epoch. */
export interface Bar {
  span: Span;
  from: number;
  to: number;
  /** Of its lane, from the top. */
  row: number;
  /** What nobody has said of it. */
  lacks: "start" | "end" | null;
}

export interface Lane {
  key: string;
  label: string;
  /** Rows of bars that overlap. */
  rows: number;
  bars: Bar[];
  /** How its edge was, one after another. */
  statuses: Bar[];
}

export interface Timeline {
  lanes: Lane[];
  from: number;
  to: number;
  /** By the time of their beginning. */
  bars: Bar[];
}

/** Bars that overlap more than this share the last row: a lane stays readable. */
const MAX_ROWS = 6;
const ROUNDS = "rounds";
const natural = new Intl.Collator("en", { numeric: true });

const ms = (time: string | null): number | undefined => (time === null ? undefined : Date.parse(time));

/** `until`: how far the run has come: what has not ended is drawn up to there. */
export function layTimeline(spans: readonly Span[], until: number): Timeline {
  const bars = spans.map((span) => barOf(span, until)).sort((a, b) => a.from - b.from || a.to - b.to);
  const byLane = new Map<string, Bar[]>();
  for (const bar of bars) {
    const key = laneOf(bar.span);
    const lane = byLane.get(key);
    if (lane) lane.push(bar);
    else byLane.set(key, [bar]);
  }
  const lanes = [...byLane].map(([key, all]) => layLane(key, all)).sort(byPlace);
  let [from, to] = [Infinity, -Infinity];
  for (const bar of bars) {
    from = Math.min(from, bar.from);
    to = Math.max(to, bar.to);
  }
  if (from > to) [from, to] = [until, until];
  return { lanes, from, to: Math.max(to, from + 1), bars };
}

function barOf(span: Span, until: number): Bar {
  const [start, end] = [ms(span.started), ms(span.ended)];
  const from = start ?? end!;
  const to = Math.max(from, end ?? until);
  return { span, from, to, row: 0, lacks: start === undefined ? "start" : end === undefined ? "end" : null };
}

const laneOf = ({ kind, edge }: Span): string => (kind === "round" ? ROUNDS : `edge ${edge ?? ""}`);

function layLane(key: string, all: readonly Bar[]): Lane {
  const bars: Bar[] = [];
  const statuses: Bar[] = [];
  const ends: number[] = [];
  for (const bar of all) {
    if (bar.span.kind === "status") {
      // Live ones come without the end that the next one is.
      const last = statuses.at(-1);
      if (last && last.lacks === "end") Object.assign(last, { to: bar.from, lacks: null });
      statuses.push(bar);
      continue;
    }
    let row = ends.findIndex((end) => end <= bar.from);
    if (row < 0) row = Math.min(ends.length, MAX_ROWS - 1);
    // What takes no time takes some room.
    ends[row] = Math.max(ends[row] ?? -Infinity, bar.to, bar.from + 1);
    bar.row = row;
    bars.push(bar);
  }
  return { key, label: labelOf(key), rows: Math.max(bars.length > 0 ? ends.length : 0, 0), bars, statuses };
}

function labelOf(key: string): string {
  if (key === ROUNDS) return "Rounds";
  return edgeLabel(key.slice(5) || null);
}

/** Numbers alone say nothing. */
export const edgeLabel = (edge: string | null): string =>
  edge === null ? "Run" : /^\d+$/.test(edge) ? `Edge ${edge}` : edge.replace(/^server(?= |$)/, "Server");

const isServer = ({ key }: Lane): boolean => /^edge server( |$)/.test(key);

function byPlace(a: Lane, b: Lane): number {
  const place = (lane: Lane) => (lane.key === ROUNDS ? 0 : lane.key === "edge " ? 1 : isServer(lane) ? 2 : 3);
  return place(a) - place(b) || natural.compare(a.key, b.key);
}

/** Rounds are counted from 0 or from 1, and nobody says which: with 10 of 10 it is from 1. */
export const firstRound = (spans: readonly Span[]): 0 | 1 =>
  spans.some(
    ({ kind, round, total }) => kind === "round" && round !== null && total !== null && round >= total,
  )
    ? 1
    : 0;

/** What a span is, in words. */
export function spanWords({ kind, name, value, round, total }: Span, first: 0 | 1): string {
  if (kind === "round" && round !== null) return `Round ${roundWords(round, total, first)}`;
  if (kind === "status") return statusWord(name);
  return value === null ? name : `${name} ${value}`;
}

/** Where there is no room for more: which round it is. */
export const shortWords = ({ kind, round }: Span, first: 0 | 1): string =>
  kind === "round" && round !== null ? `${round + 1 - first}` : "";

const roundWords = (round: number, total: number | null, first: 0 | 1): string =>
  total === null ? `${round + 1 - first}` : `${round + 1 - first} of ${total}`;

const statusWord = (name: string): string =>
  /^[A-Z_]+$/.test(name) ? name[0] + name.slice(1).toLowerCase().replaceAll("_", " ") : name;

/** How long it took; what is not known is said. */
export function durationWords({ from, to, lacks, span }: Bar, isLive: boolean): string {
  if (lacks === "start") return "start unknown";
  if (lacks === "end") return isLive ? `${formatDuration(to - from)} so far` : "end unknown";
  if (span.kind === "status" && to === from) return "";
  return formatSpan(to - from);
}

/** Short ones in milliseconds: most events of a small model are. */
export const formatSpan = (ms: number): string =>
  ms < 1000 ? `${ms < 10 && ms > 0 ? Number(ms.toFixed(1)) : Math.round(ms)} ms` : formatDuration(ms);

/** How a status is drawn: with the colour of a run's. */
export function toneOf(name: string): "good" | "bad" | "active" | "idle" | "warn" {
  if (name === "FINISHED") return "good";
  if (/^(FAILED|EXCEPTION|ERROR|INVALID)$/.test(name)) return "bad";
  if (/^(KILLED|STOPPING|ABANDONED)$/.test(name)) return "warn";
  return /^(RUNNING|TRAINING)$/.test(name) ? "active" : "idle";
}

/** What stands above the lanes: the newest round, how rounds went, and how the edges are. */
export function summaryOf({ lanes }: Timeline, first: 0 | 1): string[] {
  const words: string[] = [];
  const rounds = lanes.find(({ key }) => key === ROUNDS)?.bars ?? [];
  const newest = rounds.reduce<Bar | undefined>(
    (newest, bar) => ((bar.span.round ?? -1) >= (newest?.span.round ?? -1) ? bar : newest),
    undefined,
  );
  if (newest) words.push(spanWords(newest.span, first));
  const took = rounds.filter(({ lacks }) => lacks === null).map(({ from, to }) => to - from);
  if (took.length > 1)
    words.push(`${formatSpan(took.reduce((sum, ms) => sum + ms, 0) / took.length)} a round on average`);
  const edges = lanes.filter((lane) => lane.statuses.length > 0 && !isServer(lane));
  const counts = new Map<string, number>();
  for (const { statuses } of edges) {
    const word = statusWord(statuses.at(-1)!.span.name).toLowerCase();
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  if (edges.length > 0)
    words.push(
      `${edges.length} ${edges.length === 1 ? "edge" : "edges"}: ${[...counts].map(([word, n]) => `${n} ${word}`).join(", ")}`,
    );
  return words;
}

/** Lines of the time axis, and what stands at them: time since the beginning, in steps that people count in. */
export function ticksOf(
  from: number,
  to: number,
  origin: number,
  most: number,
): { at: number; label: string }[] {
  const wanted = (to - from) / Math.max(1, most);
  const step = STEPS.find((step) => step >= wanted) ?? Math.ceil(wanted / 604_800_000) * 604_800_000;
  const ticks: { at: number; label: string }[] = [];
  for (let at = origin + Math.ceil((from - origin) / step) * step; at <= to; at += step)
    ticks.push({ at, label: elapsed(at - origin, step) });
  return ticks;
}

/** ms */
const STEPS = [
  0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120,
  300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
].map((seconds) => seconds * 1000);

/** 90,000 → "1m 30s". */
export function elapsed(ms: number, step = 1): string {
  const sign = ms < 0 ? "−" : "";
  const size = Math.abs(ms);
  if (size < 60_000) {
    const digits = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : step >= 1 ? 3 : 4;
    return `${sign}${(size / 1000).toFixed(digits)}s`;
  }
  const s = Math.floor(size / 1000);
  const rest =
    step < 1000 ? `${((size % 60_000) / 1000).toFixed(step >= 100 ? 1 : 3)}s` : s % 60 ? `${s % 60}s` : "";
  if (s < 3600) return `${sign}${Math.floor(s / 60)}m${rest && ` ${rest}`}`;
  const minutes = Math.floor((s % 3600) / 60);
  if (s < 86_400)
    return `${sign}${Math.floor(s / 3600)}h${minutes ? ` ${minutes}m` : ""}${s % 60 ? ` ${s % 60}s` : ""}`;
  const hours = Math.floor((s % 86_400) / 3600);
  return `${sign}${Math.floor(s / 86_400)}d${hours ? ` ${hours}h` : ""}`;
}

/** Those whose name, value or edge holds the text. */
export function matching(spans: readonly Span[], text: string, first: 0 | 1): readonly Span[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") return spans;
  return spans.filter((span) =>
    `${spanWords(span, first)} ${span.name} ${edgeLabel(span.edge)} ${span.kind}`
      .toLowerCase()
      .includes(wanted),
  );
}
