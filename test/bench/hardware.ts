/**
 * What recording the hardware costs: the machine's sampler, the reader of eight GPUs that a library in NVIDIA's place plays, the
 * whole collector, and the training beside it. Processor time is the processes' own, from /proc; that of a child counts.
 */
import { spawn, execFileSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createMachine } from "../../src/machine/machine.ts";
import { ratesOf } from "../../src/machine/rates.ts";
import { debianProgram } from "../helpers/debian.ts";
import { collectorEnvironment, scenario } from "../helpers/nvml.ts";
import type { Figures, Options } from "./measures.ts";
import { freePort, startServer, until, type Server } from "./server.ts";
import { cpuSeconds, median, memoryMiB, quantile } from "./statistics.ts";

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

/** Processes that this one started, and theirs. */
function descendants(pid: number): number[] {
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((other) => {
      try {
        const stat = readFileSync(`/proc/${other}/stat`, "utf8");
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
      } catch {
        return false;
      }
    });
  return children.flatMap((child) => [child, ...descendants(child)]);
}

/** Memory of a process with pages that others map as well divided among them: the binary's own are, between collector and reader. */
function shareMiB(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? NaN) / 1024;
}

const commandOf = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");

/** Share of a core, in percent, and memory, MiB, of processes over a window. */
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
    memory: pids.reduce((sum, pid) => sum + memoryMiB(pid).now, 0),
    share: pids.reduce((sum, pid) => sum + shareMiB(pid), 0),
  };
}

/** Asks once a second, as a Prometheus would at our own interval. */
function scrape(url: string, token?: string): { end: () => void; bytes: () => number } {
  let bytes = 0;
  const timer = setInterval(async () => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(url, { headers }).catch(() => undefined);
    if (response?.ok) bytes = (await response.text()).length;
  }, 1000);
  return { end: () => clearInterval(timer), bytes: () => bytes };
}

const metricsOf = async ({ port, token }: Server) => {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, {
    headers: { authorization: `Bearer ${token}` },
  });
  return response.text();
};

/** The collector with everything on and eight GPUs: its reader alone, the whole, and the whole while somebody scrapes it. */
export async function collector(options: Options): Promise<Figures> {
  const seconds = windowSeconds(options);
  const gpus = playGpus();
  const server = await startServer(undefined, { env: gpus.env });
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
    const children = descendants(server.pid);
    const reader = children.find((pid) => commandOf(pid).includes("gpu-reader"));
    if (reader === undefined) throw new Error(`no reader among ${children.map(commandOf).join("; ")}`);
    // What starting cost is no part of it.
    await sleep(10_000);
    const [own, whole] = await Promise.all([
      usage([reader], seconds),
      usage([server.pid, ...children], seconds),
    ]);
    const scraper = scrape(`http://127.0.0.1:${server.port}/metrics`, server.token);
    await sleep(3000);
    const scraped = await usage([server.pid, ...children], seconds);
    scraper.end();
    return {
      reader: own.core,
      readerMemory: own.memory,
      readerShare: own.share,
      core: whole.core,
      memory: whole.memory,
      share: whole.share,
      scraped: scraped.core,
      scrapedMemory: scraped.memory,
      bytes: scraper.bytes(),
    };
  } finally {
    await server.stop();
    gpus.end();
  }
}

/** node_exporter, which reads when it is asked, asked once a second; and nvitop's exporter, which reads once a second. */
export async function measureHardwarePeers(options: Options): Promise<Record<string, Figures>> {
  const figures: Record<string, Figures> = {};
  const nodeExporter = debianProgram("prometheus-node-exporter");
  if (nodeExporter === undefined) console.error("no node_exporter here: see .ci/tools.mjs");
  else
    figures["nodeExporter"] = await measureExporter(
      (port) => ({ command: nodeExporter, args: [`--web.listen-address=127.0.0.1:${port}`], env: {} }),
      /^node_cpu_seconds_total/m,
      options,
    );
  const gpus = playGpus();
  const venv = mkdtempSync(join(tmpdir(), "bench-nvitop-"));
  try {
    const python = process.env["BENCH_NVITOP_VENV"] ?? installNvitop(venv);
    figures["nvitop"] = await measureExporter(
      (port) => ({
        command: join(python, "bin/nvitop-exporter"),
        args: ["--port", String(port), "--interval", "1"],
        env: gpus.env,
      }),
      // It must see all that we see, or it has nothing to do.
      new RegExp(`^gpu_utilization_Percentage\\{.*index="${GPUS - 1}"`, "m"),
      options,
    );
  } catch (error) {
    console.error("nvitop's exporter could not be measured:", error);
  } finally {
    gpus.end();
    rmSync(venv, { recursive: true, force: true });
  }
  return figures;
}

function installNvitop(venv: string): string {
  console.error("installing nvitop-exporter from PyPI …");
  execFileSync("python3", ["-m", "venv", venv]);
  execFileSync(join(venv, "bin/pip"), ["install", "-q", "nvitop-exporter"], { stdio: "inherit" });
  return venv;
}

async function measureExporter(
  program: (port: number) => { command: string; args: string[]; env: Record<string, string> },
  proof: RegExp,
  options: Options,
): Promise<Figures> {
  const port = await freePort();
  const { command, args, env } = program(port);
  if (!existsSync(command)) throw new Error(`there is no ${command}`);
  const child: ChildProcess = spawn(command, args, { stdio: "ignore", env: { ...process.env, ...env } });
  const url = `http://127.0.0.1:${port}/metrics`;
  try {
    await until(
      async () => {
        const text = await (await fetch(url)).text();
        if (!proof.test(text)) throw new Error(`${command} does not show ${proof}`);
      },
      { timeout: 60_000, pause: 500 },
    );
    const scraper = scrape(url);
    await sleep(10_000);
    const { core, memory } = await usage([child.pid!, ...descendants(child.pid!)], windowSeconds(options));
    scraper.end();
    return { core, memory, bytes: scraper.bytes() };
  } finally {
    child.kill("SIGKILL");
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
