/** What only /metrics serves, under node_exporter's names: links, sockets, the kernel's own tables, and the collector's process. */
import type { KernelTables, Link } from "../machine/tables.ts";
import type { Exposition, Kind } from "./text.ts";

export function exportTables(to: Exposition, tables: KernelTables, bootTime: number | undefined): void {
  exportLinks(to, tables.links ?? []);
  exportSockets(to, tables);
  exportKernelTables(to, tables);
  exportOwnProcess(to, tables, bootTime);
}

function exportLinks(to: Exposition, links: Link[]): void {
  const gauge = (name: string, help: string) => to.family(`node_network_${name}`, "gauge", help);
  const up = gauge("up", "Value is 1 if operstate is 'up', 0 otherwise.");
  const carrier = gauge("carrier", "Network device property: carrier");
  const speed = gauge("speed_bytes", "Network device property: speed_bytes");
  const mtu = gauge("mtu_bytes", "Network device property: mtu_bytes");
  const unhandled = to.family(
    "node_network_receive_nohandler_total",
    "counter",
    "Network device statistic receive_nohandler.",
  );
  const queue = gauge("transmit_queue_length", "Network device property: transmit_queue_length");
  for (const link of links) {
    const labels = { device: link.name };
    up.add(link.up ? 1 : 0, labels);
    carrier.add(link.carrier === undefined ? undefined : link.carrier ? 1 : 0, labels);
    speed.add(link.speed, labels);
    mtu.add(link.mtu, labels);
    queue.add(link.queueLength, labels);
    unhandled.add(link.unhandled, labels);
  }
}

/** What node_exporter takes of netstat and snmp; the whole is some 400 fields. */
const PROTOCOL_FIELDS =
  /^(.*_(InErrors|InErrs)|Ip_Forwarding|IpExt_(InOctets|OutOctets)|Icmp_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab|MaxConn)|Udp_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$/;

const PAGE = 4096;

function exportSockets(to: Exposition, { sockets, protocols }: KernelTables): void {
  for (const [field, value] of sockets ?? []) {
    to.family(`node_sockstat_${field}`, "gauge", `Number of sockets in state ${field}.`).add(value);
    if (field.endsWith("_mem"))
      to.family(`node_sockstat_${field}_bytes`, "gauge", `Bytes of sockets in state ${field}.`).add(
        value * PAGE,
      );
  }
  for (const [field, value] of protocols ?? [])
    if (PROTOCOL_FIELDS.test(field))
      to.family(`node_netstat_${field}`, "untyped", `Statistic ${field}.`).add(value);
}

function exportKernelTables(to: Exposition, tables: KernelTables): void {
  const single = (name: string, help: string, value: number | undefined) =>
    to.family(`node_${name}`, "gauge", help).add(value);
  single("filefd_allocated", "File descriptor statistics: allocated.", tables.files?.allocated);
  single("filefd_maximum", "File descriptor statistics: maximum.", tables.files?.maximum);
  single("entropy_available_bits", "Bits of available entropy.", tables.entropy?.available);
  single("entropy_pool_size_bits", "Bits of entropy pool.", tables.entropy?.poolSize);
  single(
    "nf_conntrack_entries",
    "Number of currently allocated flow entries for connection tracking.",
    tables.connections?.entries,
  );
  single(
    "nf_conntrack_entries_limit",
    "Maximum size of connection tracking table.",
    tables.connections?.limit,
  );
  to.family(
    "node_pressure_irq_stalled_seconds_total",
    "counter",
    "Total time in seconds no process could make progress due to IRQ congestion",
  ).add(tables.interruptStall);
  const arp = to.family("node_arp_entries", "gauge", "ARP entries by device");
  for (const [device, entries] of tables.arp ?? []) arp.add(entries, { device });

  const counter = (name: string, help: string) => to.family(`node_${name}_total`, "counter", help);
  const processed = counter("softnet_processed", "Number of processed packets");
  const dropped = counter("softnet_dropped", "Number of dropped packets");
  const squeezed = counter("softnet_times_squeezed", "Number of times processing packets ran out of quota");
  const steered = counter("softnet_received_rps", "Number of times processor woken up received_rps");
  const limited = counter("softnet_flow_limit_count", "Number of times processor woken up flow_limit_count");
  for (const one of tables.softnet ?? []) {
    const labels = { cpu: one.cpu };
    processed.add(one.processed, labels);
    dropped.add(one.dropped, labels);
    squeezed.add(one.squeezed, labels);
    steered.add(one.steered, labels);
    limited.add(one.flowLimited, labels);
  }
  const running = counter("schedstat_running_seconds", "Number of seconds CPU spent running a process.");
  const waiting = counter(
    "schedstat_waiting_seconds",
    "Number of seconds spent by processing waiting for this CPU.",
  );
  const slices = counter("schedstat_timeslices", "Number of timeslices executed by CPU.");
  for (const one of tables.scheduler ?? []) {
    const labels = { cpu: one.cpu };
    running.add(one.runningSeconds, labels);
    waiting.add(one.waitingSeconds, labels);
    slices.add(one.timeslices, labels);
  }
}

/** Of the collector itself, as every Prometheus client does. */
function exportOwnProcess(to: Exposition, { own }: KernelTables, bootTime: number | undefined): void {
  const single = (name: string, kind: Kind, help: string, value: number | undefined) =>
    to.family(`process_${name}`, kind, help).add(value);
  single("cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", own?.cpuSeconds);
  single("resident_memory_bytes", "gauge", "Resident memory size in bytes.", own?.residentBytes);
  single("virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", own?.virtualBytes);
  single(
    "virtual_memory_max_bytes",
    "gauge",
    "Maximum amount of virtual memory available in bytes.",
    own?.maxVirtualBytes,
  );
  single("open_fds", "gauge", "Number of open file descriptors.", own?.openFiles);
  single("max_fds", "gauge", "Maximum number of open file descriptors.", own?.maxFiles);
  single("threads", "gauge", "Number of threads.", own?.threads);
  single(
    "start_time_seconds",
    "gauge",
    "Start time of the process since unix epoch in seconds.",
    own && bootTime !== undefined ? bootTime + own.startedAfterBoot : undefined,
  );
}
