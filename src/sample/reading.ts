/**
 * Every reading that a device, a GPU, a container or a run's processes can have: its unit, how it is drawn and how fine it is
 * stored. A name that leaves this table can no longer be read by name in what is stored: only add.
 */
export type Unit =
  | "ratio"
  | "B"
  | "B/s"
  | "/s"
  | "°C"
  | "W"
  | "J"
  | "MHz"
  | "rpm"
  | "count"
  | "cores"
  | "bits";

/** Whose reading it is: the whole machine's, its container's, one GPU's, or one run's processes'. */
export type Scope = "machine" | "cgroup" | "gpu" | "run";

export interface Reading {
  scopes: readonly Scope[];
  /** Heading of its chart. */
  title: string;
  unit: Unit;
  /** Values are rounded to a multiple of this before they are stored. */
  resolution: number;
  /** The axis always ends here; absent: it follows the values. */
  max?: number;
  /** Readings with the same chart are lines of one chart. */
  chart: string;
  /** What its part names: a disk, a mount point, a network interface, a core, a GPU; absent: it has no parts. */
  part?: "disk" | "mount" | "interface" | "core" | "gpu" | "port";
}

const ratio = { unit: "ratio", resolution: 0.0001, max: 1 } as const;
const bytes = { unit: "B", resolution: 4096 } as const;
const rate = { unit: "B/s", resolution: 1 } as const;
const count = { unit: "count", resolution: 1 } as const;
const machine = { scopes: ["machine"] } as const;
const host = { scopes: ["machine", "cgroup"] } as const;
const gpu = { scopes: ["gpu"] } as const;
const run = { scopes: ["run"] } as const;

export const readings = {
  // cgroup: share of what the container may use.
  "cpu.utilization": { ...host, ...ratio, title: "Processor", chart: "cpu" },
  "cpu.user": { ...machine, ...ratio, title: "User", chart: "cpu.modes" },
  "cpu.system": { ...machine, ...ratio, title: "System", chart: "cpu.modes" },
  "cpu.iowait": { ...machine, ...ratio, title: "Waiting for disks", chart: "cpu.modes" },
  "cpu.steal": { ...machine, ...ratio, title: "Stolen by the hypervisor", chart: "cpu.modes" },
  // The kernel counts a core's time in hundredths of a second; finer digits would be noise, times the number of cores.
  "cpu.core.utilization": {
    ...machine,
    ...ratio,
    resolution: 0.01,
    title: "Cores",
    chart: "cpu.cores",
    part: "core",
  },
  "cpu.cores": {
    scopes: ["cgroup"],
    unit: "cores",
    resolution: 0.001,
    title: "Cores in use",
    chart: "cpu.limit",
  },
  "cpu.limit": {
    scopes: ["cgroup"],
    unit: "cores",
    resolution: 0.001,
    title: "Cores allowed",
    chart: "cpu.limit",
  },
  "cpu.throttled": { scopes: ["cgroup"], ...ratio, title: "Periods throttled", chart: "cpu.throttled" },
  "load.1": { ...machine, unit: "count", resolution: 0.01, title: "Load, 1 min", chart: "load" },
  "load.5": { ...machine, unit: "count", resolution: 0.01, title: "Load, 5 min", chart: "load" },
  "load.15": { ...machine, unit: "count", resolution: 0.01, title: "Load, 15 min", chart: "load" },
  "memory.used": { ...host, ...bytes, title: "Memory used", chart: "memory" },
  // machine: what there is; cgroup: what the container may use.
  "memory.total": { ...host, ...bytes, title: "Memory", chart: "memory" },
  // Of machines that tell shares and no bytes.
  "memory.utilization": { ...machine, ...ratio, title: "Memory in use", chart: "memory.utilization" },
  "memory.available": { ...machine, ...bytes, title: "Memory available", chart: "memory.available" },
  "memory.cached": { ...machine, ...bytes, title: "Page cache", chart: "memory.parts" },
  "memory.shared": { ...machine, ...bytes, title: "Shared memory", chart: "memory.parts" },
  "memory.working_set": { scopes: ["cgroup"], ...bytes, title: "Working set", chart: "memory" },
  "swap.used": { ...machine, ...bytes, title: "Swap used", chart: "swap" },
  "swap.total": { ...machine, ...bytes, title: "Swap", chart: "swap" },
  // Without a part: over all disks, each byte counted once.
  "disk.read": { ...host, ...rate, title: "Read", chart: "disk", part: "disk" },
  "disk.write": { ...host, ...rate, title: "Written", chart: "disk", part: "disk" },
  "disk.read_operations": {
    ...host,
    unit: "/s",
    resolution: 0.01,
    title: "Reads",
    chart: "disk.operations",
    part: "disk",
  },
  "disk.write_operations": {
    ...host,
    unit: "/s",
    resolution: 0.01,
    title: "Writes",
    chart: "disk.operations",
    part: "disk",
  },
  "disk.utilization": {
    ...machine,
    ...ratio,
    title: "Time with I/O under way",
    chart: "disk.utilization",
    part: "disk",
  },
  "filesystem.used": { ...machine, ...bytes, title: "File system used", chart: "filesystem", part: "mount" },
  "filesystem.total": { ...machine, ...bytes, title: "File system", chart: "filesystem", part: "mount" },
  "filesystem.utilization": {
    ...machine,
    ...ratio,
    title: "File system in use",
    chart: "filesystem.utilization",
    part: "mount",
  },
  // Without a part: over all hardware interfaces.
  "network.receive": { ...machine, ...rate, title: "Received", chart: "network", part: "interface" },
  "network.transmit": { ...machine, ...rate, title: "Sent", chart: "network", part: "interface" },
  // Both ways together, of machines that don't tell them apart.
  "network.traffic": { ...machine, ...rate, title: "Received and sent", chart: "network" },
  "network.errors": {
    ...machine,
    unit: "/s",
    resolution: 0.01,
    title: "Network errors",
    chart: "network.errors",
    part: "interface",
  },
  "network.drops": {
    ...machine,
    unit: "/s",
    resolution: 0.01,
    title: "Packets dropped",
    chart: "network.errors",
    part: "interface",
  },
  "infiniband.receive": {
    ...machine,
    ...rate,
    title: "InfiniBand received",
    chart: "infiniband",
    part: "port",
  },
  "infiniband.transmit": { ...machine, ...rate, title: "InfiniBand sent", chart: "infiniband", part: "port" },
  "pressure.cpu": { ...host, ...ratio, title: "Waiting for a processor", chart: "pressure" },
  "pressure.memory": { ...host, ...ratio, title: "Waiting for memory", chart: "pressure" },
  "pressure.io": { ...host, ...ratio, title: "Waiting for I/O", chart: "pressure" },
  "pressure.memory.full": { ...host, ...ratio, title: "All waiting for memory", chart: "pressure.full" },
  "pressure.io.full": { ...host, ...ratio, title: "All waiting for I/O", chart: "pressure.full" },

  "gpu.utilization": { ...gpu, ...ratio, title: "GPU utilization", chart: "gpu.utilization" },
  "gpu.memory.activity": {
    ...gpu,
    ...ratio,
    title: "Memory controller activity",
    chart: "gpu.memory.activity",
  },
  "gpu.memory.used": { ...gpu, ...bytes, title: "GPU memory used", chart: "gpu.memory" },
  "gpu.memory.utilization": {
    ...gpu,
    ...ratio,
    title: "GPU memory in use",
    chart: "gpu.memory.utilization",
  },
  "gpu.memory.reserved": { ...gpu, ...bytes, title: "Reserved by the driver", chart: "gpu.memory.reserved" },
  "gpu.memory.total": { ...gpu, ...bytes, title: "GPU memory", chart: "gpu.memory" },
  "gpu.temperature": {
    ...gpu,
    unit: "°C",
    resolution: 1,
    title: "GPU temperature",
    chart: "gpu.temperature",
  },
  "gpu.memory.temperature": {
    ...gpu,
    unit: "°C",
    resolution: 1,
    title: "GPU memory temperature",
    chart: "gpu.memory.temperature",
  },
  "gpu.power": { ...gpu, unit: "W", resolution: 0.1, title: "GPU power", chart: "gpu.power" },
  "gpu.power.limit": { ...gpu, unit: "W", resolution: 0.1, title: "Power limit", chart: "gpu.power" },
  "gpu.power.utilization": {
    ...gpu,
    ...ratio,
    title: "GPU power, of its limit",
    chart: "gpu.power.utilization",
  },
  // Since the driver was loaded. A run's energy is taken of the counter itself.
  "gpu.energy": { ...gpu, unit: "J", resolution: 0.1, title: "GPU energy", chart: "gpu.energy" },
  "gpu.clock.sm": { ...gpu, unit: "MHz", resolution: 1, title: "SM clock", chart: "gpu.clock.sm" },
  "gpu.clock.memory": {
    ...gpu,
    unit: "MHz",
    resolution: 1,
    title: "GPU memory clock",
    chart: "gpu.clock.memory",
  },
  // 0 the fastest, 15 the slowest.
  "gpu.performance_state": {
    ...gpu,
    ...count,
    max: 15,
    title: "Performance state",
    chart: "gpu.performance_state",
  },
  // NVML's clocks event reasons, as bits.
  "gpu.throttle": { ...gpu, unit: "bits", resolution: 1, title: "Clocks held down", chart: "gpu.throttle" },
  "gpu.fan": { ...gpu, ...ratio, title: "Fan", chart: "gpu.fan" },
  "gpu.encoder": { ...gpu, ...ratio, title: "Encoder", chart: "gpu.codec" },
  "gpu.decoder": { ...gpu, ...ratio, title: "Decoder", chart: "gpu.codec" },
  "gpu.pcie.receive": { ...gpu, ...rate, title: "PCIe received", chart: "gpu.pcie" },
  "gpu.pcie.transmit": { ...gpu, ...rate, title: "PCIe sent", chart: "gpu.pcie" },
  "gpu.nvlink.receive": { ...gpu, ...rate, title: "NVLink received", chart: "gpu.nvlink" },
  "gpu.nvlink.transmit": { ...gpu, ...rate, title: "NVLink sent", chart: "gpu.nvlink" },
  "gpu.pcie.replays": { ...gpu, ...count, title: "PCIe replays", chart: "gpu.pcie.replays" },
  // Since the driver was loaded.
  "gpu.ecc.corrected": { ...gpu, ...count, title: "Memory errors corrected", chart: "gpu.ecc" },
  "gpu.ecc.uncorrected": { ...gpu, ...count, title: "Memory errors uncorrected", chart: "gpu.ecc" },
  // Before Ampere, in the place of rows remapped.
  "gpu.retired_pages": { ...gpu, ...count, title: "Memory pages retired", chart: "gpu.retired_pages" },
  "gpu.remapped_rows.correctable": {
    ...gpu,
    ...count,
    title: "Rows remapped, correctable",
    chart: "gpu.remapped_rows",
  },
  "gpu.remapped_rows.uncorrectable": {
    ...gpu,
    ...count,
    title: "Rows remapped, uncorrectable",
    chart: "gpu.remapped_rows",
  },
  "gpu.remapped_rows.pending": {
    ...gpu,
    ...count,
    max: 1,
    title: "Row remapping pending",
    chart: "gpu.remapped_rows.state",
  },
  "gpu.remapped_rows.failed": {
    ...gpu,
    ...count,
    max: 1,
    title: "Row remapping failed",
    chart: "gpu.remapped_rows.state",
  },
  "gpu.graphics.active": {
    ...gpu,
    ...ratio,
    title: "Graphics or compute engine active",
    chart: "gpu.graphics.active",
  },
  "gpu.sm.active": { ...gpu, ...ratio, title: "SMs active", chart: "gpu.sm.active" },
  "gpu.sm.occupancy": { ...gpu, ...ratio, title: "SM occupancy", chart: "gpu.sm.occupancy" },
  "gpu.tensor.active": { ...gpu, ...ratio, title: "Tensor cores active", chart: "gpu.tensor.active" },
  "gpu.dram.active": { ...gpu, ...ratio, title: "Memory bandwidth in use", chart: "gpu.dram.active" },
  "gpu.fp64.active": { ...gpu, ...ratio, title: "FP64 pipe active", chart: "gpu.fp" },
  "gpu.fp32.active": { ...gpu, ...ratio, title: "FP32 pipe active", chart: "gpu.fp" },
  "gpu.fp16.active": { ...gpu, ...ratio, title: "FP16 pipe active", chart: "gpu.fp" },

  "run.cpu": { ...run, unit: "cores", resolution: 0.001, title: "Cores in use by the run", chart: "run.cpu" },
  // Counts pages shared between its processes once for each.
  "run.memory.rss": { ...run, ...bytes, title: "Resident memory of the run", chart: "run.memory" },
  // Shared pages divided among those who share them.
  "run.memory.pss": {
    ...run,
    ...bytes,
    title: "Memory of the run, shared pages divided",
    chart: "run.memory",
  },
  "run.memory.utilization": {
    ...run,
    ...ratio,
    title: "Run's share of the memory",
    chart: "run.memory.utilization",
  },
  "run.disk.read": { ...run, ...rate, title: "Read by the run", chart: "run.disk" },
  "run.disk.write": { ...run, ...rate, title: "Written by the run", chart: "run.disk" },
  "run.threads": { ...run, ...count, title: "Threads of the run", chart: "run.threads" },
  "run.processes": { ...run, ...count, title: "Processes of the run", chart: "run.processes" },
  "run.gpu.memory": {
    ...run,
    ...bytes,
    title: "GPU memory of the run",
    chart: "run.gpu.memory",
    part: "gpu",
  },
  // The driver's estimate of this run's share.
  "run.gpu.utilization": {
    ...run,
    ...ratio,
    title: "GPU share of the run",
    chart: "run.gpu.utilization",
    part: "gpu",
  },
} as const satisfies Record<string, Reading>;

/**
 * What holds clocks down, as NVML's bits in `gpu.throttle`. Idle, application clocks and display clocks are settings or rest:
 * they hold nothing back that wants to run.
 */
export const throttleReasons = {
  "software power cap": 0x4,
  "hardware slowdown": 0x8,
  "sync boost": 0x10,
  "software thermal slowdown": 0x20,
  "hardware thermal slowdown": 0x40,
  "hardware power brake": 0x80,
} as const;

export type ThrottleReason = keyof typeof throttleReasons;

/** The reasons that a value of `gpu.throttle` holds. Newer drivers set bits above 2^31, which bitwise operators don't see. */
export const throttleNames = (reasons: number): ThrottleReason[] =>
  (Object.keys(throttleReasons) as ThrottleReason[]).filter(
    (name) => (reasons % 2 ** 31) & throttleReasons[name],
  );

export type ReadingName = keyof typeof readings;

/** `disk.read`, or with a part `disk.read@nvme0n1`. */
export type ReadingKey = string;

export const keyOf = (name: ReadingName, part?: string): ReadingKey =>
  part === undefined ? name : `${name}@${part}`;

/** A part may hold any character, a name holds no "@". */
export function splitKey(key: ReadingKey): { name: string; part: string | null } {
  const at = key.indexOf("@");
  return at < 0 ? { name: key, part: null } : { name: key.slice(0, at), part: key.slice(at + 1) };
}

/** What is known of a reading; undefined for one of a newer version. */
export const readingOf = (name: string): Reading | undefined =>
  Object.hasOwn(readings, name) ? readings[name as ReadingName] : undefined;

/** A multiple of the reading's resolution: what the sensor cannot tell is not worth storing. */
export function roundReading(name: string, value: number): number {
  const resolution = readingOf(name)?.resolution ?? 0;
  if (resolution === 0 || !Number.isFinite(value)) return value;
  // 0.0001 and its like have no exact float64, their inverse has: so that 0.9471 stays 0.9471.
  return resolution < 1
    ? Math.round(value * Math.round(1 / resolution)) / Math.round(1 / resolution)
    : Math.round(value / resolution) * resolution;
}

/** A rate is bytes over a second that is known to a millisecond: so many bits of it mean something. */
const RATE_BITS = 10;

/** As it is kept: the live value, without the digits that would cost more bytes than all others and tell nothing. */
export function roundStored(name: string, value: number): number {
  const rounded = roundReading(name, value);
  return readingOf(name)?.unit === "B/s" ? roundBits(rounded, RATE_BITS) : rounded;
}

/** Rounds means of several kept values: a tenth finer than one of them. */
export function meanRounder(name: string): (value: number) => number {
  const reading = readingOf(name);
  if (!reading) return (value) => value;
  const { resolution, unit } = reading;
  if (unit === "B/s") return (value) => roundBits(Math.round(value), RATE_BITS + 1);
  // 4096 bytes in steps of 512: whole bytes of zeros stay.
  if (resolution > 1) return (value) => Math.round(value / (resolution / 8)) * (resolution / 8);
  const scale = Math.round(10 / resolution);
  return (value) => Math.round(value * scale) / scale;
}

function roundBits(value: number, bits: number): number {
  const size = Math.abs(value);
  if (!(size >= 2 ** bits) || !Number.isFinite(value)) return value;
  const unit = 2 ** (Math.floor(Math.log2(size)) - bits + 1);
  return Math.round(value / unit) * unit;
}
