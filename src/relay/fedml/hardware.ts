import type { DeviceFacts, Gpu } from "../../device/schema.ts";
import type { Sample } from "../../sample/schema.ts";
import { MACHINE, runOfSubject } from "../../sample/subject.ts";
import { idOf, writeJson, type Verbatim } from "./json.ts";
import type { Message } from "./message.ts";

/** So often a client says how its machine is. */
const EVERY_MS = 10_000;
const MAX_GAP_MS = 60_000;
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** What is known of the machine beside its readings. */
export interface Machine {
  id: string;
  facts: Pick<DeviceFacts, "name" | "cores" | "gpus"> | undefined;
  /** Bytes sent and received since we began to count. */
  traffic: number;
  /** Up to when, ms. */
  counted: number | undefined;
}

/** FedML's edges are numbers: of a machine's 16 hexadecimal digits the first 13, which a number can hold. What came as an edge stays that one. */
function edgeOf({ id, facts }: Machine): number | string | Verbatim {
  const edge = /^edge (\d{1,19})$/.exec(facts?.name ?? "")?.[1];
  return edge === undefined ? Number.parseInt(id.slice(0, 13), 16) : edge === "0" ? 0 : idOf(edge);
}

/**
 * A message for each run whose processes were seen, and one for the machine, every ten seconds: the means of what was read in
 * between, in the platform's units. What was not read is left out.
 */
export function* hardwareMessages(machine: Machine, samples: readonly Sample[]): Generator<Message> {
  const first = samples.reduce((least, { time }) => Math.min(least, time), Infinity);
  const windows = Map.groupBy(samples, ({ time }) => Math.floor((time - first) / EVERY_MS));
  for (const within of windows.values()) {
    const bySubject = meansOf(within);
    const time = Math.floor(within.reduce((last, sample) => Math.max(last, sample.time), 0));
    count(machine, within);
    const means = bySubject.get(MACHINE) ?? {};
    const gpus = gpusOf(machine, bySubject);
    for (const [subject, own] of bySubject) {
      const run = runOfSubject(subject);
      if (run !== undefined) yield performanceOf(machine, run, time, means, own, gpus);
    }
    if (bySubject.has(MACHINE)) yield deviceOf(machine, time, means, gpus);
  }
}

type Values = Record<string, number | undefined>;

function meansOf(samples: readonly Sample[]): Map<string, Values> {
  const sums = new Map<string, Map<string, { sum: number; count: number }>>();
  for (const { subject, values } of samples) {
    let keys = sums.get(subject);
    if (!keys) sums.set(subject, (keys = new Map()));
    for (const key in values) {
      const of = keys.get(key) ?? { sum: 0, count: 0 };
      keys.set(key, { sum: of.sum + values[key]!, count: of.count + 1 });
    }
  }
  return new Map(
    [...sums].map(([subject, keys]) => [
      subject,
      Object.fromEntries([...keys].map(([key, { sum, count }]) => [key, sum / count])),
    ]),
  );
}

/** Our rates as a counter: each holds since the one before it, or for a second where there was none for long. */
function count(machine: Machine, samples: readonly Sample[]): void {
  for (const { subject, time, values } of samples) {
    if (subject !== MACHINE) continue;
    const ms = time - (machine.counted ?? -Infinity);
    const seconds = ms > 0 && ms <= MAX_GAP_MS ? ms / 1000 : 1;
    machine.counted = time;
    for (const key of TRAFFIC) machine.traffic += (values[key] ?? 0) * seconds;
  }
}

/** Bytes a second; what came from FedML has but their sum. */
const TRAFFIC = ["network.receive", "network.transmit", "network.traffic"];

interface GpuValues {
  gpu_id: number;
  gpu_name: string;
  gpu_utilization: number | undefined;
  gpu_memory_allocated: number | undefined;
  gpu_temp: number | undefined;
  gpu_power_usage: number | undefined;
  gpu_time_spent_accessing_memory: number | undefined;
}

function gpusOf({ facts }: Machine, bySubject: ReadonlyMap<string, Values>): GpuValues[] {
  return (facts?.gpus ?? []).flatMap((gpu): GpuValues[] => {
    const values = bySubject.get(gpu.uuid);
    return values ? [gpuOf(gpu, values)] : [];
  });
}

const gpuOf = ({ index, name, power_limit, memory }: Gpu, values: Values): GpuValues => ({
  gpu_id: index,
  gpu_name: name,
  gpu_utilization: percent(values["gpu.utilization"]),
  gpu_memory_allocated:
    percent(values["gpu.memory.used"], values["gpu.memory.total"] ?? memory) ??
    percent(values["gpu.memory.utilization"]),
  gpu_temp: round(values["gpu.temperature"]),
  gpu_power_usage:
    percent(values["gpu.power"], values["gpu.power.limit"] ?? power_limit) ??
    percent(values["gpu.power.utilization"]),
  gpu_time_spent_accessing_memory: percent(values["gpu.memory.activity"]),
});

function performanceOf(
  machine: Machine,
  run: string,
  time: number,
  means: Values,
  own: Values,
  gpus: readonly GpuValues[],
): Message {
  const { facts, traffic } = machine;
  const total = means["memory.total"];
  const used = means["memory.used"];
  const resident = own["run.memory.pss"] ?? own["run.memory.rss"];
  const mean = (key: Exclude<keyof GpuValues, "gpu_id" | "gpu_name">) => meanOf(gpus.map((gpu) => gpu[key]));
  return {
    topic: "fl_client/mlops/system_performance",
    payload: writeJson({
      run_id: idOf(run),
      edge_id: edgeOf(machine),
      cpu_utilization: percent(means["cpu.utilization"]),
      SystemMemoryUtilization: percent(used, total ?? null) ?? percent(means["memory.utilization"]),
      process_memory_in_use: round(resident, MIB),
      process_memory_in_use_size: percent(resident, total ?? null) ?? percent(own["run.memory.utilization"]),
      process_memory_available: round(availableOf(means), MIB),
      process_cpu_threads_in_use: round(own["run.threads"]),
      disk_utilization:
        percent(means["filesystem.used@/"], means["filesystem.total@/"] ?? null) ??
        percent(means["filesystem.utilization@/"]),
      network_traffic: hasTraffic(means) ? traffic : undefined,
      gpu_utilization: mean("gpu_utilization"),
      gpu_temp: mean("gpu_temp"),
      gpu_time_spent_accessing_memory: mean("gpu_time_spent_accessing_memory"),
      gpu_memory_allocated: mean("gpu_memory_allocated"),
      gpu_power_usage: mean("gpu_power_usage"),
      metrics_of_all_gpus: facts === undefined ? undefined : gpus,
      timestamp: time,
    }),
  };
}

function deviceOf(machine: Machine, time: number, means: Values, gpus: readonly GpuValues[]): Message {
  const { facts, traffic } = machine;
  const disk = means["filesystem.total@/"];
  const taken = means["filesystem.used@/"];
  const free = gpus.filter(
    ({ gpu_utilization: load = 100, gpu_memory_allocated: memory = 100 }) => load < 1 && memory < 1,
  );
  return {
    topic: "ml_client/mlops/gpu_device_info",
    payload: writeJson({
      edgeId: edgeOf(machine),
      memoryTotal: round(means["memory.total"], GIB, 2),
      memoryAvailable: round(availableOf(means), GIB, 2),
      diskSpaceTotal: round(disk, GIB, 2),
      diskSpaceAvailable: disk === undefined || taken === undefined ? undefined : round(disk - taken, GIB, 2),
      cpuUtilization: percent(means["cpu.utilization"]),
      cpuCores: facts?.cores ?? undefined,
      gpuCoresTotal: facts === undefined ? undefined : gpus.length,
      gpuCoresAvailable: facts === undefined ? undefined : free.length,
      gpuAvailableIds: facts === undefined ? undefined : free.map(({ gpu_id }) => gpu_id),
      networkTraffic: hasTraffic(means) ? traffic : undefined,
      updateTime: time,
    }),
  };
}

const hasTraffic = (means: Values) => TRAFFIC.some((key) => means[key] !== undefined);

/** With 4 digits, as the client has it. */
function round(value: number | undefined, unit = 1, digits = 4): number | undefined {
  return value === undefined ? undefined : Math.round((value / unit) * 10 ** digits) / 10 ** digits;
}

function availableOf(means: Values): number | undefined {
  const { "memory.total": total, "memory.used": used } = means;
  return total === undefined || used === undefined ? means["memory.available"] : total - used;
}

/** Of what is null nobody knows a share; without a second number the value is one already. */
const percent = (value: number | undefined, of: number | null = 1): number | undefined =>
  value === undefined || of === null || of === 0 ? undefined : round((100 * value) / of);

function meanOf(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : round(known.reduce((sum, value) => sum + value, 0) / known.length);
}
