import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Gpu, GpuReader } from "../src/device/schema.ts";
import { exportGpus, fields, type GpuState } from "../src/export/dcgm.ts";
import { exportTables } from "../src/export/kernel-tables.ts";
import { exportMachine } from "../src/export/node.ts";
import { exportCollectors } from "../src/export/own.ts";
import { createPresent } from "../src/export/present.ts";
import { exportRoutes, type Sampled } from "../src/export/prometheus.ts";
import { createExposition } from "../src/export/text.ts";
import type { ReaderMessage } from "../src/machine/gpu/message.ts";
import { createMachine } from "../src/machine/machine.ts";
import type { MachineReading } from "../src/machine/reading.ts";
import { createTables, readTables } from "../src/machine/tables.ts";
import { readings } from "../src/sample/reading.ts";
import { createLatest } from "../src/sample/latest.ts";
import boardOfGpus from "./fixtures/boards/dcgm-exporter.json";
import boardOfMachines from "./fixtures/boards/node-exporter-full.json";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const host = join(import.meta.dirname, "fixtures/boards/host");

/** Only FedML's clients tell of these; no library is asked for them. */
const TOLD = new Set(["gpu.memory.utilization", "gpu.power.utilization"]);

describe("the text", () => {
  test("escapes what labels and help may hold", () => {
    const to = createExposition();
    to.family("a_total", "counter", 'back\\slash\nand "quote"').add(1, { path: 'C:\\ "x"\ny' });
    expect(to.toString()).toBe(
      '# HELP a_total back\\\\slash\\nand "quote"\n# TYPE a_total counter\n' +
        'a_total{path="C:\\\\ \\"x\\"\\ny"} 1\n',
    );
  });

  test("names no family that has no value, and repeats no series", () => {
    const to = createExposition();
    to.family("empty", "gauge", "…").add(undefined);
    const twice = to.family("twice", "gauge", "…");
    twice.add(1, { mount: "/" });
    twice.add(2, { mount: "/" });
    expect(to.toString()).toBe('# HELP twice …\n# TYPE twice gauge\ntwice{mount="/"} 1\n');
  });

  test("writes infinities and huge numbers as Go reads them", () => {
    const to = createExposition();
    const family = to.family("x", "gauge", "…");
    family.add(Infinity, { n: 1 });
    family.add(-Infinity, { n: 2 });
    family.add(NaN, { n: 3 });
    family.add(2 ** 64, { n: 4 });
    expect([...to.toString().matchAll(/} (.*)$/gm)].map(([, value]) => value)).toEqual([
      "+Inf",
      "-Inf",
      "NaN",
      "18446744073709552000",
    ]);
  });
});

/** Panels that have nothing to draw, with the metrics they lack. docs/hardware.md says why. */
const WITHOUT = new Map([
  ["Time Synchronized Drift", /^node_timex_/],
  ["Time PLL Adjust", /^node_timex_/],
  ["Time Synchronized Status", /^node_timex_/],
  ["PPS Frequency / Stability", /^node_timex_/],
  ["PPS Time Accuracy", /^node_timex_/],
  ["PPS Sync Events", /^node_timex_/],
  ["Processes Detailed States", /^node_processes_/],
  ["PIDs Number and Limit", /^node_processes_/],
  ["Threads Number and Limit", /^node_processes_/],
  ["CPU Frequency Scaling", /^node_cpu_scaling_/],
  ["IRQ Detail", /^node_interrupts_total$/],
  ["Hardware Temperature Monitor", /^node_hwmon_/],
  ["Cooling Device Utilization", /^node_cooling_/],
  ["Power Supply", /^node_power_supply_/],
  ["Hardware Fan Speed", /^node_hwmon_/],
  ["Systemd Units State", /^node_systemd_/],
  ["Systemd Sockets Current", /^node_systemd_/],
  ["Systemd Sockets Accepted", /^node_systemd_/],
  ["Systemd Sockets Refused", /^node_systemd_/],
  ["UDP Queue", /^node_udp_queues$/],
  ["TCP Stat Persistent", /^node_tcp_connection_states$/],
  ["TCP Stat Transient", /^node_tcp_connection_states$/],
  ["TCP Socket Queue", /^node_tcp_connection_states$/],
  // Draws the rest.
  ["Node Exporter Scrape", /^node_textfile_/],
]);

/** Label names of each metric, over all of its series. */
function seriesOf(text: string): Map<string, Set<string>> {
  const labelsByName = new Map<string, Set<string>>();
  for (const [, name, labels = ""] of text.matchAll(/^([a-zA-Z_]\w*)(?:\{(.*)\})? \S+$/gm)) {
    let known = labelsByName.get(name!);
    if (!known) labelsByName.set(name!, (known = new Set()));
    for (const [, label] of labels.matchAll(/(\w+)="(?:[^"\\]|\\.)*"/g)) known.add(label!);
  }
  return labelsByName;
}

function lackOf(panels: { title: string; metrics: string[] }[], series: Map<string, Set<string>>): string[] {
  const lacking: string[] = [];
  for (const { title, metrics } of panels)
    for (const metric of metrics) {
      const [, name, labels = ""] = /^(\w+)(?:\{(.*)\})?$/.exec(metric)!;
      if (WITHOUT.get(title)?.test(name!)) continue;
      const known = series.get(name!);
      if (!known) lacking.push(`${title}: ${name}`);
      for (const label of labels.split(",").filter((label) => label !== "" && known?.has(label) === false))
        lacking.push(`${title}: ${name}{${label}}`);
    }
  return lacking;
}

describe("the board Node Exporter Full", () => {
  const machine = createMachine({ root: host });
  const to = createExposition();
  const reading = machine.read()!;
  machine.close();
  const tables = readTables(host);
  exportMachine(to, reading);
  exportCollectors(to, reading, tables);
  exportTables(to, tables, reading.kernel?.bootTime);
  const text = to.toString();

  test("has every metric and label that its panels ask for, but for those the documents name", () => {
    expect(lackOf(boardOfMachines.panels, seriesOf(text))).toEqual([]);
  });

  test("is told truly which of its panels stay empty", () => {
    const series = seriesOf(text);
    for (const [title, pattern] of WITHOUT) {
      const panel = boardOfMachines.panels.find((panel) => panel.title === title);
      const lacked = panel?.metrics.filter((metric) => pattern.test(metric.replace(/\{.*/, ""))) ?? [];
      expect({ title, lacked: lacked.length > 0 }).toEqual({ title, lacked: true });
      for (const metric of lacked) expect([...series.keys()]).not.toContain(metric.replace(/\{.*/, ""));
    }
    const page = readFileSync(join(import.meta.dirname, "../docs/hardware.md"), "utf8");
    for (const title of WITHOUT.keys()) expect(page).toContain(title);
  });

  test("is served the kernel's own numbers in base units", () => {
    const lines = text.split("\n");
    expect(lines).toContain("node_memory_MemTotal_bytes 25276510208");
    expect(lines).toContain("node_memory_HugePages_Total 0");
    expect(lines).toContain('node_disk_read_bytes_total{device="vda"} 12999779328');
    expect(lines).toContain('node_disk_read_time_seconds_total{device="vda"} 1001.861');
    expect(lines).toContain('node_network_receive_bytes_total{device="eth0"} 7825808235');
    expect(lines).toContain('node_network_speed_bytes{device="eth0"} 1250000000');
    expect(lines).toContain("node_pressure_irq_stalled_seconds_total 1.523417");
    expect(lines).toContain('node_schedstat_running_seconds_total{cpu="0"} 5170.182345611');
    expect(lines).toContain("node_filefd_maximum 2466177");
    expect(lines).toContain("node_netstat_Tcp_MaxConn -1");
    expect(lines).toContain("process_cpu_seconds_total 18.01");
    expect(lines).toContain("process_open_fds 1");
  });

  test("has no speed for an interface that has none", () => {
    expect(text).not.toContain('node_network_speed_bytes{device="lo"}');
    expect(text).toContain('node_network_mtu_bytes{device="lo"} 65536');
  });
});

const gpu = (changes: Partial<Gpu> = {}): Gpu => ({
  uuid: "GPU-aaaa",
  index: 0,
  name: "NVIDIA H100 80GB HBM3",
  vendor: "nvidia",
  pci: "00000000:3B:00.0",
  minor: 2,
  architecture: "hopper",
  cores: 16896,
  memory: 85899345920,
  power_limit: 700,
  max_clock_sm: 1980,
  max_clock_memory: 2619,
  slowdown_temperature: 87,
  parent: null,
  gpu_instance: null,
  compute_instance: null,
  profile: null,
  mig: false,
  lost: false,
  states: {},
  ...changes,
});

const state = (changes: Partial<GpuState> = {}): GpuState => ({
  gpu: gpu(),
  whole: changes.gpu ?? gpu(),
  values: new Map(),
  xid: undefined,
  runs: [],
  ...changes,
});

function exported(...gpus: GpuState[]): string[] {
  const to = createExposition();
  exportGpus(to, gpus);
  return to
    .toString()
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
}

const valueOf = (lines: string[], name: string) =>
  Number(lines.find((line) => line.startsWith(`${name}{`))?.replace(/^.*} /, ""));

describe("GPUs", () => {
  test("come in DCGM's units", () => {
    const values = new Map<string, number>([
      ["gpu.utilization", 0.29],
      ["gpu.memory.total", 80 * 2 ** 30],
      ["gpu.memory.used", 30 * 2 ** 30],
      ["gpu.memory.reserved", 2 ** 29],
      ["gpu.energy", 1234.567],
      ["gpu.tensor.active", 0.4],
      ["gpu.pcie.transmit", 1_048_576],
      ["gpu.temperature", 61],
    ]);
    const lines = exported(state({ values, xid: 79 }));
    expect(valueOf(lines, "DCGM_FI_DEV_GPU_UTIL")).toBe(29);
    expect(valueOf(lines, "DCGM_FI_DEV_FB_TOTAL")).toBe(81_920);
    expect(valueOf(lines, "DCGM_FI_DEV_FB_USED")).toBe(30_720);
    expect(valueOf(lines, "DCGM_FI_DEV_FB_FREE")).toBe(50_688);
    expect(valueOf(lines, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")).toBe(1_234_567);
    expect(valueOf(lines, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE")).toBe(0.4);
    expect(valueOf(lines, "DCGM_FI_PROF_PCIE_TX_BYTES")).toBe(1_048_576);
    expect(valueOf(lines, "DCGM_FI_DEV_XID_ERRORS")).toBe(79);
    expect(lines.find((line) => line.startsWith("DCGM_FI_DEV_GPU_TEMP"))).toMatch(
      /^DCGM_FI_DEV_GPU_TEMP\{gpu="0",UUID="GPU-aaaa",pci_bus_id="00000000:3B:00\.0",device="nvidia2",modelName="NVIDIA H100 80GB HBM3",Hostname="([^"]+)",hostname="\1"\} 61$/,
    );
  });

  test("have no line for what has no value", () => {
    const lines = exported(state({ values: new Map([["gpu.temperature", 40]]) }));
    expect(lines).toHaveLength(1);
  });

  test("carry the runs that have them, each in a series of its own", () => {
    const values = new Map([["gpu.power", 400]]);
    const lines = exported(
      state({ values, runs: ["a", "b"] }),
      state({ gpu: gpu({ uuid: "GPU-bbbb", index: 1 }), values }),
    );
    expect(lines.map((line) => /hpc_job="(.*?)",run_id="(.*?)"/.exec(line)?.slice(1))).toEqual([
      ["a", "a"],
      ["b", "b"],
      undefined,
    ]);
    expect(new Set(lines).size).toBe(3);
  });

  test("that are divided name the instance, and the GPU it is part of", () => {
    const whole = gpu({ mig: true });
    const instance = (uuid: string, compute: number) =>
      gpu({
        uuid,
        index: 7,
        parent: whole.uuid,
        gpu_instance: 3,
        compute_instance: compute,
        profile: "1g.10gb",
      });
    const values = new Map([["gpu.memory.used", 2 ** 30]]);
    const lines = exported(
      state({ gpu: instance("MIG-1", 0), whole, values }),
      state({ gpu: instance("MIG-2", 1), whole, values }),
    );
    expect(lines).toHaveLength(2);
    for (const [index, line] of lines.entries()) {
      expect(line).toContain('gpu="0",UUID="GPU-aaaa"');
      expect(line).toContain(`GPU_I_PROFILE="1g.10gb",GPU_I_ID="3",mig_uuid="MIG-${index + 1}"`);
    }
  });

  test("fill the panels of the board NVIDIA DCGM Exporter", () => {
    const values = new Map(fields.map(({ reading }) => [reading, 1]));
    expect(lackOf(boardOfGpus.panels, seriesOf(exported(state({ values })).join("\n")))).toEqual([]);
  });

  test("have a name for every reading", () => {
    const named = new Set<string>(fields.map(({ reading }) => reading));
    const unnamed = Object.keys(readings).filter(
      (name) => name.startsWith("gpu.") && !named.has(name) && !TOLD.has(name),
    );
    expect(unnamed).toEqual([]);
    expect(new Set(fields.map(({ name }) => name)).size).toBe(fields.length);
  });
});

describe("what is present", () => {
  test("keeps slow readings between their turns, and forgets a subject that is silent", () => {
    const latest = createLatest((error) => {
      throw error;
    });
    let now = 1_000_000;
    const present = createPresent(latest, "d", () => now);
    const put = (values: Record<string, number>) =>
      latest.put("d", [{ subject: "GPU-aaaa", time: now, values }]);
    put({ "gpu.temperature": 50, "gpu.fan": 0.3 });
    for (let second = 0; second < 60; second++) {
      now += 1000;
      put({ "gpu.temperature": 50 + second });
    }
    expect(Object.fromEntries(present.of("GPU-aaaa"))).toEqual({ "gpu.temperature": 109, "gpu.fan": 0.3 });
    for (let second = 0; second < 20; second++) {
      now += 1000;
      put({ "gpu.temperature": 60 });
    }
    // Its turn has passed without it: it is not read any more.
    expect(Object.fromEntries(present.of("GPU-aaaa"))).toEqual({ "gpu.temperature": 60 });
    now += 26_000;
    expect(present.of("GPU-aaaa").size).toBe(0);
    present.close();
  });

  test("is what its own device says", () => {
    const latest = createLatest((error) => {
      throw error;
    });
    const present = createPresent(latest, "d", () => 1000);
    latest.put("other", [{ subject: "", time: 1000, values: { "load.1": 3 } }]);
    expect(present.subjects()).toEqual([]);
    present.close();
  });
});

describe("tables", () => {
  test("are read only while somebody asks, and never while he waits", async () => {
    const tables = createTables({ root: host, every: 20, idle: 100 });
    expect(tables.current()).toBeUndefined();
    const seen = new Set<number>();
    for (let round = 0; round < 10; round++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { time } = tables.current() ?? {};
      if (time !== undefined) seen.add(time);
    }
    expect(seen.size).toBeGreaterThan(2);
    await new Promise((resolve) => setTimeout(resolve, 400));
    // What nobody asked for was dropped: the first to ask again gets nothing old.
    expect(tables.current()).toBeUndefined();
    tables.close();
  });
});

describe("GET /metrics", () => {
  let at: TestCollector;
  beforeAll(() => {
    at = createTestCollector();
  });
  afterAll(() => at.close());

  test("needs a token that may read", async () => {
    expect((await at.request("/metrics", { token: null })).status).toBe(401);
    expect((await at.request("/metrics", { token: at.trust.tokens.ofRun("r") })).status).toBe(403);
    const response = await at.request("/metrics", { token: at.trust.tokens.read });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  });

  test("counts runs by status, and says what version answers", async () => {
    await at.request("/api/v1/runs", { body: { id: "one" } });
    const text = await (await at.request("/metrics")).text();
    expect(text).toMatch(/^binnacle_build_info\{version="\d+\.\d+\.\d+"\} 1$/m);
    const counts = [...text.matchAll(/^binnacle_runs\{status="(\w+)"\} (\d+)$/gm)];
    expect(counts.length).toBeGreaterThan(3);
    expect(counts.reduce((sum, [, , count]) => sum + Number(count), 0)).toBe(1);
  });

  test("says nothing of hardware that nobody reads", async () => {
    const text = await (await at.request("/metrics")).text();
    expect(text).not.toMatch(/^(node|DCGM)_/m);
  });
});

describe("what a scrape says of a machine that is not well", () => {
  let at: TestCollector;
  let now = 2_000_000;
  const listeners = new Set<(message: ReaderMessage) => void>();
  const gpus = new Map<string, Gpu>();
  let reader: GpuReader = {
    status: "ok",
    reason: null,
    advice: null,
    driver: "550.54.15",
    cuda: "12.4",
    library: null,
  };
  let reading: MachineReading | undefined;
  const sampled: Sampled = {
    device: "0123456789abcdef",
    reading: () => reading,
    tables: () => undefined,
    gpus: {
      reader: () => reader,
      gpus: () => [...gpus.values()],
      subscribe(listener) {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
      close: () => Promise.resolve(),
    },
    gpusByRun: () => new Map([["run-1", new Set(["GPU-bbbb"])]]),
  };
  const tell = (message: ReaderMessage) => listeners.forEach((listener) => listener(message));
  let scrape: () => Promise<string>;

  beforeAll(() => {
    at = createTestCollector({ now: () => now });
    const machine = createMachine({ root: host });
    reading = { ...machine.read()!, time: now };
    machine.close();
    const routes = exportRoutes(at.collector, sampled);
    scrape = async () => (await routes.request("/metrics")).text();
    gpus.set("GPU-aaaa", gpu());
    gpus.set("GPU-bbbb", gpu({ uuid: "GPU-bbbb", index: 1 }));
    at.collector.latest.put(
      sampled.device,
      [...gpus.keys()].map((subject) => ({
        subject,
        time: now,
        values: { "gpu.power": 300, "gpu.temperature": 55 },
      })),
    );
    tell({ kind: "samples", time: now, took: 3, gpus: [] });
  });
  afterAll(() => at.close());

  test("a run stands on its GPU alone", async () => {
    const text = await scrape();
    expect(text).toMatch(/^DCGM_FI_DEV_POWER_USAGE\{gpu="1".*run_id="run-1"\} 300$/m);
    expect(text).toMatch(/^DCGM_FI_DEV_POWER_USAGE\{gpu="0"(?!.*run_id).*\} 300$/m);
    expect(text).toMatch(/^binnacle_sample_seconds\{source="gpu"\} 0\.003$/m);
  });

  test("a reading that fails has a reason and no value", async () => {
    gpus.set("GPU-aaaa", gpu({ states: { "gpu.power": { state: "denied", reason: 'root "only"' } } }));
    const text = await scrape();
    expect(text).not.toMatch(/^DCGM_FI_DEV_POWER_USAGE\{gpu="0"/m);
    expect(text).toMatch(/^DCGM_FI_DEV_GPU_TEMP\{gpu="0"/m);
    expect(text).toContain('reading="gpu.power",state="denied",reason="root \\"only\\""} 1');
  });

  test("an Xid is shown from then on", async () => {
    expect(await scrape()).not.toContain("DCGM_FI_DEV_XID_ERRORS");
    tell({ kind: "xid", time: now, uuid: "GPU-bbbb", xid: 79 });
    expect(await scrape()).toMatch(/^DCGM_FI_DEV_XID_ERRORS\{gpu="1".*\} 79$/m);
  });

  test("a lost GPU says so, and nothing else", async () => {
    gpus.set("GPU-bbbb", gpu({ uuid: "GPU-bbbb", index: 1, lost: true }));
    const text = await scrape();
    expect(text).toMatch(/^binnacle_gpu_lost\{gpu="1",UUID="GPU-bbbb"\} 1$/m);
    expect(text).not.toMatch(/^DCGM_FI_DEV_GPU_TEMP\{gpu="1"/m);
    expect(text).toMatch(/^DCGM_FI_DEV_GPU_TEMP\{gpu="0"/m);
  });

  test("of a driver that hangs no values are shown from then on", async () => {
    reader = { ...reader, status: "hung", reason: "A call does not return." };
    expect(await scrape()).not.toMatch(/^DCGM_(?!FI_DEV_XID)\w+/m);
  });

  test("what nobody reads any more is left out, with its age", async () => {
    now += 31_000;
    reader = { ...reader, status: "hung", reason: "A call does not return." };
    const text = await scrape();
    // Why the GPU is lost stays true.
    expect(text).not.toMatch(/^(node_load1|node_cpu_seconds_total|DCGM_(?!FI_DEV_XID)\w+)/m);
    expect(text).not.toContain("Inf");
    expect(text).toMatch(/^binnacle_last_sample_timestamp_seconds\{source="machine"\} 2000$/m);
    expect(text).toMatch(
      /^binnacle_gpu_reader_status\{status="hung",reason="A call does not return\."\} 1$/m,
    );
    expect(text).toMatch(/^binnacle_gpu_reader_up 0$/m);
  });
});
