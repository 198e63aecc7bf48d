/** The machine under node_exporter's names, units and labels, so that its boards and rules work here. */
import { hostname, machine, release, type, version } from "node:os";
import type { CpuTimes, Disk, MachineReading, NetworkInterface } from "../machine/reading.ts";
import type { Exposition, Kind } from "./text.ts";

export function exportMachine(to: Exposition, reading: MachineReading): void {
  exportIdentity(to, reading);
  exportProcessors(to, reading);
  exportMemory(to, reading);
  exportDisks(to, reading.disks ?? []);
  exportFileSystems(to, reading);
  exportNetwork(to, reading);
  exportPressure(to, reading);
}

function exportIdentity(to: Exposition, { time, kernel }: MachineReading): void {
  to.family(
    "node_uname_info",
    "gauge",
    "Labeled system information as provided by the uname system call.",
  ).add(1, {
    sysname: type(),
    release: release(),
    version: version(),
    machine: machine(),
    nodename: hostname(),
    domainname: "(none)",
  });
  to.family("node_time_seconds", "gauge", "System time in seconds since epoch (1970).").add(time / 1000);
  to.family("node_boot_time_seconds", "gauge", "Node boot time, in unixtime.").add(kernel?.bootTime);
}

const modes: [name: string, field: keyof CpuTimes][] = [
  ["user", "user"],
  ["nice", "nice"],
  ["system", "system"],
  ["idle", "idle"],
  ["iowait", "iowait"],
  ["irq", "irq"],
  ["softirq", "softirq"],
  ["steal", "steal"],
];

function exportProcessors(to: Exposition, { cpu, kernel, load }: MachineReading): void {
  const seconds = to.family("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode.");
  const guest = to.family(
    "node_cpu_guest_seconds_total",
    "counter",
    "Seconds the CPUs spent in guests (VMs) for each mode.",
  );
  for (const [number, times] of cpu?.byCore ?? []) {
    for (const [mode, field] of modes) seconds.add(times[field], { cpu: number, mode });
    guest.add(times.guest, { cpu: number, mode: "user" });
    guest.add(times.guestNice, { cpu: number, mode: "nice" });
  }
  const single = (name: string, kind: Kind, help: string, value: number | undefined) =>
    to.family(name, kind, help).add(value);
  single("node_load1", "gauge", "1m load average.", load?.one);
  single("node_load5", "gauge", "5m load average.", load?.five);
  single("node_load15", "gauge", "15m load average.", load?.fifteen);
  single(
    "node_context_switches_total",
    "counter",
    "Total number of context switches.",
    kernel?.contextSwitches,
  );
  single("node_intr_total", "counter", "Total number of interrupts serviced.", kernel?.interrupts);
  single("node_forks_total", "counter", "Total number of forks.", kernel?.forks);
  single("node_procs_running", "gauge", "Number of processes in runnable state.", kernel?.running);
  single(
    "node_procs_blocked",
    "gauge",
    "Number of processes blocked waiting for I/O to complete.",
    kernel?.blocked,
  );
}

/** Fields that count pages or reservations, not bytes. */
const COUNTED_FIELDS = /^HugePages_/;
/** What node_exporter takes of /proc/vmstat. */
const VMSTAT_FIELDS = /^(oom_kill|pgpg|pswp|pg.*fault)/;

function exportMemory(to: Exposition, { memory, vmstat }: MachineReading): void {
  for (const [field, value] of memory ?? []) {
    // "Active(anon)" is Active_anon.
    const name = field.replace(/\((.*)\)/, "_$1");
    const unit = COUNTED_FIELDS.test(field) ? "" : "_bytes";
    to.family(`node_memory_${name}${unit}`, "gauge", `Memory information field ${name}${unit}.`).add(value);
  }
  for (const [field, value] of vmstat ?? [])
    if (VMSTAT_FIELDS.test(field))
      to.family(`node_vmstat_${field}`, "untyped", `/proc/vmstat information field ${field}.`).add(value);
}

const diskFamilies: [name: string, kind: Kind, help: string, of: (disk: Disk) => number | undefined][] = [
  [
    "node_disk_reads_completed_total",
    "counter",
    "The total number of reads completed successfully.",
    (disk) => disk.reads,
  ],
  [
    "node_disk_reads_merged_total",
    "counter",
    "The total number of reads merged.",
    (disk) => disk.readsMerged,
  ],
  [
    "node_disk_read_bytes_total",
    "counter",
    "The total number of bytes read successfully.",
    (disk) => disk.readBytes,
  ],
  [
    "node_disk_read_time_seconds_total",
    "counter",
    "The total number of seconds spent by all reads.",
    (disk) => disk.readSeconds,
  ],
  [
    "node_disk_writes_completed_total",
    "counter",
    "The total number of writes completed successfully.",
    (disk) => disk.writes,
  ],
  ["node_disk_writes_merged_total", "counter", "The number of writes merged.", (disk) => disk.writesMerged],
  [
    "node_disk_written_bytes_total",
    "counter",
    "The total number of bytes written successfully.",
    (disk) => disk.writtenBytes,
  ],
  [
    "node_disk_write_time_seconds_total",
    "counter",
    "This is the total number of seconds spent by all writes.",
    (disk) => disk.writeSeconds,
  ],
  ["node_disk_io_now", "gauge", "The number of I/Os currently in progress.", (disk) => disk.inFlight],
  ["node_disk_io_time_seconds_total", "counter", "Total seconds spent doing I/Os.", (disk) => disk.ioSeconds],
  [
    "node_disk_io_time_weighted_seconds_total",
    "counter",
    "The weighted # of seconds spent doing I/Os.",
    (disk) => disk.ioWeightedSeconds,
  ],
  [
    "node_disk_discards_completed_total",
    "counter",
    "The total number of discards completed successfully.",
    (disk) => disk.discards,
  ],
  [
    "node_disk_discards_merged_total",
    "counter",
    "The total number of discards merged.",
    (disk) => disk.discardsMerged,
  ],
  [
    "node_disk_discarded_sectors_total",
    "counter",
    "The total number of sectors discarded successfully.",
    // The kernel's sectors are of 512 bytes, whatever the disk's are.
    (disk) => (disk.discardedBytes === undefined ? undefined : disk.discardedBytes / 512),
  ],
  [
    "node_disk_discard_time_seconds_total",
    "counter",
    "This is the total number of seconds spent by all discards.",
    (disk) => disk.discardSeconds,
  ],
  [
    "node_disk_flush_requests_total",
    "counter",
    "The total number of flush requests completed successfully",
    (disk) => disk.flushes,
  ],
  [
    "node_disk_flush_requests_time_seconds_total",
    "counter",
    "This is the total number of seconds spent by all flush requests.",
    (disk) => disk.flushSeconds,
  ],
];

/** Every one of them: only a run's totals count each byte once. */
function exportDisks(to: Exposition, disks: Disk[]): void {
  for (const [name, kind, help, of] of diskFamilies) {
    const family = to.family(name, kind, help);
    for (const disk of disks) family.add(of(disk), { device: disk.name });
  }
}

function exportFileSystems(to: Exposition, { fileSystems = [] }: MachineReading): void {
  const gauge = (name: string, help: string) => to.family(`node_filesystem_${name}`, "gauge", help);
  const size = gauge("size_bytes", "Filesystem size in bytes.");
  const free = gauge("free_bytes", "Filesystem free space in bytes.");
  const available = gauge("avail_bytes", "Filesystem space available to non-root users in bytes.");
  const files = gauge("files", "Filesystem total file nodes.");
  const filesFree = gauge("files_free", "Filesystem total free file nodes.");
  const readOnly = gauge("readonly", "Filesystem read-only status.");
  const error = gauge(
    "device_error",
    "Whether an error occurred while getting statistics for the given device.",
  );
  for (const system of fileSystems) {
    const labels = {
      device: system.device,
      mountpoint: system.mount,
      fstype: system.type,
      device_error: "",
    };
    size.add(system.size, labels);
    free.add(system.free, labels);
    available.add(system.available, labels);
    files.add(system.files, labels);
    filesFree.add(system.filesFree, labels);
    readOnly.add(system.readOnly ? 1 : 0, labels);
    // One that fails is not among them.
    error.add(0, labels);
  }
}

const interfaceFamilies: [name: string, of: (one: NetworkInterface) => number | undefined][] = [
  ["receive_bytes", (one) => one.receiveBytes],
  ["receive_packets", (one) => one.receivePackets],
  ["receive_errs", (one) => one.receiveErrors],
  ["receive_drop", (one) => one.receiveDrops],
  ["receive_fifo", (one) => one.receiveFifo],
  ["receive_frame", (one) => one.receiveFrame],
  ["receive_compressed", (one) => one.receiveCompressed],
  ["receive_multicast", (one) => one.receiveMulticast],
  ["transmit_bytes", (one) => one.transmitBytes],
  ["transmit_packets", (one) => one.transmitPackets],
  ["transmit_errs", (one) => one.transmitErrors],
  ["transmit_drop", (one) => one.transmitDrops],
  ["transmit_fifo", (one) => one.transmitFifo],
  ["transmit_colls", (one) => one.transmitCollisions],
  ["transmit_carrier", (one) => one.transmitCarrier],
  ["transmit_compressed", (one) => one.transmitCompressed],
];

function exportNetwork(to: Exposition, { network = [], infiniband = [] }: MachineReading): void {
  for (const [name, of] of interfaceFamilies) {
    const family = to.family(`node_network_${name}_total`, "counter", `Network device statistic ${name}.`);
    for (const one of network) family.add(of(one), { device: one.name });
  }
  const received = to.family(
    "node_infiniband_port_data_received_bytes_total",
    "counter",
    "Number of data octets received on all links",
  );
  const transmitted = to.family(
    "node_infiniband_port_data_transmitted_bytes_total",
    "counter",
    "Number of data octets transmitted on all links",
  );
  for (const { device, port, receiveBytes, transmitBytes } of infiniband) {
    received.add(receiveBytes, { device, port });
    transmitted.add(transmitBytes, { device, port });
  }
}

function exportPressure(to: Exposition, { pressure }: MachineReading): void {
  const stall = (name: string, help: string, value: number | undefined) =>
    to.family(`node_pressure_${name}_seconds_total`, "counter", help).add(value);
  stall("cpu_waiting", "Total time in seconds that processes have waited for CPU time", pressure?.cpu?.some);
  stall(
    "memory_waiting",
    "Total time in seconds that processes have waited for memory",
    pressure?.memory?.some,
  );
  stall(
    "memory_stalled",
    "Total time in seconds no process could make progress due to memory congestion",
    pressure?.memory?.full,
  );
  stall(
    "io_waiting",
    "Total time in seconds that processes have waited due to IO congestion",
    pressure?.io?.some,
  );
  stall(
    "io_stalled",
    "Total time in seconds no process could make progress due to IO congestion",
    pressure?.io?.full,
  );
}
