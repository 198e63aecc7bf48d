import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReaderMessage } from "../src/machine/gpu/message.ts";
import type { Device, Nvml } from "../src/machine/gpu/nvml.ts";
import { createReader } from "../src/machine/gpu/reader.ts";
import type { SuperviseOptions } from "../src/machine/gpu/supervisor.ts";
import { uuidOf, watchGpus, type WatchedGpus } from "./helpers/gpus.ts";
import { noCompiler, scenario, type MockOptions, type Scenario } from "./helpers/nvml.ts";

// Each starts a process, on a machine that may be busy.
setDefaultTimeout(40_000);

let gpus: WatchedGpus | undefined;
let told: Scenario | undefined;

function watch(
  lines: string[],
  options: Partial<SuperviseOptions> & { mock?: MockOptions; args?: string[] } = {},
): WatchedGpus {
  told = scenario(...lines);
  gpus = watchGpus(told, options);
  return gpus;
}

afterEach(async () => {
  await gpus?.close();
  told?.remove();
});

/** Every value constant, so that what comes out can be told exactly. */
const still = [
  "gpu* utilization 40",
  "gpu* memory_utilization 12",
  "gpu* memory_total 85899345920",
  "gpu* memory_used 8589934592",
  "gpu* memory_reserved 536870912",
  "gpu* temperature 61",
  "gpu* field 82 u32 74",
  "gpu* power 312400",
  "gpu* clock_sm 1755",
  "gpu* clock_memory 2619",
  "gpu* pstate 2",
  "gpu* reasons 1",
  "gpu* fans 2",
  "gpu* fan 35",
  "gpu* encoder 7",
  "gpu* decoder 9",
  "gpu* replays 3",
  "gpu* ecc_corrected 5",
  "gpu* ecc_uncorrected 1",
  "gpu* rows_correctable 2",
  "gpu* rows_pending 1",
  ...Array.from({ length: 13 }, (_, index) => `gpu* gpm ${index + 1} ${(index + 1) * 5}`),
  "gpu* gpm 20 100",
  "gpu* gpm 21 200",
  "gpu* gpm 60 3000",
  "gpu* gpm 61 4000",
];

describe.skipIf(noCompiler)("a GPU", () => {
  test("is read in the catalogue's units", async () => {
    const { values, next, source } = watch(["gpus 1", ...still, "gpu0 energy 5000000+300000"]);
    const { gpus } = await next("inventory");
    expect(gpus).toMatchObject([
      {
        uuid: uuidOf(0),
        index: 0,
        pci: "00000000:10:00.0",
        architecture: "Hopper",
        cores: 16896,
        memory: 85899345920,
        power_limit: 700,
        max_clock_sm: 1980,
        slowdown_temperature: 87,
        parent: null,
        mig: false,
        lost: false,
      },
    ]);
    expect(source.reader()).toMatchObject({ status: "ok", reason: null, driver: "550.54.15", cuda: "12.4" });
    const { "gpu.energy": energy, ...read } = await values(0, (values) => "gpu.sm.active" in values);
    expect(energy).toBeGreaterThan(5000);
    expect(read).toEqual({
      "gpu.utilization": 0.4,
      "gpu.memory.activity": 0.12,
      "gpu.memory.used": 8589934592,
      "gpu.memory.total": 85899345920,
      "gpu.memory.reserved": 536870912,
      "gpu.temperature": 61,
      "gpu.memory.temperature": 74,
      "gpu.power": 312.4,
      "gpu.power.limit": 700,
      "gpu.clock.sm": 1755,
      "gpu.clock.memory": 2619,
      "gpu.performance_state": 2,
      "gpu.throttle": 1,
      "gpu.fan": 0.35,
      "gpu.encoder": 0.07,
      "gpu.decoder": 0.09,
      "gpu.pcie.replays": 3,
      "gpu.ecc.corrected": 5,
      "gpu.ecc.uncorrected": 1,
      "gpu.remapped_rows.correctable": 2,
      "gpu.remapped_rows.uncorrectable": 0,
      "gpu.remapped_rows.pending": 1,
      "gpu.remapped_rows.failed": 0,
      "gpu.graphics.active": 0.05,
      "gpu.sm.active": 0.1,
      "gpu.sm.occupancy": 0.15,
      "gpu.tensor.active": 0.25,
      "gpu.dram.active": 0.5,
      "gpu.fp64.active": 0.55,
      "gpu.fp32.active": 0.6,
      "gpu.fp16.active": 0.65,
      "gpu.pcie.transmit": 100 * 2 ** 20,
      "gpu.pcie.receive": 200 * 2 ** 20,
      "gpu.nvlink.receive": expect.closeTo(3000 * 2 ** 20, -8),
      "gpu.nvlink.transmit": expect.closeTo(4000 * 2 ** 20, -8),
    });
  });

  test("before Hopper has link rates from its counters, and says what it does not measure", async () => {
    const { values, next } = watch([
      "gpus 1",
      "gpu0 gpm off",
      "gpu0 architecture 8",
      // 1 GB/s and 2 GB/s on counters of 32 bits, which wrap every few seconds; 3 GB/s and 4 GB/s on links.
      "gpu0 pcie_tx 4000000000+1000000000",
      "gpu0 pcie_rx 0+2000000000",
      "gpu0 nvlink_tx 0+3000000",
      "gpu0 nvlink_rx 0+4000000",
    ]);
    const { gpus } = await next("inventory");
    expect(gpus[0]!.states).toMatchObject({
      "gpu.sm.active": { state: "unsupported", reason: "Only Hopper and newer GPUs measure it." },
    });
    for (let tick = 0; tick < 5; tick++) {
      const read = await values(
        0,
        (values) => "gpu.pcie.receive" in values && "gpu.nvlink.receive" in values,
      );
      expect(read["gpu.pcie.transmit"]! / 1e9).toBeCloseTo(1, 0);
      expect(read["gpu.pcie.receive"]! / 1e9).toBeCloseTo(2, 0);
      expect(read["gpu.nvlink.transmit"]! / 1e9).toBeCloseTo(3.07, 0);
      expect(read["gpu.nvlink.receive"]! / 1e9).toBeCloseTo(4.1, 0);
      expect(read).not.toHaveProperty(["gpu.sm.active"]);
    }
  });

  test("has no value, rather than 0, for what the driver marks as not available", async () => {
    const { values, next } = watch(["gpus 1", "value na"]);
    const { gpus } = await next("inventory");
    expect(gpus[0]!.states).toHaveProperty(["gpu.memory.used"]);
    const read = await values(0);
    expect(read).not.toHaveProperty(["gpu.memory.used"]);
    expect(read).not.toHaveProperty(["gpu.memory.temperature"]);
    expect(read).toHaveProperty(["gpu.temperature"]);
    for (const [reading, { reason }] of Object.entries(gpus[0]!.states)) {
      expect(read).not.toHaveProperty([reading]);
      expect(reason).not.toBe("");
    }
  });

  test("of an old driver is read as far as the driver goes, the rest is named with the reason", async () => {
    const hide = [
      "nvmlDeviceGetFieldValues",
      "nvmlDeviceGetUtilizationRates",
      "nvmlDeviceGetMemoryInfo_v2",
      "nvmlGpmQueryDeviceSupport",
      "nvmlDeviceGetRemappedRows",
      "nvmlDeviceGetMPSComputeRunningProcesses_v3",
      "nvmlEventSetCreate",
    ];
    const { values, next } = watch(["gpus 1", "gpu0 process 1 1048576 c", ...still], { mock: { hide } });
    const { gpus } = await next("inventory");
    const old = { state: "unsupported", reason: "This driver is too old to tell." };
    expect(gpus[0]!.states).toMatchObject({
      "gpu.utilization": old,
      "gpu.memory.temperature": old,
      "gpu.nvlink.receive": old,
      "gpu.pcie.receive": old,
      "gpu.sm.active": old,
      "gpu.remapped_rows.failed": old,
    });
    const read = await values(0);
    // Which the older calls tell.
    expect(read).toContainKeys(["gpu.energy", "gpu.memory.used", "gpu.power"]);
    expect(read).not.toHaveProperty(["gpu.memory.reserved"]);
    for (const reading of Object.keys(gpus[0]!.states)) expect(read).not.toHaveProperty([reading]);
    expect((await next("processes")).processes).toEqual([{ pid: 1, memory: 1048576, utilization: null }]);
  });

  test("keeps a reading that fails out of its samples, with the reason, until it is back", async () => {
    const { values, next } = watch(["gpus 1"]);
    await values(0, (values) => "gpu.temperature" in values);
    told!.set("gpus 1", "fail nvmlDeviceGetTemperature 27", "fail nvmlDeviceGetTemperatureV 27");
    expect(await next("state")).toMatchObject({ reading: "gpu.temperature", state: "transient" });
    const without = await values(0);
    expect(without).not.toHaveProperty(["gpu.temperature"]);
    expect(without).toHaveProperty(["gpu.power"]);
    expect(gpus!.source.gpus()[0]!.states["gpu.temperature"]?.reason).toContain("NOT_READY");
    told!.set("gpus 1");
    expect(await next("state")).toMatchObject({ reading: "gpu.temperature", state: "ok" });
    expect(await values(0)).toHaveProperty(["gpu.temperature"]);
    expect(gpus!.source.gpus()[0]!.states).not.toHaveProperty(["gpu.temperature"]);
  });

  test("that refuses one reading to us is denied that one only", async () => {
    const { next } = watch(["gpus 1", "fail nvmlDeviceGetTotalEccErrors 4"]);
    const { gpus } = await next("inventory");
    expect(gpus[0]!.states).toMatchObject({
      "gpu.ecc.corrected": { state: "denied", reason: "The driver tells it to privileged users only." },
    });
    expect(gpus[0]!.states).not.toHaveProperty(["gpu.power"]);
  });

  test("whose energy counter begins anew is read as it counts", async () => {
    const { values } = watch(["gpus 1", "gpu0 energy 9000000+1000", "energy_reset 2"]);
    expect((await values(0))["gpu.energy"]).toBeGreaterThan(8000);
    const after = await values(0, (values) => values["gpu.energy"]! < 8000);
    expect(after["gpu.energy"]).toBeLessThan(1000);
  });

  test("tells an Xid once", async () => {
    const { next, values, messages } = watch(["gpus 2", "xid 79@0.5:1"]);
    expect(await next("xid")).toMatchObject({ uuid: uuidOf(1), xid: 79 });
    for (let tick = 0; tick < 3; tick++) await values(1);
    expect(messages.filter(({ kind }) => kind === "xid")).toHaveLength(1);
    told!.set("gpus 2", "xid 31@0:0");
    expect(await next("xid")).toMatchObject({ uuid: uuidOf(0), xid: 31 });
  });

  test("tells why its clocks are held down, and when they no longer are", async () => {
    const { next, values } = watch(["gpus 1", "gpu0 reasons 1"]);
    await values(0);
    told!.set("gpus 1", "gpu0 reasons 68");
    expect(await next("throttle")).toMatchObject({ uuid: uuidOf(0), reasons: 0x44 });
    expect(await values(0)).toMatchObject({ "gpu.throttle": 0x44 });
    told!.set("gpus 1", "gpu0 reasons 1");
    expect(await next("throttle")).toMatchObject({ reasons: 0 });
  });

  test("that is lost is marked, the others go on, and it is found again by its UUID", async () => {
    const { next, values, source } = watch(["gpus 2"], { second: 20 });
    await values(1);
    told!.set("gpus 2", "gpu0 lost 1");
    expect(await next("lost")).toMatchObject({
      uuid: uuidOf(0),
      reason: expect.stringContaining("GPU_IS_LOST"),
    });
    expect(source.gpus().map(({ lost }) => lost)).toEqual([true, false]);
    const after = await next("samples");
    expect(after.gpus.map(({ uuid }) => uuid)).toEqual([uuidOf(1)]);
    told!.set("gpus 2");
    expect(await next("back")).toMatchObject({ uuid: uuidOf(0) });
    expect(source.gpus().map(({ lost }) => lost)).toEqual([false, false]);
    expect(await values(0)).toHaveProperty(["gpu.power"]);
  });

  test("that stays lost is tried by a new reader, once; its place is kept", async () => {
    // 600 seconds of 5 ms.
    const { next, values, source } = watch(["gpus 2"], { second: 5, limits: { silence: 2000, start: 6000 } });
    await values(1);
    told!.set("gpus 2", "gpu0 lost 1");
    await next("lost");
    const { reader } = await next("status");
    expect(reader).toMatchObject({ status: "starting", reason: expect.stringContaining("lost") });
    const { gpus } = await next("inventory");
    expect(gpus.map(({ uuid, lost }) => [uuid, lost])).toEqual([
      [uuidOf(0), true],
      [uuidOf(1), false],
    ]);
    await values(1);
    told!.set("gpus 2");
    await next("back");
    expect(source.gpus().map(({ lost }) => lost)).toEqual([false, false]);
  });
});

describe.skipIf(noCompiler)("processes on a GPU", () => {
  test("are told with their memory and share, one in two lists once", async () => {
    const { next } = watch([
      "gpus 1",
      `gpu0 process ${process.pid} 1073741824 cg 30`,
      "gpu0 process 3999999 na c",
      "gpu0 process 3999998 5242880 m",
    ]);
    const told = await next("processes", ({ processes }) => processes[0]?.utilization != null);
    expect(told.uuid).toBe(uuidOf(0));
    expect(told.processes.toSorted((a, b) => a.pid - b.pid)).toEqual(
      [
        { pid: process.pid, memory: 1073741824, utilization: 0.3 },
        { pid: 3999998, memory: 5242880, utilization: null },
        { pid: 3999999, memory: null, utilization: null },
      ].toSorted((a, b) => a.pid - b.pid),
    );
  });

  test("are all told though their number grows from look to look", async () => {
    const { next } = watch(["gpus 1", "grow 1"]);
    const first = await next("processes", ({ processes }) => processes.length > 128);
    expect(new Set(first.processes.map(({ pid }) => pid)).size).toBe(first.processes.length);
  });

  test("are told rightly by the driver branch that writes longer records", async () => {
    const { next } = watch(
      ["gpus 1", "rec32 1", "gpu0 process 101 1048576 c", "gpu0 process 102 2097152 c"],
      {
        mock: { hide: ["nvmlDeviceGetRunningProcessDetailList"] },
      },
    );
    expect((await next("processes")).processes).toEqual([
      { pid: 101, memory: 1048576, utilization: null },
      { pid: 102, memory: 2097152, utilization: null },
    ]);
  });

  test("are listed at once when memory moves, and when it is their turn", async () => {
    const { next, values } = watch(["gpus 1", "gpu0 memory_used 1073741824"], { second: 500 });
    const first = await next("processes");
    await values(0);
    told!.set("gpus 1", "gpu0 memory_used 2147483648", "gpu0 process 7 1073741824 c");
    const second = await next("processes", ({ processes }) => processes.length === 1);
    // Its turn is each 5 seconds of 500 ms.
    expect(second.time - first.time).toBeLessThanOrEqual(2500);
  });
});

describe.skipIf(noCompiler)("a divided GPU", () => {
  test("is read through its instances, of which there are some behind holes", async () => {
    const { next, source } = watch(["gpus 2", "mig holes", `gpu0 process 55 1048576 c 0 2`]);
    const { gpus } = await next("inventory");
    const [parent, ...others] = gpus;
    expect(parent).toMatchObject({ uuid: uuidOf(0), mig: true, parent: null });
    const instances = others.filter(({ parent }) => parent === uuidOf(0));
    expect(instances.map(({ index }) => index)).toEqual([0, 2, 5]);
    for (const { uuid, name, profile, gpu_instance, states } of instances) {
      expect(uuid).toStartWith("MIG-");
      expect(name).toContain("MIG");
      expect(profile).toMatch(/^\d+g\.\d+gb$/);
      expect(gpu_instance).not.toBeNull();
      expect(states["gpu.power"]).toMatchObject({
        state: "unsupported",
        reason: expect.stringMatching(/instances/),
      });
    }
    // The other GPU comes behind all of the first's.
    expect(source.gpus().at(-1)).toMatchObject({ uuid: uuidOf(1), mig: false });
    const samples = await next("samples", ({ gpus }) => "gpu.sm.active" in (gpus[1]?.values ?? {}));
    const read = new Map(samples.gpus.map(({ uuid, values }) => [uuid, values]));
    expect(read.size).toBe(5);
    const whole = read.get(uuidOf(0))!;
    expect(whole).toContainKeys(["gpu.temperature", "gpu.power", "gpu.energy", "gpu.clock.sm"]);
    // Memory errors and links are the board's; no instance has them.
    expect(whole).toContainKeys(["gpu.ecc.corrected", "gpu.ecc.uncorrected", "gpu.pcie.replays"]);
    await next(
      "samples",
      ({ gpus }) => "gpu.pcie.transmit" in (gpus.find(({ uuid }) => uuid === uuidOf(0))?.values ?? {}),
    );
    expect(whole).not.toHaveProperty(["gpu.utilization"]);
    expect(whole).not.toHaveProperty(["gpu.memory.used"]);
    expect(parent!.states["gpu.utilization"]?.reason).toContain("MIG instances");
    for (const { uuid } of instances) {
      expect(read.get(uuid)).toHaveProperty(["gpu.memory.used"]);
      expect(read.get(uuid)).not.toHaveProperty(["gpu.power"]);
    }
  });

  test("tells when its instances change", async () => {
    const { next } = watch(["gpus 1", "gpu0 mig 0,1"], { second: 20 });
    expect((await next("inventory")).gpus).toHaveLength(3);
    told!.set("gpus 1", "gpu0 mig 1,4,6");
    const { gpus } = await next("inventory");
    expect(gpus.slice(1).map(({ index }) => index)).toEqual([1, 4, 6]);
    await next("samples", ({ gpus }) => gpus.length === 4);
    told!.set("gpus 1");
    expect((await next("inventory")).gpus).toMatchObject([{ uuid: uuidOf(0), mig: false }]);
    await next("samples", ({ gpus }) => "gpu.utilization" in gpus[0]!.values);
  });
});

describe.skipIf(noCompiler)("the driver", () => {
  const failures: [code: number, status: string, advice: RegExp][] = [
    [9, "no_driver", /modprobe nvidia/],
    [12, "failed", /Reinstall/],
    [18, "mismatch", /reboot/],
    [28, "no_gpu", /lspci/],
    [999, "container_lost", /container anew/],
  ];
  for (const [code, status, advice] of failures)
    test(`that answers initialisation with ${code} is ${status} until it is well`, async () => {
      const { next, values, source, diagnostics } = watch(["gpus 1", `init ${code}`], {
        limits: { pause: 1 },
      });
      const { reader } = await next("status");
      expect(reader.status).toBe(status as never);
      expect(reader.advice).toMatch(advice);
      expect(diagnostics).toHaveLength(1);
      told!.set("gpus 1");
      await values(0);
      expect(source.reader()).toMatchObject({ status: "ok", reason: null, advice: null });
      expect(diagnostics).toEqual([expect.any(String), "GPUs: they are read again."]);
    });

  test("whose library does not load is told so, with what to do", async () => {
    const folder = mkdtempSync(join(tmpdir(), "binnacle-nvml-"));
    const library = join(folder, "libnvidia-ml.so.1");
    writeFileSync(library, "no library");
    const { next } = watch([], { env: { BINNACLE_NVML: library } });
    expect((await next("status")).reader).toMatchObject({
      status: "failed",
      reason: expect.stringContaining(library),
      advice: expect.stringContaining("architecture"),
    });
    rmSync(folder, { recursive: true });
  });

  test("without a GPU is told so", async () => {
    const { next } = watch(["gpus 0"]);
    expect((await next("status")).reader).toMatchObject({ status: "no_gpu", driver: "550.54.15" });
  });

  test("that alone answers with unknown errors only is lost; the others are read on by the same process", async () => {
    const { next, values, messages } = watch(["gpus 2"], { second: 50 });
    await values(1);
    told!.set("gpus 2", "gpu1 fail nvmlDeviceGetUUID 0", "gpu1 fail * 999");
    expect(await next("lost")).toMatchObject({
      uuid: uuidOf(1),
      reason: "The driver answered UNKNOWN (999).",
    });
    const before = messages.length;
    // Two probes long.
    await Bun.sleep(2 * 60 * 50);
    const since = messages.slice(before).map(({ kind }) => kind);
    expect(since.filter((kind) => kind === "samples").length).toBeGreaterThan(30);
    for (const kind of ["status", "inventory", "back"] as const) expect(since).not.toContain(kind);
    told!.set("gpus 2");
    expect(await next("back")).toMatchObject({ uuid: uuidOf(1) });
  });

  test("that answers with unknown errors only makes the reader begin anew, which finds out why", async () => {
    const { next, values, source } = watch(["gpus 1"], { limits: { pause: 1 } });
    await values(0);
    told!.set("gpus 1", "fail * 999", "init 999");
    expect((await next("status")).reader).toMatchObject({
      status: "starting",
      reason: expect.stringMatching(/unknown errors/),
    });
    expect((await next("status")).reader).toMatchObject({ status: "container_lost" });
    told!.set("gpus 1");
    await values(0);
    expect(source.reader().status).toBe("ok");
  });

  test("with one call that always fails so is not begun anew for it", async () => {
    const { values, messages } = watch(["gpus 1", "fail nvmlDeviceGetPowerUsage 999"], { second: 50 });
    for (let tick = 0; tick < 10; tick++) await values(0);
    expect(messages.filter(({ kind }) => kind === "status")).toEqual([]);
  });

  test("that forgets the library was initialised is told once more, and a new reader tries the second time", async () => {
    const { next, values } = watch(["gpus 1"], { limits: { pause: 1 } });
    await values(0);
    told!.set("gpus 1", "fail nvmlDeviceGetTemperatureV 1", "fail nvmlDeviceGetTemperature 1");
    expect((await next("status")).reader).toMatchObject({
      status: "starting",
      reason: expect.stringMatching(/initialised/),
    });
    told!.set("gpus 1");
    await values(0);
  });

  test("that lists another number of GPUs is asked by a new reader", async () => {
    const { next } = watch(["gpus 1"], { second: 20, limits: { pause: 1 } });
    await next("samples");
    told!.set("gpus 2");
    expect((await next("status")).reader.reason).toBe("The driver lists 2 GPUs, before 1.");
    expect((await next("inventory")).gpus).toHaveLength(2);
  });

  test("that is slow is asked less often, and says so", async () => {
    const { next } = watch(["gpus 1", "slow nvmlDeviceGetPowerUsage:150000"]);
    const { reader } = await next("status");
    expect(reader).toMatchObject({
      status: "degraded",
      reason: expect.stringMatching(/every 2 s/),
      advice: expect.stringMatching(/nvidia-smi/),
    });
    told!.set("gpus 1");
    expect((await next("status")).reader).toMatchObject({ status: "ok", reason: null });
  });
});

/** A folder with the kernel's word on the GPUs of the scenario: whether the power of each is managed, and it sleeps. */
function kernel() {
  const root = mkdtempSync(join(tmpdir(), "binnacle-pci-"));
  return {
    root,
    set(gpu: number, status: "active" | "suspended") {
      const folder = join(root, `sys/bus/pci/devices/0000:1${gpu}:00.0`);
      mkdirSync(join(folder, "power"), { recursive: true });
      const files = { vendor: "0x10de", class: "0x030000", "power/control": "auto" };
      for (const [name, text] of Object.entries({ ...files, "power/runtime_status": status })) {
        // At once: it may be read at any time.
        writeFileSync(join(folder, `${name}.new`), `${text}\n`);
        renameSync(join(folder, `${name}.new`), join(folder, name));
      }
    },
    remove: () => rmSync(root, { recursive: true }),
  };
}

describe.skipIf(noCompiler)("a GPU that sleeps to save power", () => {
  test("is not touched, and its gap says why; it is read again when something wakes it", async () => {
    const { root, set, remove } = kernel();
    for (const gpu of [0, 1]) set(gpu, "active");
    const { next, values, source } = watch(["gpus 2"], { args: ["--root", root] });
    await values(0);
    set(0, "suspended");
    expect(await next("state")).toMatchObject({ uuid: uuidOf(0), reading: "gpu", state: "transient" });
    expect(source.gpus()[0]!.states["gpu"]?.reason).toContain("suspended");
    // A call to it would be heard: it fails in a way that is told.
    told!.set("gpus 2", "gpu0 fail nvmlDeviceGetTemperatureV 27", "gpu0 fail nvmlDeviceGetTemperature 27");
    const seen = [await next("samples"), await next("samples"), await next("samples")];
    for (const { gpus } of seen) expect(gpus.map(({ uuid }) => uuid)).toEqual([uuidOf(1)]);
    told!.set("gpus 2");
    // The library looks at its scenario each 50 ms.
    const changed = Date.now();
    await next("samples", ({ time }) => time > changed + 100);
    set(0, "active");
    expect(await next("state")).toMatchObject({ uuid: uuidOf(0), reading: "gpu", state: "ok" });
    await values(0);
    expect(gpus!.messages.filter(({ kind }) => kind === "state")).toHaveLength(2);
    remove();
  });

  test("from the start is left out of the list until it is awake", async () => {
    const { root, set, remove } = kernel();
    set(0, "suspended");
    set(1, "active");
    const { next } = watch(["gpus 2"], { args: ["--root", root], second: 20 });
    expect((await next("inventory")).gpus.map(({ uuid }) => uuid)).toEqual([uuidOf(1)]);
    set(0, "active");
    expect((await next("inventory")).gpus.map(({ uuid }) => uuid)).toEqual([uuidOf(0), uuidOf(1)]);
    await next("samples", ({ gpus }) => gpus.length === 2);
    remove();
  });

  test("does not even have the library initialised when there is no other", async () => {
    const { root, set, remove } = kernel();
    set(0, "suspended");
    const { next, source } = watch(["gpus 1", "init 999"], { args: ["--root", root], second: 50 });
    expect((await next("inventory")).gpus).toEqual([]);
    expect(source.reader()).toMatchObject({ status: "ok", reason: expect.stringContaining("suspended") });
    told!.set("gpus 1");
    set(0, "active");
    expect((await next("inventory")).gpus).toHaveLength(1);
    await next("samples");
    remove();
  });
});

test("a clock that is set back an hour delays nothing", () => {
  const missing = { code: 13, value: undefined };
  let lists = 0;
  const fake: Partial<Nvml> = {
    init: () => 0,
    deviceGetCount: () => ({ code: 0, value: 1 }),
    deviceGetHandleByIndex: () => ({ code: 0, value: 1n as Device }),
    deviceGetUUID: () => ({ code: 0, value: "GPU-1" }),
    deviceGetTemperature: () => ({ code: 0, value: 50 }),
    deviceGetEnforcedPowerLimit: () => ({ code: 0, value: 300_000 }),
    deviceGetComputeRunningProcesses: () => (lists++, { code: 0, value: [] }),
    path: "",
  };
  const nvml = new Proxy(fake, { get: (all, name) => Reflect.get(all, name) ?? (() => missing) }) as Nvml;
  let wall = 1_700_000_000_000;
  let at = 0;
  const messages: ReaderMessage[] = [];
  const reader = createReader({
    nvml,
    send: (message) => messages.push(message),
    beat: () => {},
    root: "/nonexistent",
    now: () => wall,
    monotonic: () => at,
  });
  expect(reader.start()).toBe("on");
  const tick = (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      wall += 1000;
      at += 1000;
      expect(reader.tick()).toBe("on");
    }
  };
  tick(5);
  wall -= 3_600_000;
  const before = lists;
  tick(60);
  expect(lists - before).toBe(12);
  const samples = messages.filter((message) => message.kind === "samples");
  expect(samples).toHaveLength(66);
  expect(samples.at(-1)!.gpus).toEqual([
    { uuid: "GPU-1", values: { "gpu.temperature": 50, "gpu.power.limit": 300 } },
  ]);
});
