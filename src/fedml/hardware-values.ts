import type { DeviceFacts, Gpu } from "../device/schema.ts";
import { UNKNOWN_GPU } from "../device/unknown-gpu.ts";
import type { ReadingKey, ReadingName } from "../sample/reading.ts";
import { keyOf } from "../sample/reading.ts";
import { MACHINE, subjectOfRun } from "../sample/schema.ts";
import { readLabel } from "./events.ts";
import type { Payload } from "./payload.ts";

/** What a message says of a machine. */
export interface Told {
  facts: Partial<DeviceFacts>;
  /** By subject. What is not said is absent. */
  values: Record<string, Record<ReadingKey, number>>;
  /** Bytes that went over its network since some beginning. */
  traffic: number | undefined;
}

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
const MAX_GPUS = 128;
const MAX_NAME = 250;

const number = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;

type Values = Record<ReadingKey, number>;

/** `[reading, field, unit]`: the field's value times the unit is the reading's. */
type Mapping = readonly [ReadingKey, string, number];

function read(fields: Payload, mappings: readonly Mapping[]): Values {
  const values: Values = {};
  for (const [reading, field, unit] of mappings) {
    const value = number(fields[field]);
    if (value !== undefined) values[reading] = value * unit;
  }
  return values;
}

const PERCENT = 0.01;
const ROOT = "/";
const named = (name: ReadingName, part?: string) => keyOf(name, part);

const OF_MACHINE: Mapping[] = [
  [named("cpu.utilization"), "cpu_utilization", PERCENT],
  [named("memory.utilization"), "SystemMemoryUtilization", PERCENT],
  // The system's, whatever its name says.
  [named("memory.available"), "process_memory_available", MiB],
  // How full it is.
  [named("filesystem.utilization", ROOT), "disk_utilization", PERCENT],
];

const OF_RUN: Mapping[] = [
  [named("run.memory.rss"), "process_memory_in_use", MiB],
  // A share, whatever its name says.
  [named("run.memory.utilization"), "process_memory_in_use_size", PERCENT],
  [named("run.threads"), "process_cpu_threads_in_use", 1],
];

const OF_GPU: Mapping[] = [
  [named("gpu.utilization"), "gpu_utilization", PERCENT],
  [named("gpu.memory.utilization"), "gpu_memory_allocated", PERCENT],
  [named("gpu.memory.activity"), "gpu_time_spent_accessing_memory", PERCENT],
  [named("gpu.temperature"), "gpu_temp", 1],
  // Of the limit, not watts.
  [named("gpu.power.utilization"), "gpu_power_usage", PERCENT],
];

/** `fl_client/mlops/system_performance`. */
export function readPerformance(fields: Payload, run: string): Told {
  const values: Told["values"] = {
    [MACHINE]: read(fields, OF_MACHINE),
    [subjectOfRun(run)]: read(fields, OF_RUN),
  };
  const listed = Array.isArray(fields["metrics_of_all_gpus"]) ? fields["metrics_of_all_gpus"] : [];
  const gpus: Gpu[] = [];
  for (const [index, each] of listed.slice(0, MAX_GPUS).entries()) {
    if (typeof each !== "object" || each === null) continue;
    const gpu = gpuOf(each as Payload, index);
    gpus.push(gpu);
    values[gpu.uuid] = read(each as Payload, OF_GPU);
  }
  const mean = read(fields, OF_GPU);
  // The means of what is listed are no news; of what is not, they are all there is.
  if (gpus.length === 0 && Object.keys(mean).length > 0) {
    gpus.push({ ...UNKNOWN_GPU, uuid: "edge-gpus", index: 0, name: "mean of all GPUs" });
    values["edge-gpus"] = mean;
  }
  return { facts: gpus.length > 0 ? { gpus } : {}, values, traffic: number(fields["network_traffic"]) };
}

function gpuOf(fields: Payload, position: number): Gpu {
  const id = number(fields["gpu_id"]);
  const index = id !== undefined && Number.isInteger(id) ? id : position;
  return {
    ...UNKNOWN_GPU,
    uuid: `edge-gpu-${index}`,
    index,
    name: readLabel(fields["gpu_name"], MAX_NAME) ?? "GPU",
  };
}

/** `ml_client/mlops/gpu_device_info`. */
export function readDevice(fields: Payload): Told {
  const of = (field: string) => number(fields[field]);
  const values = read(fields, [
    [named("cpu.utilization"), "cpuUtilization", PERCENT],
    [named("memory.total"), "memoryTotal", GiB],
    [named("memory.available"), "memoryAvailable", GiB],
    [named("filesystem.total", ROOT), "diskSpaceTotal", GiB],
  ]);
  const used = (total: string, available: string) => {
    const [whole, free] = [of(total), of(available)];
    return whole === undefined || free === undefined || free > whole ? undefined : (whole - free) * GiB;
  };
  const memory = used("memoryTotal", "memoryAvailable");
  if (memory !== undefined) values[named("memory.used")] = memory;
  const disk = used("diskSpaceTotal", "diskSpaceAvailable");
  if (disk !== undefined) values[named("filesystem.used", ROOT)] = disk;
  const total = of("memoryTotal");
  const cores = of("cpuCores");
  return {
    facts: {
      ...(total !== undefined && { memory: total * GiB }),
      ...(cores !== undefined && Number.isInteger(cores) && { cores }),
    },
    values: { [MACHINE]: values },
    traffic: of("networkTraffic"),
  };
}
