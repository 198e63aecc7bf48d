import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Gpu, GpuStatus } from "../src/device/schema.ts";
import { readings } from "../src/sample/reading.ts";
import { createGpuEvents } from "../src/machine/gpu-events.ts";
import type { ReaderMessage } from "../src/machine/gpu/message.ts";
import type { DeviceEvent } from "../src/sample/schema.ts";
import { createRate, wrapWindow } from "../src/machine/gpu/counters.ts";
import { gpmReadings } from "../src/machine/gpu/gpm.ts";
import { fieldProbes, probes } from "../src/machine/gpu/probes.ts";
import { mergeProcesses } from "../src/machine/gpu/processes.ts";
import {
  FULL_PACE,
  isProcessTurn,
  nextTick,
  nextTurn,
  paceAfter,
  processesEvery,
} from "../src/machine/gpu/schedule.ts";
import { createStates, healthAfter, reasonOf, WELL, type StateChange } from "../src/machine/gpu/state.ts";
import {
  absent,
  NO_VERSIONS,
  respawnAfter,
  retryAfter,
  statusOf,
  statusOfInit,
  verdictOf,
} from "../src/machine/gpu/status.ts";
import {
  isSuspended,
  kernelAddress,
  libraryAddress,
  maySuspend,
  pciGpus,
} from "../src/machine/gpu/suspended.ts";
import { createThrottle, throttleBits } from "../src/machine/gpu/throttle.ts";
import { throttleNames, throttleReasons } from "../src/sample/reading.ts";
import { xidName } from "../src/machine/gpu/xid.ts";
import { gpu } from "./helpers/device.ts";

describe("what an answer makes of a reading", () => {
  const cases: [code: number, state: string][] = [
    [0, "ok"],
    [2, "unsupported"],
    [3, "unsupported"],
    [4, "denied"],
    [6, "ok"],
    [8, "transient"],
    [9, "transient"],
    [12, "unsupported"],
    [13, "unsupported"],
    [15, "lost"],
    [16, "lost"],
    [17, "transient"],
    [19, "transient"],
    [20, "transient"],
    [21, "transient"],
    [22, "unsupported"],
    [25, "unsupported"],
    [27, "transient"],
    [999, "transient"],
    // Of a library that is newer than we are.
    [4711, "transient"],
  ];
  for (const [code, state] of cases)
    test(`${code} is ${state}`, () => {
      const after = healthAfter(WELL, code, 0);
      expect(after.state).toBe(state as never);
      expect(after.retryAt).toBe(["unsupported", "denied", "lost"].includes(state) ? Infinity : 0);
      if (state !== "ok") expect(reasonOf(code)).toEndWith(".");
    });

  test("a transient failure is asked again at the next tick, from the third in a row after 2, 4, 8 … 60 s, for ever", () => {
    let health = WELL;
    const pauses: number[] = [];
    for (let failure = 1; failure <= 12; failure++) {
      health = healthAfter(health, 999, 1000);
      pauses.push((health.retryAt - 1000) / 1000);
    }
    expect(pauses).toEqual([0, 0, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    expect(healthAfter(health, 0, 2000)).toBe(WELL);
  });

  test("a reading that is well stays the same object: a tick makes no garbage", () => {
    expect(healthAfter(WELL, 0, 1000)).toBe(WELL);
  });

  test("changes are told once, and flapping is told no oftener than once a minute", () => {
    const told: StateChange[] = [];
    const states = createStates((change) => told.push(change));
    for (let second = 0; second < 50; second++)
      states.record("gpu.power", second % 2 ? 0 : 999, second * 1000);
    expect(told.map(({ state }) => state)).toEqual(["transient", "ok"]);
    expect(told[0]!.reason).toBe("The driver answered UNKNOWN (999).");
    states.record("gpu.power", 999, 61_000);
    expect(told.map(({ state }) => state)).toEqual(["transient", "ok", "transient"]);
    expect(states.report()).toEqual({
      "gpu.power": { state: "transient", reason: "The driver answered UNKNOWN (999)." },
    });
  });

  test("one that fails thrice in a row is told though it was told of a moment ago", () => {
    const told: string[] = [];
    const states = createStates(({ state }) => told.push(state));
    for (const code of [999, 0, 999, 999, 999]) states.record("gpu.power", code, 1000);
    expect(told).toEqual(["transient", "ok", "transient"]);
  });
});

describe("the schedule", () => {
  test("ticks fall on multiples of the interval, and a timer that fires early does not tick twice", () => {
    expect(nextTick(1_700_000_000_000, 1000)).toBe(1_700_000_001_000);
    expect(nextTick(1_700_000_000_001, 1000)).toBe(1_700_000_001_000);
    expect(nextTick(1_700_000_000_999, 1000)).toBe(1_700_000_002_000);
    // A tick that took 2.3 s: the two it missed are skipped.
    expect(nextTick(1_700_000_002_300, 1000)).toBe(1_700_000_003_000);
    expect(nextTick(1_700_000_002_300, 5000)).toBe(1_700_000_005_000);
  });

  test("GPUs take turns, so that of eight one has its processes listed a tick", () => {
    expect([1, 5, 8, 10, 16].map(processesEvery)).toEqual([5, 5, 8, 10, 10]);
    const now = 1_700_000_000_000;
    const turns = Array.from({ length: 8 }, (_, position) => nextTurn(now, 8, position));
    expect(new Set(turns).size).toBe(8);
    expect(Math.max(...turns) - now).toBeLessThanOrEqual(8000);
    for (const [position, turn] of turns.entries()) expect(nextTurn(turn, 8, position)).toBe(turn + 8000);
  });

  const jump = 65 * 2 ** 20;
  const turns: [what: string, turn: Parameters<typeof isProcessTurn>[1], due: boolean][] = [
    ["its regular turn", { turn: 1000, listed: 0, took: 5, memoryThen: 0, memoryNow: 0 }, true],
    ["nothing has moved", { turn: 9000, listed: 0, took: 5, memoryThen: 0, memoryNow: 0 }, false],
    ["more memory in use", { turn: 9000, listed: 0, took: 5, memoryThen: 0, memoryNow: jump }, true],
    ["less memory in use", { turn: 9000, listed: 0, took: 5, memoryThen: jump, memoryNow: 0 }, true],
    ["a little more", { turn: 9000, listed: 0, took: 5, memoryThen: 0, memoryNow: 2 ** 25 }, false],
    ["lists are slow here", { turn: 9000, listed: 0, took: 20, memoryThen: 0, memoryNow: jump }, false],
    ["no memory told", { turn: 9000, listed: 0, took: 5, memoryThen: undefined, memoryNow: jump }, false],
  ];
  for (const [what, turn, due] of turns)
    test(`processes are ${due ? "" : "not "}listed: ${what}`, () =>
      expect(isProcessTurn(1000, turn)).toBe(due));

  test("three long ticks slow it down, thirty short ones speed it up again", () => {
    let pace = FULL_PACE;
    const after = (ticks: number, took: number) => {
      for (let tick = 0; tick < ticks; tick++) pace = paceAfter(pace, took);
      return pace.every;
    };
    expect(after(2, 150)).toBe(1);
    expect(after(1, 20)).toBe(1);
    expect(after(3, 150)).toBe(2);
    expect(after(3, 150)).toBe(5);
    expect(after(30, 150)).toBe(10);
    // Neither long nor short: as it is.
    expect(after(100, 80)).toBe(10);
    expect(after(29, 20)).toBe(10);
    expect(after(1, 20)).toBe(5);
    expect(after(60, 20)).toBe(1);
    expect(paceAfter(pace, 20)).toBe(pace);
  });
});

describe("rates", () => {
  test("are per second, and absent at first and where a counter was set back", () => {
    const rate = createRate({ scale: 1024 });
    expect(rate.next(1000, 0)).toBeUndefined();
    expect(rate.next(1500, 500)).toBe(1_024_000);
    expect(rate.next(10, 1500)).toBeUndefined();
    expect(rate.next(20, 2500)).toBe(10_240);
    expect(rate.next(20, 2500)).toBeUndefined();
  });

  test("a counter of 32 bits may wrap once, but not perhaps twice", () => {
    const rate = createRate({ wrapsWithin: 1000 });
    rate.next(2 ** 32 - 100, 0);
    expect(rate.next(900, 1000)).toBe(1000);
    expect(rate.next(1900, 2500)).toBeUndefined();
    expect(rate.isNarrow()).toBe(true);
  });

  test("one seen above 32 bits is wider, and need not be looked at so often", () => {
    const rate = createRate({ wrapsWithin: 70 });
    rate.next(2 ** 33, 0);
    expect(rate.isNarrow()).toBe(false);
    expect(rate.next(2 ** 33 + 6e10, 1000)).toBe(6e10);
    expect(rate.next(5, 2000)).toBeUndefined();
  });

  test("a PCIe 5 link of 16 lanes moves 4 GiB in 68 ms", () => {
    expect(Math.round(wrapWindow(5, 16))).toBe(68);
    expect(Math.round(wrapWindow(3, 16))).toBe(273);
    expect(wrapWindow(0, 0)).toBe(Infinity);
  });
});

describe("processes", () => {
  const here = () => true;
  const process = (pid: number, usedGpuMemory: number | null) => ({
    pid,
    usedGpuMemory,
    gpuInstanceId: null,
    computeInstanceId: null,
  });
  const share = (pid: number, smUtil: number, timeStamp = 1) => ({
    pid,
    timeStamp,
    smUtil,
    memUtil: 0,
    encUtil: 0,
    decUtil: 0,
  });

  test("one with compute and graphics contexts is one, and its memory is not counted twice", () => {
    expect(mergeProcesses([[process(1, 500)], [process(1, 500), process(2, null)]], [], here)).toEqual([
      { pid: 1, memory: 500, utilization: null },
      { pid: 2, memory: null, utilization: null },
    ]);
  });

  test("of several samples the newest counts, between 0 and 1", () => {
    const shares = [share(1, 90, 1), share(1, 30, 3), share(1, 60, 2), share(2, 250, 1)];
    const merged = mergeProcesses([[process(1, 1), process(2, 1)]], shares, here);
    expect(merged.map(({ utilization }) => utilization)).toEqual([0.3, 1]);
  });

  test("the two lists are not joined where their pids may be of two namespaces", () => {
    const merged = mergeProcesses([[process(1, 1)]], [share(1, 90), share(9, 90)], () => false);
    expect(merged).toEqual([{ pid: 1, memory: 1, utilization: null }]);
  });
});

describe("throttling", () => {
  test("idle, application clocks and display clocks are no reasons", () => {
    expect(throttleBits(0x1 | 0x2 | 0x100)).toBe(0);
    expect(throttleBits(0x1ff)).toBe(0xfc);
    // A bit above 2^31 does not turn the others over.
    expect(throttleBits(2 ** 33 + 0x44)).toBe(0x44);
    expect(throttleNames(0x24)).toEqual(["software power cap", "software thermal slowdown"]);
    expect(Object.keys(throttleReasons)).toHaveLength(6);
  });

  test("a GPU that touches its power cap every other second is throttled all the while", () => {
    const throttle = createThrottle();
    const told: (number | undefined)[] = [];
    for (let second = 0; second < 20; second++) told.push(throttle(second % 2 ? 0x4 : 0, second * 1000));
    expect(told.filter((bits) => bits !== undefined)).toEqual([0x4]);
    expect(throttle(0x40, 20_000)).toBe(0x44);
    expect(throttle(0, 29_000)).toBe(0x40);
    expect(throttle(0, 30_000)).toBe(0);
    expect(throttle(0, 31_000)).toBeUndefined();
  });
});

describe("how the reader fares", () => {
  const files = { module: "550.90.07", library: "550.54.15" };
  const cases: [code: number, status: string, says: RegExp][] = [
    [4, "failed", /access.*\/dev\/nvidia/s],
    [9, "no_driver", /not loaded.*modprobe nvidia/s],
    [12, "failed", /misses a part.*Reinstall/s],
    [17, "failed", /OPERATING_SYSTEM.*container/s],
    [18, "mismatch", /kernel 550\.90\.07, library 550\.54\.15.*reboot/s],
    [28, "no_gpu", /no GPU.*lspci/s],
    [8, "failed", /INSUFFICIENT_POWER \(8\).*dmesg/s],
    [999, "container_lost", /device files.*Start the container anew/s],
  ];
  for (const [code, status, says] of cases)
    test(`initialising is answered with ${code}: ${status}, with what to do`, () => {
      const reader = statusOfInit(code, NO_VERSIONS, files);
      expect(reader.status).toBe(status as never);
      expect(`${reader.reason} ${reader.advice}`).toMatch(says);
    });

  test("without a library a person is told what to do only where there is a GPU", () => {
    expect(absent(true)).toMatchObject({ status: "absent", advice: expect.stringContaining("Install") });
    expect(absent(false)).toMatchObject({ status: "absent", advice: null });
  });

  test("attempts are 10, 30, 60, 300 s apart, a machine without driver is asked each minute", () => {
    expect([0, 1, 2, 3, 4, 5, 100].map(respawnAfter)).toEqual([10, 10, 30, 60, 300, 300, 300]);
    expect(retryAfter("no_driver")).toBe(60);
    expect(retryAfter("mismatch")).toBe(60);
    expect(retryAfter("container_lost")).toBe(60);
    expect(retryAfter("absent")).toBe(600);
  });

  test("which answers a process can live with", () => {
    expect([0, 3, 15, 999].map(verdictOf)).toEqual(["on", "on", "on", "on"]);
    expect(verdictOf(1)).toBe("initialise");
    expect([9, 18].map(verdictOf)).toEqual(["restart", "restart"]);
  });
});

test("Xids have names, unknown ones stay numbers", () => {
  expect(xidName(79)).toBe("79: the GPU has fallen off the bus");
  expect(xidName(12345)).toBe("12345");
});

test("every reading of a GPU in the catalogue is asked for, and nothing else", () => {
  const asked = new Set<string>([
    ...probes.flatMap((probe) => probe.readings),
    ...fieldProbes.map(({ reading }) => reading),
    ...Object.values(gpmReadings).map(({ reading }) => reading),
  ]);
  // Only FedML's clients tell of these.
  const told = new Set(["gpu.memory.utilization", "gpu.power.utilization"]);
  const known = Object.entries(readings).filter(
    ([name, { scopes }]) => (scopes as readonly string[]).includes("gpu") && !told.has(name),
  );
  expect([...asked].sort()).toEqual(known.map(([name]) => name).sort());
});

test("the kernel knows which NVIDIA GPUs sleep", () => {
  const root = mkdtempSync(join(tmpdir(), "binnacle-pci-"));
  const add = (address: string, files: Record<string, string>) => {
    const folder = join(root, "sys/bus/pci/devices", address);
    mkdirSync(join(folder, "power"), { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), `${text}\n`);
  };
  try {
    expect(pciGpus(root)).toEqual([]);
    const asleep = { "power/runtime_status": "suspended", "power/control": "auto" };
    add("0000:01:00.0", { vendor: "0x10de", class: "0x030000", ...asleep });
    // Its sound, a GPU of another maker, and one in a server.
    add("0000:01:00.1", { vendor: "0x10de", class: "0x040300", ...asleep });
    add("0000:00:02.0", { vendor: "0x8086", class: "0x030000", ...asleep });
    const awake = { "power/runtime_status": "active", "power/control": "on" };
    add("0000:3b:00.0", { vendor: "0x10de", class: "0x030200", ...awake });
    expect(pciGpus(root)).toEqual(["0000:01:00.0", "0000:3b:00.0"]);
    expect(kernelAddress("00000000:3B:00.0")).toBe("0000:3b:00.0");
    expect(libraryAddress("0000:3b:00.0")).toBe("00000000:3B:00.0");
    expect(kernelAddress("00010000:3B:00.0")).toBe("10000:3b:00.0");
    expect([isSuspended("0000:01:00.0", root), maySuspend("0000:01:00.0", root)]).toEqual([true, true]);
    expect([isSuspended("0000:3b:00.0", root), maySuspend("0000:3b:00.0", root)]).toEqual([false, false]);
    expect(isSuspended("0000:ff:00.0", root)).toBe(false);
  } finally {
    rmSync(root, { recursive: true });
  }
});

describe("what the reader's status is worth as an event", () => {
  const texts = (...readers: [GpuStatus, string | null][]) => {
    const events = createGpuEvents(() => []);
    return readers
      .flatMap(([status, reason]) => events({ kind: "status", time: 1, reader: statusOf(status, reason) }))
      .map(({ text }) => text);
  };

  test("a gap that goes on for another reason says that one", () => {
    expect(
      texts(["ok", null], ["failed", "It died."], ["failed", "It died."], ["failed", "No access."]),
    ).toEqual(["GPUs: the reader failed (It died.)", "GPUs: the reader failed (No access.)"]);
  });

  test("what failed before the reader began anew, and is well now, is read again", () => {
    const events = createGpuEvents(() => [gpu(0)]);
    const states = { "gpu.power": { state: "denied" as const, reason: "No." } };
    const tell = (states: Gpu["states"]) =>
      events({ kind: "inventory", time: 1, reader: statusOf("ok"), gpus: [gpu(0, { states })] }).map(
        ({ text }) => text,
      );
    expect(tell(states)).toEqual(["GPU 0 (NVIDIA H100 80GB HBM3): gpu.power can't be read (No.)"]);
    expect(tell(states)).toEqual([]);
    expect(tell({})).toEqual(["GPU 0 (NVIDIA H100 80GB HBM3): gpu.power is read again"]);
    expect(tell({})).toEqual([]);
  });

  test("what an earlier collector told and could not take back is taken back where it is over", () => {
    const { uuid } = gpu(0);
    const told = (
      kind: DeviceEvent["kind"],
      subject: string,
      detail: DeviceEvent["detail"],
    ): DeviceEvent => ({
      id: 1,
      device: "d",
      time: "2026-01-01T00:00:00.000Z",
      text: "",
      kind,
      subject,
      detail,
    });
    const open = [
      told("gpu.status", "", { status: "mismatch", reason: "Old." }),
      told("gpu.lost", uuid, { reason: "Gone." }),
      told("throttle.began", uuid, { reasons: 4 }),
      told("reading.state", uuid, { reading: "gpu.power", state: "denied", reason: "No." }),
    ];
    const inventory = (one: Gpu): ReaderMessage => ({
      kind: "inventory",
      time: 1,
      reader: statusOf("ok"),
      gpus: [one],
    });
    const kinds = (one: Gpu) => {
      const events = createGpuEvents(() => [one], open);
      return [...events(inventory(one)), ...events(inventory(one))].map(({ kind }) => kind);
    };
    expect(kinds(gpu(0))).toEqual(["gpu.status", "gpu.back", "throttle.ended", "reading.state"]);
    // What still is as it was told is not told again.
    const states = { "gpu.power": { state: "denied" as const, reason: "No." } };
    expect(kinds(gpu(0, { lost: true, states }))).toEqual(["gpu.status", "throttle.ended"]);
  });

  test("a reader that goes on slowly does not tell of each slow look", () => {
    expect(texts(["degraded", "120 ms"], ["degraded", "130 ms"], ["ok", null], ["ok", "GPU 1"])).toHaveLength(
      2,
    );
  });
});
