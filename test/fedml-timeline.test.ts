import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createIngest, type Ingest } from "../src/fedml/broker-ingest.ts";
import { createCounts, type FedmlCounts } from "../src/fedml/counts.ts";
import { edgeStatusTopics } from "../src/fedml/edge-status.ts";
import { eventTopics, readLabel, readMoment } from "../src/fedml/events.ts";
import { createKeys } from "../src/fedml/keys.ts";
import { readRound, roundTopics, spanOfRound } from "../src/fedml/rounds.ts";
import { statusTopics } from "../src/fedml/status.ts";
import { createWriter } from "../src/fedml/writer.ts";
import type { Span, SpanPage } from "../src/span/schema.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const RUN = "123456789012345";
const T = 1_700_000_000_000;

describe("times and labels as clients have them", () => {
  for (const [given, ms] of [
    [1_700_000_000, T],
    [T, T],
    [T + 0.5, T + 0.5],
    [0, undefined],
    [-5, undefined],
    [NaN, undefined],
    [1e300, undefined],
    ["1700000000", undefined],
    [null, undefined],
  ] as const)
    test(`the time ${String(given)}`, () => expect(readMoment(given)).toBe(ms));

  for (const [given, label] of [
    ["a", "a"],
    [" ", undefined],
    ["", undefined],
    [0, "0"],
    ["1716563514434392064", "1716563514434392064"],
    [{ a: 1 }, '{"a":1}'],
    [null, undefined],
    ["x".repeat(300), "x".repeat(250)],
  ] as const)
    test(`the label ${JSON.stringify(given).slice(0, 30)}`, () => expect(readLabel(given, 250)).toBe(label));
});

describe("a round as a span", () => {
  const cases: [string, object, number | undefined, object][] = [
    [
      "the first one began when the timer was started",
      { round_index: 0, total_rounds: 3, running_time: 2.5 },
      undefined,
      { started: T - 2500, ended: T, round: 0, total: 3 },
    ],
    [
      "another one when the one before it ended",
      { round_index: 1, total_rounds: 3, running_time: 9 },
      T - 4000,
      { started: T - 4000, ended: T, round: 1, total: 3 },
    ],
    [
      "nobody knows of one whose predecessor was lost",
      { round_index: 2, total_rounds: 3, running_time: 9 },
      undefined,
      { ended: T, round: 2, total: 3 },
    ],
    [
      "nor of a first one whose timer was never started",
      { round_index: 0, total_rounds: 3, running_time: 1_700_000_000.5 },
      undefined,
      { ended: T, round: 0, total: 3 },
    ],
    [
      "a total that is none is absent",
      { round_index: 4, total_rounds: "many" },
      T - 1,
      { started: T - 1, ended: T, round: 4 },
    ],
  ];
  for (const [name, fields, before, span] of cases)
    test(name, () => {
      const { id, ...rest } = spanOfRound(readRound({ ...fields })!, T, before);
      expect(rest).toEqual({ kind: "round", name: "round", value: String(rest.round), ...span } as never);
      expect(id).toMatch(/^round\.[0-9a-f]{24}$/);
    });

  test("the start of the timer is none", () => expect(readRound({ round_index: -1 })).toBeUndefined());
  test("said again it is the same, with another running time another", () => {
    const of = (running: number, at: number) =>
      spanOfRound({ index: 1, total: 3, running }, at, undefined).id;
    expect(of(5, T)).toBe(of(5, T + 900));
    expect(of(5, T)).not.toBe(of(6, T));
  });
});

describe("what comes over MQTT", () => {
  let t: TestCollector;
  let counts: FedmlCounts;
  let ingest: Ingest;
  let now = T;

  beforeEach(async () => {
    now = T;
    t = createTestCollector({ now: () => now });
    counts = createCounts();
    const keys = createKeys(() => t.trust.tokens);
    const context = { collector: t.collector, writer: createWriter(t.collector), counts, keys };
    ingest = createIngest({
      topics: [
        ...statusTopics(context),
        ...eventTopics(context),
        ...roundTopics(context),
        ...edgeStatusTopics(context),
      ],
      counts,
      now: () => now,
      onDiagnostic: (text) => t.unforeseen.push(new Error(text)),
    });
  });
  afterEach(() => t.close());

  const publish = (topic: string, payload: object | string) =>
    ingest(
      { topic, payload: typeof payload === "string" ? payload : JSON.stringify(payload) },
      { run: RUN },
      "FedML_x",
    );
  const at = (time: string | null) => (time === null ? null : Date.parse(time) - T);
  async function spans(): Promise<unknown[][]> {
    const page = await t.json<SpanPage>(`/api/v1/runs/${RUN}/spans`);
    return page.spans.map(({ name, value, edge, started, ended }: Span) => [
      name,
      value,
      edge,
      at(started),
      at(ended),
    ]);
  }

  const event = (name: string, time: object, more: object = {}) =>
    publish("mlops/events", { run_id: "0", edge_id: 7, event_name: name, event_value: "", ...time, ...more });

  test("an event is one span, though its end is published twice, at once", async () => {
    await event("train", { started_time: T });
    await Promise.all([event("train", { ended_time: T + 3000 }), event("train", { ended_time: T + 3000 })]);
    expect(await spans()).toEqual([["train", null, "7", 0, 3000]]);
  });

  test("each round's event is its own by its value, on each edge; ids of 19 digits stay exact", async () => {
    for (const round of [0, 1]) {
      await event("agg", { started_time: T + 1000 * round }, { event_value: String(round) });
      await event("agg", { ended_time: T + 1000 * round + 500 }, { event_value: String(round) });
    }
    await publish(
      "mlops/events",
      `{"run_id": 1716563514434392064, "edge_id": 1716563514434392999, "event_name": "agg", "event_value": 0, "started_time": ${T}}`,
    );
    expect(await spans()).toEqual(
      expect.arrayContaining([
        ["agg", "0", "7", 0, 500],
        ["agg", "1", "7", 1000, 1500],
        ["agg", "0", "1716563514434392999", 0, null],
      ]),
    );
  });

  test("an end that comes first waits for its beginning; seconds and milliseconds are both times", async () => {
    await event("wait", { ended_time: T / 1000 + 5 });
    expect(await spans()).toEqual([["wait", null, "7", null, 5000]]);
    await event("wait", { started_time: T / 1000 });
    expect(await spans()).toEqual([["wait", null, "7", 0, 5000]]);
  });

  test("rounds follow each other, and one that is published again is the same", async () => {
    const round = (index: number, running: number) =>
      publish("fl_server/mlops/training_roundx", {
        run_id: "0",
        round_index: index,
        total_rounds: 3,
        running_time: running,
      });
    await round(-1, 0);
    now = T + 2000;
    await round(0, 2);
    now = T + 5000;
    await round(1, 5);
    now = T + 6000;
    await round(1, 5);
    expect(await spans()).toEqual([
      ["round", "0", null, 0, 2000],
      ["round", "1", null, 2000, 5000],
    ]);
  });

  test("rounds that come at once follow each other, and one that no timer runs for is the same when it says it comes again", async () => {
    const topic = "fl_server/mlops/training_roundx";
    const payload = (index: number) => JSON.stringify({ round_index: index, total_rounds: 3 });
    const round = (index: number, dup = false) =>
      ingest({ topic, payload: payload(index), dup }, { run: RUN }, "FedML_x");
    await round(0);
    now = T + 2000;
    const first = round(1);
    now = T + 3000;
    await Promise.all([first, round(2)]);
    now = T + 4000;
    await round(2, true);
    // Of a training that begins anew.
    await round(0);
    const rounds = (await spans()).map(([, index, , started, ended]) => [index, started, ended]);
    expect(rounds.sort((a, b) => (a[2] as number) - (b[2] as number))).toEqual([
      ["0", null, 0],
      ["1", 0, 2000],
      ["2", 2000, 3000],
      ["0", null, 4000],
    ]);
  });

  test("an edge's statuses are what it was and when, said once though three topics say them", async () => {
    const say = async (status: string, edge: number, more: object = {}) => {
      for (const topic of [
        "fl_client/flclient_agent_7/status",
        "fl_run/fl_client/mlops/status",
        "fl_client/mlops/status",
      ])
        await publish(topic, { run_id: "0", edge_id: edge, status, ...more });
      now += 1000;
    };
    await say("INITIALIZING", 7);
    await say("TRAINING", 7);
    await say("TRAINING", 8);
    await say("IDLE", 8);
    await say("FINISHED", 7);
    await publish("flserver_agent/5/client_exit_train_with_exception", { run_id: 5, edge_id: 8, msg: "oom" });
    expect(await spans()).toEqual([
      ["INITIALIZING", null, "7", 0, 1000],
      ["TRAINING", null, "7", 1000, 4000],
      ["TRAINING", null, "8", 2000, 5000],
      ["FINISHED", null, "7", 4000, 4000],
      ["FAILED", null, "8", 5000, 5000],
    ]);
    expect((await t.json(`/api/v1/runs/${RUN}`)).status).toBe("FAILED");
  });

  test("a federated server's phases stand in a lane of their own, though its edge has the same number", async () => {
    const say = async (status: string, edge: unknown, topics: string[]) => {
      for (const topic of topics)
        await publish(topic, { run_id: "0", edge_id: edge, status, role: "normal", server_id: edge });
      now += 1000;
    };
    const agent = ["fl_server/flserver_agent_1/status"];
    const platform = ["fl_run/fl_server/mlops/status", "fl_server/mlops/status"];
    await publish("fl_client/mlops/status", { run_id: "0", edge_id: 1, status: "TRAINING" });
    await say("STARTING", 1, [...agent, ...platform]);
    await say("RUNNING", 1, [...platform, ...agent]);
    // Of a plain script: nobody knows its number.
    await say("RUNNING", 0, agent);
    await say("RUNNING", null, agent);
    await say("IDLE", 1, agent);
    // How the run is, said by whoever sends it on: nobody's phase.
    await say("STARTING", 0, platform);
    await publish("fl_client/mlops/status", { run_id: "0", edge_id: 1, status: "FINISHED" });
    await say("FINISHED", 1, agent);
    expect(await spans()).toEqual([
      ["TRAINING", null, "1", 0, 6000],
      ["STARTING", null, "server 1", 0, 1000],
      ["RUNNING", null, "server 1", 1000, 6000],
      ["RUNNING", null, "server", 2000, null],
      ["FINISHED", null, "1", 6000, 6000],
      ["FINISHED", null, "server 1", 6000, 6000],
    ]);
    expect((await t.json(`/api/v1/runs/${RUN}`)).status).toBe("FINISHED");
  });

  test("statuses of one millisecond keep their order", async () => {
    const words = ["INITIALIZING", "RUNNING", "STOPPING", "FINISHED"];
    for (const status of words) await publish("fl_client/mlops/status", { run_id: "0", edge_id: 1, status });
    const { spans } = await t.json<SpanPage>(`/api/v1/runs/${RUN}/spans`);
    expect(spans.map(({ name }) => name)).toEqual(words);
    expect(spans.map(({ ended }) => ended)).not.toContain(null);
  });

  for (const [what, topic, payload] of [
    ["an event without a name", "mlops/events", { started_time: T }],
    ["an event that is a list", "mlops/events", [1]],
    ["a round without an index", "fl_server/mlops/training_roundx", { total_rounds: 3 }],
    ["a round with an index beyond counting", "fl_server/mlops/training_roundx", { round_index: 1e300 }],
  ] as const)
    test(`${what} is counted, answered, and keeps nothing`, async () => {
      await publish(topic, payload);
      expect(counts.list().map(({ what, count }) => [what, count])).toEqual([["malformed", 1]]);
      expect(t.collector.counters.find(RUN)).toBeUndefined();
    });

  test("late ones of a run that was deleted are counted", async () => {
    await event("train", { started_time: T });
    await t.request(`/api/v1/runs/${RUN}?force=true`, { method: "DELETE" });
    await event("train", { ended_time: T });
    expect(counts.list()).toMatchObject([{ what: "gone", count: 1 }]);
  });
});
