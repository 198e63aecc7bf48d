/** NVIDIA's library behind the interface Nvml: which symbol each function is, and how its answer is read. */
import {
  type Binder,
  createBinder,
  fail,
  flag,
  i32,
  inOutOf,
  known32,
  known64,
  ok,
  outOf,
  pair,
  pointer,
  text,
  u32,
  u64,
} from "./calls.ts";
import { Code, codeName } from "./codes.ts";
import { bindFieldValues } from "./field-values.ts";
import { bindGpm } from "./gpm-calls.ts";
import koffi from "./koffi.ts";
import { mappedPath } from "./library.ts";
import type { Device, DeviceAttributes, EventData, EventSet, Nvml, OpenOptions } from "./nvml.ts";
import { bindProcessLists } from "./process-lists.ts";
import { DevicePointer, EventSetPointer, assertLayouts, structs, versions } from "./structs.ts";

const WORD = "uint32_t *";
const SIGNED = "int32_t *";
const WIDE = "uint64_t *";
const CHARS = "char *";

/** Throws where the file is no library for this machine. */
export function bindNvml(path: string, onCall: OpenOptions["onCall"]): Nvml {
  assertLayouts();
  const library = koffi.load(path);
  const binder = createBinder(library, onCall);
  return {
    ...bindLibrary(binder, library),
    ...bindIdentity(binder),
    ...bindState(binder),
    ...bindMemory(binder),
    ...bindTemperature(binder),
    ...bindFans(binder),
    ...bindLinks(binder),
    ...bindRepair(binder),
    ...bindFieldValues(binder),
    ...bindProcessLists(binder),
    ...bindMig(binder),
    ...bindEvents(binder),
    ...bindGpm(binder),
    path: mappedPath(path),
    missing: binder.missing,
  };
}

function bindLibrary({ bind }: Binder, library: ReturnType<typeof koffi.load>) {
  const init = bind(["nvmlInit_v2", "nvmlInit"]);
  const withFlags = bind("nvmlInitWithFlags", "uint32_t");
  const shutdown = bind("nvmlShutdown");
  const driverVersion = bind("nvmlSystemGetDriverVersion", CHARS, "uint32_t");
  const nvmlVersion = bind("nvmlSystemGetNVMLVersion", CHARS, "uint32_t");
  const cuda = bind(["nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"], SIGNED);
  const count = bind(["nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"], WORD);
  const number = new Int32Array(1);
  const numberOf = (bound: typeof count) => () => {
    const code = bound.call(number);
    return code === 0 ? ok(number[0]!) : fail(code);
  };
  let words: ((code: number) => string) | undefined;
  try {
    words = library.func("nvmlErrorString", "str", ["int32_t"]);
  } catch {
    // Then our own names do.
  }
  return {
    init: () => init.call(),
    initWithFlags: (flags: number) => withFlags.call(flags),
    shutdown: () => shutdown.call(),
    errorString: (code: number) => words?.(code) ?? codeName(code),
    systemGetDriverVersion: text<[]>(driverVersion),
    systemGetNVMLVersion: text<[]>(nvmlVersion),
    systemGetCudaDriverVersion: numberOf(cuda),
    deviceGetCount: numberOf(count),
  };
}

function bindIdentity({ bind, device }: Binder) {
  const handle = outOf(DevicePointer);
  const pci = device(
    ["nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"],
    inOutOf(structs.PciInfo),
  );
  const blank = {
    busIdLegacy: "",
    domain: 0,
    bus: 0,
    device: 0,
    pciDeviceId: 0,
    pciSubSystemId: 0,
    busId: "",
  };
  return {
    deviceGetHandleByIndex: pointer<Device, [number]>(
      bind(["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"], "uint32_t", handle),
    ),
    deviceGetHandleByUUID: pointer<Device, [string]>(bind("nvmlDeviceGetHandleByUUID", "str", handle)),
    deviceGetHandleByPciBusId: pointer<Device, [string]>(
      bind(["nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetHandleByPciBusId"], "str", handle),
    ),
    deviceGetName: text<[Device]>(device("nvmlDeviceGetName", CHARS, "uint32_t")),
    deviceGetUUID: text<[Device]>(device("nvmlDeviceGetUUID", CHARS, "uint32_t")),
    deviceGetPciInfo: (of: Device) => {
      const info = { ...blank };
      const code = pci.call(of, info);
      if (code !== 0) return fail(code);
      const { busIdLegacy, ...rest } = info;
      // Older versions of the structure have only the short one.
      return ok({ ...rest, busId: info.busId === "" ? busIdLegacy : info.busId });
    },
    deviceGetMinorNumber: u32(device("nvmlDeviceGetMinorNumber", WORD)),
    deviceGetIndex: u32(device("nvmlDeviceGetIndex", WORD)),
    deviceGetArchitecture: u32(device("nvmlDeviceGetArchitecture", WORD)),
    deviceGetCudaComputeCapability: pair(
      device("nvmlDeviceGetCudaComputeCapability", WORD, WORD),
      (major, minor) => ({ major, minor }),
    ),
    deviceGetNumGpuCores: u32(device("nvmlDeviceGetNumGpuCores", WORD)),
    deviceGetPersistenceMode: flag(device("nvmlDeviceGetPersistenceMode", WORD)),
  };
}

/** How busy it is, and how fast it may go. */
function bindState({ device }: Binder) {
  const utilization = device("nvmlDeviceGetUtilizationRates", outOf(structs.Utilization));
  const violation = device("nvmlDeviceGetViolationStatus", "int32_t", outOf(structs.ViolationTime));
  const performanceState = u32(device("nvmlDeviceGetPerformanceState", WORD));
  const power = (symbol: string) => u32(device(symbol, WORD));
  const clock = (symbol: string) => u32<[number]>(device(symbol, "int32_t", WORD));
  return {
    deviceGetUtilizationRates: (of: Device) => {
      const rates = { gpu: 0, memory: 0 };
      const code = utilization.call(of, rates);
      return code === 0 ? ok(rates) : fail(code);
    },
    deviceGetEncoderUtilization: pair(
      device("nvmlDeviceGetEncoderUtilization", WORD, WORD),
      (percent) => percent,
    ),
    deviceGetDecoderUtilization: pair(
      device("nvmlDeviceGetDecoderUtilization", WORD, WORD),
      (percent) => percent,
    ),
    deviceGetPowerUsage: power("nvmlDeviceGetPowerUsage"),
    deviceGetEnforcedPowerLimit: power("nvmlDeviceGetEnforcedPowerLimit"),
    deviceGetPowerManagementLimit: power("nvmlDeviceGetPowerManagementLimit"),
    deviceGetPowerManagementDefaultLimit: power("nvmlDeviceGetPowerManagementDefaultLimit"),
    deviceGetPowerManagementLimitConstraints: pair(
      device("nvmlDeviceGetPowerManagementLimitConstraints", WORD, WORD),
      (min, max) => ({ min, max }),
    ),
    deviceGetTotalEnergyConsumption: u64(device("nvmlDeviceGetTotalEnergyConsumption", WIDE)),
    deviceGetClockInfo: clock("nvmlDeviceGetClockInfo"),
    deviceGetMaxClockInfo: clock("nvmlDeviceGetMaxClockInfo"),
    deviceGetPerformanceState: (of: Device) => {
      const state = performanceState(of);
      return state.value === undefined ? state : ok(state.value > 15 ? null : state.value);
    },
    deviceGetCurrentClocksEventReasons: u64(
      device(["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"], WIDE),
    ),
    deviceGetViolationStatus: (of: Device, policy: number) => {
      const time = { referenceTime: 0, violationTime: 0 as number | bigint };
      const code = violation.call(of, policy, time);
      if (code !== 0) return fail(code);
      const nanoseconds = known64(time.violationTime);
      return nanoseconds === null ? fail(Code.NOT_SUPPORTED) : ok(nanoseconds);
    },
  };
}

/** The library has the newer function, but does not know its structure, or the GPU not the function. */
const mayKnowOlder = (code: number) =>
  code === Code.ARGUMENT_VERSION_MISMATCH || code === Code.NOT_SUPPORTED || code === Code.INVALID_ARGUMENT;

function bindMemory({ device, optional, missing }: Binder) {
  const newer = optional("nvmlDeviceGetMemoryInfo_v2", DevicePointer, inOutOf(structs.Memory_v2));
  const older = device("nvmlDeviceGetMemoryInfo", outOf(structs.Memory));
  if (newer.symbol !== undefined) missing.delete("deviceGetMemoryInfo");
  let useNewer = newer.symbol !== undefined;

  function memoryOf(
    total: number | bigint,
    reserved: number | bigint | null,
    free: number | bigint,
    used: number | bigint,
  ) {
    const all = known64(total);
    const unused = known64(free);
    const inUse = known64(used);
    if (all === null || unused === null || inUse === null) return fail(Code.NOT_SUPPORTED);
    return ok({
      total: all,
      reserved: reserved === null ? null : known64(reserved),
      free: unused,
      used: inUse,
    });
  }

  return {
    deviceGetMemoryInfo: (of: Device) => {
      if (useNewer) {
        const memory = { version: versions.Memory_v2, total: 0, reserved: 0, free: 0, used: 0 };
        const code = newer.call(of, memory);
        if (code === 0) return memoryOf(memory.total, memory.reserved, memory.free, memory.used);
        if (!mayKnowOlder(code) || older.symbol === undefined) return fail(code);
        if (code === Code.ARGUMENT_VERSION_MISMATCH) useNewer = false;
      }
      const memory = { total: 0, free: 0, used: 0 };
      const code = older.call(of, memory);
      return code === 0 ? memoryOf(memory.total, null, memory.free, memory.used) : fail(code);
    },
  };
}

function bindTemperature({ device, optional, missing }: Binder) {
  const GPU_SENSOR = 0;
  const newer = optional("nvmlDeviceGetTemperatureV", DevicePointer, inOutOf(structs.Temperature_v1));
  const older = device("nvmlDeviceGetTemperature", "int32_t", WORD);
  if (newer.symbol !== undefined) missing.delete("deviceGetTemperature");
  const bySensor = i32<[number]>(older);
  let useNewer = newer.symbol !== undefined;
  const margin = device("nvmlDeviceGetMarginTemperature", inOutOf(structs.MarginTemperature_v1));
  return {
    deviceGetTemperature: (of: Device) => {
      if (useNewer) {
        const temperature = { version: versions.Temperature_v1, sensorType: GPU_SENSOR, temperature: 0 };
        const code = newer.call(of, temperature);
        if (code === 0) return ok(temperature.temperature);
        if (!mayKnowOlder(code) || older.symbol === undefined) return fail(code);
        if (code === Code.ARGUMENT_VERSION_MISMATCH) useNewer = false;
      }
      return bySensor(of, GPU_SENSOR);
    },
    deviceGetTemperatureThreshold: u32<[number]>(
      device("nvmlDeviceGetTemperatureThreshold", "int32_t", WORD),
    ),
    deviceGetMarginTemperature: (of: Device) => {
      const left = { version: versions.MarginTemperature_v1, margin: 0 };
      const code = margin.call(of, left);
      return code === 0 ? ok(left.margin) : fail(code);
    },
  };
}

function bindFans({ device, optional, missing }: Binder) {
  const newer = optional("nvmlDeviceGetFanSpeed_v2", DevicePointer, "uint32_t", WORD);
  const byNumber = u32<[number]>(newer);
  const older = device("nvmlDeviceGetFanSpeed", WORD);
  const first = u32(older);
  if (newer.symbol !== undefined) missing.delete("deviceGetFanSpeed");
  const rpm = device("nvmlDeviceGetFanSpeedRPM", inOutOf(structs.FanSpeedInfo_v1));
  return {
    deviceGetNumFans: u32(device("nvmlDeviceGetNumFans", WORD)),
    deviceGetFanSpeed: (of: Device, fan: number) =>
      // The older one knows but one fan.
      newer.symbol === undefined && fan === 0 ? first(of) : byNumber(of, fan),
    deviceGetFanSpeedRPM: (of: Device, fan: number) => {
      const info = { version: versions.FanSpeedInfo_v1, fan, speed: 0 };
      const code = rpm.call(of, info);
      return code === 0 ? ok(info.speed) : fail(code);
    },
  };
}

function bindLinks({ device }: Binder) {
  return {
    deviceGetPcieReplayCounter: u32(device("nvmlDeviceGetPcieReplayCounter", WORD)),
    deviceGetCurrPcieLinkGeneration: u32(device("nvmlDeviceGetCurrPcieLinkGeneration", WORD)),
    deviceGetCurrPcieLinkWidth: u32(device("nvmlDeviceGetCurrPcieLinkWidth", WORD)),
    deviceGetMaxPcieLinkGeneration: u32(device("nvmlDeviceGetMaxPcieLinkGeneration", WORD)),
    deviceGetMaxPcieLinkWidth: u32(device("nvmlDeviceGetMaxPcieLinkWidth", WORD)),
    deviceGetNvLinkState: flag<[number]>(device("nvmlDeviceGetNvLinkState", "uint32_t", WORD)),
    deviceGetNvLinkErrorCounter: u64<[number, number]>(
      device("nvmlDeviceGetNvLinkErrorCounter", "uint32_t", "int32_t", WIDE),
    ),
  };
}

/** Memory errors, and what was done about them. */
function bindRepair({ device }: Binder) {
  const remapped = device("nvmlDeviceGetRemappedRows", WORD, WORD, WORD, WORD);
  const rows = [0, 1, 2, 3].map(() => new Uint32Array(1)) as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  const retired = device("nvmlDeviceGetRetiredPages", "int32_t", WORD, "void *");
  const pages = new Uint32Array(1);
  return {
    deviceGetEccMode: pair(device("nvmlDeviceGetEccMode", WORD, WORD), (current, pending) => ({
      current: current === 1,
      pending: pending === 1,
    })),
    deviceGetTotalEccErrors: u64<[number, number]>(
      device("nvmlDeviceGetTotalEccErrors", "int32_t", "int32_t", WIDE),
    ),
    deviceGetMemoryErrorCounter: u64<[number, number, number]>(
      device("nvmlDeviceGetMemoryErrorCounter", "int32_t", "int32_t", "int32_t", WIDE),
    ),
    deviceGetRemappedRows: (of: Device) => {
      const code = remapped.call(of, ...rows);
      if (code !== 0) return fail(code);
      const [correctable, uncorrectable, pending, failed] = rows.map((row) => row[0]!) as [
        number,
        number,
        number,
        number,
      ];
      return ok({ correctable, uncorrectable, pending: pending === 1, failed: failed === 1 });
    },
    deviceGetRetiredPages: (of: Device, cause: number) => {
      // Without room it tells how many there are.
      pages[0] = 0;
      const code = retired.call(of, cause, pages, null);
      return code === 0 || code === Code.INSUFFICIENT_SIZE ? ok(pages[0]!) : fail(code);
    },
    deviceGetRetiredPagesPendingStatus: flag(device("nvmlDeviceGetRetiredPagesPendingStatus", WORD)),
  };
}

function bindMig({ device }: Binder) {
  const handle = outOf(DevicePointer);
  const attributes = device("nvmlDeviceGetAttributes_v2", outOf(structs.DeviceAttributes));
  return {
    deviceGetMigMode: pair(device("nvmlDeviceGetMigMode", WORD, WORD), (current, pending) => ({
      current: current === 1,
      pending: pending === 1,
    })),
    deviceGetMaxMigDeviceCount: u32(device("nvmlDeviceGetMaxMigDeviceCount", WORD)),
    deviceGetMigDeviceHandleByIndex: pointer<Device, [Device, number]>(
      device("nvmlDeviceGetMigDeviceHandleByIndex", "uint32_t", handle),
    ),
    deviceIsMigDeviceHandle: flag(device("nvmlDeviceIsMigDeviceHandle", WORD)),
    deviceGetDeviceHandleFromMigDeviceHandle: pointer<Device, [Device]>(
      device("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle),
    ),
    deviceGetGpuInstanceId: u32(device("nvmlDeviceGetGpuInstanceId", WORD)),
    deviceGetComputeInstanceId: u32(device("nvmlDeviceGetComputeInstanceId", WORD)),
    deviceGetAttributes: (of: Device) => {
      const found = {} as DeviceAttributes;
      const code = attributes.call(of, found);
      return code === 0 ? ok(found) : fail(code);
    },
  };
}

function bindEvents({ bind, device }: Binder) {
  const register = device("nvmlDeviceRegisterEvents", "uint64_t", EventSetPointer);
  const wait = bind(
    ["nvmlEventSetWait_v2", "nvmlEventSetWait"],
    EventSetPointer,
    inOutOf(structs.EventData),
    "uint32_t",
  );
  const free = bind("nvmlEventSetFree", EventSetPointer);
  return {
    eventSetCreate: pointer<EventSet, []>(bind("nvmlEventSetCreate", outOf(EventSetPointer))),
    deviceGetSupportedEventTypes: u64(device("nvmlDeviceGetSupportedEventTypes", WIDE)),
    deviceRegisterEvents: (of: Device, types: number, set: EventSet) => register.call(of, types, set),
    eventSetWait: (set: EventSet) => {
      // The older one does not write the instances.
      const event = {
        device: null,
        eventType: 0,
        eventData: 0,
        gpuInstanceId: 0xffffffff,
        computeInstanceId: 0xffffffff,
      };
      const code = wait.call(set, event, 0);
      if (code !== 0) return fail(code);
      return ok<EventData>({
        device: (event.device ?? 0n) as Device,
        eventType: Number(event.eventType),
        eventData: Number(event.eventData),
        gpuInstanceId: known32(event.gpuInstanceId),
        computeInstanceId: known32(event.computeInstanceId),
      });
    },
    eventSetFree: (set: EventSet) => free.call(set),
  };
}
