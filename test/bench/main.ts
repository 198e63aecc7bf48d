/**
 * `bun run bench [--only NAME] [--repetitions N] [--seconds N] [--quick] [--peers]`: our figures, each beside what it is held
 * against in the same run; medians, with the processor time that was stolen from this machine meanwhile.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { archive } from "./archive.ts";
import { fedmlConfigs, fedmlLogs } from "./fedml-http.ts";
import { fedmlMqtt, measureMosquitto } from "./fedml.ts";
import { largeFile, measureFilePeers, smallFiles } from "./files.ts";
import { collector, machineSampler, RUN_PROCESSES, trainingStep } from "./hardware.ts";
import * as measures from "./measures.ts";
import type { Figures } from "./measures.ts";
import { measurePeers } from "./peers.ts";
import { measurePython } from "./python.ts";
import { measureRelayPeer } from "./relay-peer.ts";
import { relaySources } from "./relay-sources.ts";
import { backlog, relay, relayHistory, relayLatency, relayWire } from "./relay.ts";
import { sampleBytes, sampleWeek } from "./samples.ts";
import { format, medians, stealJiffies } from "./statistics.ts";
import { measureStored } from "./stored.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    repetitions: { type: "string", default: "5" },
    seconds: { type: "string", default: "6" },
    quick: { type: "boolean", default: false },
    peers: { type: "boolean", default: false },
  },
});

const options: measures.Options = {
  seconds: values.quick ? 2 : Number(values.seconds),
  repetitions: values.quick ? 1 : Number(values.repetitions),
  million: values.quick ? 100_000 : 1_000_000,
  peers: values.peers,
};

const all = {
  ingest: measures.ingest,
  requests: measures.requests,
  chart: measures.chart,
  overlay: measures.overlay,
  bytes: measures.bytes,
  python: measurePython,
  memory: measures.memory,
  startup: measures.startup,
  samples: sampleBytes,
  week: sampleWeek,
  sampler: machineSampler,
  hardware: collector,
  training: trainingStep,
  stored: measureStored,
  largeFile,
  smallFiles,
  archive,
  relay,
  backlog,
  relayHistory,
  relayWire,
  relayLatency,
  relaySources,
  fedmlMqtt,
  fedmlConfigs,
  fedmlLogs,
};
/** Minutes each: taken once. */
const once = new Set([
  "bytes",
  "memory",
  "samples",
  "week",
  "hardware",
  "training",
  "stored",
  "largeFile",
  "archive",
  "backlog",
  "relayHistory",
  "relayWire",
  "relayLatency",
  "relaySources",
]);
const isWanted = (name: string) => !values.only || values.only.split(",").includes(name);

const ours: Record<string, Figures & { steal: number }> = {};
for (const [name, measure] of Object.entries(all)) {
  if (!isWanted(name)) continue;
  try {
    ours[name] = await repeat(name, measure);
  } catch (error) {
    // One measure that fails must not cost the others their figures.
    console.error(`${name} failed:`, error);
    process.exitCode = 1;
  }
}
const others = ["ingest", "requests", "chart", "overlay", "python"];
const peers: Record<string, Figures> = {
  ...(values.peers && ["largeFile", "smallFiles"].some(isWanted)
    ? await measureFilePeers(options).catch(withoutIt)
    : {}),
  ...(values.peers && ["relay", "relayWire"].some(isWanted)
    ? await measureRelayPeer(options).catch(withoutIt)
    : {}),
  ...(values.peers && isWanted("fedmlMqtt") ? await measureMosquitto(options).catch(withoutIt) : {}),
  ...(values.peers && others.some(isWanted) ? await measurePeers(options).catch(withoutIt) : {}),
};
print();

/** A peer that does not start must not cost us our own figures. */
function withoutIt(error: unknown): Record<string, Figures> {
  console.error("a peer failed:", error);
  process.exitCode = 1;
  return {};
}

async function repeat(name: string, measure: (options: measures.Options) => Promise<Figures>) {
  const before = stealJiffies();
  const repetitions: Figures[] = [];
  const count = once.has(name) ? 1 : options.repetitions;
  for (let index = 0; index < count; index++) {
    console.error(`${name} ${index + 1}/${count} …`);
    repetitions.push(await measure(options));
  }
  const steal = stealJiffies() - before;
  return { ...medians(repetitions), steal } as Figures & { steal: number };
}

function print(): void {
  const table: string[][] = [["measure", "ours", "reference", "ratio", "reach", "steal"]];
  const row = (
    group: string,
    name: string,
    unit: string,
    {
      figure,
      reference,
      by,
      inverse = false,
      reach = "",
    }: {
      figure: string;
      reference?: number | undefined;
      by?: string;
      inverse?: boolean;
      reach?: string;
    },
  ) => {
    const value = ours[group]?.[figure];
    if (value === undefined) return;
    const ratio =
      reference === undefined ? "" : `${format(inverse ? reference / value : value / reference)}×`;
    table.push([
      name,
      `${format(value)} ${unit}`,
      reference === undefined ? "" : `${format(reference)} ${unit} (${by})`,
      ratio,
      reach,
      String(ours[group]!.steal),
    ]);
  };
  row("ingest", "ingest, batches of 1,000 × 10", "points/s", {
    figure: "points",
    reference: ours.ingest?.rowStore,
    by: "row a point",
    reach: "≥ 8×",
  });
  row("ingest", "", "points/s", {
    figure: "points",
    reference: peers.trackio?.points,
    by: "trackio",
    reach: "≥ 25×",
  });
  row("ingest", "", "points/s", { figure: "points", reference: peers.mlflow?.points, by: "MLflow" });
  row("ingest", "  p99 of a batch", "ms", { figure: "p99" });
  row("requests", "requests of one record, 64 connections", "/s", {
    figure: "requests",
    reference: peers.trackio?.requests,
    by: "trackio",
    reach: "≥ 150×",
  });
  row("requests", "", "/s", { figure: "requests", reference: peers.mlflow?.requests, by: "MLflow" });
  row("requests", "  p50", "ms", { figure: "p50" });
  row("requests", "  p99", "ms", { figure: "p99", reach: "< 25 ms" });
  row("chart", "chart of 1 M points, 1,000 buckets", "ms", {
    figure: "oneP50",
    reference: peers.tensorboard?.p50,
    by: "TensorBoard",
    inverse: true,
    reach: "≥ 8×",
  });
  row("chart", "chart of 10 M points", "ms", {
    figure: "tenP50",
    reference: ours.chart?.oneP50,
    by: "1 M",
    reach: "≤ 2×",
  });
  row("overlay", "overlay of 50 × 5 × 2,000", "ms", {
    figure: "p50",
    reference: peers.trackio?.overlayP50,
    by: "trackio",
    inverse: true,
    reach: "≥ 25×",
  });
  row("overlay", "  size", "bytes", { figure: "bytes", reach: "≤ 1 MB" });
  row("bytes", "noisy float64 with step and time", "bytes/point", { figure: "noisy", reach: "≤ 8" });
  row("bytes", "gauge", "bytes/point", { figure: "gauge", reach: "≤ 1" });
  row("python", "Python log(), p50", "µs", {
    figure: "p50",
    reference: peers.trackioLog?.p50,
    by: "trackio",
    reach: "≤ 1×",
  });
  row("python", "  p99.99, hung collector", "µs", { figure: "hungP9999", reach: "≤ 5,000 µs" });
  row("python", "  longest, hung collector", "µs", {
    figure: "hungMax",
    reference: ours.python?.hungEmptyMax,
    by: "empty append",
  });
  row("python", "  import", "ms", { figure: "importMs", reach: "≤ 50 ms" });
  row("memory", "memory at 1 M points/s, peak", "MiB", { figure: "peak", reach: "≤ 200" });
  row("memory", "  rate reached", "points/s", { figure: "rate" });
  row("memory", "idle: memory", "MiB", { figure: "idleMemory", reach: "≤ 100" });
  row("memory", "idle: processor", "% of a core", { figure: "idleCpu", reach: "≤ 0.5" });
  row("startup", "start until it answers, empty", "ms", { figure: "empty", reach: "≤ 300" });
  row("samples", "hardware samples, 20 readings of a GPU", "bytes/point", { figure: "gpu", reach: "≤ 3" });
  row("samples", "  about 50 readings of a machine", "bytes/point", { figure: "machine", reach: "≤ 3" });
  row("week", "a week of 8 GPUs × 20 readings, first look", "ms", { figure: "first", reach: "≤ 100 ms" });
  row("week", "  again", "ms", { figure: "p50" });
  row("week", "  again, processor time", "ms", { figure: "cpu" });
  row("sampler", "machine's sampler at 1 Hz", "% of a core", { figure: "core", reach: "≤ 0.1" });
  row("hardware", "reader of 8 GPUs at 1 Hz", "% of a core", { figure: "reader", reach: "≤ 1" });
  row("hardware", "  memory", "MB", { figure: "readerMemory", reach: "≤ 50" });
  row("hardware", "  memory, shared pages divided", "MB", { figure: "readerShare" });
  row("hardware", `collector with both, a launched run of ${RUN_PROCESSES} processes live`, "% of a core", {
    figure: "core",
    reach: "≤ 1",
  });
  row("hardware", "  memory", "MB", { figure: "memory", reach: "≤ 150" });
  row("hardware", "  memory, shared pages divided", "MB", { figure: "share" });
  const exporters = [
    ["nodeExporter", "node_exporter beside it, scraped alike"],
    ["nvitop", "nvitop-exporter beside it, at 1 Hz, scraped alike"],
  ] as const;
  const there = exporters.filter(([peer]) => ours.hardware?.[`${peer}Core`] !== undefined);
  const beside = there.length > 0 ? there : [["none", ""] as const];
  for (const [index, [peer, by]] of beside.entries())
    row("hardware", index === 0 ? "  scraped at 1 Hz" : "", "% of a core", {
      figure: "scraped",
      reference: ours.hardware?.[`${peer}Core`],
      by,
    });
  for (const [index, [peer, by]] of beside.entries())
    row("hardware", index === 0 ? "  scraped: memory" : "", "MB", {
      figure: "scrapedMemory",
      reference: ours.hardware?.[`${peer}Memory`],
      by,
      reach: "≤ 150",
    });
  row("hardware", `  age of what ${ours.hardware?.scrapes} scrapes showed, p99`, "s", {
    figure: "ageP99",
    reach: "< 2",
  });
  row("training", "training step beside no recording", "ms", { figure: "step" });
  row("training", "  beside it, slower by", "%", { figure: "slower", reach: "0 between the next two" });
  row("training", "  least, with 95 %", "%", { figure: "lower" });
  row("training", "  most", "%", { figure: "upper" });
  row("training", "  its processor time", "%", { figure: "processor" });
  row("stored", `start with ${ours.stored ? format(ours.stored.gigabytes!) : ""} GB stored`, "ms", {
    figure: "start",
    reach: "≤ 1,000",
  });
  row("largeFile", "upload of 1 GB, command line over loopback", "MB/s", {
    figure: "rate",
    reference: ours.largeFile?.copy,
    by: "cp, then sha256sum",
    reach: "≥ 0.7×",
  });
  row("largeFile", "", "MB/s", { figure: "rate", reference: peers.mlflowFiles?.rate, by: "MLflow" });
  row("largeFile", "  median of the rounds' ratios", "×", { figure: "ratio", reach: "≥ 0.7" });
  row("largeFile", "  collector's memory, peak", "MiB", { figure: "peak", reach: "≤ 143" });
  row("largeFile", "  a second time: bytes sent", "bytes", { figure: "again", reach: "< 1 MB" });
  row("smallFiles", "10,000 small files as one artifact", "files/s", {
    figure: "rate",
    reference: peers.mlflowFiles?.small,
    by: "MLflow",
    reach: "≥ 1,000",
  });
  row("smallFiles", "  a second time", "files/s", { figure: "again" });
  row("smallFiles", "  fetched again, command line over loopback", "files/s", { figure: "fetched" });
  row("smallFiles", "  collector's memory, peak", "MiB", { figure: "peak", reach: "≤ 143" });
  row("archive", "export of a run of 10 M points", "points/s", { figure: "exportRate" });
  row("archive", "  longest that another request waits", "ms", { figure: "exportHold", reach: "≤ 100" });
  row("archive", "  p99", "ms", { figure: "exportP99" });
  row("archive", "  collector's memory, peak", "MiB", { figure: "exportPeak", reach: "≤ 200" });
  row("archive", "  size", "bytes/point", { figure: "bytes" });
  row("archive", "its import", "points/s", { figure: "importRate" });
  row("archive", "  longest that another request waits", "ms", { figure: "importHold", reach: "≤ 100" });
  row("archive", "  p99", "ms", { figure: "importP99" });
  row("archive", "  collector's memory, peak", "MiB", { figure: "importPeak", reach: "≤ 200" });
  const otel = { by: "OpenTelemetry Collector, queue in a file with fsync; its sink stores nothing" };
  row("relay", "relay while records come, until they are stored there", "points/s", {
    figure: "rate",
    reference: peers.otel?.rate,
    ...otel,
    reach: "≥ 600,000",
  });
  row("relay", "", "points/s", {
    figure: "rate",
    reference: peers.otelUnsynced?.rate,
    by: "the same without fsync, as it comes",
  });
  row("relay", "  the last ones come later by", "s", { figure: "lag" });
  row("relay", "  collector's memory, peak", "MiB", {
    figure: "collectorPeak",
    reference: peers.otel?.memory,
    ...otel,
    inverse: true,
  });
  row("relay", "  platform's memory, peak", "MiB", { figure: "platformPeak" });
  row("relay", "  collector's processor time", "s per 1 M points", {
    figure: "collectorCpu",
    reference: peers.otel?.cpu,
    ...otel,
    inverse: true,
  });
  row("relay", "  platform's", "s per 1 M points", { figure: "platformCpu" });
  for (const [group, name] of [
    ["backlog", "backlog of 10 M points"],
    ["relayHistory", "10 M points by history"],
  ] as const) {
    row(group, name, "points/s", { figure: "rate", reach: "≥ 600,000" });
    row(group, "  collector's memory, peak", "MiB", { figure: "collectorPeak", reach: "≤ 190" });
    row(group, "  before it", "MiB", { figure: "filled" });
    row(group, "  platform's memory, peak", "MiB", { figure: "platformPeak", reach: "≤ 190" });
  }
  row("relayWire", "relay, batches of 1,000 × 10", "bytes/point", {
    figure: "batches",
    reference: peers.otel?.bytes,
    by: "OpenTelemetry Collector, bodies alone",
    inverse: true,
    reach: "≤ 8",
  });
  row("relayWire", "  requests of one record × 10, 64 connections", "bytes/point", {
    figure: "singles",
    reach: "≤ 8",
  });
  row("relayLatency", "a record alone, until the platform has it, p50", "ms", { figure: "p50" });
  row("relayLatency", "  p99", "ms", { figure: "p99", reach: "≤ 50" });
  row("relayLatency", "  of it until the collector has it, p50", "ms", { figure: "ownP50" });
  row("relayLatency", "  of it until the collector has it, p99", "ms", { figure: "ownP99" });
  row("relaySources", "1,000 sources connected, platform's memory", "MiB", {
    figure: "peak",
    reach: "≤ 300",
  });
  row("relaySources", "  before them", "MiB", { figure: "empty" });
  row("relaySources", "  processor", "% of a core", { figure: "core" });

  const mosquitto = { by: "Mosquitto, merely acknowledging" };
  row("fedmlMqtt", "FedML's MQTT, 32 clients, QoS 2, durable", "messages/s", {
    figure: "messages",
    reference: peers.mosquitto?.messages,
    ...mosquitto,
    reach: "≥ 5,000",
  });
  row("fedmlMqtt", "  PUBLISH to PUBREC, p50", "ms", {
    figure: "p50",
    reference: peers.mosquitto?.p50,
    ...mosquitto,
    inverse: true,
  });
  row("fedmlMqtt", "  p99", "ms", {
    figure: "p99",
    reference: peers.mosquitto?.p99,
    ...mosquitto,
    inverse: true,
  });
  row("fedmlMqtt", "  processor time a message", "µs", {
    figure: "cpu",
    reference: peers.mosquitto?.cpu,
    ...mosquitto,
    inverse: true,
  });
  row("fedmlMqtt", "  memory, peak", "MiB", { figure: "peak" });
  row("fedmlConfigs", "FedML's configs/fetch, a connection each, p50", "ms", { figure: "p50", reach: "≤ 1" });
  row("fedmlConfigs", "  p99", "ms", { figure: "p99" });
  row("fedmlConfigs", "  on one connection, p50", "ms", { figure: "keptP50" });
  row("fedmlConfigs", "  processor time a request", "µs", { figure: "cpu" });
  row("fedmlLogs", "FedML's log posts of 1,000 lines", "lines/s", { figure: "lines", reach: "≥ 200,000" });
  row("fedmlLogs", "  p50", "ms", { figure: "p50" });
  row("fedmlLogs", "  p99", "ms", { figure: "p99" });
  row("fedmlLogs", "  processor time a line", "µs", { figure: "cpu" });
  row("fedmlLogs", "  memory, peak", "MiB", { figure: "peak" });

  // Reaches are for two.
  const cores = availableParallelism();
  console.log(`On ${cores} ${cores === 1 ? "core" : "cores"}; each reach is for 2.\n`);
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
  for (const [index, line] of table.entries()) {
    console.log(`| ${line.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`);
    if (index === 0) console.log(`|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`);
  }
}
