/** GPUs under DCGM's names, units and labels, so that dcgm-exporter's boards and rules work here. */
import { hostname } from "node:os";
import type { Gpu } from "../device/schema.ts";
import type { ReadingName } from "../sample/reading.ts";
import type { PresentValues } from "./present.ts";
import { writeLabels, type Exposition, type Family, type Kind, type Labels } from "./text.ts";

const MIB = 1024 * 1024;
const PERCENT = 100;

interface Field {
  reading: ReadingName;
  name: string;
  kind: Kind;
  help: string;
  /** Our unit times this is DCGM's. */
  scale?: number;
}

/** The names that boards know. DCGM 4.6 has others for some of them, and keeps these as aliases. */
export const fields: readonly Field[] = [
  {
    reading: "gpu.clock.sm",
    name: "DCGM_FI_DEV_SM_CLOCK",
    kind: "gauge",
    help: "SM clock frequency (in MHz).",
  },
  {
    reading: "gpu.clock.memory",
    name: "DCGM_FI_DEV_MEM_CLOCK",
    kind: "gauge",
    help: "Memory clock frequency (in MHz).",
  },
  {
    reading: "gpu.temperature",
    name: "DCGM_FI_DEV_GPU_TEMP",
    kind: "gauge",
    help: "GPU temperature (in C).",
  },
  {
    reading: "gpu.memory.temperature",
    name: "DCGM_FI_DEV_MEMORY_TEMP",
    kind: "gauge",
    help: "Memory temperature (in C).",
  },
  {
    reading: "gpu.power",
    name: "DCGM_FI_DEV_POWER_USAGE",
    kind: "gauge",
    help: "Power draw (in W).",
  },
  {
    reading: "gpu.power.limit",
    name: "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
    kind: "gauge",
    help: "Effective power limit (in W).",
  },
  {
    reading: "gpu.energy",
    name: "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    kind: "counter",
    help: "Total energy consumption since boot (in mJ).",
    scale: 1000,
  },
  {
    reading: "gpu.utilization",
    name: "DCGM_FI_DEV_GPU_UTIL",
    kind: "gauge",
    help: "GPU utilization (in %).",
    scale: PERCENT,
  },
  {
    reading: "gpu.memory.activity",
    name: "DCGM_FI_DEV_MEM_COPY_UTIL",
    kind: "gauge",
    help: "Memory utilization (in %).",
    scale: PERCENT,
  },
  {
    reading: "gpu.encoder",
    name: "DCGM_FI_DEV_ENC_UTIL",
    kind: "gauge",
    help: "Encoder utilization (in %).",
    scale: PERCENT,
  },
  {
    reading: "gpu.decoder",
    name: "DCGM_FI_DEV_DEC_UTIL",
    kind: "gauge",
    help: "Decoder utilization (in %).",
    scale: PERCENT,
  },
  {
    reading: "gpu.memory.total",
    name: "DCGM_FI_DEV_FB_TOTAL",
    kind: "gauge",
    help: "Framebuffer memory in all (in MiB).",
    scale: 1 / MIB,
  },
  {
    reading: "gpu.memory.used",
    name: "DCGM_FI_DEV_FB_USED",
    kind: "gauge",
    help: "Framebuffer memory used (in MiB).",
    scale: 1 / MIB,
  },
  {
    reading: "gpu.memory.reserved",
    name: "DCGM_FI_DEV_FB_RESERVED",
    kind: "gauge",
    help: "Framebuffer memory reserved (in MiB).",
    scale: 1 / MIB,
  },
  {
    reading: "gpu.performance_state",
    name: "DCGM_FI_DEV_PSTATE",
    kind: "gauge",
    help: "Performance state, 0 the fastest to 15.",
  },
  {
    reading: "gpu.throttle",
    name: "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
    kind: "gauge",
    help: "Why clocks are held down, as NVML's bits.",
  },
  {
    reading: "gpu.fan",
    name: "DCGM_FI_DEV_FAN_SPEED",
    kind: "gauge",
    help: "Fan speed (in %).",
    scale: PERCENT,
  },
  {
    reading: "gpu.pcie.replays",
    name: "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    kind: "counter",
    help: "Total number of PCIe retries.",
  },
  {
    reading: "gpu.ecc.corrected",
    name: "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
    kind: "counter",
    help: "Total number of single-bit volatile ECC errors.",
  },
  {
    reading: "gpu.ecc.uncorrected",
    name: "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
    kind: "counter",
    help: "Total number of double-bit volatile ECC errors.",
  },
  {
    reading: "gpu.remapped_rows.uncorrectable",
    name: "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    kind: "counter",
    help: "Number of remapped rows for uncorrectable errors",
  },
  {
    reading: "gpu.remapped_rows.correctable",
    name: "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    kind: "counter",
    help: "Number of remapped rows for correctable errors",
  },
  {
    reading: "gpu.remapped_rows.failed",
    name: "DCGM_FI_DEV_ROW_REMAP_FAILURE",
    kind: "gauge",
    help: "Whether remapping of rows has failed",
  },
  {
    reading: "gpu.remapped_rows.pending",
    name: "DCGM_FI_DEV_ROW_REMAP_PENDING",
    kind: "gauge",
    help: "Whether remapping of rows is pending",
  },
  {
    reading: "gpu.retired_pages",
    // DCGM has it by cause, which the reader doesn't ask for.
    name: "binnacle_gpu_retired_pages",
    kind: "gauge",
    help: "Pages of GPU memory that were retired.",
  },
  {
    reading: "gpu.graphics.active",
    name: "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    kind: "gauge",
    help: "Ratio of time the graphics engine is active.",
  },
  {
    reading: "gpu.sm.active",
    name: "DCGM_FI_PROF_SM_ACTIVE",
    kind: "gauge",
    help: "Ratio of cycles an SM has at least 1 warp assigned.",
  },
  {
    reading: "gpu.sm.occupancy",
    name: "DCGM_FI_PROF_SM_OCCUPANCY",
    kind: "gauge",
    help: "Ratio of number of warps resident on an SM.",
  },
  {
    reading: "gpu.tensor.active",
    name: "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    kind: "gauge",
    help: "Ratio of cycles the tensor (HMMA) pipe is active.",
  },
  {
    reading: "gpu.dram.active",
    name: "DCGM_FI_PROF_DRAM_ACTIVE",
    kind: "gauge",
    help: "Ratio of cycles the device memory interface is active sending or receiving data.",
  },
  {
    reading: "gpu.fp64.active",
    name: "DCGM_FI_PROF_PIPE_FP64_ACTIVE",
    kind: "gauge",
    help: "Ratio of cycles the fp64 pipes are active.",
  },
  {
    reading: "gpu.fp32.active",
    name: "DCGM_FI_PROF_PIPE_FP32_ACTIVE",
    kind: "gauge",
    help: "Ratio of cycles the fp32 pipes are active.",
  },
  {
    reading: "gpu.fp16.active",
    name: "DCGM_FI_PROF_PIPE_FP16_ACTIVE",
    kind: "gauge",
    help: "Ratio of cycles the fp16 pipes are active.",
  },
  {
    reading: "gpu.pcie.transmit",
    name: "DCGM_FI_PROF_PCIE_TX_BYTES",
    kind: "gauge",
    help: "The rate of data transmitted over the PCIe bus, in bytes per second.",
  },
  {
    reading: "gpu.pcie.receive",
    name: "DCGM_FI_PROF_PCIE_RX_BYTES",
    kind: "gauge",
    help: "The rate of data received over the PCIe bus, in bytes per second.",
  },
  {
    reading: "gpu.nvlink.transmit",
    name: "DCGM_FI_PROF_NVLINK_TX_BYTES",
    kind: "gauge",
    help: "The rate of data transmitted over NVLink, in bytes per second.",
  },
  {
    reading: "gpu.nvlink.receive",
    name: "DCGM_FI_PROF_NVLINK_RX_BYTES",
    kind: "gauge",
    help: "The rate of data received over NVLink, in bytes per second.",
  },
];

/** A GPU, what is known of it now, and the runs that have it. */
export interface GpuState {
  gpu: Gpu;
  /** The GPU that an instance is part of; itself where it is none. */
  whole: Gpu;
  values: PresentValues;
  /** The last Xid seen since the start. */
  xid: number | undefined;
  runs: readonly string[];
}

export function exportGpus(to: Exposition, gpus: readonly GpuState[]): void {
  const all = gpus.map((state) => ({ ...state, series: seriesOf(state) }));
  const family = (name: string, kind: Kind, help: string): ((value: number, series: Series) => void) => {
    const family = to.family(name, kind, help);
    return (value, series) => series.forEach((labels) => family.add(value, labels));
  };
  for (const { reading, name, kind, help, scale = 1 } of fields) {
    const add = family(name, kind, help);
    for (const { values, series } of all) {
      const value = values.get(reading);
      if (value !== undefined) add(tidy(value * scale), series);
    }
  }
  const addFree = family("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).");
  const addXid = family("DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.");
  for (const { values, xid, series } of all) {
    const total = values.get("gpu.memory.total");
    const used = values.get("gpu.memory.used");
    if (total !== undefined && used !== undefined)
      addFree(tidy((total - used - (values.get("gpu.memory.reserved") ?? 0)) / MIB), series);
    if (xid !== undefined) addXid(xid, series);
  }
}

/** A percentage of 0.29 is 29, not 28.999999999999996. */
const tidy = (value: number) => Number(value.toPrecision(15));

type Series = Parameters<Family["add"]>[1][];

/**
 * One for each run that has the GPU, as dcgm-exporter does with its mapping of jobs: each stays unique, and a run is found by
 * its id alone. Whoever adds up over GPUs takes `max by (gpu)` first, as the board does.
 */
function seriesOf({ gpu, whole, runs }: GpuState): Series {
  const labels = labelsOf(gpu, whole);
  if (runs.length === 0) return [writeLabels(labels)];
  return runs.map((run) => writeLabels({ ...labels, hpc_job: run, run_id: run }));
}

/** Names the GPU an instance is part of, as DCGM does; the instance's own UUID stands beside it. */
export function labelsOf(gpu: Gpu, whole: Gpu): Labels {
  const host = hostname();
  return {
    gpu: whole.index,
    UUID: whole.uuid,
    ...(whole.pci !== null && { pci_bus_id: whole.pci }),
    ...(whole.minor !== null && { device: `nvidia${whole.minor}` }),
    modelName: whole.name,
    // dcgm-exporter wrote the first until 2026, the second since: boards ask for either.
    Hostname: host,
    hostname: host,
    ...(gpu.parent !== null && {
      ...(gpu.profile !== null && { GPU_I_PROFILE: gpu.profile }),
      ...(gpu.gpu_instance !== null && { GPU_I_ID: gpu.gpu_instance }),
      mig_uuid: gpu.uuid,
    }),
  };
}
