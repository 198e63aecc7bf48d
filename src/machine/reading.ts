/**
 * One look at a machine: counters as the kernel gives them, in base units (seconds, bytes), nothing computed. /metrics serves
 * them as they are; rates.ts makes readings of two of them. What a machine does not have is absent.
 */

/** Seconds since boot. guest is inside user, guestNice inside nice. What macOS does not tell is optional. */
export interface CpuTimes {
  user: number;
  nice: number;
  system: number;
  idle: number;
  iowait?: number;
  irq?: number;
  softirq?: number;
  steal?: number;
  guest?: number;
  guestNice?: number;
}

/** What macOS does not tell is optional. */
export interface Disk {
  name: string;
  major?: number;
  minor?: number;
  reads: number;
  readsMerged?: number;
  readBytes: number;
  readSeconds?: number;
  writes: number;
  writesMerged?: number;
  writtenBytes: number;
  writeSeconds?: number;
  /** Under way now. */
  inFlight?: number;
  ioSeconds?: number;
  ioWeightedSeconds?: number;
  discards?: number;
  discardsMerged?: number;
  discardedBytes?: number;
  discardSeconds?: number;
  flushes?: number;
  flushSeconds?: number;
  /** Counts for the machine's total: no partition, nothing stacked on others, no memory disk, no hidden path. */
  counted: boolean;
}

/** What macOS does not tell is optional. */
export interface NetworkInterface {
  name: string;
  receiveBytes: number;
  receivePackets?: number;
  receiveErrors: number;
  receiveDrops: number;
  receiveFifo?: number;
  receiveFrame?: number;
  receiveCompressed?: number;
  receiveMulticast?: number;
  transmitBytes: number;
  transmitPackets?: number;
  transmitErrors: number;
  transmitDrops: number;
  transmitFifo?: number;
  transmitCollisions?: number;
  transmitCarrier?: number;
  transmitCompressed?: number;
  /** Counts for the machine's total: hardware, or all but the loopback where there is no hardware. */
  counted: boolean;
}

export interface FileSystem {
  device: string;
  mount: string;
  type: string;
  size: number;
  free: number;
  /** For who is not root. */
  available: number;
  files?: number;
  filesFree?: number;
  readOnly?: boolean;
  /** Counts once, however many mounts show it. */
  counted: boolean;
}

/** Seconds during which some, or all, tasks waited. */
export interface Pressure {
  cpu?: { some: number };
  memory?: { some: number; full: number };
  io?: { some: number; full: number };
}

export interface InfinibandPort {
  device: string;
  port: number;
  receiveBytes: number;
  transmitBytes: number;
}

/** The control group the collector lives in, where it limits or counts. */
export interface Cgroup {
  version: 1 | 2;
  /** We are shown only a part of the machine's groups: what the rest of it does is not ours. */
  container: boolean;
  cpuSeconds?: number;
  /** Cores it may use: quota, cpuset and affinity, the least of them over the path to the root. */
  cpuLimit?: number;
  periods?: number;
  throttledPeriods?: number;
  throttledSeconds?: number;
  memoryUsed?: number;
  /** Bytes it may use, the least over the path to the root; absent: no limit below the machine's memory. */
  memoryLimit?: number;
  /** Used but for what the kernel can drop at once. */
  memoryWorkingSet?: number;
  oomKills?: number;
  readBytes?: number;
  writtenBytes?: number;
  reads?: number;
  writes?: number;
  pressure?: Pressure;
}

export interface MachineReading {
  /** ms since the epoch, taken before the first read. */
  time: number;
  /** ms on a clock that nobody sets; differences are taken of this one. */
  monotonic: number;
  /** ms between two readings, as they are meant to be. */
  interval?: number;
  /** Seconds that each source took to read and parse, by its name. */
  took: Record<string, number>;
  /** Sources that could not be read though the machine has them, with the reason. */
  failed: Record<string, string>;
  /** `each`: readings of each core are asked for. */
  cpu?: { total: CpuTimes; byCore: Map<number, CpuTimes>; each?: boolean };
  /** Of /proc/stat: since boot, but for running and blocked. */
  kernel?: {
    contextSwitches: number;
    interrupts: number;
    forks: number;
    bootTime: number;
    running: number;
    blocked: number;
  };
  /** Fields of /proc/meminfo under their own names, bytes (HugePages_Total and its like: pages). */
  memory?: Map<string, number>;
  /** Fields of /proc/vmstat under their own names. */
  vmstat?: Map<string, number>;
  load?: { one: number; five: number; fifteen: number };
  disks?: Disk[];
  network?: NetworkInterface[];
  fileSystems?: FileSystem[];
  pressure?: Pressure;
  infiniband?: InfinibandPort[];
  cgroup?: Cgroup;
}
