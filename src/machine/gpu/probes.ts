/** What is asked of a GPU, one entry a call: readings in the catalogue's units, nothing where there is no value. */
import type { ReadingName } from "../../sample/reading.ts";
import { Code } from "./codes.ts";
import type { Device, Nvml, Result } from "./nvml.ts";

export type Put = (reading: ReadingName, value: number) => void;

export interface Probe {
  readings: readonly ReadingName[];
  tier: "fast" | "processes" | "slow";
  /** A GPU that is divided tells this of itself; the rest its instances tell, or nobody. */
  ofDivided?: true;
  /** An instance of a divided GPU tells it. */
  ofInstance?: true;
  /** Answers with the call's code. */
  read(nvml: Nvml, device: Device, put: Put): number;
}

const SM = 1;
const MEMORY = 2;
const CORRECTED = 0;
const UNCORRECTED = 1;
const SINCE_LOAD = 0;
const SINGLE_BIT = 0;
const DOUBLE_BIT = 1;

/** A call with one number; null, the library's "not available", is no value. */
function number(
  reading: ReadingName,
  scale: number,
  call: (nvml: Nvml, device: Device) => Result<number | null>,
): Pick<Probe, "readings" | "read"> {
  return {
    readings: [reading],
    read(nvml, device, put) {
      const { code, value } = call(nvml, device);
      if (value === null) return Code.NO_DATA;
      if (value !== undefined) put(reading, value * scale);
      return code;
    },
  };
}

export const probes: readonly Probe[] = [
  {
    readings: ["gpu.utilization", "gpu.memory.activity"],
    tier: "fast",
    read(nvml, device, put) {
      const { code, value } = nvml.deviceGetUtilizationRates(device);
      if (value === undefined) return code;
      put("gpu.utilization", value.gpu / 100);
      put("gpu.memory.activity", value.memory / 100);
      return code;
    },
  },
  {
    readings: ["gpu.memory.used", "gpu.memory.total", "gpu.memory.reserved"],
    tier: "fast",
    ofInstance: true,
    read(nvml, device, put) {
      const { code, value } = nvml.deviceGetMemoryInfo(device);
      if (value === undefined) return code;
      put("gpu.memory.used", value.used);
      put("gpu.memory.total", value.total);
      if (value.reserved !== null) put("gpu.memory.reserved", value.reserved);
      return code;
    },
  },
  {
    ...number("gpu.temperature", 1, (nvml, device) => nvml.deviceGetTemperature(device)),
    tier: "fast",
    ofDivided: true,
  },
  {
    ...number("gpu.power", 0.001, (nvml, device) => nvml.deviceGetPowerUsage(device)),
    tier: "fast",
    ofDivided: true,
  },
  {
    ...number("gpu.clock.sm", 1, (nvml, device) => nvml.deviceGetClockInfo(device, SM)),
    tier: "fast",
    ofDivided: true,
  },
  {
    ...number("gpu.clock.memory", 1, (nvml, device) => nvml.deviceGetClockInfo(device, MEMORY)),
    tier: "fast",
    ofDivided: true,
  },
  {
    ...number("gpu.performance_state", 1, (nvml, device) => nvml.deviceGetPerformanceState(device)),
    tier: "fast",
    ofDivided: true,
  },
  {
    ...number("gpu.throttle", 1, (nvml, device) => nvml.deviceGetCurrentClocksEventReasons(device)),
    tier: "fast",
    ofDivided: true,
  },
  {
    ...number("gpu.encoder", 0.01, (nvml, device) => nvml.deviceGetEncoderUtilization(device)),
    tier: "processes",
  },
  {
    ...number("gpu.decoder", 0.01, (nvml, device) => nvml.deviceGetDecoderUtilization(device)),
    tier: "processes",
  },
  {
    ...number("gpu.power.limit", 0.001, (nvml, device) => nvml.deviceGetEnforcedPowerLimit(device)),
    tier: "slow",
    ofDivided: true,
  },
  {
    readings: ["gpu.fan"],
    tier: "slow",
    ofDivided: true,
    read(nvml, device, put) {
      const fans = nvml.deviceGetNumFans(device);
      // Boards in servers are cooled by the chassis.
      if (fans.value === 0) return Code.NOT_SUPPORTED;
      // Older libraries do not count them: there is a first one, or none.
      let sum = 0;
      for (let fan = 0; fan < (fans.value ?? 1); fan++) {
        const { code, value } = nvml.deviceGetFanSpeed(device, fan);
        if (value === undefined) return code;
        sum += value;
      }
      put("gpu.fan", sum / (fans.value ?? 1) / 100);
      return Code.SUCCESS;
    },
  },
  {
    ...number("gpu.pcie.replays", 1, (nvml, device) => nvml.deviceGetPcieReplayCounter(device)),
    tier: "slow",
    ofDivided: true,
  },
  {
    ...number("gpu.ecc.corrected", 1, (nvml, device) =>
      nvml.deviceGetTotalEccErrors(device, CORRECTED, SINCE_LOAD),
    ),
    tier: "slow",
    ofDivided: true,
  },
  {
    ...number("gpu.ecc.uncorrected", 1, (nvml, device) =>
      nvml.deviceGetTotalEccErrors(device, UNCORRECTED, SINCE_LOAD),
    ),
    tier: "slow",
    ofDivided: true,
  },
  {
    readings: [
      "gpu.remapped_rows.correctable",
      "gpu.remapped_rows.uncorrectable",
      "gpu.remapped_rows.pending",
      "gpu.remapped_rows.failed",
    ],
    tier: "slow",
    read(nvml, device, put) {
      const { code, value } = nvml.deviceGetRemappedRows(device);
      if (value === undefined) return code;
      put("gpu.remapped_rows.correctable", value.correctable);
      put("gpu.remapped_rows.uncorrectable", value.uncorrectable);
      put("gpu.remapped_rows.pending", value.pending ? 1 : 0);
      put("gpu.remapped_rows.failed", value.failed ? 1 : 0);
      return code;
    },
  },
  {
    readings: ["gpu.retired_pages"],
    tier: "slow",
    ofDivided: true,
    read(nvml, device, put) {
      const single = nvml.deviceGetRetiredPages(device, SINGLE_BIT);
      if (single.value === undefined) return single.code;
      const double = nvml.deviceGetRetiredPages(device, DOUBLE_BIT);
      if (double.value === undefined) return double.code;
      put("gpu.retired_pages", single.value + double.value);
      return Code.SUCCESS;
    },
  },
];

/** All fields together are one call. */
export interface FieldProbe {
  fieldId: number;
  scopeId?: number;
  reading: ReadingName;
  /** Of a value; or of what a counter grows by a second, if `rate`. */
  scale: number;
  rate?: true;
  /** A counter of 32 bits. */
  wraps?: true;
  ofDivided?: true;
}

const ALL_LINKS = 0xffffffff;
const KIB = 1024;

export const fieldProbes: readonly FieldProbe[] = [
  { fieldId: 83, reading: "gpu.energy", scale: 0.001, ofDivided: true },
  { fieldId: 82, reading: "gpu.memory.temperature", scale: 1, ofDivided: true },
  {
    fieldId: 138,
    scopeId: ALL_LINKS,
    reading: "gpu.nvlink.transmit",
    scale: KIB,
    rate: true,
    ofDivided: true,
  },
  {
    fieldId: 139,
    scopeId: ALL_LINKS,
    reading: "gpu.nvlink.receive",
    scale: KIB,
    rate: true,
    ofDivided: true,
  },
  { fieldId: 197, reading: "gpu.pcie.transmit", scale: 1, rate: true, wraps: true, ofDivided: true },
  { fieldId: 198, reading: "gpu.pcie.receive", scale: 1, rate: true, wraps: true, ofDivided: true },
];
