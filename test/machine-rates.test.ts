import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { ratesOf } from "../src/machine/rates.ts";
import type { Cgroup, CpuTimes, Disk, MachineReading, NetworkInterface } from "../src/machine/reading.ts";
import { readingOf, splitKey } from "../src/sample/reading.ts";

const times = (values: Partial<CpuTimes> = {}): CpuTimes => ({
  user: 100,
  nice: 0,
  system: 50,
  idle: 1000,
  iowait: 10,
  irq: 0,
  softirq: 0,
  steal: 0,
  guest: 0,
  guestNice: 0,
  ...values,
});

const disk = (values: Partial<Disk> = {}): Disk => ({
  name: "sda",
  major: 8,
  minor: 0,
  reads: 1000,
  readsMerged: 0,
  readBytes: 1_000_000,
  readSeconds: 1,
  writes: 2000,
  writesMerged: 0,
  writtenBytes: 2_000_000,
  writeSeconds: 1,
  inFlight: 0,
  ioSeconds: 100,
  ioWeightedSeconds: 100,
  counted: true,
  ...values,
});

const port = (values: Partial<NetworkInterface> = {}): NetworkInterface => ({
  name: "eth0",
  receiveBytes: 1000,
  receiveErrors: 0,
  receiveDrops: 0,
  transmitBytes: 1000,
  transmitErrors: 0,
  transmitDrops: 0,
  counted: true,
  ...values,
});

function at(seconds: number, values: Partial<MachineReading> = {}): MachineReading {
  return {
    time: 1_700_000_000_000 + seconds * 1000,
    monotonic: 5000 + seconds * 1000,
    took: {},
    failed: {},
    ...values,
  };
}

const cpu = (total: CpuTimes, byCore: CpuTimes[] = [], each = false) => ({
  cpu: { total, byCore: new Map(byCore.entries()), each },
});
const rates = (before: Partial<MachineReading>, now: Partial<MachineReading>, seconds = 1) =>
  ratesOf(at(0, before), at(seconds, now));

const processorCases: [name: string, now: Partial<CpuTimes>, expected: Record<string, number> | undefined][] =
  [
    [
      "half of it",
      { user: 100.5, idle: 1000.5 },
      { "cpu.utilization": 0.5, "cpu.user": 0.5, "cpu.system": 0 },
    ],
    ["nice is user's", { user: 100.25, nice: 0.25, idle: 1000.5 }, { "cpu.user": 0.5 }],
    [
      "interrupts are the system's",
      { system: 50.2, irq: 0.1, softirq: 0.2, idle: 1000.5 },
      { "cpu.system": 0.5 },
    ],
    ["a guest is within user", { user: 100.5, guest: 0.5, idle: 1000.5 }, { "cpu.utilization": 0.5 }],
    [
      "waiting for disks is not busy",
      { iowait: 10.5, idle: 1000.5 },
      { "cpu.utilization": 0, "cpu.iowait": 0.5 },
    ],
    ["stolen time is busy", { steal: 0.25, idle: 1000.75 }, { "cpu.utilization": 0.25, "cpu.steal": 0.25 }],
    [
      "iowait that goes back a little",
      { iowait: 9.98, user: 100.5, idle: 1000.5 },
      { "cpu.utilization": 0.5, "cpu.iowait": 0 },
    ],
    ["idle that goes back, as when a core leaves", { idle: 500, user: 101 }, undefined],
    ["all of it began anew", { user: 1, system: 1, idle: 1, iowait: 0 }, undefined],
    ["no time at all", {}, undefined],
  ];
for (const [name, now, expected] of processorCases)
  test(`processor: ${name}`, () => {
    const { machine } = rates(cpu(times()), cpu(times(now)));
    if (expected !== undefined) expect(machine).toMatchObject(expected);
    else expect(Object.keys(machine).filter((key) => key.startsWith("cpu."))).toEqual([]);
  });

test("a core that was plugged in has no value until it has a base, the others have theirs", () => {
  const half = times({ user: 100.5, idle: 1000.5 });
  const { machine } = rates(cpu(times(), [times()], true), cpu(half, [half, times({ user: 3 })], true));
  expect(machine).toMatchObject({ "cpu.utilization": 0.5, "cpu.core.utilization@0": 0.5 });
  expect(machine).not.toHaveProperty(["cpu.core.utilization@1"]);
});

test("cores are told only where they are asked for", () => {
  const half = times({ user: 100.5, idle: 1000.5 });
  expect(rates(cpu(times(), [times()]), cpu(half, [half])).machine).not.toHaveProperty([
    "cpu.core.utilization@0",
  ]);
});

test("macOS tells no iowait and no steal, so neither is 0", () => {
  const mac = { user: 1, nice: 0, system: 1, idle: 10 };
  const { machine } = rates(cpu(mac), cpu({ ...mac, user: 1.5, idle: 10.5 }));
  expect(machine["cpu.utilization"]).toBe(0.5);
  expect(machine).not.toHaveProperty(["cpu.iowait"]);
  expect(machine).not.toHaveProperty(["cpu.steal"]);
});

test("memory in use is what is not available, and shared memory is no cache", () => {
  const memory = new Map([
    ["MemTotal", 16_384_000],
    ["MemFree", 4_096_000],
    ["MemAvailable", 12_288_000],
    ["Buffers", 409_600],
    ["Cached", 4_096_000],
    ["SReclaimable", 409_600],
    ["Shmem", 819_200],
    ["SwapTotal", 8_192_000],
    ["SwapFree", 8_187_904],
  ]);
  expect(rates({}, { memory }).machine).toEqual({
    "memory.total": 16_384_000,
    "memory.used": 4_096_000,
    "memory.shared": 819_200,
    "memory.cached": 4_096_000,
    "swap.total": 8_192_000,
    "swap.used": 4096,
  });
  memory.delete("MemAvailable");
  expect(rates({}, { memory }).machine).not.toHaveProperty(["memory.used"]);
});

test("disks: bytes and operations a second, over all and for each, over the time that really went by", () => {
  const now = disk({
    readBytes: 3_000_000,
    reads: 1100,
    writtenBytes: 2_500_000,
    writes: 2001,
    ioSeconds: 101,
  });
  expect(rates({ disks: [disk()] }, { disks: [now] }, 2).machine).toEqual({
    "disk.read": 1_000_000,
    "disk.read@sda": 1_000_000,
    "disk.write": 250_000,
    "disk.write@sda": 250_000,
    "disk.read_operations": 50,
    "disk.read_operations@sda": 50,
    "disk.write_operations": 0.5,
    "disk.write_operations@sda": 0.5,
    "disk.utilization": 0.5,
    "disk.utilization@sda": 0.5,
  });
});

test("a disk that does not count is in no value", () => {
  const md = disk({ name: "md0", major: 9, counted: false });
  const { machine } = rates(
    { disks: [disk(), md] },
    { disks: [disk({ readBytes: 1_000_500 }), { ...md, readBytes: 9e9 }] },
  );
  expect(machine["disk.read"]).toBe(500);
  expect(Object.keys(machine).some((key) => key.includes("md0"))).toBe(false);
});

const diskCases: [name: string, before: Disk[], now: Disk[], total: number | undefined][] = [
  [
    "plugged in",
    [disk()],
    [disk({ readBytes: 1_000_010 }), disk({ name: "sdb", minor: 16, readBytes: 5e12 })],
    10,
  ],
  ["pulled out", [disk(), disk({ name: "sdb", minor: 16 })], [disk({ readBytes: 1_000_010 })], 10],
  ["another one under the same name", [disk()], [disk({ minor: 32, readBytes: 5e12 })], undefined],
  ["a counter that went back", [disk()], [disk({ readBytes: 5 })], undefined],
  [
    "one of two went back",
    [disk(), disk({ name: "sdb" })],
    [disk({ readBytes: 5 }), disk({ name: "sdb", readBytes: 1_000_007 })],
    7,
  ],
  ["none", [], [], undefined],
];
for (const [name, before, now, total] of diskCases)
  test(`disks: ${name}`, () =>
    expect(rates({ disks: before }, { disks: now }).machine["disk.read"]).toBe(total!));

const wrap = 2 ** 32 / 1000;
const activeCases: [name: string, before: number, now: number, expected: number | undefined][] = [
  ["idle", 100, 100, 0],
  ["a quarter", 100, 100.25, 0.25],
  ["a clock's step more than all of it", 100, 101.008, 1],
  ["32 bits of ms that wrap", wrap - 0.1, 0.4, 0.5],
  ["that began anew", 5000, 3, undefined],
  ["more than can be", 100, 102, undefined],
];
for (const [name, before, now, expected] of activeCases)
  test(`a disk's time with I/O: ${name}`, () => {
    const { machine } = rates(
      { disks: [disk({ ioSeconds: before })] },
      { disks: [disk({ ioSeconds: now })] },
    );
    expect(machine["disk.utilization@sda"]).toBe(expected!);
    // The rest of the disk's values does not depend on it.
    expect(machine["disk.read@sda"]).toBe(0);
  });

test("network: each way, with errors and drops of both", () => {
  const now = port({
    receiveBytes: 126_000,
    transmitBytes: 2000,
    receiveErrors: 1,
    transmitErrors: 2,
    receiveDrops: 4,
  });
  const loopback = port({ name: "lo", counted: false });
  const { machine } = rates(
    { network: [loopback, port()] },
    { network: [{ ...loopback, receiveBytes: 1e9 }, now] },
  );
  expect(machine).toEqual({
    "network.receive": 125_000,
    "network.receive@eth0": 125_000,
    "network.transmit": 1000,
    "network.transmit@eth0": 1000,
    "network.errors": 3,
    "network.errors@eth0": 3,
    "network.drops": 4,
    "network.drops@eth0": 4,
  });
});

test("an interface that was set up anew has no value once, and one thereafter", () => {
  const anew = port({ receiveBytes: 10, transmitBytes: 10 });
  expect(rates({ network: [port()] }, { network: [anew] }).machine).not.toHaveProperty(["network.receive"]);
  expect(
    rates({ network: [anew] }, { network: [{ ...anew, receiveBytes: 20 }] }).machine["network.receive"],
  ).toBe(10);
});

test("InfiniBand, for each port and over all", () => {
  const one = { device: "mlx5_0", port: 1, receiveBytes: 0, transmitBytes: 0 };
  const two = { device: "mlx5_1", port: 1, receiveBytes: 100, transmitBytes: 100 };
  const { machine } = rates(
    { infiniband: [one, two] },
    {
      infiniband: [
        { ...one, receiveBytes: 25e9 },
        { ...two, receiveBytes: 0 },
      ],
    },
  );
  expect(machine).toEqual({
    "infiniband.receive": 25e9,
    "infiniband.receive@mlx5_0/1": 25e9,
    "infiniband.transmit": 0,
    "infiniband.transmit@mlx5_0/1": 0,
    "infiniband.transmit@mlx5_1/1": 0,
  });
});

test("pressure is a share of the time, and at most all of it", () => {
  const { machine } = rates(
    { pressure: { cpu: { some: 5 }, memory: { some: 1, full: 1 }, io: { some: 7, full: 7 } } },
    { pressure: { cpu: { some: 5.25 }, memory: { some: 2.001, full: 1.5 }, io: { some: 3, full: 7 } } },
  );
  expect(machine).toEqual({
    "pressure.cpu": 0.25,
    "pressure.memory": 1,
    "pressure.memory.full": 0.5,
    "pressure.io.full": 0,
  });
});

const group = (values: Partial<Cgroup> = {}): Cgroup => ({
  version: 2,
  container: true,
  cpuLimit: 2,
  cpuSeconds: 100,
  periods: 1000,
  throttledPeriods: 10,
  memoryUsed: 4096,
  memoryLimit: 8192,
  memoryWorkingSet: 4096,
  readBytes: 0,
  writtenBytes: 0,
  reads: 0,
  writes: 0,
  ...values,
});

test("a container: use against what it may use, and the share of periods in which it was held back", () => {
  const now = group({ cpuSeconds: 101, periods: 1010, throttledPeriods: 15, readBytes: 500, writes: 3 });
  expect(rates({ cgroup: group() }, { cgroup: now }).cgroup).toEqual({
    "cpu.limit": 2,
    "cpu.cores": 1,
    "cpu.utilization": 0.5,
    "cpu.throttled": 0.5,
    "memory.used": 4096,
    "memory.total": 8192,
    "memory.working_set": 4096,
    "disk.read": 500,
    "disk.write": 0,
    "disk.read_operations": 0,
    "disk.write_operations": 3,
  });
});

test("a container without limits: use is of the whole machine, and nothing is held back", () => {
  const free = group({ periods: 0, throttledPeriods: 0 });
  delete free.memoryLimit;
  delete free.cpuLimit;
  const machine = cpu(times(), [times(), times(), times(), times()]);
  const { cgroup } = rates(
    { ...machine, cgroup: free },
    { ...machine, cgroup: { ...free, cpuSeconds: 101 } },
  );
  expect(cgroup).toMatchObject({ "cpu.cores": 1, "cpu.utilization": 0.25 });
  for (const key of ["memory.total", "cpu.limit", "cpu.throttled"]) expect(cgroup).not.toHaveProperty([key]);
});

test("no container, no readings of one", () => expect(rates({}, {})).not.toHaveProperty("cgroup"));

const vmstat = (kills: number) => ({ vmstat: new Map([["oom_kill", kills]]) });
const killCases: [
  name: string,
  before: Partial<MachineReading>,
  now: Partial<MachineReading>,
  kills: number,
][] = [
  ["on the machine", vmstat(3), vmstat(5), 2],
  [
    "in our container",
    { ...vmstat(3), cgroup: group({ oomKills: 1 }) },
    { ...vmstat(9), cgroup: group({ oomKills: 2 }) },
    1,
  ],
  [
    "in a group that is no container: the machine's",
    { ...vmstat(3), cgroup: group({ container: false, oomKills: 1 }) },
    { ...vmstat(5), cgroup: group({ container: false, oomKills: 1 }) },
    2,
  ],
  ["not told", {}, {}, 0],
  ["first told now", {}, vmstat(5), 0],
];
for (const [name, before, now, kills] of killCases)
  test(`killed for want of memory: ${name}`, () => expect(rates(before, now).oomKills).toBe(kills));

interface Jump {
  name: string;
  steady: number;
  wall: number;
  interval?: number;
  jumpedMs: number | null;
  hasRates: boolean;
}
const jumps: Jump[] = [
  { name: "as it should be", steady: 1000, wall: 1000, jumpedMs: null, hasRates: true },
  { name: "a late look", steady: 4800, wall: 4800, jumpedMs: null, hasRates: true },
  { name: "a clock that is steered", steady: 1000, wall: 1000.4, jumpedMs: null, hasRates: true },
  {
    name: "a clock that was put forward an hour",
    steady: 1000,
    wall: 3_601_000,
    jumpedMs: 3_600_000,
    hasRates: true,
  },
  {
    name: "a clock that was put back an hour",
    steady: 1000,
    wall: -3_599_000,
    jumpedMs: -3_600_000,
    hasRates: true,
  },
  {
    name: "a sleep that the steady clock slept too",
    steady: 1000,
    wall: 61_000,
    jumpedMs: 60_000,
    hasRates: true,
  },
  { name: "a pause that both clocks saw", steady: 61_000, wall: 61_000, jumpedMs: 60_000, hasRates: false },
  { name: "ten seconds, which are a pause", steady: 10_000, wall: 10_000, jumpedMs: 9000, hasRates: false },
  {
    name: "ten seconds, where ten are meant",
    steady: 10_000,
    wall: 10_000,
    interval: 10_000,
    jumpedMs: null,
    hasRates: true,
  },
  { name: "no time", steady: 0, wall: 0, jumpedMs: null, hasRates: false },
];
for (const { name, steady, wall, interval, jumpedMs, hasRates } of jumps)
  test(`time: ${name}`, () => {
    const before = at(0, { network: [port()] });
    const now: MachineReading = {
      ...at(0, { network: [port({ receiveBytes: 1000 + steady })] }),
      time: before.time + wall,
      monotonic: before.monotonic + steady,
      ...(interval !== undefined && { interval }),
    };
    const found = ratesOf(before, now);
    expect(found.jumpedMs).toBe(jumpedMs);
    expect(found.machine["network.receive"]).toBe(hasRates ? 1000 : undefined!);
  });

test("whatever counters do, each value is one of the catalogue's, finite, not negative, and at most its maximum", () => {
  const counter = fc.oneof(fc.nat(), fc.double({ min: 0, max: 2 ** 53, noNaN: true }));
  const cpuTimes = fc.record({
    user: counter,
    nice: counter,
    system: counter,
    idle: counter,
    iowait: counter,
    irq: counter,
    softirq: counter,
    steal: counter,
  });
  const reading = fc.record({
    cpu: fc.record({
      total: cpuTimes,
      byCore: fc.array(cpuTimes, { maxLength: 3 }).map((cores) => new Map(cores.entries())),
      each: fc.boolean(),
    }),
    disks: fc.array(
      fc
        .record({
          readBytes: counter,
          writtenBytes: counter,
          reads: counter,
          writes: counter,
          ioSeconds: counter,
        })
        .map(disk),
      { maxLength: 2 },
    ),
    network: fc.array(
      fc.record({ receiveBytes: counter, transmitBytes: counter, receiveErrors: counter }).map(port),
      {
        maxLength: 2,
      },
    ),
    pressure: fc.record({ io: fc.record({ some: counter, full: counter }) }),
    cgroup: fc
      .record({ cpuSeconds: counter, periods: counter, throttledPeriods: counter, cpuLimit: counter })
      .map((values) => group(values)),
  });
  fc.assert(
    fc.property(reading, reading, fc.double({ min: 0.001, max: 10, noNaN: true }), (before, now, seconds) => {
      const found = ratesOf(at(0, before), at(seconds, now));
      for (const [key, value] of Object.entries({ ...found.machine, ...found.cgroup })) {
        const catalogued = readingOf(splitKey(key).name);
        expect(catalogued).toBeDefined();
        expect(Number.isFinite(value)).toBe(true);
        expect(value).toBeGreaterThanOrEqual(0);
        if (catalogued!.max !== undefined) expect(value).toBeLessThanOrEqual(catalogued!.max);
      }
    }),
  );
});
