import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { zstdDecompressSync } from "node:zlib";
import { withoutApiKeys } from "../src/fedml/api-key-members.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { RawMqtt } from "./helpers/mqtt.ts";

const RUN = "123456789012345";
const SECRET = "0123456789abcdef-is-secret";

describe("members that are API keys", () => {
  for (const name of [
    "api_key",
    "apiKey",
    "apikey",
    "API_KEY",
    "api-key",
    "api key",
    "userApiKey",
    "mlops_api_key",
    "FEDML_RUN_API_KEY",
    "openai-api-key",
  ])
    test(name, () =>
      expect(withoutApiKeys({ [name]: SECRET, kept: [{ [name]: { deep: SECRET } }, 1] })).toEqual({
        kept: [{}, 1],
      }),
    );

  for (const name of ["key", "api", "api_keys_used", "monkey", "apikey_count", "step"])
    test(`${name} is none`, () => expect(withoutApiKeys({ [name]: 1 })).toEqual({ [name]: 1 }));

  test("what is no object stays as it is", () => {
    for (const value of [undefined, null, "api_key", 3, true]) expect(withoutApiKeys(value)).toBe(value);
  });
});

let it: TestCollector;
let raw: RawMqtt;
beforeEach(async () => {
  it = createTestCollector({ fedml: "on" });
  await it.fedml!.listen({ host: "127.0.0.1", port: 0 });
  raw = await RawMqtt.connect(it.fedml!.port!, it.fedml!.keys.mqttOf({ run: RUN }));
});
afterEach(async () => {
  await raw.vanish();
  await it.close();
});

/** Every cell of every table, as text, unpacked where it is packed. */
function everything({ collector: { connection } }: TestCollector): string {
  const tables = connection
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")
    .all() as { name: string }[];
  const cells: string[] = [];
  for (const { name } of tables)
    for (const row of connection.prepare(`SELECT * FROM "${name}"`).raw(true).all() as unknown[][])
      for (const cell of row) cells.push(textOf(cell));
  return cells.join("\n");
}

function textOf(cell: unknown): string {
  if (!(cell instanceof ArrayBuffer || cell instanceof Uint8Array)) return String(cell);
  const bytes = Buffer.from(cell as ArrayBuffer);
  try {
    return zstdDecompressSync(bytes).toString("latin1");
  } catch {
    return bytes.toString("latin1");
  }
}

const TIME = 1_700_000_000_000;
const KEYS = { api_key: SECRET, userApiKey: SECRET, apiKey: SECRET, more: { apikey: SECRET } };
/** Of each topic a message with keys on every level, and something beside them that is kept. */
const MESSAGES: [topic: string, payload: object, kept: string][] = [
  [
    "fedml_slave/fedml_master/metrics/0",
    {
      run_id: "0",
      timestamp: TIME,
      step: 1,
      x_axis_keys: ["step"],
      y_axis_keys: ["api_key"],
      note: "kept-metric",
      ...KEYS,
    },
    "kept-metric",
  ],
  [
    "fl_server/mlops/deploy_progress_and_eval",
    { run_id: "0", timestamp: TIME + 1, note: "kept-endpoint", ...KEYS },
    "kept-endpoint",
  ],
  [
    "model_serving/mlops/llm_input_output_record",
    { run_id: "0", timestamp: TIME + 2, prompt: "kept-prompt", options: { deep: { ...KEYS } }, ...KEYS },
    "kept-prompt",
  ],
  [
    "launch_device/mlops/artifacts",
    {
      job_id: "0",
      edge_id: 1,
      artifact_name: "kept-artifact",
      artifact_type: 1,
      artifact_url: "",
      artifact_ext_info: { note: "kept-ext", ...KEYS },
      ...KEYS,
    },
    "kept-ext",
  ],
  [
    "mlops/events",
    {
      run_id: "0",
      edge_id: 1,
      event_name: "kept-event",
      event_value: { at: "kept-value", ...KEYS },
      started_time: TIME,
      ...KEYS,
    },
    "kept-value",
  ],
  [
    "fl_server/mlops/training_roundx",
    { run_id: "0", round_index: 41, total_rounds: 42_424, running_time: 2, ...KEYS },
    "42424",
  ],
  [
    "fl_run/fl_client/mlops/status",
    { run_id: "0", edge_id: "kept-edge", status: "RUNNING", ...KEYS },
    "kept-edge",
  ],
  [
    "fl_run/fl_server/mlops/status",
    { run_id: "0", edge_id: 2, status: "FAILED", msg: "kept-reason", ...KEYS },
    "kept-reason",
  ],
  [
    "fl_client/mlops/system_performance",
    {
      run_id: "0",
      edge_id: "kept-machine",
      cpu_utilization: 5,
      timestamp: TIME,
      metrics_of_all_gpus: [{ gpu_id: 0, gpu_name: "kept-gpu", gpu_utilization: 3, ...KEYS }],
      ...KEYS,
    },
    "kept-machine",
  ],
  [
    "fedml_slave/fedml_master/logs/0",
    { run_id: "0", edge_id: 3, logs: ["kept-line"], errors: [], created_by: "3", ...KEYS },
    "kept-line",
  ],
  // Written with an escape they are the same names.
  [
    "mlops/events",
    { run_id: "0", event_name: "escaped", event_value: { at: "kept-escaped", ...KEYS } },
    "kept-escaped",
  ],
];

test("API keys of messages stand in no table; what stands beside them does", async () => {
  let id = 0;
  for (const [topic, payload, kept] of MESSAGES) {
    const text = JSON.stringify(payload);
    const isEscaped = kept === "kept-escaped";
    await raw.publish(topic, isEscaped ? text.replaceAll(/api_?key/gi, escapeAll) : text, { id: ++id });
  }
  for (const path of ["/fedmlOpsServer/projects/createSim", "/fedmlOpsServer/runs/createSim"])
    await it.json(`/fedml/${it.fedml!.keys.secretOf({ run: RUN })}${path}`, {
      body: { name: "kept-simulation", userids: SECRET, platform_type: "2", ...KEYS },
      token: null,
      headers: { host: "127.0.0.1:7070" },
    });
  expect(it.fedml!.counts.list()).toEqual([]);
  const stored = everything(it);
  for (const [topic, , kept] of MESSAGES) expect(`${topic}: ${stored.includes(kept)}`).toBe(`${topic}: true`);
  expect(stored).toContain("kept-simulation");
  const at = stored.indexOf(SECRET);
  expect(at === -1 ? "" : stored.slice(Math.max(0, at - 200), at + 50)).toBe("");
});

const escapeAll = (text: string) =>
  [...text].map((letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
