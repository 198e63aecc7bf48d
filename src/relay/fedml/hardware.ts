import type { DeviceFacts, Gpu } from "../../device/schema.ts";
import type { Sample } from "../../sample/schema.ts";
import { MACHINE, runOfSubject } from "../../sample/subject.ts";
import { idOf, writeJson } from "./json.ts";
import type { Message } from "./message.ts";

/** So often a client says how its machine is. */
const EVERY_MS = 10_000;
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** What is known of the machine beside its readings. */
export interface Machine {
  id: string;
  facts: Pick<DeviceFacts, "cores" | "gpus"> | undefined;
  /** Bytes sent and received since we began to count. */
  traffic: number;
}

/** FedML's edges are numbers: of a machine's 16 hexadecimal digits the first 13, which a number can hold. */
export const edgeOfDevice = (device: string): number => Number.parseInt(device.slice(0, 13), 16);

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

/** Our rates as a counter: each reading is of about a second. */
function count(machine: Machine, samples: readonly Sample[]): void {
  for (const { subject, values } of samples)
    if (subject === MACHINE)
      machine.traffic += (values["network.receive"] ?? 0) + (values["network.transmit"] ?? 0);
}

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
  gpu_memory_allocated: percent(values["gpu.memory.used"], values["gpu.memory.total"] ?? memory ?? undefined),
  gpu_temp: round(values["gpu.temperature"]),
  gpu_power_usage: percent(values["gpu.power"], values["gpu.power.limit"] ?? power_limit ?? undefined),
  gpu_time_spent_accessing_memory: percent(values["gpu.memory.activity"]),
});

function performanceOf(
  { id, facts, traffic }: Machine,
  run: string,
  time: number,
  means: Values,
  own: Values,
  gpus: readonly GpuValues[],
): Message {
  const total = means["memory.total"];
  const used = means["memory.used"];
  const resident = own["run.memory.pss"] ?? own["run.memory.rss"];
  const mean = (key: Exclude<keyof GpuValues, "gpu_id" | "gpu_name">) => meanOf(gpus.map((gpu) => gpu[key]));
  return {
    topic: "fl_client/mlops/system_performance",
    payload: writeJson({
      run_id: idOf(run),
      edge_id: edgeOfDevice(id),
      cpu_utilization: percent(means["cpu.utilization"]),
      SystemMemoryUtilization: percent(used, total),
      process_memory_in_use: round(resident, MIB),
      process_memory_in_use_size: percent(resident, total),
      process_memory_available:
        total === undefined || used === undefined ? undefined : round(total - used, MIB),
      process_cpu_threads_in_use: round(own["run.threads"]),
      disk_utilization: percent(means["filesystem.used@/"], means["filesystem.total@/"]),
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

function deviceOf(
  { id, facts, traffic }: Machine,
  time: number,
  means: Values,
  gpus: readonly GpuValues[],
): Message {
  const left = (of: string, part = "") => {
    const total = means[`${of}.total${part}`];
    const used = means[`${of}.used${part}`];
    return total === undefined || used === undefined ? undefined : total - used;
  };
  const free = gpus.filter(
    ({ gpu_utilization: load = 100, gpu_memory_allocated: memory = 100 }) => load < 1 && memory < 1,
  );
  return {
    topic: "ml_client/mlops/gpu_device_info",
    payload: writeJson({
      edgeId: edgeOfDevice(id),
      memoryTotal: round(means["memory.total"], GIB, 2),
      memoryAvailable: round(left("memory"), GIB, 2),
      diskSpaceTotal: round(means["filesystem.total@/"], GIB, 2),
      diskSpaceAvailable: round(left("filesystem", "@/"), GIB, 2),
      cpuUtilization: percent(means["cpu.utilization"]),
      cpuCores: facts?.cores,
      gpuCoresTotal: facts === undefined ? undefined : gpus.length,
      gpuCoresAvailable: facts === undefined ? undefined : free.length,
      gpuAvailableIds: facts === undefined ? undefined : free.map(({ gpu_id }) => gpu_id),
      networkTraffic: hasTraffic(means) ? traffic : undefined,
      updateTime: time,
    }),
  };
}

const hasTraffic = (means: Values) =>
  means["network.receive"] !== undefined || means["network.transmit"] !== undefined;

/** With 4 digits, as the client has it. */
function round(value: number | undefined, unit = 1, digits = 4): number | undefined {
  return value === undefined ? undefined : Math.round((value / unit) * 10 ** digits) / 10 ** digits;
}

const percent = (value: number | undefined, of: number | undefined = 1): number | undefined =>
  value === undefined || of === 0 ? undefined : round((100 * value) / of);

function meanOf(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : round(known.reduce((sum, value) => sum + value, 0) / known.length);
}
