import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { countList, groupsToRoot, parseHierarchies, parsePaths } from "../src/machine/cgroup-path.ts";
import { parseBlkio } from "../src/machine/cgroup-v1.ts";
import { parseIo } from "../src/machine/cgroup-v2.ts";
import { parseDisks } from "../src/machine/disk.ts";
import { parseOsRelease, parseProcessorName } from "../src/machine/facts.ts";
import { countedMounts, FileSystems, parseMounts } from "../src/machine/file-system.ts";
import { parseCounter } from "../src/machine/infiniband.ts";
import { KernelFile } from "../src/machine/kernel-file.ts";
import { parseLoad } from "../src/machine/load.ts";
import { parseMemory, parseVmstat } from "../src/machine/memory.ts";
import { parseNetwork } from "../src/machine/network.ts";
import { parsePressure } from "../src/machine/pressure.ts";
import { parseProcessor } from "../src/machine/processor.ts";
import { layOut, set } from "./helpers/machine.ts";

const bytes = (text: string) => Buffer.from(text);

test("/proc/stat: ticks become seconds, cores keep their numbers, the rest is passed over", () => {
  const { cpu, kernel } = parseProcessor(
    bytes(
      "cpu  10132153 290696 3084719 46828483 16683 0 25195 11 175628 2\n" +
        "cpu0 1393280 32966 572056 13343292 6130 0 17875 11 23933 1\n" +
        "cpu12 1 2 3 4 5 6 7 8 9 10\n" +
        "intr 8688370 1 2 3\nctxt 22195642\nbtime 1291838420\nprocesses 54321\nprocs_running 3\nprocs_blocked 1\n" +
        "softirq 90 1 2 3\n",
    ),
  );
  expect(cpu.total).toEqual({
    user: 101_321.53,
    nice: 2906.96,
    system: 30_847.19,
    idle: 468_284.83,
    iowait: 166.83,
    irq: 0,
    softirq: 251.95,
    steal: 0.11,
    guest: 1756.28,
    guestNice: 0.02,
  });
  expect([...cpu.byCore.keys()]).toEqual([0, 12]);
  expect(cpu.byCore.get(12)!.guestNice).toBe(0.1);
  expect(kernel).toEqual({
    interrupts: 8_688_370,
    contextSwitches: 22_195_642,
    bootTime: 1_291_838_420,
    forks: 54_321,
    running: 3,
    blocked: 1,
  });
});

test("/proc/stat of nothing is an error, not a machine at rest", () =>
  expect(() => parseProcessor(bytes(""))).toThrow("no line"));

test("/proc/meminfo: kB are KiB, counts stay counts, names keep their brackets", () => {
  const text =
    "MemTotal:       131072000 kB\nActive(anon):     1772 kB\nHugePages_Total:     512\nDirectMap1G:    25165824 kB\n";
  expect(Object.fromEntries(parseMemory(bytes(text)))).toEqual({
    MemTotal: 131_072_000 * 1024,
    "Active(anon)": 1772 * 1024,
    HugePages_Total: 512,
    DirectMap1G: 25_165_824 * 1024,
  });
});

test("/proc/vmstat: names are whole, and what an old kernel lacks is absent", () => {
  const text = "nr_free_pages 1\npgpgin 2\npgpgout 3\npgfault 5\npgmajfault 6\nthp_pgfault 9\n";
  expect(Object.fromEntries(parseVmstat(bytes(text)))).toEqual({
    pgpgin: 2,
    pgpgout: 3,
    pgfault: 5,
    pgmajfault: 6,
  });
});

const whole = () => "whole" as const;

test("/proc/diskstats: 11, 15 or 17 columns; a sector is 512 bytes, whatever the disk says", () => {
  const disks = parseDisks(
    bytes(
      "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n" +
        "   8      16 sdb 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n" +
        " 259       0 nvme0n1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n",
    ),
    whole,
  );
  const common = {
    reads: 1,
    readsMerged: 2,
    readBytes: 1536,
    readSeconds: 0.004,
    writes: 5,
    writesMerged: 6,
    writtenBytes: 3584,
    writeSeconds: 0.008,
    inFlight: 9,
    ioSeconds: 0.01,
    ioWeightedSeconds: 0.011,
    counted: true,
  };
  const discards = { discards: 12, discardsMerged: 13, discardedBytes: 7168, discardSeconds: 0.015 };
  expect(disks).toEqual([
    { name: "sda", major: 8, minor: 0, ...common },
    { name: "sdb", major: 8, minor: 16, ...common, ...discards },
    { name: "nvme0n1", major: 259, minor: 0, ...common, ...discards, flushes: 16, flushSeconds: 0.017 },
  ]);
});

test("/proc/net/dev: no blank is needed behind the colon", () => {
  const [eth0] = parseNetwork(
    bytes(
      "Inter-|\n face |\n  eth0:7777521162  193089    1    2    3     4          5         6 10456405  111947    7    8    9     10       11          12\n",
    ),
    () => true,
  );
  expect(eth0).toEqual({
    name: "eth0",
    receiveBytes: 7_777_521_162,
    receivePackets: 193_089,
    receiveErrors: 1,
    receiveDrops: 2,
    receiveFifo: 3,
    receiveFrame: 4,
    receiveCompressed: 5,
    receiveMulticast: 6,
    transmitBytes: 10_456_405,
    transmitPackets: 111_947,
    transmitErrors: 7,
    transmitDrops: 8,
    transmitFifo: 9,
    transmitCollisions: 10,
    transmitCarrier: 11,
    transmitCompressed: 12,
    counted: true,
  });
});

test("pressure: microseconds become seconds, and a processor's file may have no line of all", () => {
  const some = "some avg10=18.53 avg60=17.96 avg300=24.41 total=4128840804\n";
  expect(parsePressure(bytes(`${some}full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n`))).toEqual({
    some: 4128.840804,
    full: 0.000012,
  });
  expect(parsePressure(bytes(some)).full).toBe(0);
});

test("load", () => {
  expect(parseLoad(bytes("2.23 2.44 2.47 2/145 2672\n"))).toEqual({ one: 2.23, five: 2.44, fifteen: 2.47 });
  expect(() => parseLoad(bytes(""))).toThrow("loadavg");
});

test("an InfiniBand counter in words", () => {
  expect(parseCounter(bytes("250\n"))).toBe(1000);
  expect(parseCounter(bytes("N/A (no PMA)\n"))).toBeUndefined();
});

test("mounts: octal blanks, the later of two at one place, no pseudo file systems, no engine's layers", () => {
  const mounts = parseMounts(
    [
      "25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw",
      "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
      String.raw`28 27 0:40 / /mnt/my\040data ro,relatime shared:1 master:2 - nfs4 filer:/my\040data rw`,
      "30 25 0:27 / /dev/shm rw - tmpfs other rw",
      "31 27 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw",
      "32 27 0:21 / /proc rw - proc proc rw",
      "33 27 0:50 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw",
      "34 27 0:51 / /run/user/1000 rw - tmpfs tmpfs rw",
      "35 27 7:0 / /snap/x ro - squashfs /dev/loop0 ro",
      "36 27 0:52 / /opt/secrets ro,relatime - tmpfs tmpfs rw",
      "not a line at all",
      "",
    ].join("\n"),
  );
  expect(mounts).toEqual([
    { number: "254:0", folder: "/", mount: "/", type: "ext4", device: "/dev/vda", readOnly: false },
    {
      number: "0:40",
      folder: "/",
      mount: "/mnt/my data",
      type: "nfs4",
      device: "filer:/my data",
      readOnly: true,
    },
    { number: "0:27", folder: "/", mount: "/dev/shm", type: "tmpfs", device: "other", readOnly: false },
  ]);
});

test("of several mounts the one that shows the file system's root counts, then the one nearest to ours", () => {
  const mounts = parseMounts(
    "1 0 8:1 /home /home rw - ext4 /dev/sda1 rw\n2 0 8:1 / /mnt/disk rw - ext4 /dev/sda1 rw\n3 0 8:1 / /data rw - ext4 /dev/sda1 rw\n",
  );
  expect([...countedMounts(mounts)].map(({ mount }) => mount)).toEqual(["/data"]);
});

test("a server that does not answer holds nothing up: the rest is told, and who is silent", async () => {
  const root = layOut("stacked");
  const remote = (id: number, mount: string) => `${id} 28 0:${id} / ${mount} rw - nfs4 filer:${mount} rw\n`;
  set(
    root,
    "proc/self/mountinfo",
    (before) => before + remote(90, "/nfs/good") + remote(91, "/nfs/dead") + remote(92, "/nfs/late"),
  );
  const asked: string[] = [];
  const answer = { bsize: 4096, blocks: 100, bfree: 50, bavail: 40, files: 10, ffree: 5 };
  let revive = () => {};
  const revived = new Promise<void>((resolve) => (revive = resolve));
  const systems = new FileSystems(root, async (path) => {
    asked.push(path.slice(root.length));
    if (path.endsWith("dead")) await revived;
    return answer;
  });
  const told = (now: number) => {
    const { found, problem } = systems.read(now)!;
    return { found: found.map(({ mount }) => mount).filter((mount) => mount.startsWith("/nfs")), problem };
  };
  const began = performance.now();
  expect(told(began)).toEqual({ found: [], problem: undefined });
  await Bun.sleep(1);
  expect(told(began + 1000)).toEqual({ found: ["/nfs/good"], problem: undefined });
  const silent = "/nfs/dead (filer:/nfs/dead) does not answer, and /nfs/late can't be asked meanwhile";
  expect(told(began + 6000)).toEqual({ found: ["/nfs/good"], problem: silent });
  // Nobody else is sent after it, however often the rest is asked.
  expect(told(began + 31_000).problem).toContain("/nfs/dead (filer:/nfs/dead) does not answer");
  expect(told(began + 62_000).problem).toContain("/nfs/dead");
  expect(asked).toEqual(["/nfs/good", "/nfs/dead"]);

  revive();
  await Bun.sleep(1);
  expect(told(performance.now())).toEqual({
    found: ["/nfs/good", "/nfs/dead", "/nfs/late"],
    problem: undefined,
  });
  rmSync(root, { recursive: true });
});

test("control groups: controllers share a line, and a path may hold a colon", () => {
  const paths = parsePaths("12:cpu,cpuacct:/docker/1\n1:name=systemd:/x\n0::/user.slice/a:b.scope\n");
  expect(Object.fromEntries(paths)).toEqual({
    cpu: "/docker/1",
    cpuacct: "/docker/1",
    "name=systemd": "/x",
    "": "/user.slice/a:b.scope",
  });
});

test("hierarchies are found where they are mounted", () => {
  const found = parseHierarchies(
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
      "32 31 0:29 /docker/1 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
      "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n",
  );
  expect(found.get("cpuacct")).toEqual({ folder: "/docker/1", mount: "/sys/fs/cgroup/cpu,cpuacct" });
  expect(found.get("")).toEqual({ folder: "/", mount: "/sys/fs/cgroup/unified" });
});

const walks: [name: string, folder: string, path: string, groups: string[]][] = [
  ["to the root", "/", "/a/b", ["/m/a/b", "/m/a", "/m"]],
  ["at the root", "/", "/", ["/m"]],
  ["as far as the mount shows", "/docker/1", "/docker/1/job", ["/m/job", "/m"]],
  ["the mount's own group", "/docker/1", "/docker/1", ["/m"]],
  ["not mistaken for a sibling", "/docker/1", "/docker/11/job", ["/m"]],
  ["outside our name space", "/", "/../../other", ["/m"]],
];
for (const [name, folder, path, groups] of walks)
  test(`the path to the root: ${name}`, () =>
    expect(groupsToRoot({ folder, mount: "/m" }, path)).toEqual(groups));

const cpuLists: [list: string, count: number][] = [
  ["0", 1],
  ["0-3", 4],
  ["0-3,8,10-11\n", 7],
  ["", 0],
];
for (const [list, count] of cpuLists)
  test(`${JSON.stringify(list)} are ${count} processors`, () => expect(countList(list)).toBe(count));

test("a group's I/O, of the disks that count", () => {
  const text =
    "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:0 rbytes=100 wbytes=100\n8:16 rbytes=10 wbytes=20 rios=30 wios=40\n9:9\n";
  expect(parseIo(bytes(text), (number) => number.startsWith("8:"))).toEqual({
    readBytes: 11,
    writtenBytes: 22,
    reads: 33,
    writes: 44,
  });
  const one = "8:0 Read 5\n8:0 Write 6\n8:0 Sync 11\n8:0 Total 11\n253:0 Read 5\n253:0 Write 6\nTotal 22\n";
  expect(parseBlkio(bytes(one), (number) => number === "8:0")).toEqual({ read: 5, write: 6 });
  expect(parseBlkio(bytes("Total 0\n"), () => true)).toEqual({ read: 0, write: 0 });
});

test("the names of a system and a processor", () => {
  expect(parseOsRelease('NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')).toBe(
    "Debian GNU/Linux 12 (bookworm)",
  );
  expect(parseOsRelease("PRETTY_NAME=Alpine\n")).toBe("Alpine");
  expect(parseOsRelease("")).toBeUndefined();
  expect(parseProcessorName("processor\t: 0\nmodel name\t: AMD EPYC 7543\n")).toBe("AMD EPYC 7543");
  expect(parseProcessorName("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xfff\n")).toBeNull();
});

test("a file of the kernel is read anew by the same descriptor, to its end, however long it becomes", () => {
  const folder = mkdtempSync(join(tmpdir(), "kernel-file-"));
  const path = join(folder, "file");
  const file = new KernelFile(path);
  writeFileSync(path, "short\n");
  expect(file.read()!.toString()).toBe("short\n");
  const long = "0123456789\n".repeat(30_000);
  writeFileSync(path, long);
  expect(file.read()!.toString()).toBe(long);
  writeFileSync(path, "short again\n");
  expect(file.read()!.toString()).toBe("short again\n");
  file.close();
  rmSync(folder, { recursive: true });
  expect(new KernelFile(path).read()).toBeUndefined();
});

// One read of these gives a page at the most, however much is asked for.
const lists = ["/proc/crypto", "/proc/kallsyms"].filter((path) => existsSync(path));
test.skipIf(lists.length === 0)(
  "a list of the kernel's that is longer than a page is read to its end, twice",
  () => {
    const [path] = lists as [string];
    const whole = readFileSync(path);
    expect(whole.length).toBeGreaterThan(8192);
    const file = new KernelFile(path);
    expect(file.read()!.equals(whole)).toBe(true);
    expect(file.read()!.equals(whole)).toBe(true);
    file.close();
  },
);
