import { readdirSync, readlinkSync } from "node:fs";
import type { Gpu } from "../device/schema.ts";
import type { RunUse } from "../device/use.ts";
import { keyOf, roundReading } from "../sample/reading.ts";
import type { Sample } from "../sample/schema.ts";
import { subjectOfRun } from "../sample/subject.ts";
import type { Attribution, RunLook } from "./attribution.ts";
import type { GpuProcess, ReaderMessage } from "./gpu/message.ts";
import { createGpuUses, type Energy, type GpuUses } from "./use.ts";
import { visibleGpus } from "./visible-gpus.ts";
import type { WriterProcess } from "./writer-process.ts";

interface AttachedRun {
  run: string;
  /** When this stay began. */
  since: number;
  /** The first one. */
  from: number;
  cpuBefore: number;
  gpus: GpuUses;
  look: RunLook | undefined;
  /** What its environments say, and of which GPUs; made out again when either changes. */
  visible: { key: string; uuids: ReadonlySet<string>; note: string | null };
  to: number | null;
  saved: string;
}

/** A list of processes is so long good, ms: the next one should have come. */
const PROCESSES_FRESH_MS = 15_000;
/** Looks at an energy counter that are remembered: a GPU may turn out to be a run's since before the last. */
const ENERGY_LOOKS = 16;
/** After its end a run waits so long for the next look at the energy counters, ms. */
const LAST_ENERGY_MS = 5_000;

/** How a run comes to be here. Times are ms since the epoch. */
export interface Stay {
  /** When it came, or when it started. */
  since: number;
  /** It was here before this collector was started; what it used then is in `before`, or lost. */
  restored: boolean;
  /** What it had used when it was last looked at. */
  before: RunUse | undefined;
  now: number;
}

export interface RunSampler {
  /** A run with these writers is live. False where none of them is a process of this machine. */
  attach(run: string, writers: readonly WriterProcess[], stay: Stay): boolean;
  isAttached(run: string): boolean;
  /** Looks a last time: the sample, where one of its processes is still there. */
  detach(run: string, to: number): Sample[];
  /** A sample of each run that is here. */
  look(time: number): Sample[];
  hear(message: ReaderMessage): void;
  /** The wall clock was set by so much. */
  shift(ms: number): void;
  gpusByRun(): ReadonlyMap<string, ReadonlySet<string>>;
  /** What is new since it was asked last; runs that have ended are told once more when their energy is known. */
  changed(time: number): RunUse[];
  /** A run that has ended waits for nothing but a last look at the energy counters, which has come. */
  isSettled(): boolean;
}

export interface RunSamplerOptions {
  attribution: Attribution;
  gpus: () => readonly Gpu[];
  onOomKill: (run: string, count: number) => void;
  /** Whether a process that the driver names is the one with this number here. */
  isSameProcess?: (pid: number) => boolean;
}

/** The runs on this machine: a sample a second of each, and what they use. */
export function createRunSampler({
  attribution,
  gpus,
  onOomKill,
  isSameProcess = createProcessCheck(),
}: RunSamplerOptions): RunSampler {
  const attached = new Map<string, AttachedRun>();
  const ended = new Set<AttachedRun>();
  /** Oldest first. */
  const energyByUuid = new Map<string, Energy[]>();
  const processesByUuid = new Map<string, { time: number; processes: GpuProcess[] }>();
  const all = () => [...attached.values(), ...ended];

  function take(one: AttachedRun, look: RunLook, time: number): Record<string, number> {
    one.look = look;
    if (look.oomKills > 0) onOomKill(one.run, look.oomKills);
    const known = gpus();
    const values = { ...look.values };
    if (known.length === 0 && one.gpus.held().size === 0) return values;
    const key = JSON.stringify([look.environments, known.map(({ uuid }) => uuid)]);
    if (key !== one.visible.key) one.visible = { key, ...visibleTo(look, known) };
    const held = new Set<string>();
    for (const { uuid, index, name } of known) {
      // While the reader is silent its last word holds, as long as the process lives; figures are not repeated.
      const { own, isFresh } = processesOn(uuid, look.pids, time);
      if (own.length > 0) one.gpus.hold({ uuid, index, name }, "process", time);
      if (own.length > 0 && isFresh) {
        let memory: number | null = null;
        for (const process of own) if (process.memory !== null) memory = (memory ?? 0) + process.memory;
        if (memory !== null) {
          one.gpus.memory(uuid, memory);
          values[keyOf("run.gpu.memory", uuid)] = roundReading("run.gpu.memory", memory);
        }
        let share: number | null = null;
        for (const process of own)
          if (process.utilization !== null) share = (share ?? 0) + process.utilization;
        if (share !== null)
          values[keyOf("run.gpu.utilization", uuid)] = roundReading(
            "run.gpu.utilization",
            Math.min(1, share),
          );
      } else if (own.length === 0 && one.visible.uuids.has(uuid)) {
        // Since its process started, of which we may have heard a moment later.
        const from = Math.min(time, Math.max(one.since, look.earliest ?? time));
        if (one.gpus.hold({ uuid, index, name }, "visible", from)) meterBefore(one, uuid);
      }
      if (own.length > 0 || one.visible.uuids.has(uuid)) held.add(uuid);
    }
    for (const uuid of one.gpus.held()) if (!held.has(uuid)) one.gpus.release(uuid, time);
    return values;
  }

  /** What the counter had told when the GPU was found to be the run's: its first moments would cost nothing. */
  function meterBefore({ gpus }: AttachedRun, uuid: string): void {
    const looks = energyByUuid.get(uuid) ?? [];
    for (let i = 1; i < looks.length; i++) gpus.meter(uuid, looks[i - 1]!, looks[i]!);
  }

  function visibleTo({ environments }: RunLook, known: readonly Gpu[]) {
    const uuids = new Set<string>();
    let note: string | null = null;
    for (const environment of environments) {
      const visible = visibleGpus(environment, known);
      for (const uuid of visible.uuids ?? []) uuids.add(uuid);
      note ??= visible.note;
    }
    return { uuids, note };
  }

  function processesOn(
    uuid: string,
    pids: ReadonlySet<number>,
    time: number,
  ): { own: GpuProcess[]; isFresh: boolean } {
    const list = processesByUuid.get(uuid);
    if (!list) return { own: [], isFresh: false };
    return {
      own: list.processes.filter(({ pid }) => pids.has(pid) && isSameProcess(pid)),
      isFresh: time - list.time <= PROCESSES_FRESH_MS,
    };
  }

  function markShared(): void {
    const holders = new Map<string, AttachedRun>();
    for (const one of attached.values())
      for (const uuid of one.gpus.held()) {
        const other = holders.get(uuid);
        if (other) {
          other.gpus.share(uuid);
          one.gpus.share(uuid);
        } else holders.set(uuid, one);
      }
  }

  const useOf = (one: AttachedRun, time: number): RunUse => ({
    run: one.run,
    from: one.from,
    to: one.to,
    attribution: one.look?.attribution ?? null,
    cpuSeconds: Math.round((one.cpuBefore + (one.look?.cpuSeconds ?? 0)) * 1000) / 1000,
    gpus: one.gpus.rows(one.to ?? time),
    // Who has been seen somewhere needs no guess.
    note: Object.values(one.gpus.rows(time)).some(({ by }) => by === "process") ? null : one.visible.note,
  });

  return {
    attach(run, writers, { since, restored, before, now }) {
      if (!attribution.attach(run, writers, { since, restored })) return false;
      if (!attached.has(run))
        attached.set(run, {
          run,
          since: restored ? now : since,
          from: Math.min(since, before?.from ?? since),
          cpuBefore: before?.cpuSeconds ?? 0,
          gpus: createGpuUses(before?.gpus),
          look: undefined,
          visible: { key: "", uuids: new Set(), note: before?.note ?? null },
          to: null,
          saved: "",
        });
      return true;
    },
    isAttached: (run) => attached.has(run),
    detach(run, to) {
      const one = attached.get(run);
      const look = attribution.detach(run);
      if (!one || !look) return [];
      const sign = look.attribution ?? one.look?.attribution ?? null;
      const values = take(one, { ...look, attribution: sign }, to);
      attached.delete(run);
      for (const uuid of one.gpus.held()) one.gpus.release(uuid, to);
      one.to = Math.max(to, one.from);
      ended.add(one);
      return Object.keys(look.values).length > 0 ? [{ subject: subjectOfRun(run), time: to, values }] : [];
    },
    look(time) {
      if (attached.size === 0) return [];
      const samples: Sample[] = [];
      for (const [run, look] of attribution.look()) {
        const one = attached.get(run);
        if (!one) continue;
        const sign = look.attribution ?? one.look?.attribution ?? null;
        const values = take(one, { ...look, attribution: sign }, time);
        // Of a run without a process here nothing is read.
        if (Object.keys(look.values).length > 0) samples.push({ subject: subjectOfRun(run), time, values });
      }
      markShared();
      return samples;
    },
    hear(message) {
      if (message.kind === "processes") {
        processesByUuid.set(message.uuid, { time: message.time, processes: message.processes });
      } else if (message.kind === "samples") {
        for (const { uuid, values } of message.gpus) {
          const joules = values["gpu.energy"];
          if (joules === undefined) continue;
          const energy = { time: message.time, joules };
          const looks = energyByUuid.get(uuid) ?? [];
          const previous = looks.at(-1);
          if (previous) for (const one of all()) one.gpus.meter(uuid, previous, energy);
          energyByUuid.set(uuid, [...looks.slice(1 - ENERGY_LOOKS), energy]);
        }
      }
    },
    shift(ms) {
      for (const one of all()) one.gpus.shift(ms);
      for (const looks of energyByUuid.values()) for (const energy of looks) energy.time += ms;
    },
    gpusByRun: () => new Map([...attached].map(([run, one]) => [run, one.gpus.held()])),
    changed(time) {
      const uses: RunUse[] = [];
      for (const one of all()) {
        const use = useOf(one, time);
        const text = JSON.stringify(use);
        if (text !== one.saved) uses.push(use);
        one.saved = text;
        if (one.to !== null && (one.gpus.isMetered() || time - one.to > LAST_ENERGY_MS)) ended.delete(one);
      }
      return uses;
    },
    isSettled: () => [...ended].some((one) => one.gpus.isMetered()),
  };
}

/** The first namespace's number is the same on every Linux. */
const FIRST_PID_NAMESPACE = "pid:[4026531836]";

/**
 * The driver counts processes as the machine does. In a container the same number is another process, unless that one has
 * the driver open.
 */
function createProcessCheck(): (pid: number) => boolean {
  try {
    if (readlinkSync("/proc/self/ns/pid") === FIRST_PID_NAMESPACE) return () => true;
  } catch {
    return () => true;
  }
  return (pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => {
        try {
          return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("/dev/nvidia");
        } catch {
          return false;
        }
      });
    } catch {
      return false;
    }
  };
}
