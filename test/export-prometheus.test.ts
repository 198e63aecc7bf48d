import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import {
  binaryPath,
  loudly,
  remove,
  startBinary,
  temporaryFolder,
  type RunningBinary,
} from "./helpers/binary.ts";
import { createTokens } from "../src/token.ts";
import { debianProgram } from "./helpers/debian.ts";
import { collectorEnvironment, noCompiler, scenario } from "./helpers/nvml.ts";

const prometheus = debianProgram("prometheus");
const promtool = debianProgram("promtool");
const noPrometheus =
  (process.platform !== "linux" &&
    loudly("what Prometheus makes of /metrics: node_exporter's names are Linux's")) ||
  ((prometheus === undefined || promtool === undefined) &&
    loudly("what Prometheus makes of /metrics: no prometheus, no promtool (Debian: apt install prometheus)"));

const freePort = () =>
  new Promise<number>((resolve) => {
    const probe = createServer();
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });

async function eventually<T>(attempt: () => Promise<T>, seconds = 60): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** What the quick and basic panels of Node Exporter Full ask, with its variables filled in. */
const MACHINE = 'instance="$node",job="binnacle"';
const machineQueries = {
  "CPU Busy": `100 * (1 - avg(rate(node_cpu_seconds_total{mode="idle", instance="$node"}[$rate])))`,
  "Sys Load": `scalar(node_load1{${MACHINE}}) * 100 / count(count(node_cpu_seconds_total{${MACHINE}}) by (cpu))`,
  "RAM Used": `(1 - (node_memory_MemAvailable_bytes{${MACHINE}} / node_memory_MemTotal_bytes{${MACHINE}})) * 100`,
  "SWAP Total": `node_memory_SwapTotal_bytes{${MACHINE}}`,
  "Root FS Used": `100 - ((node_filesystem_avail_bytes{${MACHINE},mountpoint="/",fstype!="rootfs"} * 100) / node_filesystem_size_bytes{${MACHINE},mountpoint="/",fstype!="rootfs"})`,
  "CPU Cores": `count(count(node_cpu_seconds_total{${MACHINE}}) by (cpu))`,
  Uptime: `node_time_seconds{${MACHINE}} - node_boot_time_seconds{${MACHINE}}`,
  "CPU Basic": `sum(rate(node_cpu_seconds_total{${MACHINE},mode="system"}[$rate])) / scalar(count(count(node_cpu_seconds_total{${MACHINE}}) by (cpu)))`,
  "Memory Basic": `node_memory_Cached_bytes{${MACHINE}} + node_memory_Buffers_bytes{${MACHINE}} + node_memory_SReclaimable_bytes{${MACHINE}}`,
  "Network Traffic Basic": `rate(node_network_receive_bytes_total{${MACHINE}}[$rate])*8`,
  "Disk IOps": `rate(node_disk_reads_completed_total{${MACHINE},device=~"[a-z]+|nvme[0-9]+n[0-9]+|mmcblk[0-9]+"}[$rate])`,
  "Context Switches": `rate(node_context_switches_total{${MACHINE}}[$rate])`,
  "TCP In": `rate(node_netstat_Tcp_InSegs{${MACHINE}}[$rate])`,
  "Exporter Process CPU Usage": `rate(process_cpu_seconds_total{${MACHINE}}[$rate])`,
};

const GPU = `Hostname=~"${hostname()}", gpu=~"0|1"`;
const gpuQueries = {
  "GPU Temperature": `max(DCGM_FI_DEV_GPU_TEMP{${GPU}}) by (Hostname, gpu, uuid)`,
  "GPU Avg. Temp": `avg(DCGM_FI_DEV_GPU_TEMP{${GPU}})`,
  "GPU Power Total": `sum(max(DCGM_FI_DEV_POWER_USAGE{${GPU}}) by (gpu))`,
  "GPU SM Clocks": `max(DCGM_FI_DEV_SM_CLOCK{${GPU}} * 1000000) by (Hostname, UUID, gpu)`,
  "GPU Utilization": `max(DCGM_FI_PROF_GR_ENGINE_ACTIVE{${GPU}}) by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)`,
  "Tensor Core Utilization": `max(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{${GPU}}) by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)`,
  "GPU Framebuffer Mem Used": `max(DCGM_FI_DEV_FB_USED{${GPU}}) by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)`,
  Energy: `rate(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{${GPU}}[$rate])`,
};

interface Answer {
  metric: Record<string, string>;
  value: [time: number, value: string];
}

describe.skipIf(noPrometheus)("Prometheus", () => {
  const folder = temporaryFolder();
  const gpus = noCompiler ? undefined : scenario("gpus 2");
  let collector: RunningBinary;
  let server: Bun.Subprocess;
  let url: string;
  let target: string;

  beforeAll(async () => {
    collector = await startBinary({
      dataDir: join(folder, "data"),
      cwd: folder,
      env: gpus ? collectorEnvironment(gpus) : {},
    });
    const token = createTokens(collector.token).read;
    target = new URL(collector.url).host;
    writeFileSync(join(folder, "token"), token, { mode: 0o600 });
    writeFileSync(
      join(folder, "prometheus.yml"),
      JSON.stringify({
        global: { scrape_interval: "1s" },
        scrape_configs: [
          {
            job_name: "binnacle",
            authorization: { credentials_file: join(folder, "token") },
            static_configs: [{ targets: [target] }],
          },
        ],
      }),
    );
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    server = Bun.spawn(
      [
        prometheus!,
        `--config.file=${join(folder, "prometheus.yml")}`,
        `--storage.tsdb.path=${join(folder, "tsdb")}`,
        `--web.listen-address=127.0.0.1:${port}`,
        "--log.level=warn",
      ],
      { stdout: "ignore", stderr: Bun.file(join(folder, "log")), cwd: folder },
    );
  }, 180_000);
  afterAll(async () => {
    server?.kill("SIGKILL");
    await server?.exited;
    await collector?.stop();
    gpus?.remove();
    remove(folder);
  });

  async function ask(query: string): Promise<Answer[]> {
    const filled = query.replaceAll("$node", target).replaceAll("$rate", "30s");
    const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(filled)}`);
    const answer = (await response.json()) as { status: string; error?: string; data: { result: Answer[] } };
    if (answer.status !== "success") throw new Error(`${filled}: ${answer.error}`);
    return answer.data.result;
  }

  /** Its answers, once there are some; each a number. */
  const values = (query: string) =>
    eventually(async () => {
      const answers = await ask(query);
      if (answers.length === 0) throw new Error(`no answer to ${query}`);
      const numbers = answers.map(({ value }) => Number(value[1]));
      expect({ query, odd: numbers.filter((number) => !Number.isFinite(number)) }).toEqual({
        query,
        odd: [],
      });
      return numbers;
    });

  test("scrapes with a read token, and refuses nothing of it", async () => {
    expect(await values(`up{job="binnacle"} == 1`)).toEqual([1]);
    const targets = await (await fetch(`${url}/api/v1/targets`)).json();
    expect(targets.data.activeTargets[0].lastError).toBe("");
    const [scraped] = await values(`scrape_samples_scraped{job="binnacle"}`);
    const [kept] = await values(`scrape_samples_post_metric_relabeling{job="binnacle"}`);
    expect(scraped).toBeGreaterThan(200);
    expect(kept).toBe(scraped!);
    expect(await Bun.file(join(folder, "log")).text()).not.toMatch(/duplicate|out of order|error/i);
  }, 90_000);

  test("answers what the board Node Exporter Full asks", async () => {
    for (const query of Object.values(machineQueries)) await values(query);
    const [cores] = await values(machineQueries["CPU Cores"]);
    expect(cores).toBe(navigator.hardwareConcurrency);
    const [uptime] = await values(machineQueries.Uptime);
    expect(
      Math.abs(
        uptime! -
          Number(
            await Bun.file("/proc/uptime")
              .text()
              .then((text) => text.split(" ")[0]),
          ),
      ),
    ).toBeLessThan(120);
    // Variables of the board.
    const [found] = await ask('node_uname_info{job="binnacle"}');
    expect(found!.metric).toMatchObject({ nodename: hostname(), sysname: "Linux", instance: target });
  }, 180_000);

  test.skipIf(gpus === undefined)(
    "answers what the board NVIDIA DCGM Exporter asks",
    async () => {
      for (const [title, query] of Object.entries(gpuQueries)) {
        const numbers = await values(query);
        expect({ title, numbers: numbers.filter((number) => number < 0) }).toEqual({ title, numbers: [] });
      }
      expect(await values(gpuQueries["GPU Temperature"])).toHaveLength(2);
      const found = await ask(`DCGM_FI_DEV_FB_FREE{${GPU}}`);
      expect(found.map(({ metric }) => metric["gpu"]).sort()).toEqual(["0", "1"]);
    },
    180_000,
  );

  test.skipIf(gpus === undefined)(
    "finds a run by its id on the GPU it was given",
    async () => {
      const run = Bun.spawn([binaryPath(), "launch", "-n", "holds one", "--", "sleep", "60"], {
        env: {
          PATH: "/usr/bin:/bin",
          BINNACLE_DATA: join(folder, "data"),
          CUDA_VISIBLE_DEVICES: "1",
          CUDA_DEVICE_ORDER: "PCI_BUS_ID",
        },
        cwd: folder,
        stdin: "ignore",
        stdout: "ignore",
        stderr: "ignore",
      });
      const { runs } = await eventually(async () => {
        const page = (await (await collector.request("/api/v1/runs")).json()) as { runs: { id: string }[] };
        if (page.runs.length === 0) throw new Error("no run yet");
        return page;
      });
      const { id } = runs[0]!;
      await values(`max by (gpu) (DCGM_FI_DEV_GPU_UTIL{hpc_job="${id}",run_id="${id}"})`);
      const held = await ask(`DCGM_FI_DEV_GPU_UTIL{run_id="${id}"}`);
      expect(held.map(({ metric }) => metric["gpu"])).toEqual(["1"]);
      // What its processes use stands beside it.
      await values(`binnacle_run_processes{run_id="${id}"} > 0`);
      run.kill("SIGTERM");
      await run.exited;
      await eventually(async () => {
        if ((await ask(`DCGM_FI_DEV_GPU_UTIL{run_id="${id}"}`)).length > 0) throw new Error("still there");
      });
      // The GPU itself goes on, without the run.
      await values(`DCGM_FI_DEV_GPU_UTIL{gpu="1",run_id=""}`);
    },
    120_000,
  );

  test("can tell how old everything is", async () => {
    const age = await values(`time() - binnacle_last_sample_timestamp_seconds{source="machine"}`);
    expect(age[0]).toBeLessThan(10);
    expect(age[0]).toBeGreaterThan(-1);
  }, 90_000);

  test("promtool finds nothing wrong but with names that others chose", async () => {
    const text = await (await collector.request("/metrics")).text();
    const child = Bun.spawn([promtool!, "check", "metrics"], {
      stdin: Buffer.from(text),
      stdout: "pipe",
      stderr: "pipe",
    });
    const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
    // 3: it parses, and names could be better.
    expect([0, 3]).toContain(await child.exited);
    const ours = said.split("\n").filter((line) => line !== "" && !/^(node|DCGM)_/.test(line));
    // The labels are dcgm-exporter's.
    expect(ours.filter((line) => !/^binnacle_gpu\w* label names should be written/.test(line))).toEqual([]);
  }, 60_000);
});
