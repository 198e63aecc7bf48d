/** The calls that read one GPU: a value each. */
import { type Binder, fail, flag, i32, inOutOf, known64, ok, outOf, pair, u32, u64 } from "./calls.ts";
import { Code } from "./codes.ts";
import type { Device } from "./nvml.ts";
import { DevicePointer, structs, versions } from "./structs.ts";

const WORD = "uint32_t *";
const WIDE = "uint64_t *";

export const bindReadings = (binder: Binder) => ({
  ...bindState(binder),
  ...bindMemory(binder),
  ...bindTemperature(binder),
  ...bindFans(binder),
  ...bindLinks(binder),
  ...bindRepair(binder),
});

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
