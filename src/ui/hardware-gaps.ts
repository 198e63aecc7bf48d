/** Why values are missing, and what happened: what the collector recorded, in words for a person. Pure. */
import type { Gpu } from "../device/schema.ts";
import type { DeviceEvent, EventKind } from "../sample/schema.ts";
import { CGROUP, MACHINE, runOfSubject } from "../sample/subject.ts";
import type { HardwareChart, Line } from "./hardware-charts.ts";
import { gpuLabel } from "./hardware-gpus.ts";
import type { Hole } from "./hardware-lines.ts";

export interface Gap extends Hole {
  /** Keys of the lines that have no value then. */
  lines: string[];
  reason: string;
}

/** When something was the case, of one subject. */
export interface Span {
  from: number;
  to: number;
  subject: string;
  text: string;
}

export type Severity = "bad" | "warn" | "good" | "info";

const severityByKind: Record<EventKind, Severity> = {
  "sampling.began": "info",
  "sampling.ended": "info",
  "gpu.status": "warn",
  "reading.state": "info",
  "gpu.lost": "bad",
  "gpu.back": "good",
  "gpu.xid": "bad",
  "throttle.began": "warn",
  "throttle.ended": "info",
  "memory.oom_kill": "bad",
  "clock.jumped": "info",
};

export const severityOf = ({ kind, detail }: Pick<DeviceEvent, "kind" | "detail">): Severity =>
  kind === "gpu.status" && detail["status"] === "ok" ? "good" : severityByKind[kind];

const words: Record<EventKind, string> = {
  "sampling.began": "Sampling began",
  "sampling.ended": "Sampling ended",
  "gpu.status": "GPU reader",
  "reading.state": "Reading",
  "gpu.lost": "GPU lost",
  "gpu.back": "GPU back",
  "gpu.xid": "Xid",
  "throttle.began": "Throttling began",
  "throttle.ended": "Throttling ended",
  "memory.oom_kill": "Out of memory",
  "clock.jumped": "Clock jumped",
};

/** What kind of event it was, in a word or two. */
export function eventWord({ kind, detail }: Pick<DeviceEvent, "kind" | "detail">): string {
  const xid = detail["xid"];
  return kind === "gpu.xid" && typeof xid === "number" ? `Xid ${xid}` : words[kind];
}

/** Whose event it was. */
export function subjectLabel(subject: string, gpus: readonly Gpu[]): string {
  if (subject === MACHINE) return "Machine";
  if (subject === CGROUP) return "Container";
  if (runOfSubject(subject) !== undefined) return "Run";
  const gpu = gpus.find(({ uuid }) => uuid === subject);
  return gpu ? gpuLabel(gpu, gpus) : subject;
}

const timeOf = (event: DeviceEvent) => Date.parse(event.time);

/** What an event says is so from then on, and until which other one. */
const states: Partial<Record<EventKind, { of: string; begins: (event: DeviceEvent) => boolean }>> = {
  "sampling.began": { of: "sampling", begins: () => false },
  "sampling.ended": { of: "sampling", begins: () => true },
  "gpu.lost": { of: "lost", begins: () => true },
  "gpu.back": { of: "lost", begins: () => false },
  "gpu.status": { of: "status", begins: ({ detail }) => detail["status"] !== "ok" },
  "reading.state": { of: "reading", begins: ({ detail }) => detail["state"] !== "ok" },
  "throttle.began": { of: "throttle", begins: () => true },
  "throttle.ended": { of: "throttle", begins: () => false },
};

interface State extends Span {
  of: string;
  /** Of a reading's state. */
  reading: string | undefined;
}

/** Events that come in pairs, as spans; those without an end go on. `events` ascend. */
export function statesOf(events: readonly DeviceEvent[]): State[] {
  const open = new Map<string, State>();
  const all: State[] = [];
  for (const event of events) {
    const state = states[event.kind];
    if (!state) continue;
    const reading = state.of === "reading" ? String(event.detail["reading"]) : undefined;
    const key = JSON.stringify([event.subject, state.of, reading]);
    const time = timeOf(event);
    const before = open.get(key);
    if (before) before.to = time;
    open.delete(key);
    if (!state.begins(event)) continue;
    const span = {
      of: state.of,
      reading,
      subject: event.subject,
      from: time,
      to: Infinity,
      text: event.text,
    };
    open.set(key, span);
    all.push(span);
  }
  return all;
}

/** Which of the states explains a hole best, from the nearest cause to the farthest. */
const causes = ["reading", "lost", "status", "sampling"];

export interface GapFacts {
  events: readonly DeviceEvent[];
  gpus: readonly Gpu[];
  /** When the device was first heard of. */
  firstSeen: number;
}

/** Half a tick is no contradiction: what ended a line and what says so are not read at one time. */
const NEAR_MS = 15_000;

export function reasonOf(line: Line, hole: Hole, facts: GapFacts, all: readonly State[]): string {
  // A run's memory on a GPU goes with the GPU.
  const gpu = facts.gpus.find(({ uuid }) => uuid === line.subject || uuid === line.part);
  const touching = all.filter(
    (state) =>
      causes.includes(state.of) &&
      state.from <= hole.to &&
      state.to >= hole.from - NEAR_MS &&
      (state.subject === line.subject ||
        state.subject === gpu?.uuid ||
        (state.subject === MACHINE &&
          (state.of === "sampling" || (state.of === "status" && gpu !== undefined)))) &&
      (state.reading === undefined || state.reading === line.reading),
  );
  const overlap = (state: State) => Math.min(state.to, hole.to) - Math.max(state.from, hole.from);
  const [best] = touching.sort(
    (a, b) => causes.indexOf(a.of) - causes.indexOf(b.of) || overlap(b) - overlap(a),
  );
  if (best) return best.text;
  const jump = facts.events.find(
    (event) =>
      event.kind === "clock.jumped" &&
      timeOf(event) >= hole.from - NEAR_MS &&
      timeOf(event) <= hole.to + NEAR_MS,
  );
  if (jump) return jump.text;
  const now = gpu?.states[line.reading];
  if (now && now.state !== "ok") return now.reason;
  if (hole.from < facts.firstSeen) return "Nothing was recorded of this machine before.";
  if (runOfSubject(line.subject) !== undefined) return "No process of the run was seen.";
  return "Nothing was recorded; the collector may have been off.";
}

/** Holes of all lines of a chart with their reasons; those of several lines at one time for one reason are one gap. */
export function gapsOf(
  chart: HardwareChart,
  holesByLine: ReadonlyMap<string, readonly Hole[]>,
  facts: GapFacts,
): Gap[] {
  const all = statesOf(facts.events);
  const gaps: Gap[] = [];
  for (const line of chart.lines)
    for (const hole of holesByLine.get(line.key) ?? []) {
      const reason = reasonOf(line, hole, facts, all);
      const same = gaps.find(
        (gap) =>
          gap.reason === reason &&
          Math.abs(gap.from - hole.from) < NEAR_MS &&
          Math.abs(gap.to - hole.to) < NEAR_MS,
      );
      if (!same) gaps.push({ ...hole, lines: [line.key], reason });
      else {
        same.lines.push(line.key);
        same.from = Math.min(same.from, hole.from);
        same.to = Math.max(same.to, hole.to);
      }
    }
  return gaps.sort((a, b) => a.from - b.from);
}

/** Charts that say something about clocks which are held down. */
const throttled = new Set([
  "gpu.throttle",
  "gpu.clock.sm",
  "gpu.power",
  "gpu.temperature",
  "gpu.utilization",
]);

export const throttleSpans = (chart: HardwareChart, events: readonly DeviceEvent[]): Span[] =>
  throttled.has(chart.id)
    ? statesOf(events).filter(({ of, subject }) => of === "throttle" && chart.subjects.includes(subject))
    : [];

export interface Marker {
  time: number;
  severity: Severity;
  text: string;
}

const marked = new Set<EventKind>([
  "gpu.lost",
  "gpu.back",
  "gpu.xid",
  "memory.oom_kill",
  "clock.jumped",
  "gpu.status",
]);

/** Events that stand on a chart as lines across. */
export function markersOf(chart: HardwareChart, events: readonly DeviceEvent[]): Marker[] {
  return events
    .filter(({ kind, subject }) => {
      if (!marked.has(kind)) return false;
      if (kind === "gpu.status") return chart.section === "gpu";
      if (kind === "clock.jumped") return true;
      // Who was killed for memory was the run, or might have been.
      if (kind === "memory.oom_kill") return chart.section !== "gpu";
      return chart.subjects.includes(subject) || chart.lines.some(({ part }) => part === subject);
    })
    .map((event) => ({
      time: timeOf(event),
      severity: severityOf(event),
      text: `${eventWord(event)}: ${event.text}`,
    }));
}
