import { createHash } from "node:crypto";
import type { Collector } from "../collector.ts";
import { getDevice } from "../device/list.ts";
import { registerDevice } from "../device/register.ts";
import { DeviceFacts } from "../device/schema.ts";
import { findUse, recordUse } from "../device/use.ts";
import { CollectorError } from "../error.ts";
import { getRow } from "../run/find.ts";
import { isLive, type Run } from "../run/schema.ts";
import { appendSamples } from "../sample/append.ts";
import type { Sample } from "../sample/schema.ts";
import { readLabel } from "./events.ts";
import { readDevice, readPerformance, type Told } from "./hardware-values.ts";
import type { FedmlScope } from "./keys.ts";
import { readPayload, readTime, type Payload } from "./payload.ts";
import { placeRun, runOf } from "./place.ts";
import type { FedmlContext, FedmlTopic } from "./topic.ts";

const MAX_EDGE = 100;
/** New ones of one scope: each is a device for good. */
const MAX_EDGES = 1000;
/** A clock that is further off tells no time: then it is now. */
const MAX_SKEW_MS = 24 * 3600 * 1000;

/** What is known of an edge since the start. */
interface Edge {
  device: string;
  /** The run whose alone it is; "": none's. */
  scope: string;
  facts: DeviceFacts;
  /** Bytes since some beginning, by who counts them. */
  traffic: Map<string, { bytes: number; time: number }>;
  /** Runs that were seen on it, and have not ended. */
  runs: Set<string>;
  /** The last message by topic and run: the same one again says nothing new. */
  last: Map<string, { time: number; stored: Promise<void> }>;
}

/** The device that stands for an edge: the same whenever it is heard of, and no other scope's. */
export const deviceOfEdge = ({ run = "" }: FedmlScope, edge: string): string =>
  createHash("sha256").update(`fedml\n${run}\n${edge}`).digest("hex").slice(0, 16);

/** What FedML's clients read of the machines that they run on, as samples of devices. */
export function hardwareTopics({ collector }: FedmlContext): FedmlTopic[] {
  const edges = new Map<string, Promise<Edge>>();
  const countByScope = new Map<string, number>();

  function edgeOf(scope: FedmlScope, id: unknown): Promise<Edge> {
    const label = readLabel(id, MAX_EDGE) ?? "0";
    const device = deviceOfEdge(scope, label);
    let edge = edges.get(device);
    if (!edge) {
      edge = openEdge(device, scope, label);
      edges.set(device, edge);
      edge.catch(() => edges.delete(device));
    }
    return edge;
  }

  async function openEdge(device: string, { run = "" }: FedmlScope, label: string): Promise<Edge> {
    const known = await getDevice(collector, device).catch((error: unknown) => {
      if (error instanceof CollectorError && error.code === "not-found") return undefined;
      throw error;
    });
    if (!known) {
      const count = (countByScope.get(run) ?? 0) + 1;
      if (count > MAX_EDGES)
        throw new CollectorError("too-large", "More devices than one run can have.", {
          hint: "Give each machine the same edge id each time.",
        });
      countByScope.set(run, count);
    }
    return {
      device,
      scope: run,
      facts: known ? DeviceFacts.parse(known) : { ...UNKNOWN, name: `edge ${label}` },
      traffic: new Map(),
      runs: new Set(),
      last: new Map(),
    };
  }

  async function take(edge: Edge, told: Told, { time, source }: { time: number; source: string }) {
    const facts = { ...edge.facts, ...told.facts };
    if (JSON.stringify(facts) !== JSON.stringify(edge.facts)) {
      await registerDevice(collector, edge.device, facts);
      edge.facts = facts;
    }
    const rate = rateOf(edge, source, told.traffic, time);
    const samples: Sample[] = [];
    for (const [subject, values] of Object.entries(told.values)) {
      const all = subject === "" && rate !== undefined ? { ...values, "network.traffic": rate } : values;
      if (Object.keys(all).length > 0) samples.push({ subject, time, values: all });
    }
    if (samples.length === 0) return;
    await appendSamples(collector, edge.device, samples);
    collector.latest.put(edge.device, samples);
  }

  /** What comes after the end of the run whose alone it is: nothing would tell of that again. */
  function letGo({ scope, device, runs }: Edge): void {
    if (scope !== "" && runs.size === 0) edges.delete(device);
  }

  collector.bus.subscribe(({ kind, run, data }) => {
    const isOver = kind === "run.deleted" || (kind === "run.changed" && !isLive((data as Run).status));
    if (!isOver) return;
    if (kind === "run.deleted") countByScope.delete(run);
    for (const edge of edges.values())
      edge
        .then((each) => {
          if (each.scope === run) edges.delete(each.device);
          return leave(collector, each, run);
        })
        // What can't be written now is closed at the next start.
        .catch(() => {});
  });

  return [
    {
      filter: "fl_client/mlops/system_performance",
      async receive({ scope, payload, received }) {
        const fields = readPayload(payload);
        const run = await placeRun(collector, scope, fields["run_id"]);
        const edge = await edgeOf(scope, fields["edge_id"]);
        const time = timeOf(fields["timestamp"], received);
        await once(edge, run, time, async () => {
          await enter(collector, edge, run, time);
          await take(edge, readPerformance(fields, run), { time, source: run });
        });
        letGo(edge);
      },
    },
    {
      filter: "ml_client/mlops/gpu_device_info",
      async receive({ scope, payload, received }) {
        const fields = readPayload(payload);
        // No run is named: a run's own edge is in it, all the same.
        if (scope.run !== undefined) await placeRun(collector, scope, undefined);
        const edge = await edgeOf(scope, edgeIn(fields));
        const time = timeOf(fields["updateTime"], received);
        await once(edge, "", time, async () => {
          if (scope.run !== undefined) await enter(collector, edge, runOf(scope, undefined), time);
          await take(edge, readDevice(fields), { time, source: "" });
        });
        letGo(edge);
      },
    },
    // What a job has cost is the cloud's affair, and comes with its API key in clear: nothing of it is kept.
    { filter: "ml_client/mlops/job_computing_cost", receive: async () => {} },
  ];
}

const edgeIn = (fields: Payload) => fields["edgeId"] ?? fields["edge_id"];

function timeOf(value: unknown, received: number): number {
  const time = readTime(value);
  return time === undefined || Math.abs(time - received) > MAX_SKEW_MS ? received : Math.round(time);
}

/** The same again waits for the first one; what could not be stored is new when it comes again. */
async function once(edge: Edge, source: string, time: number, store: () => Promise<void>): Promise<void> {
  const last = edge.last.get(source);
  if (last?.time === time) return last.stored;
  const traffic = edge.traffic.get(source);
  const stored = store();
  edge.last.set(source, { time, stored });
  try {
    await stored;
  } catch (error) {
    if (edge.last.get(source)?.stored === stored) {
      edge.last.delete(source);
      if (traffic) edge.traffic.set(source, traffic);
      else edge.traffic.delete(source);
    }
    throw error;
  }
}

/** Of a machine that nobody described. */
const UNKNOWN: Omit<DeviceFacts, "name"> = {
  os: "",
  kernel: "",
  architecture: "",
  boot: null,
  processor: null,
  cores: null,
  memory: null,
  container: false,
  gpu_reader: { status: "ok", reason: null, advice: null, driver: null, cuda: null, library: null },
  gpus: [],
};

/** Of two counts; undefined at the first, and where it began anew. */
function rateOf(edge: Edge, source: string, bytes: number | undefined, time: number): number | undefined {
  if (bytes === undefined) return undefined;
  const before = edge.traffic.get(source);
  edge.traffic.set(source, { bytes, time });
  if (!before || bytes < before.bytes || time <= before.time) return undefined;
  return ((bytes - before.bytes) * 1000) / (time - before.time);
}

const NOTE = "Read by FedML's client, of the whole machine: which GPUs are the run's it does not say.";

/** The run is on this edge, from now on or since before. */
async function enter(collector: Collector, edge: Edge, run: string, time: number): Promise<void> {
  if (edge.runs.has(run)) return;
  const { status } = await getRow(collector, run);
  const live = isLive(status);
  if (live) edge.runs.add(run);
  try {
    // A run may be there before its device: what it has there needs the device's name.
    await registerDevice(collector, edge.device, edge.facts);
    const use = await findUse(collector, edge.device, run);
    await recordUse(collector, edge.device, {
      run,
      attribution: use?.attribution ?? null,
      cpuSeconds: use?.cpuSeconds ?? 0,
      gpus: use?.gpus ?? {},
      note: use?.note ?? NOTE,
      from: Math.min(use?.from ?? time, time),
      to: live ? null : Math.max(use?.to ?? time, time),
    });
  } catch (error) {
    edge.runs.delete(run);
    throw error;
  }
}

/** The run has ended. */
async function leave(collector: Collector, edge: Edge, run: string): Promise<void> {
  edge.traffic.delete(run);
  edge.last.delete(run);
  if (!edge.runs.delete(run)) return;
  const use = await findUse(collector, edge.device, run);
  // It was deleted, or is closed already.
  if (use?.to !== null) return;
  await recordUse(collector, edge.device, { ...use, to: Math.max(use.from, collector.now()) });
}
