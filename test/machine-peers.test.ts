// runs alone
import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { createMachine } from "../src/machine/machine.ts";
import { ratesOf } from "../src/machine/rates.ts";
import type { MachineReading } from "../src/machine/reading.ts";
import { debianProgram } from "./helpers/debian.ts";

const SECONDS = 5;
const MiB = 2 ** 20;
const programs = Object.fromEntries(
  ["vmstat", "iostat", "free", "prometheus-node-exporter", "dd"].map((name) => [name, debianProgram(name)]),
);
const linux = process.platform === "linux";

/** Says loudly what a comparison lacks. */
function comparison(name: string, needs: string[], run: () => Promise<void>): void {
  const lacking = needs.filter((need) => (need === "a disk" ? !hasDisk : programs[need] === undefined));
  if (linux && lacking.length === 0) test(name, run, 60_000);
  else {
    console.error(`*** SKIPPED: ${name}: needs ${linux ? lacking.join(", ") : "Linux"}.`);
    test.skip(name, () => {});
  }
}

const machine = linux ? createMachine() : undefined;
const read = () => machine!.read()!;
const cores = machine === undefined ? 0 : read().cpu!.byCore.size;
const hasDisk = machine !== undefined && (read().disks ?? []).some(({ counted }) => counted);
// On the disk of the source: the folder for temporary files may be memory.
const folder = mkdtempSync(join(import.meta.dirname, "../node_modules/.machine-peers-"));
const load: ChildProcess[] = [];
beforeAll(() => {
  if (!linux) return;
  // One processor busy, in user space and in the kernel, and a disk that is written past the cache.
  load.push(
    spawn("sh", [
      "-c",
      "while :; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/null bs=64k count=8000 2>/dev/null; done",
    ]),
  );
  const dd = (how: string) =>
    `dd if=/dev/zero of="${join(folder, "written")}" bs=256k count=200 ${how} 2>/dev/null`;
  load.push(
    spawn("sh", [
      "-c",
      `while :; do ${dd("oflag=direct conv=notrunc")} || ${dd("conv=notrunc,fsync")}; sleep 0.02; done`,
    ]),
  );
});
afterAll(() => {
  for (const child of load) child.kill("SIGKILL");
  machine?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** What a program prints, with a look at the machine when its interval begins and one when it ends. */
async function beside(command: string[], isSpan = true) {
  const before = read();
  const child = spawn(command[0]!, command.slice(1), {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, LC_ALL: "C" },
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const [status] = await once(child, "close");
  expect(status).toBe(0);
  const after = read();
  // These are looks SECONDS apart, not a second.
  after.interval = SECONDS * 1000;
  if (isSpan) expect(after.monotonic - before.monotonic).toBeGreaterThan(SECONDS * 1000 - 100);
  return { output, before, after, values: ratesOf(before, after).machine };
}

/** Within so much of the peer's figure. */
function near(what: string, ours: number | undefined, theirs: number, tolerance: number): void {
  if (ours === undefined || Math.abs(ours - theirs) > tolerance)
    throw new Error(`${what}: ours ${ours}, theirs ${theirs}, may differ by ${tolerance}`);
}

comparison(
  `processor time is vmstat's, within 4 points over ${SECONDS} s, while a processor is busy`,
  ["vmstat", "dd"],
  async () => {
    const { output, values } = await beside([programs["vmstat"]!, "-n", String(SECONDS), "2"]);
    const [, head, , last] = output.trimEnd().split("\n");
    const names = head!.trim().split(/\s+/);
    const fields = last!.trim().split(/\s+/).map(Number);
    const theirs = (name: string) => fields[names.indexOf(name)]! / 100;
    near("user", values["cpu.user"], theirs("us"), 0.04);
    near("system", values["cpu.system"], theirs("sy"), 0.04);
    near("iowait", values["cpu.iowait"], theirs("wa"), 0.04);
    near("steal", values["cpu.steal"], theirs("st"), 0.04);
    near("busy", values["cpu.utilization"], 1 - theirs("id") - theirs("wa"), 0.04);
    expect(values["cpu.user"]).toBeGreaterThan(0.1 / cores);
    expect(values["cpu.system"]).toBeGreaterThan(0.05 / cores);
  },
);

interface IostatDisk {
  disk_device: string;
  "r/s": number;
  "w/s": number;
  "rkB/s": number;
  "wkB/s": number;
  util: number;
}

comparison(
  `each disk's operations, bytes and utilization are iostat's, within a tenth over ${SECONDS} s, while it is written`,
  ["iostat", "dd", "a disk"],
  async () => {
    const { output, values, after } = await beside(
      [programs["iostat"]!].concat("-dxk", "-y", "-o", "JSON", String(SECONDS), "1"),
    );
    const [host] = (JSON.parse(output) as { sysstat: { hosts: { statistics: { disk: IostatDisk[] }[] }[] } })
      .sysstat.hosts;
    const diskByName = new Map(host!.statistics[0]!.disk.map((disk) => [disk.disk_device, disk]));
    const names = after.disks!.filter(({ counted }) => counted).map(({ name }) => name);
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) {
      const theirs = diskByName.get(name)!;
      const ours = (reading: string) => values[`${reading}@${name}`];
      // The start of the program is within our interval only, and reads a little.
      near(`${name} read`, ours("disk.read"), theirs["rkB/s"] * 1024, theirs["rkB/s"] * 102.4 + 2 * MiB);
      near(`${name} written`, ours("disk.write"), theirs["wkB/s"] * 1024, theirs["wkB/s"] * 102.4 + MiB / 2);
      near(`${name} reads`, ours("disk.read_operations"), theirs["r/s"], theirs["r/s"] / 10 + 100);
      near(`${name} writes`, ours("disk.write_operations"), theirs["w/s"], theirs["w/s"] / 10 + 20);
      near(`${name} utilization`, ours("disk.utilization"), theirs.util / 100, 0.1);
    }
    expect(values["disk.write"]).toBeGreaterThan(MiB);
  },
);

comparison("memory is free's, within 64 MiB", ["free"], async () => {
  const { output, values } = await beside([programs["free"]!, "-b", "-w"], false);
  const [head, memory, swap] = output
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
  const theirs = (name: string) => Number(memory![head!.indexOf(name) + 1]);
  near("total", values["memory.total"], theirs("total"), 0);
  near("used", values["memory.used"], theirs("total") - theirs("available"), 64 * MiB);
  near("shared", values["memory.shared"], theirs("shared"), 8 * MiB);
  // What free calls cache has the shared memory in it, which can't be dropped.
  near("cached", values["memory.cached"], theirs("buffers") + theirs("cache") - theirs("shared"), 64 * MiB);
  near("swap", values["swap.total"], Number(swap![1]), 4096);
  near("swap used", values["swap.used"], Number(swap![2]), 8 * MiB);
});

/** Our counters by the names that node_exporter has for them. */
function countersOf(reading: MachineReading): Map<string, number> {
  const counters = new Map<string, number>();
  const set = (name: string, value: number | undefined) => value !== undefined && counters.set(name, value);
  for (const [core, times] of reading.cpu!.byCore)
    // Without idle and iowait, which may go back.
    for (const mode of ["user", "nice", "system", "irq", "softirq", "steal"] as const)
      set(`node_cpu_seconds_total{cpu="${core}",mode="${mode}"}`, times[mode]);
  set("node_context_switches_total", reading.kernel!.contextSwitches);
  set("node_intr_total", reading.kernel!.interrupts);
  set("node_forks_total", reading.kernel!.forks);
  for (const [name, value] of reading.vmstat!) set(`node_vmstat_${name}`, value);
  for (const disk of reading.disks ?? []) {
    const label = `{device="${disk.name}"}`;
    set(`node_disk_reads_completed_total${label}`, disk.reads);
    set(`node_disk_reads_merged_total${label}`, disk.readsMerged);
    set(`node_disk_read_bytes_total${label}`, disk.readBytes);
    set(`node_disk_read_time_seconds_total${label}`, disk.readSeconds);
    set(`node_disk_writes_completed_total${label}`, disk.writes);
    set(`node_disk_writes_merged_total${label}`, disk.writesMerged);
    set(`node_disk_written_bytes_total${label}`, disk.writtenBytes);
    set(`node_disk_write_time_seconds_total${label}`, disk.writeSeconds);
    set(`node_disk_io_time_seconds_total${label}`, disk.ioSeconds);
    set(`node_disk_io_time_weighted_seconds_total${label}`, disk.ioWeightedSeconds);
    set(`node_disk_discards_completed_total${label}`, disk.discards);
    set(`node_disk_flush_requests_total${label}`, disk.flushes);
  }
  for (const one of reading.network ?? []) {
    const label = `{device="${one.name}"}`;
    set(`node_network_receive_bytes_total${label}`, one.receiveBytes);
    set(`node_network_receive_packets_total${label}`, one.receivePackets);
    set(`node_network_receive_errs_total${label}`, one.receiveErrors);
    set(`node_network_receive_drop_total${label}`, one.receiveDrops);
    set(`node_network_transmit_bytes_total${label}`, one.transmitBytes);
    set(`node_network_transmit_packets_total${label}`, one.transmitPackets);
    set(`node_network_transmit_errs_total${label}`, one.transmitErrors);
    set(`node_network_transmit_drop_total${label}`, one.transmitDrops);
  }
  set("node_pressure_cpu_waiting_seconds_total", reading.pressure?.cpu?.some);
  set("node_pressure_memory_waiting_seconds_total", reading.pressure?.memory?.some);
  set("node_pressure_memory_stalled_seconds_total", reading.pressure?.memory?.full);
  set("node_pressure_io_waiting_seconds_total", reading.pressure?.io?.some);
  set("node_pressure_io_stalled_seconds_total", reading.pressure?.io?.full);
  return counters;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function parseMetrics(text: string): Map<string, number> {
  return new Map(
    text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => {
        const at = line.lastIndexOf(" ");
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
  );
}

comparison(
  "each counter of node_exporter's lies between ours from just before and just after, under load",
  ["prometheus-node-exporter", "dd"],
  async () => {
    const address = `127.0.0.1:${await freePort()}`;
    const exporter = spawn(programs["prometheus-node-exporter"]!, [`--web.listen-address=${address}`], {
      stdio: "ignore",
    });
    try {
      const scrape = async () => parseMetrics(await (await fetch(`http://${address}/metrics`)).text());
      for (let attempt = 0; ; attempt += 1) {
        // The first scrape only shows that it is up.
        const up = await scrape().then(
          () => true,
          () => false,
        );
        if (up) break;
        if (attempt > 100) throw new Error("node_exporter does not start");
        await Bun.sleep(100);
      }
      const before = read();
      const theirs = await scrape();
      const after = read();

      const low = countersOf(before);
      const high = countersOf(after);
      const outside: string[] = [];
      let compared = 0;
      for (const [name, from] of low) {
        const value = theirs.get(name);
        // It leaves out loop devices and partitions.
        if (value === undefined) continue;
        compared += 1;
        // It prints nine digits or so of some, and floats of sums in another order.
        const slack = Math.abs(value) * 1e-6 + 1e-6;
        if (value < from - slack || value > high.get(name)! + slack)
          outside.push(`${name}: ${from} … ${high.get(name)}, theirs ${value}`);
      }
      expect(outside).toEqual([]);
      expect(compared).toBeGreaterThan(before.cpu!.byCore.size * 6 + 30);
      for (const name of ["node_vmstat_pgpgout", "node_context_switches_total", "node_forks_total"])
        expect(theirs.has(name)).toBe(true);
      // Under load something must have moved, else any constant would do.
      expect([...low].filter(([name, from]) => high.get(name)! > from).length).toBeGreaterThan(5);

      const memory = (name: string, tolerance: number) =>
        near(name, after.memory!.get(name), theirs.get(`node_memory_${name}_bytes`)!, tolerance);
      memory("MemTotal", 0);
      memory("SwapTotal", 0);
      for (const name of ["MemFree", "MemAvailable", "Cached", "Buffers", "Shmem"]) memory(name, 64 * MiB);
      near(
        "HugePages_Total",
        after.memory!.get("HugePages_Total"),
        theirs.get("node_memory_HugePages_Total")!,
        0,
      );
      near("load", after.load!.one, theirs.get("node_load1")!, 0.5);
      near("boot", after.kernel!.bootTime, theirs.get("node_boot_time_seconds")!, 1);

      let fileSystems = 0;
      for (const { device, mount, type, size, available, files } of after.fileSystems!) {
        const label = `{device="${device}",fstype="${type}",mountpoint="${mount}"}`;
        const theirSize = theirs.get(`node_filesystem_size_bytes${label}`);
        if (theirSize === undefined) continue;
        fileSystems += 1;
        near(`size of ${mount}`, size, theirSize, 0);
        near(`files of ${mount}`, files, theirs.get(`node_filesystem_files${label}`)!, 0);
        // Ours is up to half a minute old, and is being written to.
        near(
          `available of ${mount}`,
          available,
          theirs.get(`node_filesystem_avail_bytes${label}`)!,
          1024 * MiB,
        );
      }
      expect(fileSystems).toBeGreaterThan(0);
    } finally {
      exporter.kill("SIGKILL");
    }
  },
);
