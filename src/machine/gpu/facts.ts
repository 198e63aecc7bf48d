/** What does not change about a GPU while the driver is loaded. */
import type { Gpu } from "../../device/schema.ts";
import type { Device, Nvml } from "./nvml.ts";

const architectures: Record<number, string> = {
  2: "Kepler",
  3: "Maxwell",
  4: "Pascal",
  5: "Volta",
  6: "Turing",
  7: "Ampere",
  8: "Ada",
  9: "Hopper",
  10: "Blackwell",
  13: "Rubin",
};

const SM = 1;
const MEMORY = 2;
const SLOWDOWN = 1;

const watts = (milliwatts: number | undefined) => (milliwatts === undefined ? null : milliwatts / 1000);

/** `mig`: it is divided into instances, and read through them. */
export function gpuFacts(
  nvml: Nvml,
  device: Device,
  { uuid, index, mig }: { uuid: string; index: number; mig: boolean },
): Gpu {
  const architecture = nvml.deviceGetArchitecture(device).value;
  return {
    uuid,
    index: nvml.deviceGetIndex(device).value ?? index,
    name: nvml.deviceGetName(device).value ?? "NVIDIA GPU",
    vendor: "nvidia",
    pci: nvml.deviceGetPciInfo(device).value?.busId ?? null,
    minor: nvml.deviceGetMinorNumber(device).value ?? null,
    architecture: architecture === undefined ? null : (architectures[architecture] ?? null),
    cores: nvml.deviceGetNumGpuCores(device).value ?? null,
    memory: nvml.deviceGetMemoryInfo(device).value?.total ?? null,
    power_limit: watts(nvml.deviceGetEnforcedPowerLimit(device).value),
    max_clock_sm: nvml.deviceGetMaxClockInfo(device, SM).value ?? null,
    max_clock_memory: nvml.deviceGetMaxClockInfo(device, MEMORY).value ?? null,
    slowdown_temperature: nvml.deviceGetTemperatureThreshold(device, SLOWDOWN).value ?? null,
    parent: null,
    gpu_instance: null,
    compute_instance: null,
    profile: null,
    mig,
    lost: false,
    states: {},
  };
}

/** An instance of a divided GPU. `index`: its place in the GPU's list, which has holes. */
export function instanceFacts(
  nvml: Nvml,
  device: Device,
  { uuid, index, parent }: { uuid: string; index: number; parent: Gpu },
): Gpu {
  const name = nvml.deviceGetName(device).value ?? `${parent.name} MIG`;
  return {
    uuid,
    index,
    name,
    vendor: "nvidia",
    pci: parent.pci,
    minor: parent.minor,
    architecture: parent.architecture,
    cores: null,
    memory: nvml.deviceGetMemoryInfo(device).value?.total ?? null,
    // Power, clocks and temperature are the whole GPU's: its instances have none of their own.
    power_limit: null,
    max_clock_sm: null,
    max_clock_memory: null,
    slowdown_temperature: null,
    parent: parent.uuid,
    gpu_instance: nvml.deviceGetGpuInstanceId(device).value ?? null,
    compute_instance: nvml.deviceGetComputeInstanceId(device).value ?? null,
    profile: profileOf(nvml, device, name),
    mig: false,
    lost: false,
    states: {},
  };
}

/** "1g.10gb": what the name ends with, else made of the instance's slices. */
function profileOf(nvml: Nvml, device: Device, name: string): string | null {
  const named = /\bMIG (\S+)$/.exec(name)?.[1];
  if (named) return named;
  const attributes = nvml.deviceGetAttributes(device).value;
  if (!attributes) return null;
  const { computeInstanceSliceCount: compute, gpuInstanceSliceCount: slices, memorySizeMB } = attributes;
  return `${compute === slices ? "" : `${compute}c.`}${slices}g.${Math.ceil(memorySizeMB / 1024)}gb`;
}
