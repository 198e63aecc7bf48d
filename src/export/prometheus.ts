import { Hono } from "hono";
import type { Collector } from "../collector.ts";
import { isReading, type Gpu } from "../device/schema.ts";
import type { GpuSource } from "../machine/gpu/message.ts";
import type { MachineReading } from "../machine/reading.ts";
import type { KernelTables } from "../machine/tables.ts";
import { countRuns, type RunCount } from "../run/count.ts";
import type { Relays } from "../relay/relay.ts";
import { runOfSubject } from "../sample/schema.ts";
import { exportGpus, type GpuState } from "./dcgm.ts";
import { exportTables } from "./kernel-tables.ts";
import { exportMachine } from "./node.ts";
import {
  exportCgroup,
  exportCollector,
  exportCollectors,
  exportGpuReader,
  exportRelays,
  exportRuns,
  exportSources,
  type Source,
} from "./own.ts";
import { createPresent, type PresentValues } from "./present.ts";
import { createExposition, TEXT_FORMAT } from "./text.ts";

/** What /metrics is served from: what the sampler read last. */
export interface Sampled {
  readonly device: string;
  reading(): MachineReading | undefined;
  tables(): KernelTables | undefined;
  readonly gpus: GpuSource;
  /** UUIDs of the GPUs and instances of each live run. */
  gpusByRun(): ReadonlyMap<string, ReadonlySet<string>>;
}

/** Counters that stand still would read as a machine at rest. */
const STALE_MS = 30_000;

/**
 * For Prometheus. A scrape reads no file and asks no driver: however often and however many scrape, the machine is read once
 * a second, and a driver that hangs hangs nobody here.
 */
export function exportRoutes(collector: Collector, sampled: Sampled | undefined, relays?: Relays): Hono {
  const serve = createExport(collector, sampled, relays);
  const app = new Hono();
  app.get("/metrics", async (c) => c.body(await serve(), 200, { "content-type": TEXT_FORMAT }));
  return app;
}

function createExport(
  collector: Collector,
  sampled: Sampled | undefined,
  relays: Relays | undefined,
): () => Promise<string> {
  const { now } = collector;
  const gpus = sampled && watchGpus(sampled.gpus);
  const present = sampled && createPresent(collector.latest, sampled.device, now);
  const runs = rememberCounts(collector);

  return async () => {
    const to = createExposition();
    exportCollector(to, await runs(), collector.quota.status());
    if (relays) exportRelays(to, relays.status().relays, relays, now());
    if (!sampled || !gpus || !present) return to.toString();

    const sources: Source[] = [];
    const reading = sampled.reading();
    const tables = sampled.tables();
    if (reading && now() - reading.time <= STALE_MS) {
      exportMachine(to, reading);
      exportCollectors(to, reading, tables);
      exportCgroup(to, reading);
    }
    if (tables) exportTables(to, tables, reading?.kernel?.bootTime);
    // The age of what is too old to be shown says why it is not.
    if (reading) sources.push({ name: "machine", time: reading.time, took: tookOf(reading) });
    if (tables) sources.push({ name: "tables", time: tables.time, took: tables.took });
    if (gpus.last) sources.push({ name: "gpu", ...gpus.last });
    exportSources(to, sources);

    const reader = sampled.gpus.reader();
    const states = gpuStates(sampled, present.of, gpus.xids);
    exportGpuReader(to, reader, states);
    exportGpus(to, states);
    exportRuns(to, runValues(present.subjects(), present.of));
    return to.toString();
  };
}

/** Counted anew only after something has happened to a run. */
function rememberCounts(collector: Collector): () => Promise<RunCount[]> {
  let counts: Promise<RunCount[]> | undefined;
  const forget = () => void (counts = undefined);
  collector.bus.subscribe(({ kind }) => {
    if (kind.startsWith("run.")) forget();
  });
  return () => {
    if (counts === undefined) (counts = countRuns(collector)).catch(forget);
    return counts;
  };
}

const tookOf = ({ took }: MachineReading) => Object.values(took).reduce((sum, seconds) => sum + seconds, 0);

/** What the reader of the GPUs says besides samples. */
function watchGpus(gpus: GpuSource): {
  xids: Map<string, number>;
  last: { time: number; took: number } | undefined;
} {
  const watched: ReturnType<typeof watchGpus> = { xids: new Map(), last: undefined };
  gpus.subscribe((message) => {
    if (message.kind === "xid") watched.xids.set(message.uuid, message.xid);
    if (message.kind === "samples") watched.last = { time: message.time, took: message.took / 1000 };
  });
  return watched;
}

function gpuStates(
  sampled: Sampled,
  valuesOf: (uuid: string) => PresentValues,
  xids: ReadonlyMap<string, number>,
): GpuState[] {
  const all = sampled.gpus.gpus();
  const byUuid = new Map(all.map((gpu) => [gpu.uuid, gpu]));
  const runsByUuid = new Map<string, string[]>();
  for (const [run, uuids] of sampled.gpusByRun())
    for (const uuid of uuids) runsByUuid.set(uuid, [...(runsByUuid.get(uuid) ?? []), run]);
  const none = !isReading(sampled.gpus.reader());
  return all.map((gpu) => ({
    gpu,
    whole: (gpu.parent === null ? undefined : byUuid.get(gpu.parent)) ?? gpu,
    values: none || gpu.lost ? new Map() : readable(gpu, valuesOf(gpu.uuid)),
    xid: xids.get(gpu.uuid),
    runs: (runsByUuid.get(gpu.uuid) ?? []).toSorted(),
  }));
}

/** Without the readings that have a reason to have no value. */
function readable({ states }: Gpu, values: PresentValues): PresentValues {
  const failing = Object.entries(states).filter(([, { state }]) => state !== "ok");
  if (failing.length === 0) return values;
  const left = new Map(values);
  for (const [reading] of failing) left.delete(reading);
  return left;
}

function runValues(
  subjects: readonly string[],
  valuesOf: (subject: string) => PresentValues,
): Map<string, PresentValues> {
  const runs = new Map<string, PresentValues>();
  for (const subject of subjects) {
    const run = runOfSubject(subject);
    if (run !== undefined) runs.set(run, valuesOf(subject));
  }
  return runs;
}
