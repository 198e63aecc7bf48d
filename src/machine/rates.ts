/** What two looks at a machine say about the time between them: differences of counters, and what is so now. */
import { keyOf, roundReading, type ReadingName } from "../sample/reading.ts";
import type { Cgroup, CpuTimes, Disk, MachineReading, NetworkInterface, Pressure } from "./reading.ts";

export interface Rates {
  machine: Record<string, number>;
  cgroup?: Record<string, number>;
  /** Processes that were killed for want of memory, on the machine, or in our container if that is all we are shown. */
  oomKills: number;
  /** ms by which time jumped: a sleep, a clock that was set (negative: back); null: it went on as it should. */
  jumpedMs: number | null;
}

/** ms between two readings, if neither says. */
const INTERVAL = 1000;
/** Longer than so many intervals is not an interval, but a pause: a rate over it would be of neither. */
const PAUSE = 5;
/** ms by which the wall clock may differ from the steady one: it is steered, and read a moment earlier. */
const DRIFT = 1000;

export function ratesOf(previous: MachineReading, current: MachineReading): Rates {
  const interval = current.interval ?? INTERVAL;
  const elapsed = current.monotonic - previous.monotonic;
  const moved = current.time - previous.time - elapsed;
  const paused = elapsed > PAUSE * interval;
  const rates = {
    oomKills: oomKills(previous, current),
    jumpedMs: paused
      ? Math.round(elapsed - interval + moved)
      : Math.abs(moved) > DRIFT
        ? Math.round(moved)
        : null,
  };
  // Rates are of the steady clock, so a wall clock that was set spoils none.
  if (paused || elapsed <= 0) return { machine: {}, ...rates };
  const values = new Values();
  const seconds = elapsed / 1000;
  processor(values, previous, current, seconds);
  memory(values, current);
  disks(values, previous.disks, current.disks, seconds);
  network(values, previous.network, current.network, seconds);
  infiniband(values, previous, current, seconds);
  for (const fileSystem of current.fileSystems ?? []) {
    if (!fileSystem.counted) continue;
    values.set("filesystem.used", fileSystem.size - fileSystem.free, fileSystem.mount);
    values.set("filesystem.total", fileSystem.size, fileSystem.mount);
  }
  pressure(values, previous.pressure, current.pressure, seconds);
  const group = cgroup(previous, current, seconds);
  return { machine: values.byKey, ...(group && { cgroup: group }), ...rates };
}

/** Readings by key, rounded; what is not known does not get in. */
class Values {
  readonly byKey: Record<string, number> = {};

  set(name: ReadingName, value: number | undefined, part?: string): void {
    if (value !== undefined && Number.isFinite(value))
      this.byKey[keyOf(name, part)] = roundReading(name, value);
  }
}

/** undefined where there is no base, or the counter went back: then it began anew, and how far is unknown. */
function difference(before: number | undefined, now: number | undefined): number | undefined {
  if (before === undefined || now === undefined || now < before) return undefined;
  return now - before;
}

const per = (amount: number | undefined, seconds: number) =>
  amount === undefined ? undefined : amount / seconds;

/** A share of time cannot be more than all of it; clocks that are read one after the other can say so. */
const share = (part: number | undefined, whole: number) =>
  part === undefined || whole <= 0 ? undefined : Math.min(1, part / whole);

/** No guest: its time is within user, guest_nice's within nice. */
const MODES = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"] as const;
type Times = Record<(typeof MODES)[number], number>;

/**
 * Time spent in each mode. iowait and idle may go back a little, and that is no time; undefined where one goes back by
 * more, as when a core is plugged in or out: then they began anew.
 */
function spent(before: CpuTimes, now: CpuTimes, seconds: number): (Times & { total: number }) | undefined {
  const times = { total: 0 } as Times & { total: number };
  for (const mode of MODES) {
    const difference = (now[mode] ?? 0) - (before[mode] ?? 0);
    if (difference < -seconds / 10) return undefined;
    times[mode] = Math.max(0, difference);
    times.total += times[mode];
  }
  return times.total > 0 ? times : undefined;
}

const busy = (times: Times & { total: number }) => times.total - times.idle - times.iowait;

function processor(values: Values, previous: MachineReading, current: MachineReading, seconds: number): void {
  const { cpu, load } = current;
  if (load !== undefined) {
    values.set("load.1", load.one);
    values.set("load.5", load.five);
    values.set("load.15", load.fifteen);
  }
  if (cpu === undefined || previous.cpu === undefined) return;
  const times = spent(previous.cpu.total, cpu.total, seconds);
  if (times !== undefined) {
    values.set("cpu.utilization", busy(times) / times.total);
    values.set("cpu.user", (times.user + times.nice) / times.total);
    values.set("cpu.system", (times.system + times.irq + times.softirq) / times.total);
    // macOS has neither, and none is not 0.
    if (cpu.total.iowait !== undefined) values.set("cpu.iowait", times.iowait / times.total);
    if (cpu.total.steal !== undefined) values.set("cpu.steal", times.steal / times.total);
  }
  if (cpu.each !== true) return;
  for (const [core, now] of cpu.byCore) {
    const before = previous.cpu.byCore.get(core);
    const times = before && spent(before, now, seconds);
    if (times) values.set("cpu.core.utilization", busy(times) / times.total, String(core));
  }
}

function memory(values: Values, { memory }: MachineReading): void {
  if (memory === undefined) return;
  const of = (name: string) => memory.get(name);
  const minus = (whole: number | undefined, part: number | undefined) =>
    whole === undefined || part === undefined ? undefined : Math.max(0, whole - part);
  values.set("memory.total", of("MemTotal"));
  values.set("memory.used", minus(of("MemTotal"), of("MemAvailable")));
  values.set("memory.shared", of("Shmem"));
  // Shared memory is counted with the cache, but can't be dropped as that can.
  const cached = of("Cached");
  if (cached !== undefined)
    values.set(
      "memory.cached",
      minus(cached + (of("Buffers") ?? 0) + (of("SReclaimable") ?? 0), of("Shmem") ?? 0),
    );
  values.set("swap.total", of("SwapTotal"));
  values.set("swap.used", minus(of("SwapTotal"), of("SwapFree")));
}

function byName<T extends { name: string }>(list: readonly T[] | undefined): Map<string, T> {
  return new Map(list?.map((each) => [each.name, each]));
}

/** Sums what was added, as long as something was. */
class Sum {
  value: number | undefined;

  add(amount: number | undefined): void {
    if (amount !== undefined) this.value = (this.value ?? 0) + amount;
  }
}

function disks(
  values: Values,
  previous: readonly Disk[] | undefined,
  current: readonly Disk[] | undefined,
  seconds: number,
): void {
  const beforeByName = byName(previous);
  const [read, written, reads, writes] = [new Sum(), new Sum(), new Sum(), new Sum()];
  let busiest: number | undefined;
  for (const disk of current ?? []) {
    // One that was plugged in meanwhile has no base yet, and one of another number is another one.
    const before = beforeByName.get(disk.name);
    if (!disk.counted || before === undefined) continue;
    if (before.major !== disk.major || before.minor !== disk.minor) continue;
    const set = (name: ReadingName, sum: Sum, from: number, to: number) => {
      const amount = difference(from, to);
      sum.add(amount);
      values.set(name, per(amount, seconds), disk.name);
    };
    set("disk.read", read, before.readBytes, disk.readBytes);
    set("disk.write", written, before.writtenBytes, disk.writtenBytes);
    set("disk.read_operations", reads, before.reads, disk.reads);
    set("disk.write_operations", writes, before.writes, disk.writes);
    const utilization = share(activeSeconds(before.ioSeconds, disk.ioSeconds, seconds), seconds);
    values.set("disk.utilization", utilization, disk.name);
    if (utilization !== undefined) busiest = Math.max(busiest ?? 0, utilization);
  }
  values.set("disk.read", per(read.value, seconds));
  values.set("disk.write", per(written.value, seconds));
  values.set("disk.read_operations", per(reads.value, seconds));
  values.set("disk.write_operations", per(writes.value, seconds));
  // Of several the busiest: a mean would hide the one that all wait for.
  values.set("disk.utilization", busiest);
}

/** The kernel counts these ms in 32 bits. */
const WRAP = 2 ** 32 / 1000;

function activeSeconds(
  before: number | undefined,
  now: number | undefined,
  seconds: number,
): number | undefined {
  if (before === undefined || now === undefined) return undefined;
  const active = now < before ? now + WRAP - before : now - before;
  // Else it did not wrap, but began anew. 20 ms more for the clock's own steps.
  return active >= 0 && active <= seconds * 1.1 + 0.02 ? active : undefined;
}

function network(
  values: Values,
  previous: readonly NetworkInterface[] | undefined,
  current: readonly NetworkInterface[] | undefined,
  seconds: number,
): void {
  const beforeByName = byName(previous);
  const [received, transmitted, errors, drops] = [new Sum(), new Sum(), new Sum(), new Sum()];
  for (const one of current ?? []) {
    const before = beforeByName.get(one.name);
    if (!one.counted || before === undefined) continue;
    const set = (name: ReadingName, sum: Sum, amount: number | undefined) => {
      sum.add(amount);
      values.set(name, per(amount, seconds), one.name);
    };
    set("network.receive", received, difference(before.receiveBytes, one.receiveBytes));
    set("network.transmit", transmitted, difference(before.transmitBytes, one.transmitBytes));
    set(
      "network.errors",
      errors,
      both(
        difference(before.receiveErrors, one.receiveErrors),
        difference(before.transmitErrors, one.transmitErrors),
      ),
    );
    set(
      "network.drops",
      drops,
      both(
        difference(before.receiveDrops, one.receiveDrops),
        difference(before.transmitDrops, one.transmitDrops),
      ),
    );
  }
  values.set("network.receive", per(received.value, seconds));
  values.set("network.transmit", per(transmitted.value, seconds));
  values.set("network.errors", per(errors.value, seconds));
  values.set("network.drops", per(drops.value, seconds));
}

const both = (one: number | undefined, other: number | undefined) =>
  one === undefined || other === undefined ? undefined : one + other;

function infiniband(
  values: Values,
  previous: MachineReading,
  current: MachineReading,
  seconds: number,
): void {
  const [received, transmitted] = [new Sum(), new Sum()];
  for (const { device, port, receiveBytes, transmitBytes } of current.infiniband ?? []) {
    const before = previous.infiniband?.find((other) => other.device === device && other.port === port);
    if (before === undefined) continue;
    const part = `${device}/${port}`;
    const receive = difference(before.receiveBytes, receiveBytes);
    const transmit = difference(before.transmitBytes, transmitBytes);
    received.add(receive);
    transmitted.add(transmit);
    values.set("infiniband.receive", per(receive, seconds), part);
    values.set("infiniband.transmit", per(transmit, seconds), part);
  }
  values.set("infiniband.receive", per(received.value, seconds));
  values.set("infiniband.transmit", per(transmitted.value, seconds));
}

function pressure(
  values: Values,
  previous: Pressure | undefined,
  current: Pressure | undefined,
  seconds: number,
): void {
  const set = (name: ReadingName, before: number | undefined, now: number | undefined) =>
    values.set(name, share(difference(before, now), seconds));
  set("pressure.cpu", previous?.cpu?.some, current?.cpu?.some);
  set("pressure.memory", previous?.memory?.some, current?.memory?.some);
  set("pressure.memory.full", previous?.memory?.full, current?.memory?.full);
  set("pressure.io", previous?.io?.some, current?.io?.some);
  set("pressure.io.full", previous?.io?.full, current?.io?.full);
}

function cgroup(
  { cgroup: before }: MachineReading,
  { cgroup: now, cpu }: MachineReading,
  seconds: number,
): Record<string, number> | undefined {
  if (now === undefined) return undefined;
  const values = new Values();
  values.set("cpu.limit", now.cpuLimit);
  values.set("memory.used", now.memoryUsed);
  values.set("memory.total", now.memoryLimit);
  values.set("memory.working_set", now.memoryWorkingSet);
  if (before === undefined) return values.byKey;
  const change = (field: keyof Cgroup) =>
    difference(before[field] as number | undefined, now[field] as number | undefined);
  const cores = per(change("cpuSeconds"), seconds);
  values.set("cpu.cores", cores);
  values.set("cpu.utilization", share(cores, now.cpuLimit ?? cpu?.byCore.size ?? 0));
  const periods = change("periods");
  // A period is counted only if somebody ran in it; without a quota none ever is.
  if (now.periods !== 0)
    values.set("cpu.throttled", periods === 0 ? 0 : share(change("throttledPeriods"), periods ?? 0));
  values.set("disk.read", per(change("readBytes"), seconds));
  values.set("disk.write", per(change("writtenBytes"), seconds));
  values.set("disk.read_operations", per(change("reads"), seconds));
  values.set("disk.write_operations", per(change("writes"), seconds));
  pressure(values, before.pressure, now.pressure, seconds);
  return values.byKey;
}

function oomKills(previous: MachineReading, current: MachineReading): number {
  const inGroup = difference(previous.cgroup?.oomKills, current.cgroup?.oomKills);
  const onMachine = difference(previous.vmstat?.get("oom_kill"), current.vmstat?.get("oom_kill"));
  const kills = current.cgroup?.container === true ? (inGroup ?? onMachine) : (onMachine ?? inGroup);
  return kills ?? 0;
}
