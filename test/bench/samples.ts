/** What stored samples cost, and how fast a week of them is on a chart. They are made in this process: samples have no way in over HTTP. */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCollector, type Collector } from "../../src/collector.ts";
import { appendSamples } from "../../src/sample/append.ts";
import { registerDevice } from "../../src/device/register.ts";
import type { DeviceFacts } from "../../src/device/schema.ts";
import type { Sample, SamplePage } from "../../src/sample/schema.ts";
import { requestHead } from "./http-load.ts";
import { createRandom } from "./load.ts";
import type { Figures, Options } from "./measures.ts";
import { startServer } from "./server.ts";
import { cpuSeconds, median, quantile } from "./statistics.ts";

const DEVICE = "0123456789abcdef";
const BEGIN = 1_790_000_400_000;
const BLOCK_SECONDS = 600;
const READINGS = 20;

/** A GPU in training, once a second, with the noise that its sensors have and in the steps in which they tell it. */
export function createGpu(seed: number): (second: number) => Record<string, number> {
  const random = createRandom(seed);
  const normal = () => random() + random() + random() + random() - 2;
  let temperature = 62;
  let energy = 1e8 * (1 + seed);
  return (second) => {
    // A step of training each 40 s, with a pause for its checkpoint, and an evaluation each half an hour.
    const busy = second % 40 < 36 ? 1 : 0.35;
    const power = Math.min(700, 120 + 520 * busy + 18 * normal());
    energy += power + normal();
    temperature += 0.02 * (power / 10 - temperature) + 0.3 * normal();
    const rate = (full: number) => Math.max(0, full * busy * (1 + 0.25 * normal()));
    const share = (full: number) => Math.min(1, Math.max(0, full * busy + 0.03 * normal()));
    const percent = (value: number) => Math.round(100 * value) / 100;
    return {
      "gpu.utilization": percent(share(0.98)),
      "gpu.memory.activity": percent(share(0.55)),
      "gpu.memory.used":
        2 ** 20 * (61_000 + (Math.floor(second / 900) % 40) + (second % 1800 < 60 ? 4000 : 0)),
      "gpu.memory.reserved": 2 ** 20 * 645,
      "gpu.memory.total": 2 ** 20 * 81_559,
      "gpu.temperature": Math.round(temperature),
      "gpu.memory.temperature": Math.round(temperature + 9 + 0.5 * normal()),
      "gpu.power": power,
      "gpu.power.limit": 700,
      "gpu.energy": energy,
      "gpu.clock.sm": 1980 - 15 * Math.max(0, Math.round(2 * normal() + (power > 640 ? 6 : 0))),
      "gpu.clock.memory": 2619,
      "gpu.performance_state": 0,
      "gpu.throttle": power > 655 ? 4 : 0,
      "gpu.pcie.receive": rate(9e8),
      "gpu.pcie.transmit": rate(3e8),
      "gpu.nvlink.receive": rate(6e10),
      "gpu.nvlink.transmit": rate(6e10),
      "gpu.sm.active": share(0.83),
      "gpu.tensor.active": share(0.41),
    };
  };
}

/** A machine of 16 processors with two disks and a network, as noisy as such a one is. */
export function createMachine(seed: number): (second: number) => Record<string, number> {
  const random = createRandom(seed);
  const normal = () => random() + random() + random() + random() - 2;
  const share = (mean: number) => Math.min(1, Math.max(0, mean + 0.1 * normal()));
  const rate = (mean: number) => Math.max(0, mean * (1 + 0.5 * normal()));
  let load = 9;
  return (second) => {
    load += 0.02 * (9 + 3 * normal() - load);
    const values: Record<string, number> = {
      "cpu.utilization": share(0.55),
      "cpu.user": share(0.4),
      "cpu.system": share(0.1),
      "cpu.iowait": share(0.02),
      "cpu.steal": 0,
      "load.1": load,
      "load.5": load * 0.95,
      "load.15": load * 0.9,
      "memory.used": 2 ** 30 * 180 + 4096 * Math.round(20_000 * normal()),
      "memory.total": 2 ** 38,
      "memory.cached": 2 ** 35 + 4096 * (second % 100_000),
      "memory.shared": 2 ** 33,
      "swap.used": 0,
      "swap.total": 2 ** 33,
      "pressure.cpu": share(0.05),
      "pressure.memory": 0,
      "pressure.io": share(0.01),
      "network.receive": rate(4e7),
      "network.transmit": rate(2e7),
      "network.receive@eth0": rate(4e7),
      "network.transmit@eth0": rate(2e7),
    };
    for (let core = 0; core < 16; core++) values[`cpu.core.utilization@${core}`] = share(0.55);
    for (const disk of ["nvme0n1", "nvme1n1"]) {
      values[`disk.read@${disk}`] = rate(3e8);
      values[`disk.write@${disk}`] = second % 40 < 4 ? rate(5e8) : 0;
      values[`disk.read_operations@${disk}`] = rate(2000);
      values[`disk.write_operations@${disk}`] = second % 40 < 4 ? rate(3000) : 0;
      values[`disk.utilization@${disk}`] = share(0.4);
    }
    if (second % 30 === 0)
      for (const mount of ["/", "/data"]) {
        values[`filesystem.used@${mount}`] = 2 ** 40 + 4096 * second * 100;
        values[`filesystem.total@${mount}`] = 2 ** 42;
      }
    return values;
  };
}

type Reader = (second: number) => Record<string, number>;

interface Filled {
  dataDir: string;
  points: number;
}

/** `seconds` of each, in chunks of every tier, and the process that wrote them ended. */
async function fill(seconds: number, readers: Record<string, Reader>): Promise<Filled> {
  const dataDir = mkdtempSync(join(tmpdir(), "binnacle-samples-"));
  const collector = open(dataDir);
  const jitter = createRandom(99);
  let points = 0;
  for (let from = 0; from < seconds; from += BLOCK_SECONDS) {
    const samples: Sample[] = [];
    for (let second = from; second < Math.min(seconds, from + BLOCK_SECONDS); second++) {
      const time = BEGIN + 1000 * second + Math.floor(4 * jitter());
      for (const [subject, read] of Object.entries(readers)) {
        const values = read(second);
        points += Object.keys(values).length;
        samples.push({ subject, time, values });
      }
    }
    await appendSamples(collector, DEVICE, samples);
    await collector.samples.finish();
  }
  await registerDevice(collector, DEVICE, FACTS);
  await collector.tidy(60_000);
  await collector.close();
  return { dataDir, points };
}

const FACTS: DeviceFacts = {
  name: "bench",
  os: "Linux",
  kernel: "6.8",
  architecture: "x64",
  boot: null,
  processor: null,
  cores: 16,
  memory: 2 ** 38,
  container: false,
  gpu_reader: {
    status: "ok",
    reason: null,
    advice: null,
    driver: null,
    cuda: null,
    library: null,
  },
  gpus: [],
};

const gpus = (count: number): Record<string, Reader> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, gpu) => [
      `GPU-00000000-0000-0000-0000-00000000000${gpu}`,
      createGpu(gpu + 1),
    ]),
  );

function open(dataDir: string): Collector {
  return openCollector({
    dataDir,
    onFatal(error) {
      throw error;
    },
  });
}

const sizeOf = (dataDir: string) =>
  readdirSync(dataDir)
    .filter((name) => name.startsWith("binnacle.db"))
    .reduce((sum, name) => sum + statSync(join(dataDir, name)).size, 0);

/** Bytes a point in the file, all tiers with it: over the readings of GPUs, and of a machine. */
export async function sampleBytes({ million }: Options): Promise<Figures> {
  const empty = await fill(0, {});
  const figures: Figures = {};
  for (const [name, readers, readings] of [
    ["gpu", gpus(4), 4 * READINGS],
    ["machine", { "": createMachine(5) }, 47],
  ] as const) {
    // Whole chunks of the second tier: the last one of each is never full.
    const seconds = Math.max(1, Math.round(million / readings / 6000)) * 6000;
    const { dataDir, points } = await fill(seconds, readers);
    figures[name] = (sizeOf(dataDir) - sizeOf(empty.dataDir)) / points;
    rmSync(dataDir, { recursive: true, force: true });
  }
  rmSync(empty.dataDir, { recursive: true, force: true });
  return figures;
}

/** A week of eight GPUs on a chart, over HTTP: the first answer of a collector just started, and those after it. */
export async function sampleWeek({ million }: Options): Promise<Figures> {
  // A tenth of a week where everything is to be quick.
  const seconds = million < 1_000_000 ? 60_600 : 7 * 86_400;
  const { dataDir } = await fill(seconds, gpus(8));
  const server = await startServer(dataDir);
  try {
    const connection = await server.connection();
    const ask = async (points: number) => {
      const query = `from=${BEGIN}&to=${BEGIN + 1000 * seconds - 1}&points=${points}`;
      const path = `/api/v1/devices/${DEVICE}/samples?${query}`;
      const begun = performance.now();
      const { status, body } = await connection.send(requestHead("GET", path, server), undefined);
      const ms = performance.now() - begun;
      const page = JSON.parse(body.toString()) as SamplePage;
      if (status !== 200 || page.series.length !== 8 * READINGS)
        throw new Error(`${status}: ${page.series?.length} series`);
      return { ms, bytes: body.length };
    };
    const first = await ask(500);
    const again: number[] = [];
    const cpuFrom = cpuSeconds(server.pid);
    for (let index = 0; index < 20; index++) again.push((await ask(500)).ms);
    const cpu = ((cpuSeconds(server.pid) - cpuFrom) * 1000) / again.length;
    connection.close();
    return { first: first.ms, p50: median(again), p95: quantile(again, 0.95), cpu, bytes: first.bytes };
  } finally {
    await server.stop();
  }
}
