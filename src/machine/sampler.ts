import type { Collector } from "../collector.ts";
import { registerDevice } from "../device/register.ts";
import { isReading, type Gpu } from "../device/schema.ts";
import { closeUses, findUse, recordUse } from "../device/use.ts";
import { readBootId } from "../run/machine.ts";
import { isLive, type Run } from "../run/schema.ts";
import { listLiveWriters, type LiveWriter } from "../run/writers.ts";
import { appendSamples } from "../sample/append.ts";
import { listEvents, recordEvents } from "../sample/event.ts";
import type { DeviceEvent, NewDeviceEvent, Sample } from "../sample/schema.ts";
import { CGROUP, MACHINE, subjectOfRun } from "../sample/subject.ts";
import { createAttribution, type Attribution } from "./attribution.ts";
import { createGpuEvents } from "./gpu-events.ts";
import type { GpuSource, ReaderMessage } from "./gpu/message.ts";
import type { MachineSource } from "./machine.ts";
import { ratesOf } from "./rates.ts";
import type { MachineReading } from "./reading.ts";
import { createRunSampler, type RunSampler } from "./run-sampler.ts";
import { began, ended, jumped, killed } from "./sampler-events.ts";
import { explainGap } from "./sampler-gap.ts";
import { createTables, type KernelTables } from "./tables.ts";

/** Reads the machine, its GPUs and its runs, and hands on what it read, as long as the collector lives. */
export interface Sampler {
  /** Id of this machine. */
  readonly device: string;
  /** The machine as it was read last. */
  reading(): MachineReading | undefined;
  /** What only /metrics wants to know; read as long as it is asked for. */
  tables(): KernelTables | undefined;
  readonly gpus: GpuSource;
  /** UUIDs of the GPUs and MIG instances that each live run on this machine has now. */
  gpusByRun(): ReadonlyMap<string, ReadonlySet<string>>;
  /** Before it nothing is read. */
  start(): void;
  /** Looks at everything once more, stores it and ends; within a second or so, whatever the store does. */
  close(): Promise<void>;
}

export interface SamplerOptions {
  collector: Collector;
  machine: MachineSource;
  gpus: GpuSource;
  /** What no verb foresaw; sampling goes on. */
  onError: (error: unknown) => void;
  /** ms between two looks; they fall on multiples of it of the wall clock. */
  tickMs?: number;
  /** ms between two entries in the journal: what a kill of the collector loses. */
  flushMs?: number;
  attribution?: Attribution;
}

/** A program is looked at so soon after its run came, ms: one that ends within the second has been seen all the same. */
const FIRST_LOOK_MS = 250;
/** ms between two looks at what is not expected to change. */
const FACTS_MS = 30_000;
const CLOSE_WITHIN_MS = 2_000;
/** Samples that wait for the store; older ones give way. */
const MAX_WAITING = 5_000;
/** Events that wait for it. */
const MAX_EVENTS = 500;

export function createSampler({
  collector,
  machine,
  gpus,
  onError,
  tickMs = 1000,
  flushMs = 10_000,
  attribution = createAttribution(),
}: SamplerOptions): Sampler {
  const { device, latest, bus, now } = collector;
  const boot = readBootId();
  const tables = createTables();
  /** undefined until what an earlier collector told is known; the reader's messages of that time wait. */
  let gpuEvents: ReturnType<typeof createGpuEvents> | undefined;
  let early: ReaderMessage[] = [];
  const runs: RunSampler = createRunSampler({
    attribution,
    gpus: () => gpus.gpus(),
    onOomKill(run, count) {
      events.push(killed(subjectOfRun(run), now(), count));
    },
  });
  let reading: MachineReading | undefined;
  let waiting: Sample[] = [];
  let events: NewDeviceEvent[] = [];
  /** First of the samples that the store did not take; null while it takes them. */
  let lostSince: number | null = null;
  let flushed = performance.now();
  let factsDue = 0;
  let isFlushing = false;
  let isTelling = false;
  let isStarted = false;
  let isClosed = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const glances = new Set<ReturnType<typeof setTimeout>>();
  /** Ends of runs and their beginnings, one after another. */
  let turn: Promise<unknown> = Promise.resolve();
  let explained: Promise<unknown> = turn;

  /** A timer of a fixed interval drifts, and one that is late is called in a row. */
  function schedule(): void {
    const time = now();
    // A timer may be a moment early: what is left of the second is no second.
    const next = (Math.floor((time + tickMs / 20) / tickMs) + 1) * tickMs;
    timer = setTimeout(() => {
      try {
        tick();
      } catch (error) {
        onError(error);
      }
      if (!isClosed) schedule();
    }, next - time);
  }

  function tick(): void {
    const samples: Sample[] = [];
    const current = machine.read();
    if (current) {
      samples.push(...samplesOf(current));
      reading = current;
    }
    samples.push(...runs.look(current?.time ?? now()));
    publish(samples);
    const passed = performance.now();
    if (passed - flushed >= flushMs - tickMs / 2) {
      flushed = passed;
      void flush();
      saveUses();
    }
    if (passed >= factsDue) register();
    tellEvents();
  }

  function samplesOf(current: MachineReading): Sample[] {
    if (!reading) return [];
    const { machine: values, cgroup, oomKills, jumpedMs } = ratesOf(reading, current);
    const { time } = current;
    if (oomKills > 0) events.push(killed(MACHINE, time, oomKills));
    if (jumpedMs !== null) {
      events.push(jumped(time, jumpedMs));
      // What slept used nothing meanwhile, and its clock did not stop.
      const wall = current.time - reading.time - (current.monotonic - reading.monotonic);
      if (Math.abs(wall) > 1) runs.shift(wall);
    }
    const samples: Sample[] = [];
    if (Object.keys(values).length > 0) samples.push({ subject: MACHINE, time, values });
    if (cgroup && Object.keys(cgroup).length > 0) samples.push({ subject: CGROUP, time, values: cgroup });
    return samples;
  }

  /** To who watches at once, to the store with the next batch. */
  function publish(samples: Sample[], present = samples): void {
    if (samples.length === 0) return;
    if (present.length > 0) latest.put(device, present);
    waiting.push(...samples);
    if (waiting.length <= MAX_WAITING) return;
    const left = waiting.splice(0, waiting.length - MAX_WAITING);
    collector.samples.drop(device, left, "busy");
    lostSince ??= left[0]!.time;
  }

  async function flush(): Promise<void> {
    if (isFlushing || waiting.length === 0) return;
    isFlushing = true;
    const batch = waiting;
    waiting = [];
    const { dropped } = collector.samples;
    try {
      await appendSamples(collector, device, batch);
    } catch (error) {
      collector.samples.drop(device, batch, "busy");
      if (lostSince === null) onError(error);
    } finally {
      isFlushing = false;
    }
    const first = batch[0]!.time;
    if (collector.samples.dropped > dropped) lostSince ??= first;
    else if (lostSince !== null) {
      events.push(
        ended(lostSince, "The store had no room for samples."),
        began(first, "There is room again."),
      );
      lostSince = null;
    }
  }

  function tellEvents(): void {
    if (events.length === 0 || isTelling) return;
    isTelling = true;
    const batch = events;
    events = [];
    recordEvents(collector, device, batch)
      .catch((error: unknown) => {
        // Tried again with the next: they are few, and say why there is nothing else.
        events = [...batch, ...events].slice(-MAX_EVENTS);
        if (!isDiskFull(error)) onError(error);
      })
      .finally(() => (isTelling = false));
  }

  function saveUses(): void {
    for (const use of runs.changed(now()))
      recordUse(collector, device, use).catch((error: unknown) => {
        // Its run is gone, or there is no room: the next one says the same and more.
        if (!isDiskFull(error) && !isConstraint(error)) onError(error);
      });
  }

  function register(): void {
    factsDue = performance.now() + FACTS_MS;
    const facts = { ...machine.facts(), gpu_reader: gpus.reader(), gpus: [...gpus.gpus()] };
    registerDevice(collector, device, facts).catch((error: unknown) => {
      if (!isDiskFull(error)) onError(error);
    });
  }

  function hear(message: ReaderMessage): void {
    runs.hear(message);
    if (gpuEvents) events.push(...gpuEvents(message));
    else if (message.kind !== "beat" && message.kind !== "samples" && early.length < MAX_EVENTS)
      early.push(message);
    if (events.length > MAX_EVENTS) events.splice(0, events.length - MAX_EVENTS);
    if (message.kind === "samples") {
      const { time } = message;
      if (runs.isSettled()) saveUses();
      const samples = message.gpus
        .filter(({ values }) => Object.keys(values).length > 0)
        .map(({ uuid, values }): Sample => ({ subject: uuid, time, values }));
      // One that was lost in the middle of its turn had read something before: worth keeping, but not its present.
      const unread = new Set(unreadGpus(gpus).map(({ uuid }) => uuid));
      publish(
        samples,
        samples.filter(({ subject }) => !unread.has(subject)),
      );
    } else if (message.kind !== "beat" && message.kind !== "processes" && message.kind !== "state") {
      // With the next look: several come at once.
      factsDue = Math.min(factsDue, 1);
      for (const { uuid } of unreadGpus(gpus)) latest.forget(device, uuid);
    }
  }

  /** Somebody came to a run or left it. */
  function refresh(run: string, since: number): void {
    turn = turn
      .then(async () => takeWriters(run, await listLiveWriters(collector, run), since, false))
      .catch(onError);
  }

  async function takeWriters(
    run: string,
    all: LiveWriter[],
    since: number,
    restored: boolean,
  ): Promise<void> {
    const writers = all.filter((writer) => writer.boot === boot);
    if (isClosed || (writers.length === 0 && !runs.isAttached(run))) return;
    const wasHere = runs.isAttached(run);
    const before = wasHere ? undefined : await findUse(collector, device, run);
    const isHere = writers.length > 0 && runs.attach(run, writers, { since, restored, before, now: now() });
    if (isHere && !wasHere) {
      saveUses();
      const glance = setTimeout(() => {
        glances.delete(glance);
        publish(runs.look(now()));
        saveUses();
      }, FIRST_LOOK_MS);
      glances.add(glance);
    } else if (!isHere && wasHere && writers.length === 0) leave(run, now());
  }

  function leave(run: string, time: number): void {
    publish(runs.detach(run, time));
    latest.forget(device, subjectOfRun(run));
    saveUses();
  }

  /** Runs that are live already. */
  async function restore(): Promise<void> {
    const byRun = Map.groupBy(await listLiveWriters(collector), ({ run }) => run);
    for (const [run, writers] of byRun) await takeWriters(run, writers, writers[0]!.started, true);
    await closeUses(collector, device, (run) => runs.isAttached(run));
  }

  async function takeUpGpuEvents(): Promise<void> {
    let open: DeviceEvent[] = [];
    try {
      open = (await listEvents(collector, device, { from: now() + 1, limit: 1 })).states;
    } catch (error) {
      onError(error);
    }
    gpuEvents = createGpuEvents(() => gpus.gpus(), open);
    events.push(...early.flatMap(gpuEvents));
    early = [];
  }

  async function explainStart(time: number): Promise<void> {
    await takeUpGpuEvents();
    events.push(...(await explainGap(collector, device)));
    events.push(began(time, "The collector was started."));
    tellEvents();
  }

  const unsubscribe = [
    gpus.subscribe(hear),
    bus.subscribe(({ kind, run, data }) => {
      if (kind === "run.created" || kind === "run.changed") {
        const { status, finished } = data as Run;
        if (isLive(status)) refresh(run, now());
        else if (runs.isAttached(run)) {
          // At once, while who waited for its processes is still there and knows what they used.
          leave(run, Math.min(now(), finished === null ? now() : Date.parse(finished)));
        }
      } else if (kind === "run.deleted" || kind === "run.pruned") {
        if (runs.isAttached(run)) leave(run, now());
      }
    }),
  ];

  return {
    device,
    reading: () => reading,
    tables: () => tables.current(),
    gpus,
    gpusByRun: () => runs.gpusByRun(),
    start() {
      isStarted = true;
      reading = machine.read();
      register();
      turn = turn.then(restore).catch(onError);
      explained = explainStart(now()).catch(onError);
      schedule();
    },
    async close() {
      if (isClosed) return;
      isClosed = true;
      clearTimeout(timer);
      for (const glance of glances) clearTimeout(glance);
      for (const end of unsubscribe) end();
      tables.close();
      if (!isStarted) return;
      const time = now();
      try {
        publish(runs.look(time));
        saveUses();
      } catch (error) {
        onError(error);
      }
      events.push(ended(time, "The collector was stopped."));
      const last = (async () => {
        await Promise.all([turn, explained]);
        while (isFlushing || isTelling) await new Promise((resolve) => setTimeout(resolve, 5));
        await flush();
        tellEvents();
        await collector.journal.settled();
      })();
      await Promise.race([
        last.catch(onError),
        new Promise((resolve) => (timer = setTimeout(resolve, CLOSE_WITHIN_MS))),
      ]);
      clearTimeout(timer);
    },
  };
}

/** What these said last is not their present. */
function unreadGpus(source: GpuSource): Gpu[] {
  const all = source.gpus();
  if (!isReading(source.reader())) return [...all];
  const lost = new Set(all.filter((gpu) => gpu.lost).map(({ uuid }) => uuid));
  return all.filter(({ uuid, parent }) => lost.has(uuid) || lost.has(parent ?? uuid));
}

const isDiskFull = (error: unknown) => (error as { code?: string }).code === "disk-full";

const isConstraint = (error: unknown) =>
  ((error as { code?: string }).code ?? "").startsWith("SQLITE_CONSTRAINT");
