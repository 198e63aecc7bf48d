/**
 * NVIDIA's management library as an object: NVML's own function names without their prefix and version suffix. Nothing here
 * throws; every call answers with NVML's code, and a function that the library lacks answers FUNCTION_NOT_FOUND. Numbers are
 * NVML's own, in NVML's units; what it marks as not available is null.
 *
 * All calls are made by one thread, and each may block for as long as the driver likes.
 */

import { CollectorError } from "../../error.ts";
import { useAddons } from "./addons.ts";
import { libraryCandidates } from "./library.ts";

/** The value of a call that may fail. `value === undefined` tells a failure, whose code says why. */
export type Result<T> = { readonly code: 0; readonly value: T } | Failure;
export interface Failure {
  readonly code: number;
  readonly value: undefined;
}

/** A GPU's or a MIG instance's handle: the library's pointer. */
export type Device = bigint & { readonly of: "device" };
export type EventSet = bigint & { readonly of: "event set" };
export type GpmSample = bigint & { readonly of: "GPM sample" };

export interface PciInfo {
  domain: number;
  bus: number;
  device: number;
  /** Device and vendor, and those of the board's maker. */
  pciDeviceId: number;
  pciSubSystemId: number;
  /** "00000000:3B:00.0" */
  busId: string;
}

/** Bytes. */
export interface MemoryInfo {
  total: number;
  /** By the driver for itself; null where the driver counts it as used. */
  reserved: number | null;
  free: number;
  used: number;
}

export interface ProcessInfo {
  pid: number;
  /** Bytes. */
  usedGpuMemory: number | null;
  gpuInstanceId: number | null;
  computeInstanceId: number | null;
}

/** Shares of the whole GPU in percent, over a time that the driver chooses. */
export interface ProcessUtilization {
  pid: number;
  /** µs since the epoch. */
  timeStamp: number;
  smUtil: number;
  memUtil: number;
  encUtil: number;
  decUtil: number;
}

export interface FieldRequest {
  fieldId: number;
  /** Link, or power domain; 0 where the field has none. */
  scopeId?: number;
}

export interface FieldValue {
  fieldId: number;
  scopeId: number;
  /** This field's own code: the call succeeds though fields fail. */
  code: number;
  /** Decoded by its type; null unless code is 0. Above 2^53 rounded. */
  value: number | null;
  /** µs that the driver took for it. */
  latency: number;
}

export interface DeviceAttributes {
  multiprocessorCount: number;
  sharedCopyEngineCount: number;
  sharedDecoderCount: number;
  sharedEncoderCount: number;
  sharedJpegCount: number;
  sharedOfaCount: number;
  gpuInstanceSliceCount: number;
  computeInstanceSliceCount: number;
  memorySizeMB: number;
}

export interface EventData {
  /** Handle of the GPU it happened to. */
  device: Device;
  eventType: number;
  /** The Xid, of an Xid event. */
  eventData: number;
  gpuInstanceId: number | null;
  computeInstanceId: number | null;
}

export interface GpmMetric {
  metricId: number;
  code: number;
  /** Percent, or MiB/s; null unless code is 0. */
  value: number | null;
}

/** Bits of an event's type. */
export const EventType = { xid: 0x8, migChange: 0x100 } as const;

export interface Nvml {
  init(): number;
  /** 1: succeed without a GPU, 2: attach none, 4: force. */
  initWithFlags(flags: number): number;
  shutdown(): number;
  /** The library's own words for a code; our name for it where it has none. */
  errorString(code: number): string;
  systemGetDriverVersion(): Result<string>;
  systemGetNVMLVersion(): Result<string>;
  /** major × 1000 + minor × 10 */
  systemGetCudaDriverVersion(): Result<number>;

  deviceGetCount(): Result<number>;
  /** Initialises the GPU: seconds, where no driver daemon keeps it awake. */
  deviceGetHandleByIndex(index: number): Result<Device>;
  /** Takes a MIG instance's UUID, too. */
  deviceGetHandleByUUID(uuid: string): Result<Device>;
  deviceGetHandleByPciBusId(busId: string): Result<Device>;
  deviceGetName(device: Device): Result<string>;
  deviceGetUUID(device: Device): Result<string>;
  deviceGetPciInfo(device: Device): Result<PciInfo>;
  deviceGetMinorNumber(device: Device): Result<number>;
  deviceGetIndex(device: Device): Result<number>;
  deviceGetArchitecture(device: Device): Result<number>;
  deviceGetCudaComputeCapability(device: Device): Result<{ major: number; minor: number }>;
  deviceGetNumGpuCores(device: Device): Result<number>;
  deviceGetPersistenceMode(device: Device): Result<boolean>;

  /** Percent of the driver's last sample period. */
  deviceGetUtilizationRates(device: Device): Result<{ gpu: number; memory: number }>;
  /** Percent. */
  deviceGetEncoderUtilization(device: Device): Result<number>;
  deviceGetDecoderUtilization(device: Device): Result<number>;
  deviceGetMemoryInfo(device: Device): Result<MemoryInfo>;
  /** °C */
  deviceGetTemperature(device: Device): Result<number>;
  /** kind 0 shutdown, 1 slowdown, 2 memory's highest, 3 GPU's highest in operation. */
  deviceGetTemperatureThreshold(device: Device, kind: number): Result<number>;
  /** °C left until it slows down. */
  deviceGetMarginTemperature(device: Device): Result<number>;
  /** mW */
  deviceGetPowerUsage(device: Device): Result<number>;
  deviceGetEnforcedPowerLimit(device: Device): Result<number>;
  deviceGetPowerManagementLimit(device: Device): Result<number>;
  deviceGetPowerManagementDefaultLimit(device: Device): Result<number>;
  deviceGetPowerManagementLimitConstraints(device: Device): Result<{ min: number; max: number }>;
  /** mJ since the driver was loaded. */
  deviceGetTotalEnergyConsumption(device: Device): Result<number>;
  /** MHz; type 0 graphics, 1 SM, 2 memory, 3 video. */
  deviceGetClockInfo(device: Device, type: number): Result<number>;
  deviceGetMaxClockInfo(device: Device, type: number): Result<number>;
  /** 0 the fastest … 15; null: unknown. */
  deviceGetPerformanceState(device: Device): Result<number | null>;
  /** Bits; of older libraries deviceGetCurrentClocksThrottleReasons. */
  deviceGetCurrentClocksEventReasons(device: Device): Result<number>;
  /** ns during which the policy held clocks down. */
  deviceGetViolationStatus(device: Device, policy: number): Result<number>;
  deviceGetNumFans(device: Device): Result<number>;
  /** Percent, as intended: may exceed 100. */
  deviceGetFanSpeed(device: Device, fan: number): Result<number>;
  deviceGetFanSpeedRPM(device: Device, fan: number): Result<number>;

  deviceGetPcieReplayCounter(device: Device): Result<number>;
  deviceGetCurrPcieLinkGeneration(device: Device): Result<number>;
  deviceGetCurrPcieLinkWidth(device: Device): Result<number>;
  deviceGetMaxPcieLinkGeneration(device: Device): Result<number>;
  deviceGetMaxPcieLinkWidth(device: Device): Result<number>;
  deviceGetNvLinkState(device: Device, link: number): Result<boolean>;
  /** kind 0 replay, 1 recovery, 2 CRC of flits, 3 CRC of data, 4 ECC of data. */
  deviceGetNvLinkErrorCounter(device: Device, link: number, kind: number): Result<number>;

  deviceGetEccMode(device: Device): Result<{ current: boolean; pending: boolean }>;
  /** error 0 corrected, 1 uncorrected; counter 0 since the driver was loaded, 1 in its life. */
  deviceGetTotalEccErrors(device: Device, error: number, counter: number): Result<number>;
  deviceGetMemoryErrorCounter(
    device: Device,
    error: number,
    counter: number,
    location: number,
  ): Result<number>;
  deviceGetRemappedRows(
    device: Device,
  ): Result<{ correctable: number; uncorrectable: number; pending: boolean; failed: boolean }>;
  /** Pages retired; cause 0 single-bit, 1 double-bit errors. */
  deviceGetRetiredPages(device: Device, cause: number): Result<number>;
  deviceGetRetiredPagesPendingStatus(device: Device): Result<boolean>;

  /** In the order asked for. */
  deviceGetFieldValues(device: Device, fields: readonly FieldRequest[]): Result<FieldValue[]>;

  deviceGetComputeRunningProcesses(device: Device): Result<ProcessInfo[]>;
  deviceGetGraphicsRunningProcesses(device: Device): Result<ProcessInfo[]>;
  deviceGetMPSComputeRunningProcesses(device: Device): Result<ProcessInfo[]>;
  /** What is newer than that time (µs); none is an empty list. Pass the newest timeStamp seen. */
  deviceGetProcessUtilization(device: Device, lastSeen: number): Result<ProcessUtilization[]>;

  /** NOT_SUPPORTED where a GPU can't be divided. */
  deviceGetMigMode(device: Device): Result<{ current: boolean; pending: boolean }>;
  deviceGetMaxMigDeviceCount(device: Device): Result<number>;
  /** NOT_FOUND is a hole in the list, not its end. */
  deviceGetMigDeviceHandleByIndex(device: Device, index: number): Result<Device>;
  deviceIsMigDeviceHandle(device: Device): Result<boolean>;
  deviceGetDeviceHandleFromMigDeviceHandle(device: Device): Result<Device>;
  deviceGetGpuInstanceId(device: Device): Result<number>;
  deviceGetComputeInstanceId(device: Device): Result<number>;
  deviceGetAttributes(device: Device): Result<DeviceAttributes>;

  eventSetCreate(): Result<EventSet>;
  deviceGetSupportedEventTypes(device: Device): Result<number>;
  deviceRegisterEvents(device: Device, types: number, set: EventSet): number;
  /** Does not wait: TIMEOUT if nothing has happened. */
  eventSetWait(set: EventSet): Result<EventData>;
  eventSetFree(set: EventSet): number;

  gpmQueryDeviceSupport(device: Device): Result<boolean>;
  gpmSampleAlloc(): Result<GpmSample>;
  gpmSampleFree(sample: GpmSample): number;
  gpmSampleGet(device: Device, sample: GpmSample): number;
  gpmMigSampleGet(device: Device, gpuInstance: number, sample: GpmSample): number;
  /** What happened between two samples, at least 100 ms apart; in the order asked for. */
  gpmMetricsGet(earlier: GpmSample, later: GpmSample, ids: readonly number[]): Result<GpmMetric[]>;

  /** Path of the library that is loaded, as /proc/self/maps has it. */
  readonly path: string;
  /** Functions above that this library lacks. */
  readonly missing: ReadonlySet<string>;
}

export interface OpenOptions {
  /** Instead of looking for it. BINNACLE_NVML does the same. */
  path?: string | undefined;
  /** Folder of the native addons: the compiled program can't call the library without. BINNACLE_ADDONS does the same. */
  addons?: string | undefined;
  /** Hears of every call into the library, with what it took; costs nothing when absent. */
  onCall?: ((symbol: string, microseconds: number) => void) | undefined;
}

/** `nvml` is absent where there is no library, or none that loads: `found`. */
export type Opened =
  | { readonly nvml: Nvml; readonly reason: null }
  | {
      readonly nvml: undefined;
      readonly found: boolean;
      readonly reason: string;
      /** What a person can do about one that does not load. */
      readonly advice: string | null;
    };

/** Looks for the library and loads it, and with it all that calling it needs; nothing of that is loaded before. */
export async function openNvml({ path, addons, onCall }: OpenOptions = {}): Promise<Opened> {
  const chosen = path ?? (process.env["BINNACLE_NVML"] || undefined);
  const candidates = libraryCandidates({ path: chosen });
  if (candidates.length === 0)
    return {
      nvml: undefined,
      found: false,
      reason:
        chosen === undefined
          ? "NVIDIA's library (libnvidia-ml.so.1) is not on this machine."
          : `There is no NVIDIA library at ${chosen}; BINNACLE_NVML takes an absolute path.`,
      advice: null,
    };
  if (addons !== undefined) useAddons(addons);
  let bindNvml: typeof import("./binding.ts").bindNvml;
  try {
    ({ bindNvml } = await import("./binding.ts"));
  } catch (error) {
    return { nvml: undefined, found: true, reason: (error as Error).message, advice: adviceOn(error) };
  }
  const reasons: string[] = [];
  for (const candidate of candidates)
    try {
      return { nvml: bindNvml(candidate, onCall), reason: null };
    } catch (error) {
      // Of another architecture, or for another C library.
      reasons.push(`Can't load ${candidate}: ${(error as Error).message}`);
    }
  return {
    nvml: undefined,
    found: true,
    reason: reasons[0]!,
    advice: "It has to be of this machine's architecture and C library: install the driver's package for it.",
  };
}

/** The one library that the addon needs and a small container may lack. */
const adviceOn = (error: unknown): string | null =>
  (error as Error).message.includes("libstdc++")
    ? "Install libstdc++ (Debian and Ubuntu: libstdc++6; Alpine: libstdc++)."
    : error instanceof CollectorError
      ? (error.hint ?? null)
      : null;
