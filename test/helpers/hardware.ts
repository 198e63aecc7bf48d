/** Hours of readings of a machine that trains, written through the same verbs as the sampler's. */
import { eq, sql } from "drizzle-orm";
import type { Collector } from "../../src/collector.ts";
import { registerDevice } from "../../src/device/register.ts";
import { recordUse } from "../../src/device/use.ts";
import type { DeviceFacts } from "../../src/device/schema.ts";
import { appendSamples } from "../../src/sample/append.ts";
import type { Sample } from "../../src/sample/schema.ts";
import { CGROUP, MACHINE, subjectOfRun } from "../../src/sample/subject.ts";
import { device as deviceTable } from "../../src/store/tables.ts";
import { facts, gpu, GIB } from "./device.ts";

export interface Training {
  /** Default: the collector's own machine. */
  device?: string;
  facts?: DeviceFacts;
  from: number;
  to: number;
  /** ms between samples. */
  every?: number;
  run?: string;
  /** Indexes of the run's GPUs. */
  own?: number[];
  /** The run lives on. */
  live?: boolean;
  container?: boolean;
  /** Nothing at all is read in these times. */
  silences?: { from: number; to: number }[];
  /** A GPU falls off the bus, for good or until a time. */
  lost?: { gpu: number; from: number; to: number };
}

/** Repeatable noise: pictures differ where the pages do. */
export function createNoise(seed = 7): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

export const eightGpus = () => facts({ gpus: Array.from({ length: 8 }, (_, i) => gpu(i)) });

const clamp = (value: number) => Math.min(1, Math.max(0, value));

export async function seedTraining(collector: Collector, training: Training): Promise<string> {
  const { device = collector.device, from, to, every = 1000, run, live = false } = training;
  const known = training.facts ?? facts();
  const at = createReadings(training);
  await registerDevice(collector, device, known);
  await collector.db
    .update(deviceTable)
    .set({ firstSeen: sql`min(${deviceTable.firstSeen}, ${from})`, lastSeen: to })
    .where(eq(deviceTable.id, device));
  let samples: Sample[] = [];
  for (let time = from; time < to; time += every) {
    if (training.silences?.some((silence) => time >= silence.from && time < silence.to)) continue;
    samples.push(...at(time));
    if (samples.length >= 8000) {
      await appendSamples(collector, device, samples);
      samples = [];
    }
  }
  await appendSamples(collector, device, samples);
  if (run !== undefined)
    await recordUse(collector, device, {
      run,
      from,
      to: live ? null : to,
      attribution: "cgroup",
      cpuSeconds: ((to - from) / 1000) * 11.2,
      gpus: Object.fromEntries(
        known.gpus
          .filter(({ index }) => training.own?.includes(index) ?? true)
          .map(({ uuid, index, name }) => [
            uuid,
            {
              index,
              name,
              by: "visible" as const,
              energy: ((to - from) / 1000) * 600,
              hours: (to - from) / 3_600_000,
              peak_memory: 71.2 * GIB,
              shared: false,
            },
          ]),
      ),
      note: null,
    });
  return device;
}

/** What one tick reads, at any time. */
export function createReadings(training: Training): (time: number) => Sample[] {
  const { from, to, run, lost } = training;
  const known = training.facts ?? facts();
  const noise = createNoise();
  return (time) => {
    const t = (time - from) / (to - from);
    const energy = 3_000_000 + (600 * (time - from)) / 1000;
    const samples: Sample[] = [{ subject: MACHINE, time, values: machineAt(t, noise) }];
    if (training.container) samples.push({ subject: CGROUP, time, values: containerAt(t, noise) });
    for (const { uuid, index } of known.gpus) {
      if (lost && lost.gpu === index && time >= lost.from && time < lost.to) continue;
      const isOwn = training.own?.includes(index) ?? true;
      samples.push({ subject: uuid, time, values: gpuAt(t, index, isOwn, energy, time, noise) });
    }
    if (run !== undefined)
      samples.push({ subject: subjectOfRun(run), time, values: runAt(t, training, known, noise) });
    return samples;
  };
}

function machineAt(t: number, noise: () => number): Sample["values"] {
  const cpu = clamp(0.32 + 0.1 * Math.sin(t * 30) + 0.12 * noise());
  return {
    "cpu.utilization": cpu,
    "cpu.user": cpu * 0.78,
    "cpu.system": cpu * 0.17,
    "cpu.iowait": 0.02 * noise(),
    "cpu.steal": 0,
    "load.1": 64 * cpu + 3 * noise(),
    "load.5": 64 * cpu,
    "load.15": 20,
    "memory.used": (90 + 40 * t + noise()) * GIB,
    "memory.total": 251.6 * GIB,
    "memory.cached": (40 + 20 * t) * GIB,
    "memory.shared": 2.1 * GIB,
    "swap.used": 0,
    "swap.total": 8 * GIB,
    "disk.read": 40e6 * (0.4 + noise()),
    "disk.write": noise() > 0.97 ? 900e6 : 3e6 * noise(),
    "disk.read@nvme0n1": 30e6 * (0.4 + noise()),
    "disk.read@nvme1n1": 10e6 * (0.4 + noise()),
    "disk.write@nvme0n1": 2e6 * noise(),
    "disk.write@nvme1n1": 1e6 * noise(),
    "disk.utilization@nvme0n1": clamp(0.3 * noise()),
    "disk.utilization@nvme1n1": clamp(0.1 * noise()),
    "filesystem.used@/": 412 * GIB,
    "filesystem.total@/": 877 * GIB,
    "filesystem.used@/data": (5200 + 300 * t) * GIB,
    "filesystem.total@/data": 7150 * GIB,
    "network.receive": 1.2e6 * (1 + noise()),
    "network.transmit": 3.3e6 * (1 + noise()),
    "pressure.cpu": 0.04 * noise(),
    "pressure.memory": 0,
    "pressure.io": 0.1 * noise(),
  };
}

const containerAt = (t: number, noise: () => number): Sample["values"] => ({
  "cpu.utilization": clamp(0.6 + 0.2 * noise()),
  "cpu.cores": 9.4 + 2 * noise(),
  "cpu.limit": 16,
  "memory.used": (30 + 20 * t) * GIB,
  "memory.total": 64 * GIB,
  "memory.working_set": (24 + 16 * t) * GIB,
});

function gpuAt(
  t: number,
  index: number,
  isOwn: boolean,
  energy: number,
  time: number,
  noise: () => number,
): Sample["values"] {
  const busy = isOwn ? clamp(0.9 + 0.1 * noise() - (noise() > 0.985 ? 0.7 : 0)) : 0.02 * noise();
  return {
    "gpu.utilization": busy,
    "gpu.memory.activity": busy * 0.55,
    "gpu.memory.used": isOwn ? (60 + 9 * clamp(t * 20) + 0.2 * index) * GIB : 0.6 * GIB,
    "gpu.memory.total": 79.6 * GIB,
    "gpu.temperature": 38 + 26 * busy * clamp(t * 15 + 0.2) + index,
    "gpu.memory.temperature": 44 + 30 * busy * clamp(t * 15 + 0.2) + index,
    "gpu.power": 90 + 520 * busy + 15 * noise(),
    "gpu.power.limit": 700,
    "gpu.energy": energy + index,
    "gpu.clock.sm": isOwn ? 1980 - (noise() > 0.8 ? 200 * noise() : 0) : 345,
    "gpu.clock.memory": 2619,
    "gpu.performance_state": 0,
    "gpu.throttle": isOwn ? 4 : 1,
    "gpu.sm.active": busy * 0.86,
    "gpu.tensor.active": busy * 0.41,
    "gpu.dram.active": busy * 0.48,
    "gpu.pcie.receive": 4.1e9 * busy,
    "gpu.pcie.transmit": 1.1e9 * busy,
    "gpu.nvlink.receive": 120e9 * busy,
    "gpu.nvlink.transmit": 118e9 * busy,
    // Read once a minute.
    ...(time % 60_000 < 2000 && { "gpu.ecc.corrected": 2, "gpu.ecc.uncorrected": 0 }),
  };
}

function runAt(t: number, { own }: Training, known: DeviceFacts, noise: () => number): Sample["values"] {
  const values: Sample["values"] = {
    "run.cpu": 10 + 3 * noise(),
    "run.memory.rss": (22 + 18 * t) * GIB,
    "run.memory.pss": (16 + 12 * t) * GIB,
    "run.disk.read": 38e6 * (0.4 + noise()),
    "run.disk.write": 2e6 * noise(),
    "run.threads": 212,
    "run.processes": 17,
  };
  for (const { uuid, index } of known.gpus)
    if (own?.includes(index) ?? true) values[`run.gpu.memory@${uuid}`] = (59 + 9 * clamp(t * 20)) * GIB;
  return values;
}
