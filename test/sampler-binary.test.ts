import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { findCgroupFolder } from "../src/run/machine.ts";
import {
  binaryPath,
  loudly,
  remove,
  startBinary,
  temporaryFolder,
  type RunningBinary,
} from "./helpers/binary.ts";
import { uuidOf } from "./helpers/gpus.ts";
import { collectorEnvironment, noCompiler, scenario } from "./helpers/nvml.ts";
import { startPython } from "./helpers/python.ts";

setDefaultTimeout(60_000);

const noLinux =
  process.platform !== "linux" && loudly("what a launched program used is tested on Linux alone");
const spin = (seconds: number) =>
  `import time\nwhile time.process_time() < ${seconds}: pass\nprint("spun", time.process_time())`;

interface Launched {
  id: string;
  code: number;
  stdout: string;
}

async function launch(
  dataDir: string,
  command: string[],
  env: Record<string, string> = {},
): Promise<Launched> {
  const child = Bun.spawn([binaryPath(), "launch", "--", ...command], {
    env: { PATH: process.env["PATH"]!, HOME: dataDir, BINNACLE_DATA: dataDir, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const id = /run (\d+)/.exec(stderr)?.[1];
  if (id === undefined) throw new Error(stderr);
  return { id, code, stdout };
}

async function json<T>(collector: RunningBinary, path: string): Promise<T> {
  const response = await collector.request(`/api/v1${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

interface Use {
  device: string;
  to: string | null;
  attribution: string;
  cpu_seconds: number;
  gpus: { uuid: string; by: string; energy: number | null; hours: number; shared: boolean }[];
}

async function useOf(collector: RunningBinary, run: string, isDone = (_: Use) => true): Promise<Use> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const [use] = (await json<{ devices: Use[] }>(collector, `/runs/${run}/devices`)).devices;
    if (use && use.to !== null && isDone(use)) return use;
    if (Date.now() > deadline) throw new Error(`it was not closed: ${JSON.stringify(use)}`);
    await Bun.sleep(50);
  }
}

describe.skipIf(noLinux)("the binary tells what a launched program used", () => {
  const folder = temporaryFolder();
  const gpus = scenario("gpus 2", "gpu* energy 1000000+250000", "gpu* power 250000");
  let collector: RunningBinary;
  beforeAll(async () => {
    collector = await startBinary({
      dataDir: folder,
      env: noCompiler ? {} : collectorEnvironment(gpus),
    });
  });
  afterAll(async () => {
    await collector.stop();
    gpus.remove();
    remove(folder);
  });

  test("its processor time to a tenth of a second, and samples of it", async () => {
    const { id, code, stdout } = await launch(folder, ["python3", "-c", spin(1.5)]);
    expect(code).toBe(0);
    const spun = Number(/spun ([\d.]+)/.exec(stdout)![1]);
    const use = await useOf(collector, id);
    expect(use.cpu_seconds).toBeGreaterThan(spun - 0.05);
    // What starting Python costs (pyenv runs a shell first), and launch itself for the moment in which it starts it.
    expect(use.cpu_seconds).toBeLessThan(spun + 0.6);
    expect(["cgroup", "descendants"]).toContain(use.attribution);
    // The batch is stored every ten seconds.
    const deadline = Date.now() + 20_000;
    for (;;) {
      const { series } = await json<{ series: { reading: string; mean: (number | null)[] }[] }>(
        collector,
        `/devices/${use.device}/samples?subjects=run/${id}&from=${Date.now() - 60_000}`,
      );
      const rss = series.find(({ reading }) => reading === "run.memory.rss")?.mean ?? [];
      if (rss.some((bytes) => bytes !== null && bytes > 2 ** 20)) break;
      if (Date.now() > deadline) throw new Error(`no samples: ${JSON.stringify(series)}`);
      await Bun.sleep(200);
    }
  });

  test("of a script that was not launched, from when it came, with what it started", async () => {
    const script = `
import os, subprocess, sys, time
${spin(0.5).split("\n").slice(0, 2).join("\n")}
import binnacle
run = binnacle.init(run_id="771100000000001")
began = time.process_time()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"])
while time.process_time() - began < 0.5: pass
run.finish()
`;
    const python = startPython(script, {
      env: { BINNACLE_URL: collector.url, BINNACLE_TOKEN: collector.token, BINNACLE_DATA: folder },
    });
    expect(await python.ended).toMatchObject({ code: 0 });
    const use = await useOf(collector, "771100000000001");
    expect(use.attribution).toBe("descendants");
    // Half a second of each; not the half from before.
    expect(use.cpu_seconds).toBeGreaterThan(0.95);
    expect(use.cpu_seconds).toBeLessThan(1.45);
  });

  test("a program that is gone before anybody looks has its time all the same", async () => {
    const { id } = await launch(folder, ["bash", "-c", "for ((i = 0; i < 20000; i++)); do :; done"]);
    const use = await useOf(collector, id);
    expect(use.cpu_seconds).toBeGreaterThan(0.01);
    expect(use.cpu_seconds).toBeLessThan(1);
  });

  test.skipIf(noCompiler)("its GPU, by CUDA_VISIBLE_DEVICES, and the energy of its time", async () => {
    const { id } = await launch(folder, ["sleep", "3"], { CUDA_VISIBLE_DEVICES: "1" });
    // Until a look at the counter after its end.
    const isMetered = ({ gpus: [gpu] }: Use) => gpu !== undefined && gpu.energy! / gpu.hours / 3600 > 245;
    const use = await useOf(collector, id, isMetered);
    const [gpu] = use.gpus;
    expect(use.gpus).toHaveLength(1);
    expect(gpu).toMatchObject({ uuid: uuidOf(1), by: "visible", shared: false });
    expect(gpu!.hours * 3600).toBeGreaterThan(2.9);
    expect(gpu!.hours * 3600).toBeLessThan(4.5);
    // 250 W all the while.
    expect(gpu!.energy! / (gpu!.hours * 3600)).toBeCloseTo(250, -1);
  });

  test("its control group goes with it, and launch stays where it was", async () => {
    const own = findCgroupFolder("self");
    const { id, stdout } = await launch(folder, ["cat", "/proc/self/cgroup", `/proc/self/status`]);
    const isIn = stdout.includes(`/binnacle-run-${id}`);
    const use = await useOf(collector, id);
    expect(use.attribution === "cgroup").toBe(isIn);
    if (!isIn)
      loudly("no control group of its own: ours is not to be divided (as root in a container it mostly is)");
    for (const parent of own === undefined ? [] : [own, dirname(own)])
      if (existsSync(parent))
        expect(readdirSync(parent).filter((name) => name === `binnacle-run-${id}`)).toEqual([]);
  });

  test("a program that cannot be run leaves nothing behind", async () => {
    const { id, code } = await launch(folder, ["/no/such/program"]);
    expect(code).toBe(127);
    expect((await useOf(collector, id)).gpus).toEqual([]);
  });
});

describe.skipIf(noLinux)("a collector that is killed", () => {
  const folder = temporaryFolder();
  afterAll(() => remove(folder));

  test("leaves a gap that the next one explains, and runs that it goes on with", async () => {
    const first = await startBinary({ dataDir: folder });
    const file = join(folder, "go");
    const program = launch(folder, ["bash", "-c", `until [ -e ${file} ]; do sleep 0.1; done`]);
    const [run] = await (async () => {
      for (;;) {
        const { runs } = await json<{ runs: { id: string }[] }>(first, "/runs");
        if (runs.length > 0) return runs;
        await Bun.sleep(50);
      }
    })();
    const [device] = (await json<{ devices: { id: string }[] }>(first, "/devices")).devices;
    await Bun.sleep(1500);
    first.process.kill("SIGKILL");
    await first.process.exited;
    const port = new URL(first.url).port;
    const second = await startBinary({ dataDir: folder, args: ["--port", port] });
    try {
      const told = () =>
        json<{ events: { kind: string; text: string }[] }>(second, `/devices/${device!.id}/events`);
      let { events } = await told();
      for (; events.length < 3; { events } = await told()) await Bun.sleep(50);
      await Bun.sleep(1500);
      expect(events.map(({ kind }) => kind).slice(0, 3)).toEqual([
        "sampling.began",
        "sampling.ended",
        "sampling.began",
      ]);
      expect(events[1]!.text).toContain("killed");
      const [use] = (await json<{ devices: Use[] }>(second, `/runs/${run!.id}/devices`)).devices;
      expect(use!.to).toBeNull();
      const [now] = (await json<{ devices: { runs: string[] }[] }>(second, "/devices")).devices;
      expect(now!.runs).toEqual([run!.id]);
      writeFileSync(file, "");
      expect((await program).code).toBe(0);
      expect((await useOf(second, run!.id)).to).not.toBeNull();
    } finally {
      await second.stop();
    }
  });
});
