import { afterAll, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createMachine, type MachineOptions } from "../src/machine/machine.ts";
import { ratesOf } from "../src/machine/rates.ts";
import type { MachineReading } from "../src/machine/reading.ts";
import { loudly } from "./helpers/binary.ts";
import { layOut, layOutText, recordMachine, set } from "./helpers/machine.ts";

const roots: string[] = [];
const closers: (() => void)[] = [];
afterAll(() => {
  for (const close of closers) close();
  for (const root of roots) rmSync(root, { recursive: true, force: true });
});

function open(host: string, options: MachineOptions = {}) {
  const root = layOut(host);
  roots.push(root);
  const machine = createMachine({ root, ...options });
  closers.push(() => machine.close());
  return { root, machine, read: () => machine.read()! };
}

const counted = (list: readonly { name: string; counted: boolean }[] | undefined) =>
  list?.filter((each) => each.counted).map(({ name }) => name);
const mounts = ({ fileSystems }: MachineReading) =>
  fileSystems?.filter((each) => each.counted).map(({ mount }) => mount);
const GiB = 2 ** 30;

test("a recorded VM: everything it has is read, nothing fails, and no group limits it", () => {
  const { read, machine } = open("vm");
  const reading = read();
  expect(reading.failed).toEqual({});
  expect(reading.cpu!.byCore.size).toBe(2);
  expect(counted(reading.disks)).toEqual(["vda"]);
  // Without loop devices and memory.
  expect(reading.disks!.map(({ name }) => name)).toEqual(["vda"]);
  expect(counted(reading.network)).toEqual(["eth0"]);
  expect(reading.network!.map(({ name }) => name)).toEqual(["lo", "ifb0", "ifb1", "eth0"]);
  expect(reading.memory!.get("MemTotal")).toBe(24_684_092 * 1024);
  expect(reading.memory!.get("HugePages_Total")).toBe(0);
  expect(reading.kernel!.bootTime).toBeGreaterThan(1.7e9);
  expect(reading.pressure!.memory).toBeDefined();
  expect(reading.cgroup).toBeUndefined();
  expect(reading.infiniband).toBeUndefined();
  expect(machine.facts()).toMatchObject({
    name: "vm",
    os: "Debian GNU/Linux 12 (bookworm)",
    kernel: "6.18.44",
    boot: "0c5b6f0a-3c5e-4a53-9d0e-6f1c1c7a2b11",
    cores: 2,
    memory: 24_684_092 * 1024,
    container: false,
  });
});

test("a recorded container of version 1: its limits, the processor time it was held up for and who was killed for memory", () => {
  const { read, machine } = open("container-recorded");
  const reading = read();
  expect(reading.failed).toEqual({});
  expect(reading.cgroup).toEqual({
    version: 1,
    container: true,
    memoryLimit: 64 * 2 ** 20,
    memoryUsed: 6_205_440,
    memoryWorkingSet: 6_205_440 - 20_480,
    cpuLimit: 0.1,
    cpuSeconds: 0.70779421,
    periods: 68,
    throttledPeriods: 67,
    throttledSeconds: 5.168261343,
    oomKills: 1,
    readBytes: 0,
    writtenBytes: 0,
    reads: 0,
    writes: 0,
  });
  expect(counted(reading.disks)).toEqual(["vda"]);
  expect(reading.network!.map(({ name }) => name)).toEqual(["lo"]);
  expect(counted(reading.network)).toEqual([]);
  expect(mounts(reading)).toEqual(["/"]);
  expect(machine.facts()).toMatchObject({ name: "container-recorded", cores: 2, container: true });
});

const noRecording =
  process.platform !== "linux" && loudly("no machine is recorded: record.sh reads Linux's /proc and /sys");
test.skipIf(noRecording)("what record.sh writes down of this machine reads as this machine does", () => {
  const root = layOutText("recorded", recordMachine("recorded"));
  roots.push(root);
  const machines = [createMachine(), createMachine({ root })] as const;
  for (const machine of machines) closers.push(() => machine.close());
  const shapeOf = (reading: MachineReading) => ({
    disks: reading.disks?.map(({ name, counted }) => ({ name, counted })),
    network: reading.network?.map(({ name, counted }) => ({ name, counted })),
    infiniband: reading.infiniband?.map(({ device, port }) => ({ device, port })),
    memory: reading.memory?.get("MemTotal"),
    vmstat: reading.vmstat !== undefined,
    pressure: reading.pressure && Object.keys(reading.pressure),
    cgroup: reading.cgroup && {
      readings: Object.keys(reading.cgroup),
      version: reading.cgroup.version,
      container: reading.cgroup.container,
      memoryLimit: reading.cgroup.memoryLimit,
      cpuLimit: reading.cgroup.cpuLimit,
    },
    failed: Object.keys(reading.failed),
  });
  const [here, recorded] = machines.map((machine) => shapeOf(machine.read()!));
  expect(recorded!).toEqual(here!);
  const { boot, ...facts } = machines[0].facts();
  expect(machines[1].facts()).toMatchObject({ ...facts, name: "recorded" });
  expect(machines[1].facts().boot).not.toBe(boot);
});

test("NVMe with two paths: the head counts, its hidden paths and partitions don't", () => {
  const { read } = open("nvme-multipath");
  const reading = read();
  expect(reading.failed).toEqual({});
  expect(counted(reading.disks)).toEqual(["nvme0n1", "nvme1n1"]);
  expect(reading.disks!.map(({ name }) => name)).toEqual(["nvme0n1", "nvme0c0n1", "nvme0c1n1", "nvme1n1"]);
});

test("NVMe with two paths before Linux 6.4: the head counts nothing, so its paths do", () => {
  const { root, read } = open("nvme-multipath");
  set(root, "proc/diskstats", (before) =>
    before.replace(/ nvme0n1 .*/, " nvme0n1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
  );
  const reading = read();
  expect(counted(reading.disks)).toEqual(expect.arrayContaining(["nvme0c0n1", "nvme0c1n1", "nvme1n1"]));
});

test("InfiniBand ports count in words of four bytes; one without counters is absent", () => {
  const { read } = open("nvme-multipath");
  expect(read().infiniband).toEqual([
    { device: "mlx5_0", port: 1, receiveBytes: 1e12, transmitBytes: 996e9 },
    { device: "mlx5_1", port: 1, receiveBytes: 68, transmitBytes: 92 },
  ]);
});

test("of a file system that is mounted twice the mount that shows more of it counts", () => {
  const { root } = open("nvme-multipath");
  for (const folder of ["data", "home", "boot/efi"]) mkdirSync(join(root, folder), { recursive: true });
  const machine = createMachine({ root });
  closers.push(() => machine.close());
  const reading = machine.read()!;
  expect(reading.fileSystems!.map(({ mount }) => mount)).toEqual(["/", "/boot/efi", "/data", "/home"]);
  expect(mounts(reading)).toEqual(["/", "/boot/efi", "/data"]);
});

test("a container: the least limits on the path to the root, and what the group that has one uses", () => {
  const { read, machine } = open("container-v2");
  const { cgroup, failed } = read();
  expect(failed).toEqual({});
  expect(cgroup).toEqual({
    version: 2,
    container: true,
    // The leaf allows 16 GiB, but the container has 8, and has 6 of them in use.
    memoryLimit: 8 * GiB,
    memoryUsed: 6 * GiB,
    memoryWorkingSet: 5 * GiB,
    // 4 processors for the container, 2.5 for the job within it.
    cpuLimit: 2.5,
    cpuSeconds: 7000,
    periods: 90_000,
    throttledPeriods: 4500,
    throttledSeconds: 770,
    oomKills: 2,
    // What dm-0 passes on to sda is counted at sda only.
    readBytes: 4_096_000,
    writtenBytes: 8_192_000,
    reads: 1000,
    writes: 2000,
    pressure: {
      cpu: { some: 0.991 },
      memory: { some: 0.0041, full: 0.0022 },
      io: { some: 0.551, full: 0.44 },
    },
  });
  expect(machine.facts().container).toBe(true);
});

test("a container shows its own layers, its shared memory and what it has mounted, not the files an engine binds", async () => {
  const { read } = open("container-v2");
  expect(mounts(read())).toEqual(["/", "/dev/shm"]);
  // A server is asked without waiting for it.
  await Bun.sleep(50);
  expect(mounts(read())).toEqual(["/", "/dev/shm", "/mnt/data sets"]);
});

test("without hardware all interfaces but the loopback count", () => {
  expect(counted(open("container-v2").read().network)).toEqual(["eth0"]);
});

test("a new limit is seen when the groups are looked at anew", () => {
  const { root } = open("container-v2");
  set(root, "sys/fs/cgroup/cpu.max", "50000 100000\n");
  const machine = createMachine({ root });
  closers.push(() => machine.close());
  expect(machine.read()!.cgroup).toMatchObject({ cpuLimit: 0.5, cpuSeconds: 9000, periods: 100 });
});

test("a container of version 1", () => {
  const { read } = open("container-v1");
  const reading = read();
  expect(reading.failed).toEqual({});
  expect(reading.pressure).toBeUndefined();
  expect(reading.disks!.find(({ name }) => name === "sda")).not.toHaveProperty("discards");
  expect(counted(reading.disks)).toEqual(["sda"]);
  expect(reading.cgroup).toEqual({
    version: 1,
    container: true,
    memoryLimit: 12 * GiB,
    memoryUsed: 7 * GiB,
    memoryWorkingSet: 6 * GiB,
    cpuLimit: 1.5,
    cpuSeconds: 812.345678901,
    periods: 4000,
    throttledPeriods: 400,
    throttledSeconds: 51,
    oomKills: 5,
    readBytes: 1_048_576,
    writtenBytes: 4_194_304,
    reads: 128,
    writes: 512,
  });
});

test("without a quota the processors that may be used are the limit", () => {
  const { root } = open("container-v1");
  set(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  const one = createMachine({ root });
  set(root, "proc/self/status", "Cpus_allowed_list:\t4,6-7\n");
  const two = createMachine({ root });
  closers.push(
    () => one.close(),
    () => two.close(),
  );
  expect(two.read()!.cgroup!.cpuLimit).toBe(3);
  set(root, "proc/self/status", "Cpus_allowed_list:\t4-7\n");
  expect(one.read()!.cgroup!.cpuLimit).toBe(4);
});

test("256 processors: files longer than a page are read to their end", () => {
  const { read, machine } = open("many-cores", { cores: true });
  const first = read();
  expect(first.failed).toEqual({});
  expect([...first.cpu!.byCore.keys()]).toEqual(Array.from({ length: 256 }, (_, core) => core));
  expect(first.kernel).toMatchObject({
    contextSwitches: 91_827_364_550,
    bootTime: 1_763_000_000,
    forks: 4_400_121,
    running: 37,
    blocked: 2,
  });
  const sum = [...first.cpu!.byCore.values()].reduce((total, { user }) => total + user, 0);
  expect(sum).toBeCloseTo(first.cpu!.total.user, 0);
  expect(counted(first.disks)).toHaveLength(24);
  expect(machine.facts()).toMatchObject({ cores: 256, processor: "Arm Neoverse V2" });
});

test("a limit on a slice above the session counts, with the slice's use, though this is no container", () => {
  const { cgroup } = open("many-cores").read();
  expect(cgroup).toMatchObject({
    version: 2,
    container: false,
    memoryLimit: 512 * GiB,
    memoryUsed: 88 * GiB,
    cpuLimit: 64,
    cpuSeconds: 1e9,
    // The disks', not the array's on top of them.
    readBytes: 1_310_720,
  });
});

test("a bond, VLANs, bridges and cables to containers carry what the ports carried already", () => {
  const reading = open("bonded").read();
  // eth9 counts what its virtual function enP1s1 carries.
  expect(counted(reading.network)).toEqual(["eno1", "eno2", "eth9"]);
  expect(reading.network).toHaveLength(14);
  expect(reading.cgroup).toBeUndefined();
});

test("of volumes on an encryption on a mirror only the disks at the bottom count", () => {
  const reading = open("stacked").read();
  expect(counted(reading.disks)).toEqual(["sda", "sdb", "cciss/c0d0"]);
  const others = reading.disks!.filter((disk) => !disk.counted).map(({ name }) => name);
  expect(others).toEqual(["sr0", "md127", "dm-0", "dm-1", "dm-2", "zd0"]);
  expect(mounts(reading)).toEqual(["/", "/srv"]);
  expect(reading.fileSystems!.find(({ mount }) => mount === "/srv")!.readOnly).toBe(true);
});

test("a network block device is told once it is connected", () => {
  const { root, machine } = open("stacked");
  mkdirSync(join(root, "sys/block/nbd0/slaves"), { recursive: true });
  writeFileSync(join(root, "sys/block/nbd0/size"), "0\n");
  set(root, "proc/diskstats", (before) => `${before}43 0 nbd0 0 0 0 0 0 0 0 0 0 0 0\n`);
  expect(machine.read()!.disks!.map(({ name }) => name)).not.toContain("nbd0");
  set(root, "sys/block/nbd0/size", "2097152\n");
  const later = createMachine({ root });
  closers.push(() => later.close());
  expect(counted(later.read()!.disks)).toContain("nbd0");
});

test("where we may run on fewer processors than there are, that is a limit", () => {
  const reading = open("stacked").read();
  expect(reading.cgroup).toMatchObject({ container: false, cpuLimit: 2, cpuSeconds: 120 });
  expect(reading.cgroup).not.toHaveProperty("memoryLimit");
});

test("a source that can't be read costs only itself, and says why", () => {
  const { root, read } = open("stacked");
  set(root, "proc/loadavg", "garbage\n");
  rmSync(join(root, "proc/meminfo"));
  mkdirSync(join(root, "proc/meminfo"));
  rmSync(join(root, "proc/self/cgroup"));
  mkdirSync(join(root, "proc/self/cgroup"));
  const reading = read();
  expect(Object.keys(reading.failed).sort()).toEqual(["cgroup", "load", "memory"]);
  // Also at a look that does not search for it anew.
  expect(Object.keys(read().failed).sort()).toEqual(["cgroup", "load", "memory"]);
  expect(reading.failed["load"]).toContain("garbage");
  expect(reading).not.toHaveProperty("memory");
  expect(reading).not.toHaveProperty("load");
  expect(counted(reading.disks)).toHaveLength(3);
  expect(Object.keys(reading.took)).toContain("load");
});

test("a fact that is kept from us is unknown, and the machine is read all the same", () => {
  const { root } = open("stacked");
  rmSync(join(root, "proc/sys/kernel/random/boot_id"));
  mkdirSync(join(root, "proc/sys/kernel/random/boot_id"));
  const machine = createMachine({ root });
  closers.push(() => machine.close());
  expect(machine.facts()).toMatchObject({ boot: null, name: "store1", cores: 4 });
});

test("what a machine does not have is absent and no failure", () => {
  const { root } = open("stacked");
  for (const path of ["proc/pressure", "proc/diskstats", "proc/net", "proc/self", "proc/vmstat"])
    rmSync(join(root, path), { recursive: true });
  const machine = createMachine({ root });
  closers.push(() => machine.close());
  const reading = machine.read()!;
  expect(reading.failed).toEqual({});
  for (const name of ["pressure", "disks", "network", "vmstat", "fileSystems", "cgroup", "infiniband"])
    expect(reading).not.toHaveProperty(name);
  expect(reading.cpu).toBeDefined();
});

test("a disk that is plugged in while we read has its place looked up at once", () => {
  const { root, read } = open("stacked");
  read();
  mkdirSync(join(root, "sys/block/sdc/slaves"), { recursive: true });
  mkdirSync(join(root, "sys/block/dm-9/slaves/sdc"), { recursive: true });
  writeFileSync(join(root, "sys/block/sdc/hidden"), "0\n");
  set(
    root,
    "proc/diskstats",
    (before) => `${before}8 32 sdc 1 0 8 0 0 0 0 0 0 1 1\n253 9 dm-9 1 0 8 0 0 0 0 0 0 1 1\n`,
  );
  expect(counted(read().disks)).toEqual(["sda", "sdb", "cciss/c0d0", "sdc"]);
});

test("readings of a host follow from two looks at it", () => {
  const { root, read } = open("bonded");
  const before = read();
  set(root, "proc/net/dev", (text) =>
    text.replace(/(eno1: +)6000000000/, (_, head: string) => `${head}6000125000`).replace("9999", "9999"),
  );
  const after = read();
  after.monotonic = before.monotonic + 1000;
  after.time = before.time + 1000;
  expect(ratesOf(before, after).machine).toMatchObject({
    "network.receive": 125_000,
    "network.receive@eno1": 125_000,
    "network.receive@eno2": 0,
    "memory.used": (67_108_864 - 50_000_000) * 1024,
    "disk.read@sda": 0,
  });
});
