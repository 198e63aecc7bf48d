/** NVIDIA's library behind the interface Nvml: which symbol each function is, and how its answer is read. */
import {
  type Binder,
  createBinder,
  fail,
  flag,
  inOutOf,
  known32,
  ok,
  outOf,
  pair,
  pointer,
  text,
  u32,
  u64,
} from "./calls.ts";
import { codeName } from "./codes.ts";
import { bindFieldValues } from "./field-values.ts";
import { bindGpm } from "./gpm-calls.ts";
import koffi from "./koffi.ts";
import { mappedPath } from "./library.ts";
import type { Device, DeviceAttributes, EventData, EventSet, Nvml, OpenOptions } from "./nvml.ts";
import { bindProcessLists } from "./process-lists.ts";
import { bindReadings } from "./reading-calls.ts";
import { DevicePointer, EventSetPointer, assertLayouts, structs } from "./structs.ts";

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
    ...bindReadings(binder),
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
