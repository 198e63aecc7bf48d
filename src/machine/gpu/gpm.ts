/** Activity of a GPU's parts, measured by itself: Hopper and newer. */
import type { ReadingName } from "../../sample/reading.ts";
import { Code } from "./codes.ts";
import type { Device, GpmSample, Nvml } from "./nvml.ts";

const PERCENT = 0.01;
const MIB = 2 ** 20;

/** What is asked for, by NVML's id of it. */
export const gpmReadings: Record<number, { reading: ReadingName; scale: number }> = {
  1: { reading: "gpu.graphics.active", scale: PERCENT },
  2: { reading: "gpu.sm.active", scale: PERCENT },
  3: { reading: "gpu.sm.occupancy", scale: PERCENT },
  5: { reading: "gpu.tensor.active", scale: PERCENT },
  10: { reading: "gpu.dram.active", scale: PERCENT },
  11: { reading: "gpu.fp64.active", scale: PERCENT },
  12: { reading: "gpu.fp32.active", scale: PERCENT },
  13: { reading: "gpu.fp16.active", scale: PERCENT },
  20: { reading: "gpu.pcie.transmit", scale: MIB },
  21: { reading: "gpu.pcie.receive", scale: MIB },
  60: { reading: "gpu.nvlink.receive", scale: MIB },
  61: { reading: "gpu.nvlink.transmit", scale: MIB },
};

const ids = Object.keys(gpmReadings).map(Number);
/** An instance has no link of its own. */
const instanceIds = ids.filter((id) => id < 20);

/** The GPU does not measure more often, ms. */
const REFRESH_MS = 100;

export interface Gpm {
  /** The answer for each reading, and its value where it is SUCCESS; nothing where it is too early to tell. */
  read(take: (reading: ReadingName, code: number, value: number | null) => void): void;
  close(): void;
}

/**
 * Two samples are kept, and each tick's is compared with the one before: nothing waits for the other. `instance`: id of the
 * GPU instance, where the device is the GPU that it is part of.
 */
export function createGpm(nvml: Nvml, device: Device, instance: number | null, refreshMs = REFRESH_MS): Gpm {
  const wanted = new Set(instance === null ? ids : instanceIds);
  /** The newest sample, and the one to be filled next. */
  let newest: GpmSample | undefined;
  let spare: GpmSample | undefined;
  /** When `newest` was filled, ms, monotonic: not when its tick began, of which two may be closer than their samples are apart. */
  let filledAt: number | undefined;

  /** SUCCESS, and `spare` is filled. */
  function fill(): number {
    if (newest === undefined) {
      const { code, value } = nvml.gpmSampleAlloc();
      if (value === undefined) return code;
      newest = value;
    }
    if (spare === undefined) {
      const { code, value } = nvml.gpmSampleAlloc();
      if (value === undefined) return code;
      spare = value;
    }
    return instance === null
      ? nvml.gpmSampleGet(device, spare)
      : nvml.gpmMigSampleGet(device, instance, spare);
  }

  return {
    read(take) {
      const at = performance.now();
      if (wanted.size === 0 || (filledAt !== undefined && at - filledAt < refreshMs)) return;
      const failed = fill();
      if (failed !== Code.SUCCESS) {
        filledAt = undefined;
        for (const id of wanted) take(gpmReadings[id]!.reading, failed, null);
        return;
      }
      const isFirst = filledAt === undefined;
      [newest, spare] = [spare, newest];
      filledAt = performance.now();
      if (isFirst) return;
      const { code, value } = nvml.gpmMetricsGet(spare!, newest!, [...wanted]);
      if (value === undefined) for (const id of wanted) take(gpmReadings[id]!.reading, code, null);
      for (const metric of value ?? []) {
        const known = gpmReadings[metric.metricId];
        if (!known) continue;
        if (metric.code === Code.NOT_SUPPORTED || metric.code === Code.INVALID_ARGUMENT)
          wanted.delete(metric.metricId);
        const measured = metric.value !== null && Number.isFinite(metric.value) && metric.value >= 0;
        // Of an instance the driver now and then tells more than all.
        const scaled = measured ? metric.value! * known.scale : null;
        const value = scaled !== null && known.scale === PERCENT ? Math.min(scaled, 1) : scaled;
        take(known.reading, metric.code === Code.SUCCESS && !measured ? Code.NO_DATA : metric.code, value);
      }
    },
    close() {
      for (const sample of [newest, spare]) if (sample !== undefined) nvml.gpmSampleFree(sample);
      newest = spare = filledAt = undefined;
    },
  };
}
