import { expect, test } from "bun:test";
import { keyOf, readVersion, zipOf } from "../src/relay/fedml/artifact.ts";
import { hardwareMessages, type Machine } from "../src/relay/fedml/hardware.ts";
import { idOf, writeJson } from "../src/relay/fedml/json.ts";
import { postsOf, writeLine, writePost } from "../src/relay/fedml/logs.ts";
import { metricName } from "../src/relay/fedml/metrics.ts";
import { spanMessages } from "../src/relay/fedml/spans.ts";
import type { LogLine } from "../src/log/schema.ts";
import type { SpanRow } from "../src/span/schema.ts";
import { createTestCollector } from "./helpers/collector.ts";
import { keepFiles } from "./helpers/artifacts.ts";
import { DEVICE, facts, GIB, gpuValues, machineValues } from "./helpers/device.ts";

const line = (more: Partial<LogLine> = {}): LogLine => ({
  line: 12,
  time: Date.UTC(2026, 10, 23, 9, 33, 34, 938) + 0.625,
  stream: "stdout",
  level: "WARNING",
  rank: 0,
  text: "epoch 1",
  ...more,
});

test.each([
  [{}, "[FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34.938625000] [WARNING] [stdout:12:log] epoch 1"],
  [
    { level: null, rank: 3, stream: "stderr" as const, time: 5, text: "" },
    "[FedML-Client @device-id-3] [Thu, 01 Jan 1970 00:00:00.005000000] [INFO] [stderr:12:log] ",
  ],
  [
    { prefix: "[FedML-Server @device-id-9] [now] [ERROR] [a.py:1:f] " },
    "[FedML-Server @device-id-9] [now] [ERROR] [a.py:1:f] epoch 1",
  ],
  [
    { text: "a\nb" },
    "[FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34.938625000] [WARNING] [stdout:12:log] a b",
  ],
])("a line is written as the client writes it: %j", (more, text) => {
  expect(writeLine(line(more))).toBe(text);
});

test("posts have at most 1,000 lines and a megabyte, each of one rank, with ids that are numbers", () => {
  const lines = Array.from({ length: 2500 }, (_, i) => line({ line: i + 1, rank: i % 2 }));
  const posts = [...postsOf("123", lines, 5000)];
  expect(posts.map((post) => [post.rank, post.lines.length])).toEqual([
    [0, 1000],
    [0, 250],
    [1, 1000],
    [1, 250],
  ]);
  const long = line({ text: "x".repeat(700_000) });
  expect([...postsOf("123", [long, long, long], 0)]).toHaveLength(3);
  const body = writePost({
    run: "1716563514434392064",
    rank: 1,
    time: 5000,
    lines: [line({ rank: 1, level: "ERROR" })],
  });
  expect(body).toStartWith(
    '{"run_id": 1716563514434392064, "edge_id": 1, "logs": ["[FedML-Client @device-id-1]',
  );
  expect(JSON.parse(body)).toMatchObject({
    errors: [{ errLine: 0, errMsg: expect.stringMatching(/ \[ERROR\] .*\n$/) }],
    create_time: 5,
    created_by: "1",
    source: "train",
  });
});

test.each([
  ["Train/Loss", 0, "train-loss"],
  ["loss", 2, "loss-rank-2"],
  ["Step", 0, "step-value"],
  ["run_id", 1, "run_id-rank-1"],
])("the metric %s of rank %d is called %s there", (key, rank, name) => {
  expect(metricName(key, rank)).toBe(name);
});

test.each([
  [{ id: idOf("1716563514434392064") }, '{"id": 1716563514434392064}'],
  [{ id: idOf("my-run") }, '{"id": "my-run"}'],
  [{ id: idOf("012") }, '{"id": "012"}'],
  [
    [NaN, Infinity, -Infinity, -0, 1e-300, null, undefined],
    "[NaN, Infinity, -Infinity, 0, 1e-300, null, null]",
  ],
  [{ a: undefined, __proto__b: "\u2028\udc80" }, '{"__proto__b": "\u2028\\udc80"}'],
])("JSON is written as Python does: %#", (value, text) => {
  expect(writeJson(value)).toBe(text);
});

test("readings are told in the client's units, as means; what was not read is left out", () => {
  const machine: Machine = { id: DEVICE, facts: facts(), traffic: 0, counted: undefined };
  const time = 1_700_000_000_000;
  const messages = [
    ...hardwareMessages(machine, [
      { subject: "", time, values: { ...machineValues, "cpu.utilization": 0.2 } },
      { subject: "", time: time + 1000, values: { ...machineValues, "cpu.utilization": 0.4 } },
      { subject: "GPU-0", time, values: gpuValues },
      { subject: "GPU-1", time, values: { "gpu.utilization": 0.17 } },
      { subject: "run/42", time, values: { "run.memory.rss": 2 * GIB, "run.threads": 8 } },
    ]),
  ];
  expect(messages.map(({ topic }) => topic)).toEqual([
    "fl_client/mlops/system_performance",
    "ml_client/mlops/gpu_device_info",
  ]);
  const [run, device] = messages.map(({ payload }) => JSON.parse(payload));
  expect(run).toEqual({
    run_id: 42,
    edge_id: 0x3f9c1a5b7d2e4,
    cpu_utilization: 30,
    SystemMemoryUtilization: 45.0715,
    process_memory_in_use: 2048,
    process_memory_in_use_size: 0.7949,
    process_memory_available: 141_516.8,
    process_cpu_threads_in_use: 8,
    network_traffic: 9 * 1024 ** 2,
    gpu_utilization: 50,
    gpu_temp: 64,
    gpu_memory_allocated: 89.4472,
    gpu_power_usage: 87.4714,
    metrics_of_all_gpus: [
      {
        gpu_id: 0,
        gpu_name: "NVIDIA H100 80GB HBM3",
        gpu_utilization: 83,
        gpu_memory_allocated: 89.4472,
        gpu_temp: 64,
        gpu_power_usage: 87.4714,
      },
      { gpu_id: 1, gpu_name: "NVIDIA H100 80GB HBM3", gpu_utilization: 17 },
    ],
    timestamp: time + 1000,
  });
  expect(device).toMatchObject({
    edgeId: 0x3f9c1a5b7d2e4,
    memoryTotal: 251.6,
    memoryAvailable: 138.2,
    cpuCores: 64,
  });
  expect(device).not.toHaveProperty("diskSpaceTotal");
});

const versionOf = (payload: object) =>
  readVersion({
    seq: 1,
    kind: "artifact.logged",
    version: 1,
    run: "7",
    client: null,
    clientSeq: null,
    ordinal: null,
    nextStep: null,
    count: 1,
    time: 0,
    encoding: 0,
    payload: new TextEncoder().encode(JSON.stringify({ files: [], ...payload })),
  });

test("keys have run and version in them, and are no longer than S3 takes", () => {
  const of = (more: object) =>
    keyOf(versionOf({ kind: "artifact", name: "data", type: "dataset", version: 2, ...more }));
  expect(of({})).toBe("data_dataset@7-v2.zip");
  expect(of({ type: "own" })).toBe("data_general@7-v2.zip");
  expect(of({ kind: "model", type: "model", name: "net" })).toBe("net_model@7-v2.zip");
  expect(Buffer.byteLength(of({ name: "界".repeat(250) }))).toBeLessThan(1024);
  expect(Buffer.byteLength(of({ name: "😀".repeat(250) }))).toBeLessThan(1024);
});

test("a version's zip is the same bytes each time it is made, so that its parts fit", async () => {
  const at = createTestCollector();
  const files = await keepFiles(at.collector, {
    "a/b.txt": "content",
    "c.bin": new Uint8Array(300_000).fill(7),
  });
  const version = versionOf({
    kind: "model",
    name: "net",
    type: "model",
    version: 1,
    files,
    time: 1_700_000_000_000,
  });
  const make = async () => Buffer.concat(await Array.fromAsync(zipOf(version, at.collector.blobs)));
  const first = await make();
  // Times in a zip are of two seconds.
  await Bun.sleep(2100);
  expect(first.equals(await make())).toBe(true);
  await at.close();
});

test("an edge's words are a client's, a server's its own by its number, and none of them ends the run", () => {
  const row = (edge: string, name: string, ended: number | null = null) =>
    ({ kind: "status", name, edge, started: 1000, ended }) as SpanRow;
  const told = [
    row("17", "TRAINING"),
    row("17", "FINISHED", 1000),
    row("server 2", "INITIALIZING"),
    row("server 3", "FINISHED", 1000),
    row("server", "TRAINING"),
  ];
  const messages = [...spanMessages("5", told)].map(({ topic, payload }) => [topic, JSON.parse(payload)]);
  expect(messages).toEqual([
    ["fl_run/fl_client/mlops/status", { edge_id: 17, run_id: 5, status: "TRAINING", timestamp: 1000 }],
    ["fl_run/fl_client/mlops/status", { edge_id: 17, run_id: 5, status: "FINISHED", timestamp: 1000 }],
    ["fl_run/fl_server/mlops/status", { edge_id: 2, run_id: 5, status: "INITIALIZING", timestamp: 1000 }],
  ]);
});
