import { afterAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Code } from "../src/machine/gpu/codes.ts";
import { type Device, type Nvml, type OpenOptions, openNvml } from "../src/machine/gpu/nvml.ts";
import { assertLayouts, expectedVersions, layouts, versions } from "../src/machine/gpu/structs.ts";
import {
  collectorEnvironment,
  type MockOptions,
  noCompiler,
  type Scenario,
  scenario,
} from "./helpers/nvml.ts";

const scenarios: Scenario[] = [];
afterAll(() => scenarios.forEach((told) => told.remove()));

interface Opened {
  nvml: Nvml;
  told: Scenario;
  /** The first GPU. */
  gpu: Device;
}

/** A library with a state of its own, initialised. */
async function open(
  lines: string[],
  options: MockOptions & Pick<OpenOptions, "onCall"> = {},
): Promise<Opened> {
  const { nvml, told } = await openOnly(lines, options);
  expect(nvml.init()).toBe(Code.SUCCESS);
  return { nvml, told, gpu: nvml.deviceGetHandleByIndex(0).value! };
}

async function openOnly(
  lines: string[],
  { onCall, ...mock }: MockOptions & Pick<OpenOptions, "onCall"> = {},
) {
  const told = scenario(...lines);
  scenarios.push(told);
  const opened = await openNvml({ path: collectorEnvironment(told, mock).BINNACLE_NVML, onCall });
  if (opened.nvml === undefined) throw new Error(opened.reason);
  return { nvml: opened.nvml, told };
}

/** Asks until the answer is as wished: the library reads a changed scenario within 50 ms. */
async function until<T>(ask: () => T, wished: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = ask();
    if (wished(answer)) return answer;
    await Bun.sleep(5);
  }
}

const failed = (code: number) => ({ code, value: undefined });
const some = <T>(value: T) => ({ code: 0 as const, value });

describe("NVML's structures", () => {
  test("lie in koffi as they do in NVIDIA's header", () => {
    expect(() => assertLayouts()).not.toThrow();
    expect<Record<string, number>>(versions).toEqual(expectedVersions);
  });

  test("are not used where they lie otherwise", () => {
    const Memory_v2 = { size: 36, offsets: { version: 0, total: 4 } };
    expect(() => assertLayouts({ Memory_v2 })).toThrow(
      "NVML's Memory_v2 is 40 bytes long, not 36 and has total at 8, not 4 on this system",
    );
  });

  test("are held by the C compiler to the same numbers", () => {
    const source = readFileSync(join(import.meta.dirname, "fixtures/nvml/mock_nvml.c"), "utf8");
    const sizes = new Map(
      [...source.matchAll(/\bSIZE\((\w+), (\d+)\)/g)].map(([, type, size]) => [type, Number(size)]),
    );
    const offsets = new Map(
      [...source.matchAll(/\bAT\((\w+), (\w+), (\d+)\)/g)].map(([, type, member, at]) => [
        `${type}.${member}`,
        Number(at),
      ]),
    );
    for (const [type, { size, offsets: members }] of Object.entries(layouts)) {
      // There it has its metrics, too: as many as the newest header.
      expect({ type, size: sizes.get(type) }).toEqual({
        type,
        size: type === "GpmMetricsGet" ? size + 333 * 40 : size,
      });
      for (const [member, at] of Object.entries(members))
        // The first member is at 0 in any case.
        if (at !== 0)
          expect({ member: `${type}.${member}`, at: offsets.get(`${type}.${member}`) }).toEqual({
            member: `${type}.${member}`,
            at,
          });
    }
  });
});

describe.skipIf(noCompiler)("NVIDIA's library", () => {
  test("tells what a GPU is and how it fares", async () => {
    const { nvml, gpu } = await open([
      "gpus 2",
      "driver 570.86.15",
      "cuda 12080",
      "gpu0 name NVIDIA Test 9000",
      "gpu0 uuid GPU-test",
      "gpu0 busid 00000001:3B:00.0",
      "gpu0 utilization 73",
      "gpu0 memory_utilization 12",
      "gpu0 memory_total 1000000000000",
      "gpu0 memory_reserved 700",
      "gpu0 memory_used 20000000000",
      "gpu0 temperature -3",
      "gpu0 power 651234",
      "gpu0 energy 9007199254740992",
      "gpu0 clock_sm 1755",
      "gpu0 pstate 2",
      "gpu0 reasons 68",
      "gpu0 fans 2",
      "gpu0 fan 104",
      "gpu0 fan_rpm 3210",
      "gpu0 encoder 4",
      "gpu0 ecc_uncorrected 5",
      "gpu0 rows_correctable 3",
      "gpu0 rows_pending 1",
      "gpu0 retired_single 7",
      "gpu0 margin -2",
    ]);
    expect(nvml.path).toBe(join(scenarios.at(-1)!.path, "../libnvidia-ml.so.1"));
    expect([...nvml.missing]).toEqual([]);
    expect(nvml.systemGetDriverVersion()).toEqual(some("570.86.15"));
    expect(nvml.systemGetCudaDriverVersion()).toEqual(some(12080));
    expect(nvml.errorString(15)).toBe("Mock error 15");
    expect(nvml.deviceGetCount()).toEqual(some(2));
    expect(nvml.deviceGetHandleByUUID("GPU-test")).toEqual(some(gpu));
    expect(nvml.deviceGetHandleByPciBusId("00000001:3B:00.0")).toEqual(some(gpu));
    expect(nvml.deviceGetName(gpu)).toEqual(some("NVIDIA Test 9000"));
    expect(nvml.deviceGetUUID(gpu)).toEqual(some("GPU-test"));
    expect(nvml.deviceGetPciInfo(gpu).value).toMatchObject({
      domain: 1,
      bus: 0x3b,
      busId: "00000001:3B:00.0",
    });
    expect(nvml.deviceGetCudaComputeCapability(gpu)).toEqual(some({ major: 9, minor: 0 }));
    expect(nvml.deviceGetUtilizationRates(gpu)).toEqual(some({ gpu: 73, memory: 12 }));
    expect(nvml.deviceGetMemoryInfo(gpu)).toEqual(
      some({ total: 1e12, reserved: 700, free: 1e12 - 2e10 - 700, used: 2e10 }),
    );
    expect(nvml.deviceGetTemperature(gpu)).toEqual(some(-3));
    expect(nvml.deviceGetMarginTemperature(gpu)).toEqual(some(-2));
    expect(nvml.deviceGetTemperatureThreshold(gpu, 1)).toEqual(some(87));
    expect(nvml.deviceGetPowerUsage(gpu)).toEqual(some(651234));
    expect(nvml.deviceGetTotalEnergyConsumption(gpu)).toEqual(some(2 ** 53));
    expect(nvml.deviceGetClockInfo(gpu, 1)).toEqual(some(1755));
    expect(nvml.deviceGetPerformanceState(gpu)).toEqual(some(2));
    expect(nvml.deviceGetCurrentClocksEventReasons(gpu)).toEqual(some(0x44));
    expect(nvml.deviceGetFanSpeed(gpu, 1)).toEqual(some(104));
    expect(nvml.deviceGetFanSpeed(gpu, 2)).toEqual(failed(Code.INVALID_ARGUMENT));
    expect(nvml.deviceGetFanSpeedRPM(gpu, 0)).toEqual(some(3210));
    expect(nvml.deviceGetEncoderUtilization(gpu)).toEqual(some(4));
    expect(nvml.deviceGetTotalEccErrors(gpu, 1, 0)).toEqual(some(5));
    expect(nvml.deviceGetRemappedRows(gpu)).toEqual(
      some({ correctable: 3, uncorrectable: 0, pending: true, failed: false }),
    );
    expect(nvml.deviceGetRetiredPages(gpu, 0)).toEqual(some(7));
    expect(nvml.deviceGetRetiredPages(gpu, 1)).toEqual(failed(Code.NOT_SUPPORTED));
    expect(nvml.shutdown()).toBe(0);
    expect(nvml.deviceGetCount()).toEqual(failed(Code.UNINITIALIZED));
  });

  test("that lacks a function leaves the others", async () => {
    const { nvml, gpu } = await open(["gpu0 power 1000"], {
      hide: ["nvmlGpmQueryDeviceSupport", "nvmlDeviceGetNumGpuCores", "nvmlErrorString"],
    });
    expect([...nvml.missing].toSorted()).toEqual(["deviceGetNumGpuCores", "gpmQueryDeviceSupport"]);
    expect(nvml.deviceGetNumGpuCores(gpu)).toEqual(failed(Code.FUNCTION_NOT_FOUND));
    expect(nvml.errorString(Code.GPU_IS_LOST)).toBe("GPU_IS_LOST");
    expect(nvml.deviceGetPowerUsage(gpu)).toEqual(some(1000));
  });

  test("that is old is asked by its functions' older names", async () => {
    const { nvml, gpu } = await open(
      [
        "gpu0 memory_total 1000",
        "gpu0 memory_reserved 100",
        "gpu0 memory_used 300",
        "gpu0 temperature 50",
        "gpu0 fans 1",
        "gpu0 fan 40",
        "gpu0 reasons 4",
      ],
      {
        hide: [
          "nvmlInit_v2",
          "nvmlDeviceGetMemoryInfo_v2",
          "nvmlDeviceGetTemperatureV",
          "nvmlDeviceGetFanSpeed_v2",
          "nvmlDeviceGetCurrentClocksEventReasons",
        ],
      },
    );
    expect([...nvml.missing]).toEqual([]);
    // It counts what the driver keeps for itself as used.
    expect(nvml.deviceGetMemoryInfo(gpu)).toEqual(
      some({ total: 1000, reserved: null, free: 600, used: 400 }),
    );
    expect(nvml.deviceGetTemperature(gpu)).toEqual(some(50));
    expect(nvml.deviceGetFanSpeed(gpu, 0)).toEqual(some(40));
    expect(nvml.deviceGetFanSpeed(gpu, 1)).toEqual(failed(Code.FUNCTION_NOT_FOUND));
    expect(nvml.deviceGetCurrentClocksEventReasons(gpu)).toEqual(some(4));
  });

  test.each([25, 3, 2])("that refuses a newer structure is asked with the older one: %d", async (code) => {
    const { nvml, gpu } = await open([
      `fail nvmlDeviceGetMemoryInfo_v2 ${code}`,
      `fail nvmlDeviceGetTemperatureV ${code}`,
      "gpu0 temperature 61",
    ]);
    expect(nvml.deviceGetMemoryInfo(gpu).value).toMatchObject({ reserved: null });
    expect(nvml.deviceGetTemperature(gpu)).toEqual(some(61));
  });

  test("that lost the GPU is not asked by other means", async () => {
    const { nvml, gpu } = await open([
      "fail nvmlDeviceGetMemoryInfo_v2 15",
      "fail nvmlDeviceGetTemperatureV 15",
    ]);
    expect(nvml.deviceGetMemoryInfo(gpu)).toEqual(failed(Code.GPU_IS_LOST));
    expect(nvml.deviceGetTemperature(gpu)).toEqual(failed(Code.GPU_IS_LOST));
  });

  test.each([9, 12, 18, 999])("that fails to initialise says so: %d", async (code) => {
    const { nvml } = await openOnly([`init ${code}`]);
    expect(nvml.init()).toBe(code);
    expect(nvml.deviceGetCount()).toEqual(failed(Code.UNINITIALIZED));
  });

  test("loses a GPU after some calls, and keeps the others", async () => {
    const { nvml, gpu } = await open(["gpus 2", "lost_after 2:0"]);
    const other = nvml.deviceGetHandleByIndex(1).value!;
    const codes = [1, 2, 3, 4].map(() => nvml.deviceGetPowerUsage(gpu).code);
    expect(codes).toEqual([0, 0, Code.GPU_IS_LOST, Code.GPU_IS_LOST]);
    expect(nvml.deviceGetPowerUsage(other).code).toBe(0);
    expect(nvml.deviceGetCount()).toEqual(some(2));
  });

  test("gives a GPU that is back under a new handle", async () => {
    const { nvml, told, gpu } = await open(["gpus 2"]);
    const uuid = nvml.deviceGetUUID(gpu).value!;
    told.set("gpus 2", "gpu0 lost 1");
    await until(
      () => nvml.deviceGetPowerUsage(gpu).code,
      (code) => code === Code.GPU_IS_LOST,
    );
    expect(nvml.deviceGetHandleByUUID(uuid)).toEqual(failed(Code.GPU_IS_LOST));
    told.set("gpus 2");
    const { value: again } = await until(
      () => nvml.deviceGetHandleByUUID(uuid),
      ({ code }) => code === 0,
    );
    expect(again).not.toBe(gpu);
    expect(nvml.deviceGetPowerUsage(again!).code).toBe(0);
    expect(nvml.deviceGetPowerUsage(gpu).code).toBe(Code.GPU_IS_LOST);
  });

  test("tells how long its calls take", async () => {
    const calls: [string, number][] = [];
    const { nvml, gpu } = await open(["slow nvmlDeviceGetName:30000"], {
      onCall: (symbol, microseconds) => calls.push([symbol, microseconds]),
    });
    nvml.deviceGetName(gpu);
    nvml.deviceGetPowerUsage(gpu);
    expect(calls.map(([symbol]) => symbol)).toEqual([
      "nvmlInit_v2",
      "nvmlDeviceGetHandleByIndex_v2",
      "nvmlDeviceGetName",
      "nvmlDeviceGetPowerUsage",
    ]);
    const took = new Map(calls);
    expect(took.get("nvmlDeviceGetName")).toBeGreaterThanOrEqual(30_000);
    expect(took.get("nvmlDeviceGetPowerUsage")).toBeLessThan(30_000);
  });

  describe("lists processes", () => {
    const running = [
      "gpu0 process 4711 1073741824 c 30",
      "gpu0 process 4712 na g",
      "gpu0 process 4713 2048 cg 0",
      "gpu0 process 4714 4096 m 50",
    ];
    const compute = [
      { pid: 4711, usedGpuMemory: 1073741824, gpuInstanceId: null, computeInstanceId: null },
      { pid: 4713, usedGpuMemory: 2048, gpuInstanceId: null, computeInstanceId: null },
    ];
    const newer = ["Compute", "Graphics", "MPSCompute"].map(
      (kind) => `nvmlDeviceGet${kind}RunningProcesses_v3`,
    );
    const both = [...newer, ...newer.map((symbol) => symbol.replace("_v3", "_v2"))];

    test.each([
      ["of 24 bytes (_v3)", [], []],
      ["of 24 bytes (_v2)", [], newer],
      ["of 16 bytes (no suffix)", [], both],
      ["of 32 bytes (drivers 535.43 to 535.85)", ["rec32 1"], ["nvmlDeviceGetRunningProcessDetailList"]],
      [
        "of 24 bytes where the longer record's list is there, too",
        [],
        ["nvmlDeviceGetConfComputeMemSizeInfo"],
      ],
    ])("with records %s", async (_name, more, hide) => {
      const { nvml, gpu } = await open([...running, ...more], { hide });
      expect(nvml.deviceGetComputeRunningProcesses(gpu)).toEqual(some(compute));
      expect(
        nvml
          .deviceGetGraphicsRunningProcesses(gpu)
          .value?.map(({ pid, usedGpuMemory }) => [pid, usedGpuMemory]),
      ).toEqual([
        [4712, null],
        [4713, 2048],
      ]);
      expect(nvml.deviceGetMPSComputeRunningProcesses(gpu).value?.map(({ pid }) => pid)).toEqual([4714]);
    });

    test.each([0, 7])("though the library answers a question without room with %d", async (code) => {
      const { nvml, gpu } = await open([...running, `nullprobe ${code}`]);
      expect(nvml.deviceGetComputeRunningProcesses(gpu)).toEqual(some(compute));
    });

    test("that become more while they are read", async () => {
      const { nvml, gpu } = await open([...running, "grow 1"]);
      const counts = [1, 2, 3, 4].map(() => nvml.deviceGetComputeRunningProcesses(gpu).value?.length);
      // The third has 150 more, for which there was no room; asked again it has 200 more.
      expect(counts).toEqual([52, 102, 202, 252]);
      const pids = nvml.deviceGetComputeRunningProcesses(gpu).value!.map(({ pid }) => pid);
      expect(new Set(pids).size).toBe(302);
    });

    test("and their shares of the GPU since the newest known", async () => {
      const { nvml, gpu } = await open(running);
      const first = nvml.deviceGetProcessUtilization(gpu, 0).value!;
      expect(first).toMatchObject([
        { pid: 4711, smUtil: 30, memUtil: 15 },
        { pid: 4714, smUtil: 50 },
      ]);
      expect(Math.abs(first[0]!.timeStamp / 1000 - Date.now())).toBeLessThan(10_000);
      expect(nvml.deviceGetProcessUtilization(gpu, first[0]!.timeStamp + 1e9)).toEqual(some([]));
    });
  });

  test("answers each field with a code and a type of its own", async () => {
    const { nvml, gpu } = await open([
      "fields_max 400",
      "gpu0 memory_temperature 71",
      "gpu0 nvlinks 4",
      "gpu0 nvlink_tx 400",
      "gpu0 field 301 f64 1.25",
      "gpu0 field 302 i32 -5",
      "gpu0 field 303 i64 -6",
      "gpu0 field 304 u16 7",
      "gpu0 field 305 ul 8",
      "gpu0 field 306 u32 na",
    ]);
    const ask = [
      { fieldId: 82 },
      { fieldId: 138, scopeId: 0xffffffff },
      { fieldId: 138, scopeId: 1 },
      { fieldId: 138, scopeId: 9 },
      ...[301, 302, 303, 304, 305, 306, 401].map((fieldId) => ({ fieldId })),
    ];
    const { value } = nvml.deviceGetFieldValues(gpu, ask);
    expect(value!.map(({ fieldId, code, value }) => [fieldId, code, value])).toEqual([
      [82, 0, 71],
      [138, 0, 400],
      [138, 0, 100],
      [138, Code.INVALID_ARGUMENT, null],
      [301, 0, 1.25],
      [302, 0, -5],
      [303, 0, -6],
      [304, 0, 7],
      [305, 0, 8],
      [306, Code.NOT_SUPPORTED, null],
      [401, Code.INVALID_ARGUMENT, null],
    ]);
    expect(value![0]!.latency).toBe(7);
    // More than there was room for at first, and then few again.
    const many = Array.from({ length: 100 }, () => ({ fieldId: 82 }));
    expect(nvml.deviceGetFieldValues(gpu, many).value!.every(({ value }) => value === 71)).toBe(true);
    expect(nvml.deviceGetFieldValues(gpu, []).value).toEqual([]);
  });

  test("marks what is not available, and it is not taken for a number", async () => {
    const { nvml, gpu } = await open([
      "value na",
      "gpu0 process 4711 1024 c",
      "gpu0 power 4294967295",
      "gpu0 pstate 32",
    ]);
    expect(nvml.deviceGetMemoryInfo(gpu)).toEqual(failed(Code.NOT_SUPPORTED));
    expect(nvml.deviceGetComputeRunningProcesses(gpu).value).toMatchObject([
      { pid: 4711, usedGpuMemory: null },
    ]);
    expect(nvml.deviceGetFieldValues(gpu, [{ fieldId: 82 }]).value).toMatchObject([{ code: 3, value: null }]);
    expect(nvml.deviceGetPowerUsage(gpu)).toEqual(failed(Code.NOT_SUPPORTED));
    expect(nvml.deviceGetPerformanceState(gpu)).toEqual(some(null));
  });

  test("lists the instances of a divided GPU, holes and all", async () => {
    const { nvml, gpu } = await open(["mig holes", "gpu0 process 4711 1024 c 0 2", "gpu0 memory_total 8000"]);
    expect(nvml.deviceGetMigMode(gpu)).toEqual(some({ current: true, pending: true }));
    const handles = Array.from({ length: nvml.deviceGetMaxMigDeviceCount(gpu).value! }, (_, index) =>
      nvml.deviceGetMigDeviceHandleByIndex(gpu, index),
    );
    expect(handles.map(({ code }) => code)).toEqual([0, 6, 0, 6, 6, 0, 6]);
    const instance = handles[2]!.value!;
    const uuid = nvml.deviceGetUUID(instance).value!;
    expect(uuid).toStartWith("MIG-");
    expect(nvml.deviceGetHandleByUUID(uuid)).toEqual(some(instance));
    expect(nvml.deviceIsMigDeviceHandle(instance)).toEqual(some(true));
    expect(nvml.deviceGetDeviceHandleFromMigDeviceHandle(instance)).toEqual(some(gpu));
    expect(nvml.deviceGetGpuInstanceId(instance)).toEqual(some(3));
    expect(nvml.deviceGetComputeInstanceId(instance)).toEqual(some(0));
    expect(nvml.deviceGetAttributes(instance).value).toMatchObject({
      multiprocessorCount: 16,
      gpuInstanceSliceCount: 1,
      memorySizeMB: 9856,
    });
    expect(nvml.deviceGetMemoryInfo(instance).value?.total).toBe(1000);
    expect(nvml.deviceGetComputeRunningProcesses(instance)).toEqual(
      some([{ pid: 4711, usedGpuMemory: 1024, gpuInstanceId: 3, computeInstanceId: 0 }]),
    );
    expect(nvml.deviceGetTemperature(instance)).toEqual(failed(Code.NOT_SUPPORTED));
    expect(nvml.deviceGetUtilizationRates(gpu)).toEqual(failed(Code.NOT_SUPPORTED));
    expect(nvml.deviceGetComputeRunningProcesses(gpu)).toEqual(failed(Code.NO_PERMISSION));
  });

  test("tells an Xid once", async () => {
    const { nvml, gpu, told } = await open(["gpus 2", "xid 79@0.05:0"]);
    const types = nvml.deviceGetSupportedEventTypes(gpu).value!;
    expect(types & 0x8).toBe(0x8);
    const set = nvml.eventSetCreate().value!;
    expect(nvml.deviceRegisterEvents(gpu, types & 0x108, set)).toBe(0);
    const { value } = await until(
      () => nvml.eventSetWait(set),
      ({ code }) => code !== Code.TIMEOUT,
    );
    expect(value).toEqual({
      device: gpu,
      eventType: 8,
      eventData: 79,
      gpuInstanceId: null,
      computeInstanceId: null,
    });
    expect(nvml.eventSetWait(set)).toEqual(failed(Code.TIMEOUT));
    told.set("gpus 2", "xid 31@0:0");
    const next = await until(
      () => nvml.eventSetWait(set),
      ({ code }) => code !== Code.TIMEOUT,
    );
    expect(next.value?.eventData).toBe(31);
    expect(nvml.eventSetFree(set)).toBe(0);
  });

  test("counts energy anew after its driver was loaded anew", async () => {
    const { nvml, gpu } = await open(["gpu0 energy 5000000+1000", "energy_reset 0.1"]);
    expect(nvml.deviceGetTotalEnergyConsumption(gpu).value).toBeGreaterThanOrEqual(5_000_000);
    const { value } = await until(
      () => nvml.deviceGetTotalEnergyConsumption(gpu),
      ({ value }) => value! < 5_000_000,
    );
    expect(value).toBeLessThan(10_000);
  });

  test("measures activity between two samples, 100 ms apart", async () => {
    const { nvml, gpu } = await open(["gpu0 gpm 2 43.5", "gpu0 gpm 5 na"]);
    expect(nvml.gpmQueryDeviceSupport(gpu)).toEqual(some(true));
    const [one, two] = [nvml.gpmSampleAlloc().value!, nvml.gpmSampleAlloc().value!];
    expect(nvml.gpmMetricsGet(one, two, [2])).toEqual(failed(Code.INVALID_ARGUMENT));
    expect(nvml.gpmSampleGet(gpu, one)).toBe(0);
    expect(nvml.gpmSampleGet(gpu, two)).toBe(0);
    expect(nvml.gpmMetricsGet(one, two, [2]).value).toEqual([
      { metricId: 2, code: Code.NO_DATA, value: null },
    ]);
    await Bun.sleep(110);
    nvml.gpmSampleGet(gpu, two);
    expect(nvml.gpmMetricsGet(one, two, [2, 5]).value).toEqual([
      { metricId: 2, code: 0, value: 43.5 },
      { metricId: 5, code: Code.NOT_SUPPORTED, value: null },
    ]);
    expect([nvml.gpmSampleFree(one), nvml.gpmSampleFree(two)]).toEqual([0, 0]);
  });

  test("samples activity of an instance by its parent", async () => {
    const { nvml, gpu } = await open(["mig holes"]);
    const sample = nvml.gpmSampleAlloc().value!;
    expect(nvml.gpmMigSampleGet(gpu, 3, sample)).toBe(0);
    expect(nvml.gpmMigSampleGet(gpu, 2, sample)).toBe(Code.INVALID_ARGUMENT);
    nvml.gpmSampleFree(sample);
  });

  test("answers every device's call with 999 where a container has lost its device files", async () => {
    const { nvml, gpu, told } = await open(["gpus 1"]);
    told.set("gpus 1", "fail * 999");
    await until(
      () => nvml.deviceGetPowerUsage(gpu).code,
      (code) => code === 999,
    );
    expect([
      nvml.deviceGetMemoryInfo(gpu).code,
      nvml.deviceGetFieldValues(gpu, [{ fieldId: 82 }]).code,
    ]).toEqual([999, 999]);
  });
});
