/**
 * What recording the hardware costs: the machine's sampler, the reader of eight GPUs that a library in NVIDIA's place plays, the
 * whole collector with a run, side by side with the exporters that others use, and the training beside it. Processor time is the processes' own, from /proc; that of a child counts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createMachine } from "../../src/machine/machine.ts";
import { ratesOf } from "../../src/machine/rates.ts";
import { collectorEnvironment, scenario } from "../helpers/nvml.ts";
import { exporters, scrape, type Exporter } from "./exporters.ts";
import type { Figures, Options } from "./measures.ts";
import { binary, startServer, until, type Server } from "./server.ts";
import { cpuSeconds, descendants, median, memoryMiB, quantile } from "./statistics.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const client = join(import.meta.dirname, "../../src/client/python");

/** Seconds over which the processor time of a process is taken: its clock ticks in hundredths. */
const windowSeconds = ({ seconds }: Options) => seconds * 10;

/** Of one look at this machine a second, with what makes readings of it: cold, as it is in the collector. */
export async function machineSampler(options: Options): Promise<Figures> {
  const machine = createMachine();
  const took: number[] = [];
  let before = machine.read()!;
  // As after some minutes: what the runtime compiles when it has run often is compiled.
  for (let index = 0; index < 500; index++) {
    const reading = machine.read()!;
    ratesOf(before, reading);
    before = reading;
  }
  for (let second = 0; second < Math.min(30, windowSeconds(options)); second++) {
    await sleep(1000);
    const begun = process.cpuUsage();
    const reading = machine.read()!;
    ratesOf(before, reading);
    const { user, system } = process.cpuUsage(begun);
    took.push(user + system);
    before = reading;
  }
  machine.close();
  const mean = took.reduce((sum, one) => sum + one, 0) / took.length;
  return { core: mean / 1e4, microseconds: median(took), worst: quantile(took, 1) };
}

const GPUS = 8;

/** Eight GPUs that move, with two processes each. */
function playGpus(): { env: Record<string, string>; end: () => void } {
  const played = scenario(
    `gpus ${GPUS}`,
    "gpu* utilization 60~99/7",
    "gpu* temperature 50~75/60",
    "gpu* power 300000~690000/9",
    ...Array.from({ length: GPUS }, (_, gpu) => [
      `gpu${gpu} process ${100_000 + 2 * gpu} 30000000000 c 60`,
      `gpu${gpu} process ${100_001 + 2 * gpu} 20000000000 c 30`,
    ]).flat(),
  );
  const env = collectorEnvironment(played);
  return {
    // By this name others find it.
    env: { ...env, LD_LIBRARY_PATH: dirname(env.BINNACLE_NVML) },
    end: () => played.remove(),
  };
}

/** In the unit of the limits, which are in MB. */
const megabytes = (mebibytes: number) => (mebibytes * 2 ** 20) / 1e6;

/** Memory of a process with pages that others map as well divided among them: the binary's own are, between collector and reader. */
function shareMiB(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? NaN) / 1024;
}

const commandOf = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");

/** Share of a core, in percent, and memory, MB, of processes over a window. */
async function usage(
  pids: number[],
  seconds: number,
): Promise<{ core: number; memory: number; share: number }> {
  const total = () => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  const from = total();
  const begun = performance.now();
  await sleep(seconds * 1000);
  return {
    core: (100 * (total() - from)) / ((performance.now() - begun) / 1000),
    memory: megabytes(pids.reduce((sum, pid) => sum + memoryMiB(pid).now, 0)),
    share: megabytes(pids.reduce((sum, pid) => sum + shareMiB(pid), 0)),
  };
}

const metricsOf = async ({ port, token }: Server) => {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, {
    headers: { authorization: `Bearer ${token}` },
  });
  return response.text();
};

/** Processes of the run that is live meanwhile. */
export const RUN_PROCESSES = 5;
/** As a loader's workers: 64 MiB that all of them map. They end with whoever holds their standard input. */
const WORKERS = `
import os
data = bytearray(b"1") * (64 << 20)
for _ in range(${RUN_PROCESSES - 1}):
    if os.fork() == 0:
        break
os.read(0, 1)
`;

/** A run as people start it: attribution looks at its processes every second. */
async function launchRun(server: Server): Promise<{ end: () => Promise<void> }> {
  const child = spawn(binary, ["launch", "--", "python3", "-c", WORKERS], {
    stdio: ["pipe", "ignore", "inherit"],
    env: {
      ...process.env,
      BINNACLE_URL: `http://127.0.0.1:${server.port}`,
      BINNACLE_TOKEN: server.token,
      CUDA_VISIBLE_DEVICES: "0,1",
    },
  });
  const end = async () => {
    const gone = child.exitCode === null ? once(child, "exit") : undefined;
    child.stdin.end();
    await gone;
  };
  try {
    await until(
      async () => {
        const text = await metricsOf(server);
        const found = Number(/^binnacle_run_processes\{.*\} (\S+)$/m.exec(text)?.[1] ?? 0);
        if (found < RUN_PROCESSES) throw new Error(`the run shows ${found} processes of ${RUN_PROCESSES}`);
        if (!/^DCGM_FI_DEV_GPU_UTIL\{.*run_id="\d/m.test(text)) throw new Error("the run has no GPU");
      },
      { timeout: 30_000, pause: 500 },
    );
  } catch (error) {
    await end();
    throw error;
  }
  return { end };
}

/**
 * The collector with everything on, eight GPUs and a run: its reader alone, the whole, and the whole while somebody scrapes it,
 * the peers being scraped like it at the same time.
 */
export async function collector(options: Options): Promise<Figures> {
  const seconds = windowSeconds(options);
  const gpus = playGpus();
  const server = await startServer(undefined, { env: gpus.env });
  const ends: (() => void | Promise<void>)[] = [() => server.stop(), gpus.end];
  try {
    await until(
      async () => {
        const text = await metricsOf(server);
        const found = new Set(
          [...text.matchAll(/^DCGM_FI_DEV_GPU_UTIL\{gpu="(\d+)"/gm)].map(([, gpu]) => gpu),
        );
        if (found.size !== GPUS) throw new Error(`the reader shows ${found.size} of ${GPUS} GPUs:\n${text}`);
      },
      { timeout: 30_000, pause: 500 },
    );
    const run = await launchRun(server);
    ends.unshift(run.end);
    const children = descendants(server.pid);
    const reader = children.find((pid) => commandOf(pid).includes("gpu-reader"));
    if (reader === undefined) throw new Error(`no reader among ${children.map(commandOf).join("; ")}`);
    // What starting cost is no part of it.
    await sleep(10_000);
    const [own, whole] = await Promise.all([
      usage([reader], seconds),
      usage([server.pid, ...children], seconds),
    ]);
    const peers: Record<string, Exporter> = {};
    for (const [name, start] of Object.entries(options.peers ? exporters(GPUS) : {}))
      try {
        peers[name] = await start(gpus.env);
        ends.unshift(peers[name].end);
      } catch (error) {
        console.error(`*** ${name} IS MISSING, nothing is held against it:`, error);
        process.exitCode = 1;
      }
    const scraper = scrape(`http://127.0.0.1:${server.port}/metrics`, server.token);
    ends.unshift(scraper.end);
    await sleep(10_000);
    const [scraped, ...theirs] = await Promise.all([
      usage([server.pid, ...children], seconds),
      ...Object.values(peers).map(({ pids }) => usage(pids(), seconds)),
    ]);
    const ages = scraper.ages();
    if (!ages.every(Number.isFinite)) throw new Error("a scrape was not answered, or showed no sample");
    return {
      reader: own.core,
      readerMemory: own.memory,
      readerShare: own.share,
      core: whole.core,
      memory: whole.memory,
      share: whole.share,
      scraped: scraped.core,
      scrapedMemory: scraped.memory,
      scrapes: ages.length,
      ageP99: quantile(ages, 0.99),
      bytes: scraper.bytes(),
      ...Object.fromEntries(
        Object.keys(peers).flatMap((name, index) => [
          [`${name}Core`, theirs[index]!.core],
          [`${name}Memory`, theirs[index]!.memory],
        ]),
      ),
    };
  } finally {
    for (const end of ends) await end();
  }
}

/** ms that a collector records, and then stands still for. */
const SPELL_MS = 3000;
/** ms after a change that count for neither. */
const SETTLE_MS = 500;

/**
 * The example's training step while a collector beside it records this machine and eight GPUs, and while that one stands still:
 * in turns of seconds within one training, so that what else the machine does falls on both. Another collector, which records no
 * hardware, takes what is logged all the while.
 */
export async function trainingStep({ repetitions }: Options): Promise<Figures> {
  const pairs = Math.max(10, 6 * repetitions);
  const gpus = playGpus();
  const ingests = await startServer(undefined, { args: ["--no-hardware"] });
  const records = await startServer(undefined, { env: gpus.env });
  const data = mkdtempSync(join(tmpdir(), "bench-train-"));
  await sleep(5000);
  const recorders = [records.pid, ...descendants(records.pid)];
  const signal = (name: "SIGSTOP" | "SIGCONT") => recorders.forEach((pid) => process.kill(pid, name));
  try {
    const training = train((2 * pairs * SPELL_MS) / 1000 + 3, ingests, data);
    await sleep(2000);
    const spells: { from: number; to: number; on: boolean }[] = [];
    for (let spell = 0; spell < 2 * pairs; spell++) {
      // On, off, off, on: a drift falls on both alike.
      const on = spell % 4 === 0 || spell % 4 === 3;
      signal(on ? "SIGCONT" : "SIGSTOP");
      const from = Date.now() + SETTLE_MS;
      await sleep(SPELL_MS);
      spells.push({ from, to: Date.now(), on });
    }
    signal("SIGCONT");
    const steps = await training;
    const lengths = spells.map(({ from, to, on }) => {
      const within = steps.filter(([end]) => end * 1000 > from && end * 1000 < to);
      if (within.length < 10) throw new Error(`${within.length} steps in ${to - from} ms`);
      return {
        on,
        wall: median(within.map(([, wall]) => wall)),
        processor: median(within.map(([, , processor]) => processor)),
      };
    });
    const wall: number[] = [];
    const processor: number[] = [];
    for (let at = 0; at < lengths.length; at += 2) {
      const [on, off] = lengths[at]!.on ? [lengths[at]!, lengths[at + 1]!] : [lengths[at + 1]!, lengths[at]!];
      wall.push(100 * (on.wall / off.wall - 1));
      processor.push(100 * (on.processor / off.processor - 1));
    }
    return {
      step: median(lengths.filter(({ on }) => !on).map(({ wall }) => wall)),
      slower: median(wall),
      ...confidence(wall),
      processor: median(processor),
      pairs,
    };
  } finally {
    signal("SIGCONT");
    await records.stop();
    await ingests.stop();
    gpus.end();
    rmSync(data, { recursive: true, force: true });
  }
}

type Step = [end: number, wall: number, processor: number];

async function train(seconds: number, server: Server, data: string): Promise<Step[]> {
  const child = spawn("python3", [join(import.meta.dirname, "train_step.py"), String(seconds)], {
    stdio: ["ignore", "pipe", "ignore"],
    env: {
      ...process.env,
      PYTHONPATH: client,
      BINNACLE_URL: `http://127.0.0.1:${server.port}`,
      BINNACLE_TOKEN: server.token,
      BINNACLE_DATA: data,
    },
  });
  let output = "";
  child.stdout.on("data", (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`train_step.py ended with ${code}`);
  return (JSON.parse(output) as { steps: Step[] }).steps;
}

/** 95 % of the medians that drawing as many differences again, with replacement, would have given. */
function confidence(differences: number[]): { lower: number; upper: number } {
  let seed = 1;
  const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  const medians = Array.from({ length: 2000 }, () =>
    median(differences.map(() => differences[Math.floor(random() * differences.length)]!)),
  );
  return { lower: quantile(medians, 0.025), upper: quantile(medians, 0.975) };
}
