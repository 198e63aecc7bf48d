import { afterEach, describe, expect, test } from "bun:test";
import { createIngest } from "../src/fedml/broker-ingest.ts";
import { createCounts } from "../src/fedml/counts.ts";
import { endpointTopics } from "../src/fedml/endpoint.ts";
import { parseFedmlJson } from "../src/fedml/json.ts";
import { createKeys } from "../src/fedml/keys.ts";
import { llmTopics } from "../src/fedml/llm.ts";
import { metricTopics, readRecord } from "../src/fedml/metrics.ts";
import { createWriter } from "../src/fedml/writer.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { startTestBroker, type TestBroker } from "./helpers/fedml-broker.ts";

const NEW = "fedml_slave/fedml_master/metrics/0";
const OLD = "fl_server/mlops/training_progress_and_eval";
const RUN = "123456789012345";

describe("a record", () => {
  test.each<[string, object, object]>([
    [
      "of the client of 2024",
      {
        x_axis_keys: ["step", "timestamp", "x_index"],
        y_axis_keys: ["acc"],
        acc: 0.32,
        x_index: 2,
        step: 2,
        run_id: "0",
        timestamp: 1.5,
        is_endpoint: false,
        is_retain: true,
      },
      { metrics: { acc: 0.32, x_index: 2 }, step: 2, time: 1.5, x: ["x_index"] },
    ],
    [
      "without metrics",
      { x_axis_keys: ["step", "timestamp"], y_axis_keys: [], step: 0, run_id: "0", timestamp: 2 },
      { metrics: {}, step: 0, time: 2 },
    ],
    [
      "of 2022, without step and axes",
      { run_id: 7, timestamp: 3.25, round_idx: 4, test_acc: 0.5 },
      { metrics: { round_idx: 4, test_acc: 0.5 }, time: 3.25, x: ["round_idx"] },
    ],
    [
      "whose axis is not among its metrics",
      { x_axis_keys: ["step", "gone"], acc: 1, step: 0 },
      { metrics: { acc: 1 }, step: 0 },
    ],
    ["with steps that are negative or broken", { acc: 1, step: -1.5 }, { metrics: { acc: 1 }, step: -1.5 }],
    ["whose step and time are none", { acc: 1, step: "3", timestamp: "now" }, { metrics: { acc: 1 } }],
    [
      "with values that are no numbers",
      {
        acc: NaN,
        up: Infinity,
        down: -Infinity,
        deep: [NaN, { a: Infinity }],
        none: null,
        text: "x",
        yes: true,
      },
      {
        metrics: {
          acc: "NaN",
          up: "Infinity",
          down: "-Infinity",
          deep: ["NaN", { a: "Infinity" }],
          none: null,
          text: "x",
          yes: true,
        },
      },
    ],
    [
      "with names that are none",
      { "": 1, [`${"k".repeat(501)}`]: 1, "a\u0000b": 1, "\ud800": 1, ok: 1 },
      { metrics: { ok: 1 } },
    ],
  ])("%s", (_what, fields, record) => {
    expect(readRecord(fields as Record<string, unknown>).record as object).toEqual(record);
  });

  test("does not take a name for a prototype", () => {
    const { record, dropped } = readRecord(
      parseFedmlJson(
        '{"__proto__": {"x": 1}, "constructor": 2, "acc": 1, "x_axis_keys": ["toString", "constructor"]}',
      ) as any,
    );
    expect(record.x).toEqual(["constructor"]);
    expect(dropped).toBe(1);
    expect(Object.entries(record.metrics)).toEqual([
      ["constructor", 2],
      ["acc", 1],
    ]);
  });
});

describe("what is logged", () => {
  let broker: TestBroker;
  afterEach(() => broker.close());

  test("by the documentation's eight lines is seven records, in their order, with the steps that the client gave them", async () => {
    broker = await startTestBroker();
    const raw = await broker.connect(RUN);
    const lines: [number, object, string?][] = [
      [0, { acc: 0.1 }],
      [1, { acc: 0.11 }],
      [2, { acc: 0.2 }],
      [3, { acc: 0.3 }],
      [1, { acc: 0.31 }],
      [2, { acc: 0.32, x_index: 2 }, "x_index"],
      [4, { loss: 0.33, acc: 0.34 }],
    ];
    for (const [at, [step, metrics, axis]] of lines.entries())
      await raw.publish(
        NEW,
        JSON.stringify({
          x_axis_keys: ["step", "timestamp", ...(axis ? [axis] : [])],
          y_axis_keys: Object.keys(metrics).filter((key) => key !== axis),
          ...metrics,
          step,
          run_id: RUN,
          timestamp: 1795478344338.046 + at,
          is_endpoint: false,
        }),
        { id: at + 1, retain: true },
      );
    expect(await broker.points(RUN, "acc")).toEqual([
      [0, 0.1],
      [1, 0.11],
      [2, 0.2],
      [3, 0.3],
      [1, 0.31],
      [2, 0.32],
      [4, 0.34],
    ]);
    expect(await broker.points(RUN, "loss")).toEqual([[4, 0.33]]);
    expect(await broker.points(RUN, "acc", "x_index")).toEqual([[2, 0.32]]);
    expect((await broker.points(RUN, "acc", "time"))[0]![0]).toBe(1795478344338.046);
  });

  test("is one record though an agent publishes it again, and two where only time and step are the same", async () => {
    broker = await startTestBroker();
    const raw = await broker.connect(RUN);
    const sent = (acc: number, more = "") =>
      `{"x_axis_keys": ["step", "timestamp"], "y_axis_keys": ["acc"], "acc": ${acc}, "step": 0, "run_id": "1", "timestamp": 1795478344338.046, "is_endpoint": false${more}}`;
    await raw.publish(NEW, sent(0.5));
    await raw.publish(OLD, sent(0.5, ', "is_retain": true'), { id: 2 });
    await raw.publish(OLD, sent(0.75), { id: 3 });
    expect(await broker.points(RUN, "acc")).toEqual([
      [0, 0.5],
      [0, 0.75],
    ]);
    expect(broker.counted("replayed")).toBe(1);
  });

  test("by clients of 2022 is counted by us, and on after a restart of theirs", async () => {
    broker = await startTestBroker();
    const raw = await broker.connect(RUN);
    for (let round = 0; round < 3; round++)
      await raw.publish(
        OLD,
        `{"run_id": 5, "timestamp": ${1700000000000 + round}, "round_idx": ${round}, "acc": ${round}}`,
        { id: round + 1 },
      );
    expect(await broker.points(RUN, "acc")).toEqual([
      [0, 0],
      [1, 1],
      [2, 2],
    ]);
    expect(await broker.points(RUN, "acc", "round_idx")).toHaveLength(3);
  });

  test("keeps NaN and infinities, and whole numbers beyond 2^53 to the digit", async () => {
    broker = await startTestBroker();
    const raw = await broker.connect(RUN);
    await raw.publish(
      NEW,
      '{"loss": NaN, "up": Infinity, "down": -Infinity, "id": 1716563514434392064, "step": 0, "run_id": 1716563514434392064, "timestamp": 1795478344338.5}',
    );
    expect(await broker.points(RUN, "loss")).toEqual([[0, "NaN"]]);
    expect(await broker.points(RUN, "up")).toEqual([[0, "Infinity"]]);
    expect(await broker.points(RUN, "down")).toEqual([[0, "-Infinity"]]);
    expect(await broker.points(RUN, "id")).toEqual([[0, "1716563514434392064"]]);
  });

  test("of endpoints and by log_llm_record lies in the run, the latter under its own names", async () => {
    broker = await startTestBroker();
    const raw = await broker.connect(RUN);
    await raw.publish(
      "fl_server/mlops/deploy_progress_and_eval",
      '{"x_axis_keys": ["step", "timestamp"], "y_axis_keys": ["latency"], "latency": 0.2, "step": 0, "run_id": "9", "timestamp": 1795478344338.5}',
    );
    await raw.publish(
      "model_serving/mlops/llm_input_output_record",
      '{"input": "Hello?", "output": "Hi.", "tokens": 3, "run_id": "9", "timestamp": 1795478344339.5}',
      { id: 2 },
    );
    await raw.publish(
      "model_ops/model_device/return_deployment_status/9",
      '{"end_point_id": 9, "end_point_name": "e", "model_name": "m", "model_url": "", "model_status": "DEPLOYED", "timestamp": 1795478344340}',
      { id: 3 },
    );
    expect(await broker.points(RUN, "latency")).toEqual([[0, 0.2]]);
    expect((await broker.points(RUN, "llm/output", "time")) as unknown[]).toEqual([[1795478344339.5, "Hi."]]);
    expect((await broker.points(RUN, "llm/tokens", "time")) as unknown[]).toEqual([[1795478344339.5, 3]]);
    expect((await broker.points(RUN, "endpoint/status", "time"))[0]![1]).toBe("DEPLOYED");
  });

  test("by many at once arrives whole, each client's in its order, one bad record costing the others nothing", async () => {
    broker = await startTestBroker();
    const raws = await Promise.all(
      Array.from({ length: 8 }, (_, at) => broker.connect(RUN, { client: `c${at}` })),
    );
    await Promise.all(
      raws.map(async (raw, client) => {
        const sent = Array.from({ length: 100 }, (_, step) =>
          raw.publish(
            NEW,
            step % 10 === 3
              ? `{"x": ${"[".repeat(80)}1`
              : `{"c${client}": ${step}, "step": ${step}, "timestamp": ${1795478344338 + client * 1000 + step}}`,
            { id: step + 1 },
          ),
        );
        await Promise.all(sent);
      }),
    );
    const steps = Array.from({ length: 100 }, (_, step) => step).filter((step) => step % 10 !== 3);
    for (let client = 0; client < 8; client++)
      expect((await broker.points(RUN, `c${client}`)).map(([step]) => step)).toEqual(steps);
    expect(broker.counted("malformed")).toBe(80);
  });
});

describe("what says that it comes again, after a restart", () => {
  const messages: [topic: string, fields: string][] = [
    ["model_serving/mlops/llm_input_output_record", '"input": "Hello?", "output": "Hi.", "ok": true'],
    ["model_ops/model_device/return_deployment_status/9", '"model_status": "DEPLOYED"'],
    [NEW, '"loss": NaN'],
    [OLD, '"note": "warm-up"'],
  ];
  const keys = ["llm/input", "llm/output", "llm/ok", "endpoint/status", "loss", "note"];
  let t: TestCollector;
  afterEach(() => t.close());

  /** Says it all as somebody who remembers nothing does. */
  async function say(at: number, dup: boolean): Promise<number> {
    const { collector, trust } = t;
    const counts = createCounts();
    const context = {
      collector,
      counts,
      writer: createWriter(collector),
      keys: createKeys(() => trust.tokens),
    };
    const ingest = createIngest({
      topics: [...metricTopics(context), ...llmTopics(context), ...endpointTopics(context)],
      counts,
      now: collector.now,
      onDiagnostic: (text) => t.unforeseen.push(new Error(text)),
    });
    for (const [topic, fields] of messages)
      await ingest(
        { topic, payload: `{${fields}, "timestamp": ${1795478344339 + at}}`, dup },
        { run: RUN },
        "FedML_x",
      );
    return counts.list().find(({ what }) => what === "replayed")?.count ?? 0;
  }
  const lengths = () =>
    Promise.all(
      keys.map(async (key) => (await t.json(`/api/v1/runs/${RUN}/points?key=${key}`)).points.length),
    );

  test("is recognised by its text, too, and by what JSON has no number for", async () => {
    t = createTestCollector();
    await say(0, false);
    await say(1, false);
    await t.collector.tidy(10_000);
    const { connection } = t.collector;
    expect(connection.prepare("SELECT count(*) AS n FROM series_text").get()).toMatchObject({ n: 10 });
    t = await t.restart();
    expect(await say(1, true)).toBe(messages.length);
    // What never came is new, and in memory alone.
    expect(await say(2, true)).toBe(0);
    expect(await say(2, true)).toBe(messages.length);
    expect(await lengths()).toEqual(keys.map(() => 3));
  });
});
