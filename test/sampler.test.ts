import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawn } from "node:child_process";
import { hostname } from "node:os";
import { findUse, recordUse } from "../src/device/use.ts";
import { listRunDevices } from "../src/device/run-devices.ts";
import { createAttribution } from "../src/machine/attribution.ts";
import type { GpuSource } from "../src/machine/gpu/message.ts";
import { superviseGpus } from "../src/machine/gpu/supervisor.ts";
import { createMachine, type MachineSource } from "../src/machine/machine.ts";
import { createSampler, type Sampler } from "../src/machine/sampler.ts";
import { createRun } from "../src/run/create.ts";
import { appendSamples } from "../src/sample/append.ts";
import { finishRun } from "../src/run/finish.ts";
import { readBootId, readProcessStart } from "../src/run/machine.ts";
import { listEvents } from "../src/sample/event.ts";
import { querySamples } from "../src/sample/query.ts";
import type { LiveSamples } from "../src/sample/latest.ts";
import { diskFull } from "../src/store/journal.ts";
import type { Collector } from "../src/collector.ts";
import { loudly } from "./helpers/binary.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { uuidOf, watchGpus } from "./helpers/gpus.ts";
import { noCompiler, scenario } from "./helpers/nvml.ts";

setDefaultTimeout(30_000);

const noLinux = process.platform !== "linux" && loudly("the sampler is tested on Linux alone");
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Sampling {
  on: TestCollector;
  sampler: Sampler;
  errors: unknown[];
  live: LiveSamples[];
}

const noGpus = () => superviseGpus({ command: [], off: true, onDiagnostic: () => {} });

/** A sampler of this machine, ten times as fast as in life. */
function sample({
  on = createTestCollector(),
  collector = on.collector,
  machine = createMachine(),
  gpus = noGpus(),
}: {
  on?: TestCollector;
  collector?: Collector;
  machine?: MachineSource;
  gpus?: GpuSource;
} = {}): Sampling {
  const errors: unknown[] = [];
  const live: LiveSamples[] = [];
  on.collector.latest.subscribe((samples) => void live.push(samples));
  const sampler = createSampler({
    collector,
    machine,
    gpus,
    onError: (error) => errors.push(error),
    tickMs: 100,
    flushMs: 300,
    // What the test starts descends from the test.
    attribution: createAttribution({ self: -1 }),
  });
  sampler.start();
  ends.push(
    () => on.close(),
    () => gpus.close(),
    () => sampler.close(),
  );
  return { on, sampler, errors, live };
}

async function until<T>(what: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const found = await what();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`it did not come to pass: ${what}`);
    await Bun.sleep(10);
  }
}

const stored = ({ on }: Sampling, subject: string, from = 0) =>
  querySamples(on.collector, on.collector.device, {
    from: from || Date.now() - 60_000,
    to: Date.now() + 1000,
    points: 5000,
    subjects: [subject],
  });

const eventsOf = async ({ collector }: TestCollector) =>
  (await listEvents(collector, collector.device, { limit: 1000 })).events;

describe.skipIf(noLinux)("the machine", () => {
  test("is read at full seconds, told at once and stored in batches", async () => {
    const sampling = sample();
    const { on, sampler, live } = sampling;
    await until(() => live.length >= 8);
    const times = live.flatMap(({ samples }) => samples.map(({ time }) => time));
    // A timer may be late on a busy machine, but not by its own drift.
    expect(times.filter((time) => time % 100 < 50).length).toBeGreaterThan(times.length / 2);
    const { values } = on.collector.latest.of(on.collector.device).get("")!;
    expect(values["memory.total"]).toBeGreaterThan(2 ** 28);
    expect(values["cpu.utilization"]).toBeGreaterThanOrEqual(0);
    expect(sampler.reading()!.memory).toBeDefined();
    const page = await until(async () => {
      const found = await stored(sampling, "machine");
      return found.series.length > 0 && found;
    });
    expect(page.series.map(({ reading }) => reading)).toContain("memory.used");
    const [device] = (await on.json("/api/v1/devices")).devices;
    expect(device).toMatchObject({ id: on.collector.device, local: true, name: hostname() });
    expect(sampling.errors).toEqual([]);
  });

  test("that sampling began and ended is told, with the reason", async () => {
    const { on, sampler, live } = sample();
    await until(() => live.length > 2);
    const began = performance.now();
    await sampler.close();
    expect(performance.now() - began).toBeLessThan(2500);
    const events = await eventsOf(on);
    expect(events.map(({ kind }) => kind)).toEqual(["sampling.began", "sampling.ended"]);
    expect(events[1]!.text).toContain("stopped");
    const last = live.at(-1)!.samples.at(-1)!;
    // The last look is stored as well.
    expect((await stored({ on } as Sampling, "machine")).times.at(-1)).toBeGreaterThan(last.time - 1000);
  });

  test("a collector that was killed is told of by the next one, at its last sample", async () => {
    const first = sample();
    await until(async () => (await stored(first, "machine")).times.length > 0);
    await first.sampler.close();
    const { on } = first;
    // As if it had not come to say so.
    on.collector.connection.prepare("DELETE FROM device_event WHERE kind = 'sampling.ended'").run();
    const { times } = await stored(first, "machine");
    const second = sample({ on });
    await until(() => second.live.length > 1);
    const events = await until(async () => {
      const all = await eventsOf(on);
      return all.length >= 3 && all;
    });
    expect(events.map(({ kind }) => kind)).toEqual(["sampling.began", "sampling.ended", "sampling.began"]);
    expect(events[1]!.text).toContain("killed");
    const gap = Date.parse(events[1]!.time) - times.at(-1)!;
    expect(Math.abs(gap)).toBeLessThanOrEqual(1000);
    // The helper closes it for both.
    ends.splice(0, 3);
  });

  test("what the store does not take is dropped and counted; the gap is explained when there is room again", async () => {
    const on = createTestCollector();
    let isFull = true;
    const { journal } = on.collector;
    const collector: Collector = {
      ...on.collector,
      samples: on.collector.samples,
      journal: {
        ...journal,
        append: (entry, data, writes) =>
          isFull && entry.kind === "sample.appended"
            ? Promise.reject(diskFull())
            : journal.append(entry, data, writes),
      },
    };
    const sampling = sample({ on, collector });
    await until(() => on.collector.samples.dropped > 5);
    expect((await stored(sampling, "machine")).times).toEqual([]);
    isFull = false;
    await until(async () => (await stored(sampling, "machine")).times.length > 0);
    const events = await until(async () => {
      const all = await eventsOf(on);
      return all.length >= 3 && all;
    });
    const [, ended, began] = events.toSorted((left, right) => left.id - right.id);
    expect(ended).toMatchObject({
      kind: "sampling.ended",
      detail: { reason: expect.stringContaining("room") },
    });
    expect(began!.kind).toBe("sampling.began");
    expect(Date.parse(began!.time)).toBeGreaterThan(Date.parse(ended!.time));
    expect(sampling.errors).toEqual([]);
  });

  test("a sample that comes when its time has expired is refused, which is no want of room", async () => {
    const on = createTestCollector();
    const { samples, connection, device } = on.collector;
    const past = Date.now() - 24 * 3600 * 1000;
    await appendSamples(on.collector, device, [{ subject: "", time: past, values: { "load.1": 1 } }]);
    await samples.finish();
    connection.exec("DELETE FROM sample_chunk WHERE tier = 1");
    const machine = createMachine();
    let isLate = false;
    const { live } = sample({
      on,
      machine: {
        ...machine,
        read() {
          const reading = machine.read();
          const time = isLate ? past : reading!.time;
          isLate = false;
          return reading && { ...reading, time };
        },
      },
    });
    await until(() => live.length > 2);
    isLate = true;
    await until(() => samples.refused > 0);
    const { length } = live;
    // Two batches more: with the next one the sampler would say that there is room again.
    await until(() => live.length > length + 8);
    const kinds = (await eventsOf(on)).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind.startsWith("sampling"))).toEqual(["sampling.began"]);
    expect(samples).toMatchObject({ refused: 1, dropped: 0 });
  });

  test("a clock that is set leaves an event and no false rates", async () => {
    const machine = createMachine();
    let ahead = 0;
    const { on, live } = sample({
      machine: {
        ...machine,
        read() {
          const reading = machine.read();
          return reading && { ...reading, time: reading.time + ahead };
        },
      },
    });
    await until(() => live.length > 3);
    ahead = 3_600_000;
    await until(async () => (await eventsOf(on)).some(({ kind }) => kind === "clock.jumped"));
    const jump = (await eventsOf(on)).find(({ kind }) => kind === "clock.jumped")!;
    expect(Number(jump.detail["ms"])).toBeCloseTo(3_600_000, -3);
    await until(() => live.at(-1)!.samples[0]!.time > Date.now() + 3_000_000);
    for (const { samples } of live)
      for (const { values } of samples) expect(values["cpu.utilization"] ?? 0).toBeLessThanOrEqual(1);
  });

  test("a process that was killed for memory is told of", async () => {
    const machine = createMachine();
    let kills = 0;
    const { on, live } = sample({
      machine: {
        ...machine,
        read() {
          const reading = machine.read();
          const vmstat = new Map(reading?.vmstat).set("oom_kill", kills);
          return reading && { ...reading, vmstat };
        },
      },
    });
    await until(() => live.length > 2);
    kills = 2;
    const event = await until(async () =>
      (await eventsOf(on)).find(({ kind }) => kind === "memory.oom_kill"),
    );
    expect(event).toMatchObject({ subject: "", detail: { count: 2 } });
    expect(event.text).toStartWith("2 processes on this machine were killed");
  });

  test("a source that throws is told of, and the others go on", async () => {
    const machine = createMachine();
    let reads = 0;
    const { errors, live } = sample({
      machine: {
        ...machine,
        read() {
          if (++reads % 3 === 0) throw new Error("it is broken");
          return machine.read();
        },
      },
    });
    await until(() => errors.length >= 2 && live.length >= 3);
  });
});

/** A process that does nothing until it is killed. */
function startProcess(env: Record<string, string> = {}): { pid: number; kill(): Promise<void> } {
  const child = spawn("sleep", ["600"], { env: { PATH: process.env["PATH"]!, ...env }, stdio: "ignore" });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  ends.push(() => child.kill("SIGKILL"));
  return {
    pid: child.pid!,
    async kill() {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** The process joins a run as its writer. */
async function join(
  { collector }: TestCollector,
  pid: number,
  id: string,
  client = `c${pid}`,
): Promise<void> {
  await createRun(collector, {
    id,
    writer: {
      client,
      role: "client",
      rank: 0,
      pid,
      boot: readBootId()!,
      start: readProcessStart(pid)!,
      device: hostname(),
    },
  });
}

const useOf = async ({ collector }: TestCollector, run: string) => (await listRunDevices(collector, run))[0];

describe.skipIf(noLinux)("a run", () => {
  test("is sampled while one of its processes is there, and closed with the run", async () => {
    const sampling = sample();
    const { on } = sampling;
    const { pid } = startProcess();
    await join(on, pid, "r1");
    await until(async () => (await stored(sampling, "run/r1")).series.length > 0);
    expect(await useOf(on, "r1")).toMatchObject({ to: null, attribution: "descendants", gpus: [] });
    const [device] = (await on.json("/api/v1/devices")).devices;
    expect(device.runs).toEqual(["r1"]);
    await finishRun(on.collector, "r1", { client: `c${pid}`, status: "FINISHED" });
    const use = await until(async () => {
      const found = await useOf(on, "r1");
      return found?.to != null && found;
    });
    expect(Date.parse(use.to!)).toBeGreaterThan(Date.parse(use.from));
    expect(on.collector.latest.of(on.collector.device).has("run/r1")).toBe(false);
    const readings = (await stored(sampling, "run/r1")).series.map(({ reading }) => reading);
    expect(readings).toEqual(
      expect.arrayContaining(["run.cpu", "run.memory.rss", "run.threads", "run.processes"]),
    );
  });

  test("of another machine leaves nothing here", async () => {
    const sampling = sample();
    const { on } = sampling;
    const { pid } = startProcess();
    await createRun(on.collector, {
      id: "far",
      writer: { client: "c", role: "client", rank: 0, pid, boot: "another", device: "elsewhere" },
    });
    await join(on, pid, "near");
    await until(async () => (await useOf(on, "near")) !== undefined);
    expect(await useOf(on, "far")).toBeUndefined();
  });

  test("that is resumed adds to what it had", async () => {
    const { on } = sample();
    const first = startProcess();
    await join(on, first.pid, "r2");
    await until(async () => (await useOf(on, "r2")) !== undefined);
    await finishRun(on.collector, "r2", { client: `c${first.pid}`, status: "FINISHED" });
    const before = await until(async () => {
      const found = await findUse(on.collector, on.collector.device, "r2");
      return found?.to != null && found;
    });
    await recordUse(on.collector, on.collector.device, { ...before, cpuSeconds: 1000 });
    const second = startProcess();
    await join(on, second.pid, "r2");
    const use = await until(async () => {
      const found = await useOf(on, "r2");
      return found?.to === null && found;
    });
    expect(Date.parse(use.from)).toBe(before.from);
    expect(use.cpu_seconds).toBeGreaterThanOrEqual(1000);
  });

  test("that ended while no collector ran is closed by the next one", async () => {
    const { on, sampler } = sample();
    const { pid } = startProcess();
    await join(on, pid, "r3");
    await until(async () => (await useOf(on, "r3")) !== undefined);
    await sampler.close();
    const finished = Date.now();
    await finishRun(on.collector, "r3", { client: `c${pid}`, status: "FINISHED", finished });
    expect((await useOf(on, "r3"))!.to).toBeNull();
    sample({ on });
    const use = await until(async () => {
      const found = await useOf(on, "r3");
      return found?.to != null && found;
    });
    expect(Date.parse(use.to!)).toBe(finished);
    ends.splice(0, 3);
  });

  test("that goes on over a restart of the collector is found again", async () => {
    const { on, sampler } = sample();
    const { pid } = startProcess();
    await join(on, pid, "r4");
    await until(async () => (await useOf(on, "r4")) !== undefined);
    await sampler.close();
    const again = sample({ on });
    await until(async () => again.on.collector.latest.of(on.collector.device).get("run/r4"));
    expect((await useOf(on, "r4"))!.to).toBeNull();
    ends.splice(0, 3);
  });
});

describe.skipIf(noLinux || noCompiler)("GPUs of a run", () => {
  const two = ["gpus 2", "gpu* energy 1000000", "gpu* power 250000"];

  test("CUDA_VISIBLE_DEVICES says which, the energy counter what it cost, to the joule", async () => {
    const gpus = scenario(...two);
    ends.push(() => gpus.remove());
    const watched = watchGpus(gpus);
    const { on, sampler } = sample({ gpus: watched.source });
    await watched.values(1, (values) => values["gpu.energy"] === 1000);
    const { pid } = startProcess({ CUDA_VISIBLE_DEVICES: "1" });
    await join(on, pid, "g1");
    await until(() => sampler.gpusByRun().get("g1")?.has(uuidOf(1)));
    expect([...sampler.gpusByRun().get("g1")!]).toEqual([uuidOf(1)]);
    // What was read in part before the run counts in part: the next look must be wholly of its time, and none that waited.
    const joined = Date.now();
    await watched.next("samples", ({ time }) => time > joined);
    gpus.set(...two, "gpu0 energy 7000000", "gpu1 energy 1730500");
    await watched.values(1, (values) => values["gpu.energy"] === 1730.5);
    // The counter begins anew: what is lost is not guessed.
    gpus.set(...two, "gpu1 energy 20000");
    await watched.values(1, (values) => values["gpu.energy"] === 20);
    gpus.set(...two, "gpu1 energy 50000");
    await watched.values(1, (values) => values["gpu.energy"] === 50);
    await finishRun(on.collector, "g1", { client: `c${pid}`, status: "FINISHED" });
    const use = await until(async () => {
      const found = await useOf(on, "g1");
      return found?.to != null && found;
    });
    expect(use.gpus).toHaveLength(1);
    expect(use.gpus[0]).toMatchObject({
      uuid: uuidOf(1),
      index: 1,
      by: "visible",
      energy: 730.5 + 30,
      peak_memory: null,
      shared: false,
    });
    expect(use.gpus[0]!.hours * 3_600_000).toBeCloseTo(Date.parse(use.to!) - Date.parse(use.from), -3);
  });

  test("a process that the driver sees marks its GPU, with its memory; two runs share it", async () => {
    const gpus = scenario(...two);
    ends.push(() => gpus.remove());
    const watched = watchGpus(gpus);
    const sampling = sample({ gpus: watched.source });
    const { on, sampler } = sampling;
    const first = startProcess();
    const second = startProcess({ CUDA_VISIBLE_DEVICES: uuidOf(0) });
    const unused = startProcess({ CUDA_VISIBLE_DEVICES: "" });
    await join(on, first.pid, "p1");
    await join(on, second.pid, "p2");
    await join(on, unused.pid, "p3");
    await until(() => sampler.gpusByRun().get("p2")?.has(uuidOf(0)));
    expect(sampler.gpusByRun().get("p1")!.size).toBe(0);
    gpus.set(...two, `gpu0 process ${first.pid} 1073741824 c 30`, "gpu0 process 4194303 2147483648 c 10");
    await until(() => sampler.gpusByRun().get("p1")?.has(uuidOf(0)));
    gpus.set(...two, `gpu0 process ${first.pid} 536870912 c 30`);
    await until(
      () =>
        on.collector.latest.of(on.collector.device).get("run/p1")?.values[`run.gpu.memory@${uuidOf(0)}`] ===
        536_870_912,
    );
    await finishRun(on.collector, "p1", { client: `c${first.pid}`, status: "FINISHED" });
    await finishRun(on.collector, "p2", { client: `c${second.pid}`, status: "FINISHED" });
    const [one, two_] = await Promise.all(
      ["p1", "p2"].map((run) =>
        until(async () => {
          const found = await useOf(on, run);
          return found?.to != null && found;
        }),
      ),
    );
    expect(one!.gpus).toEqual([
      expect.objectContaining({ uuid: uuidOf(0), by: "process", peak_memory: 1_073_741_824, shared: true }),
    ]);
    expect(two_!.gpus).toEqual([
      expect.objectContaining({ uuid: uuidOf(0), by: "visible", peak_memory: null, shared: true }),
    ]);
    expect((await useOf(on, "p3"))!.gpus).toEqual([]);
  });

  test("what happens to a GPU is an event: an error, throttling, a loss; the others are read on", async () => {
    const gpus = scenario(...two);
    ends.push(() => gpus.remove());
    const watched = watchGpus(gpus);
    const { on } = sample({ gpus: watched.source });
    const { latest, device } = on.collector;
    /** From the message that tells of the loss on; what the same look had read before comes after it. */
    const isShown: boolean[] = [];
    watched.source.subscribe(({ kind }) => {
      if (kind === "lost" || isShown.length > 0) isShown.push(latest.of(device).has(uuidOf(1)));
    });
    await watched.values(1);
    const has = (kind: string, subject: string) =>
      until(async () =>
        (await eventsOf(on)).find((event) => event.kind === kind && event.subject === subject),
      );
    gpus.set(...two, "xid 79@0:1");
    expect((await has("gpu.xid", uuidOf(1))).text).toContain("79: the GPU has fallen off the bus");
    gpus.set(...two, "gpu1 lost 1");
    expect((await has("gpu.lost", uuidOf(1))).text).toContain("GPU 1");
    const before = latest.of(device).get(uuidOf(0))!.time;
    await until(() => latest.of(device).get(uuidOf(0))!.time > before + 300);
    // Its last values are not its present ones.
    expect(latest.of(device).get(uuidOf(1))).toBeUndefined();
    expect(isShown.length).toBeGreaterThan(2);
    expect(isShown).not.toContain(true);
    await until(async () => {
      const [facts] = (await on.json("/api/v1/devices")).devices;
      return facts.gpus.find(({ uuid }: { uuid: string }) => uuid === uuidOf(1)).lost === true;
    });
  });

  test("have no present values while the process that reads them hangs", async () => {
    const gpus = scenario(...two);
    ends.push(() => gpus.remove());
    const watched = watchGpus(gpus, { limits: { silence: 20 } });
    const { on } = sample({ gpus: watched.source });
    const { latest, device } = on.collector;
    await until(() => latest.of(device).has(uuidOf(1)));
    gpus.set(...two, "slow nvmlDeviceGetUtilizationRates:60000000");
    await until(() => watched.source.reader().status === "hung");
    expect([...latest.of(device).keys()].filter((subject) => subject.startsWith("GPU"))).toEqual([]);
  });
});
