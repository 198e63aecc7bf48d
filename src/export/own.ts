/** What only binnacle has to say, and how fresh everything else is. */
import { splitKey, type ReadingName } from "../sample/reading.ts";
import { isReading, type GpuReader } from "../device/schema.ts";
import type { Cgroup, MachineReading } from "../machine/reading.ts";
import type { KernelTables } from "../machine/tables.ts";
import type { Relays } from "../relay/relay.ts";
import { RelayState, type Relay } from "../relay/schema.ts";
import type { RunCount } from "../run/count.ts";
import { RunStatus } from "../run/schema.ts";
import type { QuotaStatus } from "../store/quota.ts";
import { VERSION } from "../version.ts";
import { labelsOf, type GpuState } from "./dcgm.ts";
import type { PresentValues } from "./present.ts";
import type { Exposition, Kind } from "./text.ts";

export function exportCollector(to: Exposition, runs: readonly RunCount[], quota: QuotaStatus): void {
  to.family("binnacle_build_info", "gauge", "The version that answers.").add(1, { version: VERSION });
  const counts = to.family("binnacle_runs", "gauge", "Runs there are, by status.");
  for (const status of RunStatus.options) {
    const count = runs.filter((one) => one.status === status).reduce((sum, one) => sum + one.count, 0);
    counts.add(count, { status });
  }
  to.family("binnacle_store_used_bytes", "gauge", "Bytes of everything stored.").add(quota.usedBytes);
  to.family("binnacle_store_free_bytes", "gauge", "Free bytes of the disk with the data folder.").add(
    // Not looked at yet.
    Number.isFinite(quota.freeBytes) ? quota.freeBytes : undefined,
  );
  to.family("binnacle_store_refusing", "gauge", "1 while records and logs are refused for want of room.").add(
    quota.refusing === null ? 0 : 1,
  );
}

/** How far each destination is behind, and why. */
export function exportRelays(
  to: Exposition,
  relays: readonly Relay[],
  { totals: totalsOf, dropped: droppedOf }: Pick<Relays, "totals" | "dropped">,
  now: number,
): void {
  if (relays.length === 0) return;
  const gauge = (name: string, help: string) => to.family(`binnacle_relay_${name}`, "gauge", help);
  const counter = (name: string, help: string) => to.family(`binnacle_relay_${name}`, "counter", help);
  const entries = gauge("backlog_entries", "Entries of the journal that have not arrived.");
  const bytes = gauge("backlog_bytes", "Their bytes, as stored.");
  const oldest = gauge("oldest_seconds", "Age of the oldest of them; 0 where all has arrived.");
  const state = gauge("state", "How the destination fares: 1 for the state it is in.");
  const entryRate = gauge("entries_per_second", "Entries that arrive, over the last seconds.");
  const byteRate = gauge("bytes_per_second", "Their bytes, as stored.");
  const acked = counter("acked_entries_total", "Entries that have arrived since the start.");
  const errors = counter("errors_total", "Attempts that failed since the start.");
  const letters = gauge("dead_letters", "Entries that the destination refused for good, and that are kept.");
  const dropped = counter("dropped_records_total", "Records that will never arrive, by reason.");
  const files = gauge("content_files", "Files that are still to be sent.");
  for (const relay of relays) {
    const { name, backlog, rate, content } = relay;
    const labels = { destination: name };
    const totals = totalsOf(name);
    entries.add(backlog.entries, labels);
    bytes.add(backlog.bytes ?? undefined, labels);
    oldest.add(
      backlog.oldest !== null
        ? Math.max(0, now - Date.parse(backlog.oldest)) / 1000
        : backlog.entries === 0
          ? 0
          : undefined,
      labels,
    );
    for (const one of RelayState.options)
      state.add(one === relay.state ? 1 : 0, { destination: name, state: one });
    entryRate.add(rate?.entries ?? 0, labels);
    byteRate.add(rate?.bytes ?? 0, labels);
    acked.add(totals.entries, labels);
    errors.add(totals.errors, labels);
    letters.add(relay.dead_letters, labels);
    for (const [reason, records] of droppedOf(name)) dropped.add(records, { destination: name, reason });
    files.add(content?.files ?? undefined, labels);
  }
}

/** What a source of samples has to say of itself. */
export interface Source {
  name: string;
  /** ms since the epoch. */
  time: number;
  /** Seconds. */
  took: number;
}

/** A source that stands still must look different from a machine at rest. */
export function exportSources(to: Exposition, sources: readonly Source[]): void {
  const time = to.family(
    "binnacle_last_sample_timestamp_seconds",
    "gauge",
    "When what is shown here was read, in seconds since the epoch.",
  );
  const took = to.family("binnacle_sample_seconds", "gauge", "How long reading it took.");
  for (const source of sources) {
    time.add(source.time / 1000, { source: source.name });
    took.add(source.took, { source: source.name });
  }
}

/** The parts of a machine's sample; to node_exporter they are collectors. */
export function exportCollectors(
  to: Exposition,
  { took, failed }: MachineReading,
  tables: KernelTables | undefined,
): void {
  const duration = to.family(
    "node_scrape_collector_duration_seconds",
    "gauge",
    "Duration of a collector's last reading.",
  );
  const success = to.family("node_scrape_collector_success", "gauge", "Whether a collector succeeded.");
  const reason = to.family(
    "binnacle_source_failed",
    "gauge",
    "Sources that could not be read though the machine has them, with the reason.",
  );
  for (const [collector, seconds] of Object.entries(took)) {
    duration.add(seconds, { collector });
    success.add(Object.hasOwn(failed, collector) ? 0 : 1, { collector });
  }
  for (const [source, why] of Object.entries(failed)) {
    success.add(0, { collector: source });
    reason.add(1, { source, reason: why });
  }
  if (tables === undefined) return;
  duration.add(tables.took, { collector: "tables" });
  success.add(1, { collector: "tables" });
}

export function exportGpuReader(to: Exposition, reader: GpuReader, gpus: readonly GpuState[]): void {
  to.family(
    "binnacle_gpu_reader_status",
    "gauge",
    "How the reader of the GPUs fares: always 1, with its status and the reason for it.",
  ).add(1, { status: reader.status, reason: reader.reason ?? "" });
  to.family("binnacle_gpu_reader_up", "gauge", "1 while GPUs can be read.").add(isReading(reader) ? 1 : 0);
  if (reader.driver !== null)
    to.family("binnacle_gpu_driver_info", "gauge", "NVIDIA's driver.").add(1, {
      driver: reader.driver,
      cuda: reader.cuda ?? "",
    });
  const lost = to.family("binnacle_gpu_lost", "gauge", "1 for a GPU that does not answer any more.");
  const state = to.family(
    "binnacle_gpu_reading_state",
    "gauge",
    "Readings of a GPU that have no value now: always 1, with the state and the reason for it.",
  );
  for (const { gpu, whole } of gpus) {
    const { gpu: index, UUID, mig_uuid } = labelsOf(gpu, whole);
    const labels = { gpu: index!, UUID: UUID!, ...(mig_uuid !== undefined && { mig_uuid }) };
    lost.add(gpu.lost ? 1 : 0, labels);
    for (const [reading, { state: name, reason }] of Object.entries(gpu.states))
      if (name !== "ok") state.add(1, { ...labels, reading, state: name, reason });
  }
}

const runFamilies: [reading: ReadingName, name: string, help: string][] = [
  ["run.cpu", "cpu_cores", "Cores that the run's processes use."],
  [
    "run.memory.rss",
    "memory_rss_bytes",
    "Resident memory of the run's processes; shared pages count once for each.",
  ],
  [
    "run.memory.pss",
    "memory_pss_bytes",
    "Memory of the run's processes, shared pages divided among those who share them.",
  ],
  ["run.disk.read", "disk_read_bytes_per_second", "What the run's processes read from disks."],
  ["run.disk.write", "disk_written_bytes_per_second", "What the run's processes write to disks."],
  ["run.threads", "threads", "Threads of the run's processes."],
  ["run.processes", "processes", "Processes of the run."],
  ["run.gpu.memory", "gpu_memory_bytes", "GPU memory of the run's processes."],
  ["run.gpu.utilization", "gpu_utilization_ratio", "The driver's estimate of the run's share of a GPU."],
];

export function exportRuns(to: Exposition, runs: ReadonlyMap<string, PresentValues>): void {
  for (const [reading, name, help] of runFamilies) {
    const family = to.family(`binnacle_run_${name}`, "gauge", help);
    for (const [run, values] of runs)
      for (const [key, value] of values) {
        const { name: read, part } = splitKey(key);
        if (read !== reading) continue;
        family.add(value, { run_id: run, ...(part !== null && { UUID: part }) });
      }
  }
}

const cgroupFamilies: [name: string, kind: Kind, help: string, of: (group: Cgroup) => number | undefined][] =
  [
    ["cpu_seconds_total", "counter", "Processor time used.", (group) => group.cpuSeconds],
    ["cpu_limit_cores", "gauge", "Cores it may use.", (group) => group.cpuLimit],
    ["cpu_periods_total", "counter", "Scheduling periods.", (group) => group.periods],
    [
      "cpu_throttled_periods_total",
      "counter",
      "Scheduling periods in which it was held back.",
      (group) => group.throttledPeriods,
    ],
    [
      "cpu_throttled_seconds_total",
      "counter",
      "Time for which it was held back.",
      (group) => group.throttledSeconds,
    ],
    ["memory_used_bytes", "gauge", "Memory used, page cache included.", (group) => group.memoryUsed],
    [
      "memory_working_set_bytes",
      "gauge",
      "Memory used but for what the kernel can drop at once.",
      (group) => group.memoryWorkingSet,
    ],
    ["memory_limit_bytes", "gauge", "Memory it may use.", (group) => group.memoryLimit],
    ["oom_kills_total", "counter", "Processes killed for want of memory.", (group) => group.oomKills],
    ["disk_read_bytes_total", "counter", "Bytes read from disks.", (group) => group.readBytes],
    ["disk_written_bytes_total", "counter", "Bytes written to disks.", (group) => group.writtenBytes],
  ];

/** The control group in which the collector lives: in a container, what node_* does not tell. */
export function exportCgroup(to: Exposition, { cgroup }: MachineReading): void {
  if (!cgroup) return;
  for (const [name, kind, help, of] of cgroupFamilies)
    to.family(`binnacle_cgroup_${name}`, kind, `${help} Of the collector's control group.`).add(of(cgroup));
}
