import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { heapStats } from "bun:jsc";
import type { MqttClient } from "mqtt";
import { createCounts } from "../src/fedml/counts.ts";
import { deviceOfEdge, hardwareTopics } from "../src/fedml/hardware.ts";
import { readDevice, readPerformance } from "../src/fedml/hardware-values.ts";
import { createWriter } from "../src/fedml/writer.ts";
import { finishRun } from "../src/run/finish.ts";
import { publishPacket, RawMqtt } from "./helpers/mqtt.ts";
import { until } from "./helpers/relay.ts";
import { createTestStorage, type TestStorage } from "./helpers/storage.ts";

const RUN = "100000000000077";
const OTHER = "100000000000078";
const DEVICE = deviceOfEdge({ run: RUN }, "7");

let storage: TestStorage;
let clients: Map<string, MqttClient>;
let now: number;
beforeEach(async () => {
  now = Date.UTC(2026, 10, 24, 9);
  clients = new Map();
  storage = await createTestStorage({ now: () => now });
});
afterEach(() => storage.close());

async function publish(run: string, topic: string, payload: unknown): Promise<void> {
  const client = clients.get(run) ?? (await storage.mqtt(run));
  clients.set(run, client);
  await client.publishAsync(topic, JSON.stringify(payload), { qos: 2 });
}

/** As `log_sys_perf` sends it every ten seconds. */
const performance = (more: Record<string, unknown> = {}) => ({
  run_id: 0,
  edge_id: 7,
  cpu_utilization: 12.5,
  SystemMemoryUtilization: 40.1,
  process_memory_in_use: 256,
  process_memory_in_use_size: 1.5,
  process_memory_available: 2048,
  process_cpu_threads_in_use: 33,
  disk_utilization: 71.2,
  network_traffic: 1_000_000,
  gpu_utilization: 50,
  gpu_temp: 60,
  gpu_time_spent_accessing_memory: 20,
  gpu_memory_allocated: 30,
  gpu_power_usage: 45,
  metrics_of_all_gpus: [
    {
      gpu_id: 0,
      gpu_name: "NVIDIA H100 80GB HBM3",
      gpu_utilization: 90,
      gpu_memory_allocated: 55.5,
      gpu_temp: 61,
      gpu_power_usage: 80,
      gpu_time_spent_accessing_memory: 35,
    },
    { gpu_id: 1, gpu_name: "NVIDIA H100 80GB HBM3", gpu_utilization: 10, gpu_temp: 59 },
  ],
  timestamp: now,
  ...more,
});

const send = (more: Record<string, unknown> = {}, run = RUN) =>
  publish(run, "fl_client/mlops/system_performance", performance(more));

/** Every value of a reading that was kept, in time. */
async function kept(reading: string, subject = "machine", device = DEVICE): Promise<number[]> {
  const page = await storage.json(
    `/api/v1/devices/${device}/samples?subjects=${encodeURIComponent(subject)}&readings=${reading}&from=${now - 3_600_000}&to=${now + 1000}&points=3600`,
  );
  return page.series.flatMap(({ mean }: { mean: (number | null)[] }) =>
    mean.filter((value) => value !== null),
  );
}

describe("what a client reads of its machine", () => {
  test("is in our units, under a device of its edge, and on its run", async () => {
    await send();
    expect(await kept("cpu.utilization")).toEqual([0.125]);
    expect(await kept("memory.utilization")).toEqual([0.401]);
    expect(await kept("memory.available")).toEqual([2 * 1024 ** 3]);
    expect(await kept("filesystem.utilization")).toEqual([0.712]);
    expect(await kept("run.memory.rss", `run/${RUN}`)).toEqual([256 * 1024 ** 2]);
    expect(await kept("run.memory.utilization", `run/${RUN}`)).toEqual([0.015]);
    expect(await kept("run.threads", `run/${RUN}`)).toEqual([33]);
    expect(await kept("gpu.utilization", "edge-gpu-0")).toEqual([0.9]);
    expect(await kept("gpu.memory.utilization", "edge-gpu-0")).toEqual([0.555]);
    expect(await kept("gpu.memory.activity", "edge-gpu-0")).toEqual([0.35]);
    expect(await kept("gpu.temperature", "edge-gpu-0")).toEqual([61]);
    expect(await kept("gpu.power.utilization", "edge-gpu-0")).toEqual([0.8]);
    expect(await kept("gpu.utilization", "edge-gpu-1")).toEqual([0.1]);
    // Nobody said so: that is no zero.
    expect(await kept("gpu.memory.utilization", "edge-gpu-1")).toEqual([]);
    const { devices } = await storage.json("/api/v1/devices");
    expect(devices).toMatchObject([
      {
        id: DEVICE,
        name: "edge 7",
        cores: null,
        memory: null,
        gpus: [
          { index: 0, name: "NVIDIA H100 80GB HBM3" },
          { index: 1, name: "NVIDIA H100 80GB HBM3" },
        ],
        runs: [RUN],
        latest: { "": { values: { "cpu.utilization": 0.125 } } },
      },
    ]);
    const use = await storage.json(`/api/v1/runs/${RUN}/devices`);
    expect(use.devices).toMatchObject([
      { device: DEVICE, name: "edge 7", from: new Date(now).toISOString(), to: null, attribution: null },
    ]);
  });

  test("has a rate where it tells what went over the network so far; none at first, nor where that begins anew", async () => {
    for (const bytes of [1_000_000, 3_000_000, 4_000_000, 500_000, 1_500_000]) {
      await send({ network_traffic: bytes, timestamp: now });
      now += 10_000;
    }
    // (A rate is kept with three digits.)
    const rates = (await kept("network.traffic")).map((rate) => Math.round(rate / 1000));
    expect(rates).toEqual([200, 100, 100]);
    expect(await kept("cpu.utilization")).toHaveLength(5);
  });

  test("is kept once, however often it comes", async () => {
    await send();
    await send({ cpu_utilization: 99 });
    expect(await kept("cpu.utilization")).toEqual([0.125]);
  });

  test("that can't be stored now is kept when it comes again", async () => {
    await send({ edge_id: 8 });
    const { collector, edge } = storage;
    const keys = edge.keys.mqttOf({ run: RUN });
    const topic = "fl_client/mlops/system_performance";
    const message = JSON.stringify(performance());
    collector.connection.exec("ALTER TABLE run_device RENAME TO away");
    const first = await RawMqtt.connect(edge.port!, { client: "paho", ...keys });
    first.send(publishPacket(topic, message));
    await first.closed;
    collector.connection.exec("ALTER TABLE away RENAME TO run_device");
    const again = await RawMqtt.connect(edge.port!, { client: "paho", ...keys });
    await again.publish(topic, message, { dup: true });
    await again.vanish();
    expect(await kept("cpu.utilization")).toEqual([0.125]);
  });

  test("has the time at which it came where its own is out of this world", async () => {
    await send({ timestamp: 5 });
    expect(await kept("cpu.utilization")).toEqual([0.125]);
  });

  test("is another device in another run, whatever its edge is called", async () => {
    await send();
    await send({}, OTHER);
    const { devices } = await storage.json("/api/v1/devices");
    expect(devices.map(({ name }: { name: string }) => name)).toEqual(["edge 7", "edge 7"]);
    expect(new Set(devices.map(({ id }: { id: string }) => id)).size).toBe(2);
  });

  test("belongs to the run until that has ended, and is closed at the next start where that was missed", async () => {
    await send();
    now += 60_000;
    await finishRun(storage.collector, RUN, { status: "FINISHED" });
    const useOf = async (run: string) => (await storage.json(`/api/v1/runs/${run}/devices`)).devices[0];
    while ((await useOf(RUN)).to === null) await Bun.sleep(1);
    expect((await useOf(RUN)).to).toBe(new Date(now).toISOString());
    await send({ timestamp: now }, OTHER);
    storage = await storage.restart();
    expect((await useOf(OTHER)).to).toBe(new Date(now).toISOString());
    clients.clear();
    now += 10_000;
    await send({ timestamp: now }, OTHER);
    expect((await useOf(OTHER)).to).toBeNull();
  });

  test("is not more machines than a run can have", async () => {
    const one = (edge: number) =>
      publish(RUN, "ml_client/mlops/gpu_device_info", { edgeId: edge, updateTime: now });
    await one(0);
    await Promise.all(Array.from({ length: 1000 }, (_, index) => one(index + 1)));
    expect(storage.edge.counts.list()).toMatchObject([{ what: "too-large", count: 1 }]);
    // It is no new one, though the collector has forgotten that it knows it.
    await finishRun(storage.collector, RUN, { status: "FINISHED" });
    await one(999);
    await one(1001);
    expect(storage.edge.counts.list()).toMatchObject([{ what: "too-large", count: 2 }]);
  }, 60_000);
});

describe("what a device says of itself", () => {
  const info = {
    edgeId: 7,
    deployMasterId: "",
    deployWorkerIds: [],
    memoryTotal: 16,
    memoryAvailable: 10.5,
    diskSpaceTotal: 100,
    diskSpaceAvailable: 25,
    cpuUtilization: 25,
    cpuCores: 8,
    gpuCoresTotal: 0,
    gpuCoresAvailable: 0,
    gpuAvailableIds: [],
    networkTraffic: 5_000_000,
  };

  test("is added to what is known of its edge, and over a restart", async () => {
    await send();
    await publish(RUN, "ml_client/mlops/gpu_device_info", { ...info, updateTime: now + 1 });
    storage = await storage.restart();
    clients.clear();
    now += 10_000;
    await publish(RUN, "ml_client/mlops/gpu_device_info", { ...info, updateTime: now });
    const { devices } = await storage.json("/api/v1/devices");
    expect(devices).toMatchObject([{ name: "edge 7", cores: 8, memory: 16 * 1024 ** 3, gpus: [{}, {}] }]);
    expect((await kept("memory.used")).at(-1)).toBe(5.5 * 1024 ** 3);
    expect((await kept("filesystem.used")).at(-1)).toBe(75 * 1024 ** 3);
  });
});

test("what nobody said, or what is no number, is absent", () => {
  expect(
    readPerformance({ cpu_utilization: null, disk_utilization: "7", gpu_temp: Number.NaN }, RUN),
  ).toEqual({
    facts: {},
    values: { "": {}, [`run/${RUN}`]: {} },
    traffic: undefined,
  });
  expect(readDevice({ memoryAvailable: 1 })).toEqual({
    facts: {},
    values: { "": { "memory.available": 1024 ** 3 } },
    traffic: undefined,
  });
});

test("means of GPUs that are not listed stand for all of them", () => {
  const { facts, values } = readPerformance({ gpu_utilization: 50, metrics_of_all_gpus: [] }, RUN);
  expect(facts.gpus).toMatchObject([{ name: "mean of all GPUs" }]);
  expect(values["edge-gpus"]).toEqual({ "gpu.utilization": 0.5 });
});

test("nothing of what a job has cost is kept, least of all its key", async () => {
  await send();
  await publish(RUN, "ml_client/mlops/job_computing_cost", {
    edge_id: 7,
    job_id: RUN,
    api_key: "secret-key-of-mine",
    duration: 3,
  });
  const { connection } = storage.collector;
  const tables = connection.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all() as {
    name: string;
  }[];
  for (const { name } of tables)
    for (const row of connection.prepare(`SELECT * FROM "${name}"`).all() as Record<string, unknown>[])
      for (const value of Object.values(row))
        expect(
          (value instanceof ArrayBuffer ? Buffer.from(value).toString("latin1") : String(value)).includes(
            "secret-key",
          ),
        ).toBe(false);
  expect(storage.edge.counts.list()).toEqual([]);
});

test("of a run that has ended nothing stays in memory for what comes after its end", async () => {
  const { collector } = storage;
  const counts = createCounts();
  const keys = storage.edge.keys;
  const [topic] = hardwareTopics({ collector, writer: createWriter(collector), counts, keys });
  // Each edge has one of these.
  const sets = () => {
    Bun.gc(true);
    return heapStats().objectTypeCounts["Set"] ?? 0;
  };
  const say = (run: string) =>
    topic!.receive({
      topic: topic!.filter,
      match: [],
      scope: { run },
      payload: performance({ timestamp: now }),
      received: now,
      again: false,
      client: "c",
    });
  /** Tells how many are left of thirty runs, each of which says something so many times after its end. */
  const left = async (first: number, times: number) => {
    const before = sets();
    for (let run = first; run < first + 30; run++) {
      await say(String(run));
      await finishRun(collector, String(run), { status: "FINISHED" });
      for (let time = 0; time < times; time++) {
        now += 10_000;
        await say(String(run));
      }
    }
    return () => sets() - before;
  };
  // What else remembers a run.
  const others = (await left(200000000000000, 0))();
  const more = await left(300000000000000, 1);
  // The collector may find some on its stack for a moment.
  const count = await until(
    () => more() - others,
    (over) => over < 15,
    10_000,
  );
  expect(count).toBeLessThan(15);
});
