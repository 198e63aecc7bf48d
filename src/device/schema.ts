import { z } from "zod";
import { ReadingState } from "../sample/schema.ts";

/** 16 hexadecimal digits. */
export const DeviceId = z.string().regex(/^[0-9a-f]{16}$/, "is not a device's id");

/** How the reader of the GPUs fares. */
export const GpuStatus = z.enum([
  "ok",
  /** Switched off by --gpu off. */
  "off",
  /** No NVIDIA library on this machine. */
  "absent",
  "no_driver",
  "no_gpu",
  /** Library and kernel module are of different versions. */
  "mismatch",
  /** The container lost access to its device files. */
  "container_lost",
  /** Started, and not heard of yet; or between two attempts. */
  "starting",
  /** A call into the driver does not return. */
  "hung",
  /** Read less often than it should be, because reading takes too long. */
  "degraded",
  "failed",
]);
export type GpuStatus = z.infer<typeof GpuStatus>;

/** What does not change about a GPU, or a MIG instance of one, while the driver is loaded. What is unknown is null. */
export const Gpu = z
  .object({
    uuid: z.string(),
    /** The driver's number for it; not stable across boots. */
    index: z.number(),
    name: z.string(),
    vendor: z.enum(["nvidia"]),
    pci: z.string().nullable(),
    /** N of /dev/nvidiaN. */
    minor: z.number().nullable(),
    architecture: z.string().nullable(),
    cores: z.number().nullable(),
    /** Bytes. */
    memory: z.number().nullable(),
    /** W. */
    power_limit: z.number().nullable(),
    max_clock_sm: z.number().nullable(),
    max_clock_memory: z.number().nullable(),
    /** °C at which it slows down. */
    slowdown_temperature: z.number().nullable(),
    /** Of a MIG instance: UUID of the GPU it is part of, its ids there and its profile, as "1g.10gb". */
    parent: z.string().nullable(),
    gpu_instance: z.number().nullable(),
    compute_instance: z.number().nullable(),
    profile: z.string().nullable(),
    /** MIG is on: it is read through its instances. */
    mig: z.boolean(),
    lost: z.boolean(),
    /** Readings that have no value now, with the reason; what is not named is well. */
    states: z.record(z.string(), z.object({ state: ReadingState, reason: z.string() })),
  })
  .meta({ id: "Gpu" });
export type Gpu = z.infer<typeof Gpu>;

export const GpuReader = z
  .object({
    status: GpuStatus,
    /** Why, in words; null while all is well. */
    reason: z.string().nullable(),
    /** What a person can do about it; null where there is nothing to do. */
    advice: z.string().nullable(),
    driver: z.string().nullable(),
    /** Highest CUDA version of the driver, as "12.4". */
    cuda: z.string().nullable(),
    /** Path of the library that is loaded. */
    library: z.string().nullable(),
  })
  .meta({ id: "GpuReader" });
export type GpuReader = z.infer<typeof GpuReader>;
/** Whether it reads at all: what it read last is not the present else. */
export const isReading = ({ status }: GpuReader): boolean => status === "ok" || status === "degraded";

/** What does not change about a machine while it is up. */
export const DeviceFacts = z.object({
  /** Host name. */
  name: z.string(),
  os: z.string(),
  kernel: z.string(),
  architecture: z.string(),
  boot: z.string().nullable(),
  processor: z.string().nullable(),
  /** Logical ones that are on line; null where nobody told, as of FedML's edges. */
  cores: z.number().nullable(),
  /** Bytes. */
  memory: z.number().nullable(),
  /** The collector runs in a container whose limits are below the machine's. */
  container: z.boolean(),
  gpu_reader: GpuReader,
  gpus: z.array(Gpu),
});
export type DeviceFacts = z.infer<typeof DeviceFacts>;

/** GET /api/v1/devices */
export const ListDevices = z.object({
  /** Label of the source that relayed them; ".": those seen here. */
  source: z.string().max(250).optional(),
});
export type ListDevices = z.infer<typeof ListDevices>;

/** A machine, as every listing shows it. Times are RFC 3339 UTC with ms. */
export const Device = DeviceFacts.extend({
  id: DeviceId,
  /** The machine this collector runs on. */
  local: z.boolean(),
  /** Label of the source that relayed it; null: it was seen here. */
  source: z.string().nullable(),
  first_seen: z.string(),
  /** Of the newest sample. */
  last_seen: z.string(),
  /** Live runs on it. */
  runs: z.array(z.string()),
  /** Newest values by subject and reading; a subject whose sample is older than 10 s is left out. */
  latest: z.record(z.string(), z.object({ time: z.string(), values: z.record(z.string(), z.number()) })),
}).meta({ id: "Device" });
export type Device = z.infer<typeof Device>;

/** What a run used of one device during its life there. */
export const RunDevice = z
  .object({
    device: DeviceId,
    name: z.string(),
    /** When the run was first and last seen there; `to` is null while it is live. */
    from: z.string(),
    to: z.string().nullable(),
    /** How its processes are told from others: their own cgroup, descent from the first, or an environment variable. */
    attribution: z.enum(["cgroup", "descendants", "environment"]).nullable(),
    /** Seconds of processor time. */
    cpu_seconds: z.number(),
    gpus: z.array(
      z.object({
        uuid: z.string(),
        index: z.number(),
        name: z.string(),
        /** How we know that it is the run's: CUDA_VISIBLE_DEVICES, or a process of it seen there. */
        by: z.enum(["visible", "process"]),
        /** Joules, from the energy counter; null where the GPU has none. The GPU's whole: shared GPUs count for each run. */
        energy: z.number().nullable(),
        /** Hours during which the GPU was the run's. */
        hours: z.number(),
        /** Most bytes its processes had there. */
        peak_memory: z.number().nullable(),
        /** Another run had it at the same time. */
        shared: z.boolean(),
      }),
    ),
    /** What of this could not be found out, as which GPUs an environment means; null while nothing is open. */
    note: z.string().nullable(),
  })
  .meta({ id: "RunDevice" });
export type RunDevice = z.infer<typeof RunDevice>;
