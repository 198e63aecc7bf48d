/** NVML's structures as they lie in memory on 64-bit systems, and what each must measure there. */
import koffi from "./koffi.ts";

const u32 = "uint32_t";
const i32 = "int32_t";
const u64 = "uint64_t";
const i64 = "int64_t";
const text = (length: number) => koffi.array("char", length, "String");

export const DevicePointer = koffi.pointer("nvmlDevice_t", koffi.opaque());
export const EventSetPointer = koffi.pointer("nvmlEventSet_t", koffi.opaque());
export const GpmSamplePointer = koffi.pointer("nvmlGpmSample_t", koffi.opaque());

/** Which member holds is told beside it: a field's valueType. */
export const Value = koffi.union("nvmlValue_t", {
  f64: "double",
  u32,
  unsignedLong: "unsigned long",
  u64,
  i64,
  i32,
  u16: "uint16_t",
});

export const structs = {
  PciInfo: koffi.struct("nvmlPciInfo_t", {
    busIdLegacy: text(16),
    domain: u32,
    bus: u32,
    device: u32,
    pciDeviceId: u32,
    pciSubSystemId: u32,
    busId: text(32),
  }),
  Utilization: koffi.struct("nvmlUtilization_t", { gpu: u32, memory: u32 }),
  Memory: koffi.struct("nvmlMemory_t", { total: u64, free: u64, used: u64 }),
  Memory_v2: koffi.struct("nvmlMemory_v2_t", {
    version: u32,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
  }),
  // Of the functions without a suffix.
  ProcessInfo_v1: koffi.struct("nvmlProcessInfo_v1_t", { pid: u32, usedGpuMemory: u64 }),
  ProcessInfo: koffi.struct("nvmlProcessInfo_t", {
    pid: u32,
    usedGpuMemory: u64,
    gpuInstanceId: u32,
    computeInstanceId: u32,
  }),
  ProcessDetail_v1: koffi.struct("nvmlProcessDetail_v1_t", {
    pid: u32,
    usedGpuMemory: u64,
    gpuInstanceId: u32,
    computeInstanceId: u32,
    usedGpuCcProtectedMemory: u64,
  }),
  ProcessUtilizationSample: koffi.struct("nvmlProcessUtilizationSample_t", {
    pid: u32,
    timeStamp: u64,
    smUtil: u32,
    memUtil: u32,
    encUtil: u32,
    decUtil: u32,
  }),
  FieldValue: koffi.struct("nvmlFieldValue_t", {
    fieldId: u32,
    scopeId: u32,
    timestamp: i64,
    latencyUsec: i64,
    valueType: i32,
    nvmlReturn: i32,
    value: Value,
  }),
  ViolationTime: koffi.struct("nvmlViolationTime_t", { referenceTime: u64, violationTime: u64 }),
  Temperature_v1: koffi.struct("nvmlTemperature_v1_t", { version: u32, sensorType: i32, temperature: i32 }),
  MarginTemperature_v1: koffi.struct("nvmlMarginTemperature_v1_t", { version: u32, margin: i32 }),
  FanSpeedInfo_v1: koffi.struct("nvmlFanSpeedInfo_v1_t", { version: u32, fan: u32, speed: u32 }),
  EventData: koffi.struct("nvmlEventData_t", {
    device: DevicePointer,
    eventType: u64,
    eventData: u64,
    gpuInstanceId: u32,
    computeInstanceId: u32,
  }),
  DeviceAttributes: koffi.struct("nvmlDeviceAttributes_t", {
    multiprocessorCount: u32,
    sharedCopyEngineCount: u32,
    sharedDecoderCount: u32,
    sharedEncoderCount: u32,
    sharedJpegCount: u32,
    sharedOfaCount: u32,
    gpuInstanceSliceCount: u32,
    computeInstanceSliceCount: u32,
    memorySizeMB: u64,
  }),
  // The pointers to its names are numbers here: nobody follows them.
  GpmMetric: koffi.struct("nvmlGpmMetric_t", {
    metricId: u32,
    nvmlReturn: i32,
    value: "double",
    shortName: "uintptr_t",
    longName: "uintptr_t",
    unit: "uintptr_t",
  }),
  /** Without the metrics, which follow at 24; how many there is room for differs from library to library. */
  GpmMetricsGet: koffi.struct("nvmlGpmMetricsGet_t", {
    version: u32,
    numMetrics: u32,
    sample1: "uintptr_t",
    sample2: "uintptr_t",
  }),
  GpmSupport: koffi.struct("nvmlGpmSupport_t", { version: u32, isSupportedDevice: u32 }),
} as const;
export type StructName = keyof typeof structs;

export interface Layout {
  size: number;
  offsets: Record<string, number>;
}

/** Measured in NVIDIA's header of CUDA 13.3; the same since 11.1, as far as each goes back. */
export const layouts: Record<StructName, Layout> = {
  PciInfo: {
    size: 68,
    offsets: {
      busIdLegacy: 0,
      domain: 16,
      bus: 20,
      device: 24,
      pciDeviceId: 28,
      pciSubSystemId: 32,
      busId: 36,
    },
  },
  Utilization: { size: 8, offsets: { gpu: 0, memory: 4 } },
  Memory: { size: 24, offsets: { total: 0, free: 8, used: 16 } },
  Memory_v2: { size: 40, offsets: { version: 0, total: 8, reserved: 16, free: 24, used: 32 } },
  ProcessInfo_v1: { size: 16, offsets: { pid: 0, usedGpuMemory: 8 } },
  ProcessInfo: {
    size: 24,
    offsets: { pid: 0, usedGpuMemory: 8, gpuInstanceId: 16, computeInstanceId: 20 },
  },
  ProcessDetail_v1: {
    size: 32,
    offsets: {
      pid: 0,
      usedGpuMemory: 8,
      gpuInstanceId: 16,
      computeInstanceId: 20,
      usedGpuCcProtectedMemory: 24,
    },
  },
  ProcessUtilizationSample: {
    size: 32,
    offsets: { pid: 0, timeStamp: 8, smUtil: 16, memUtil: 20, encUtil: 24, decUtil: 28 },
  },
  FieldValue: {
    size: 40,
    offsets: {
      fieldId: 0,
      scopeId: 4,
      timestamp: 8,
      latencyUsec: 16,
      valueType: 24,
      nvmlReturn: 28,
      value: 32,
    },
  },
  ViolationTime: { size: 16, offsets: { referenceTime: 0, violationTime: 8 } },
  Temperature_v1: { size: 12, offsets: { version: 0, sensorType: 4, temperature: 8 } },
  MarginTemperature_v1: { size: 8, offsets: { version: 0, margin: 4 } },
  FanSpeedInfo_v1: { size: 12, offsets: { version: 0, fan: 4, speed: 8 } },
  EventData: {
    size: 32,
    offsets: { device: 0, eventType: 8, eventData: 16, gpuInstanceId: 24, computeInstanceId: 28 },
  },
  DeviceAttributes: {
    size: 40,
    offsets: {
      multiprocessorCount: 0,
      sharedCopyEngineCount: 4,
      sharedDecoderCount: 8,
      sharedEncoderCount: 12,
      sharedJpegCount: 16,
      sharedOfaCount: 20,
      gpuInstanceSliceCount: 24,
      computeInstanceSliceCount: 28,
      memorySizeMB: 32,
    },
  },
  GpmMetric: {
    size: 40,
    offsets: { metricId: 0, nvmlReturn: 4, value: 8, shortName: 16, longName: 24, unit: 32 },
  },
  GpmMetricsGet: { size: 24, offsets: { version: 0, numMetrics: 4, sample1: 8, sample2: 16 } },
  GpmSupport: { size: 8, offsets: { version: 0, isSupportedDevice: 4 } },
};

/** Room for the metrics of the newest header, whose structure has 333. */
export const GPM_METRICS_GET_BYTES = layouts.GpmMetricsGet.size + 333 * layouts.GpmMetric.size;

/** What a library expects in the structure's `version`: its size, and its number in the top byte. */
const versionOf = (name: StructName, version: number) => koffi.sizeof(structs[name]) | (version << 24);

export const versions = {
  Memory_v2: versionOf("Memory_v2", 2),
  Temperature_v1: versionOf("Temperature_v1", 1),
  MarginTemperature_v1: versionOf("MarginTemperature_v1", 1),
  FanSpeedInfo_v1: versionOf("FanSpeedInfo_v1", 1),
  // These are plain numbers.
  GpmMetricsGet: 1,
  GpmSupport: 1,
} as const;

/** As the header's macros compute them. */
export const expectedVersions: Record<keyof typeof versions, number> = {
  Memory_v2: 0x02000028,
  Temperature_v1: 0x0100000c,
  MarginTemperature_v1: 0x01000008,
  FanSpeedInfo_v1: 0x0100000c,
  GpmMetricsGet: 1,
  GpmSupport: 1,
};

/** Throws where a structure lies otherwise than the library writes it: a wrong one would overwrite memory. */
export function assertLayouts(expected: Partial<Record<StructName, Layout>> = layouts): void {
  for (const [name, { size, offsets }] of Object.entries(expected) as [StructName, Layout][]) {
    const struct = structs[name];
    const wrong = [
      ...(koffi.sizeof(struct) === size ? [] : [`is ${koffi.sizeof(struct)} bytes long, not ${size}`]),
      ...Object.entries(offsets)
        .filter(([member, offset]) => koffi.offsetof(struct, member) !== offset)
        .map(([member]) => `has ${member} at ${koffi.offsetof(struct, member)}, not ${offsets[member]}`),
    ];
    if (wrong.length > 0) throw new Error(`NVML's ${name} ${wrong.join(" and ")} on this system`);
  }
  for (const [name, version] of Object.entries(expectedVersions))
    if (versions[name as keyof typeof versions] !== version)
      throw new Error(`NVML's ${name} has another version number than ${version}`);
}
