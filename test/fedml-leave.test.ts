import { afterEach, describe, expect, test } from "bun:test";
import { createRun } from "../src/run/create.ts";
import { finishRun, presumeFailed } from "../src/run/finish.ts";
import { startTestBroker, type TestBroker } from "./helpers/fedml-broker.ts";
import { DISCONNECT } from "./helpers/mqtt.ts";

const METRICS = "fedml_slave/fedml_master/metrics/0";
const RUN = "123456789012345";
let broker: TestBroker;
afterEach(() => broker.close());
const start = async (backWithin = 30) => (broker = await startTestBroker({ limits: { backWithin } }));
const acc = (step: number) => `{"acc": ${step}, "step": ${step}, "timestamp": ${1795478344338.5 + step}}`;

/** Resolves with the run's next status that is announced. */
const changed = () =>
  new Promise<string>((resolve) => {
    const end = broker.collector.bus.subscribe(({ kind, run, data }) => {
      if (kind !== "run.changed" || run !== RUN) return;
      end();
      resolve((data as { status: string }).status);
    });
  });

/** Resolves when the run is announced to be so. */
const changedTo = (status: string) =>
  new Promise<void>((resolve) => {
    const end = broker.collector.bus.subscribe(({ kind, run, data }) => {
      if (kind !== "run.changed" || run !== RUN || (data as { status: string }).status !== status) return;
      end();
      resolve();
    });
  });

test("the run of a plain script is finished when its connection ends, and goes on when more comes", async () => {
  await start();
  const raw = await broker.connect(RUN);
  await raw.publish(METRICS, acc(0));
  const finished = changed();
  await raw.vanish();
  expect(await finished).toBe("FINISHED");
  expect((await broker.run(RUN)).reason).toContain("closed the connection");
  const again = await broker.connect(RUN);
  const reopened = changed();
  await again.publish(METRICS, acc(1));
  expect(await reopened).toBe("RUNNING");
  expect(await broker.run(RUN)).toMatchObject({ status: "RUNNING", reason: null });
});

test("a run goes on while one of its clients is there, or comes back in time", async () => {
  await start(200);
  const [main, upload] = await Promise.all([
    broker.connect(RUN, { client: "main" }),
    broker.connect(RUN, { client: "upload" }),
  ]);
  await main.publish(METRICS, acc(0));
  upload.send(DISCONNECT);
  await upload.closed;
  await main.vanish();
  const back = await broker.connect(RUN, { client: "main" });
  // Longer than it would have been waited for.
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect((await broker.run(RUN)).status).toBe("RUNNING");
  const finished = changed();
  await back.vanish();
  expect(await finished).toBe("FINISHED");
});

test("an edge that said it trains, and left without a word, has failed", async () => {
  await start();
  const raw = await broker.connect(RUN);
  await raw.publish(
    "fl_run/fl_client/mlops/status",
    `{"edge_id": 3, "run_id": ${RUN}, "status": "TRAINING"}`,
  );
  const failed = changed();
  await raw.vanish();
  expect(await failed).toBe("FAILED");
});

describe("an edge that was only away for too long", () => {
  const STATUS = "fl_run/fl_client/mlops/status";
  const says = (status: string, edge = 3) => `{"edge_id": ${edge}, "run_id": ${RUN}, "status": "${status}"}`;

  /** Said that it trains, and was taken for dead with its run. */
  async function away(...edges: number[]): Promise<void> {
    await start();
    const raw = await broker.connect(RUN);
    for (const edge of edges) await raw.publish(STATUS, says("TRAINING", edge));
    const failed = changedTo("FAILED");
    await raw.vanish();
    await failed;
  }

  const ways = [
    ["with data", METRICS, acc(0)],
    ["with its status", STATUS, says("TRAINING")],
    ["with the run's status", "fl_run/fl_server/mlops/status", `{"run_id": ${RUN}, "status": "RUNNING"}`],
  ] as const;

  test.each(ways)("comes back %s, says how it ends, and is believed", async (_how, topic, message) => {
    await away(3);
    const back = await broker.connect(RUN);
    await back.publish(topic, message);
    expect((await broker.run(RUN)).status).toBe("RUNNING");
    await back.publish(STATUS, says("FINISHED"));
    expect((await broker.run(RUN)).status).toBe("FINISHED");
  });

  test.each(ways)("comes back %s after a restart of ours, and is believed", async (_how, topic, message) => {
    await away(3);
    broker = await broker.restart();
    const back = await broker.connect(RUN);
    await back.publish(topic, message);
    expect((await broker.run(RUN)).status).toBe("RUNNING");
    await back.publish(
      STATUS,
      `{"edge_id": 3, "run_id": ${RUN}, "status": "FAILED", "msg": "out of memory"}`,
    );
    expect(await broker.run(RUN)).toMatchObject({ status: "FAILED", reason: "out of memory" });
  });

  test("and had said itself that it failed, stays so after a restart of ours, whoever comes back", async () => {
    await start();
    const raw = await broker.connect(RUN);
    for (const edge of [3, 4]) await raw.publish(STATUS, says("TRAINING", edge));
    await raw.publish(STATUS, says("FAILED", 3));
    const failed = changedTo("FAILED");
    await raw.vanish();
    await failed;
    broker = await broker.restart();
    const back = await broker.connect(RUN);
    await back.publish(METRICS, acc(0));
    expect((await broker.run(RUN)).status).toBe("RUNNING");
    await back.publish(STATUS, says("FINISHED", 3));
    await back.publish(STATUS, says("FINISHED", 4));
    expect((await broker.run(RUN)).status).toBe("FAILED");
  });

  test("from a run that goes on, is believed after a restart of ours", async () => {
    await start();
    await createRun(broker.collector, { id: RUN, writer: { client: "script", role: "client", rank: 0 } });
    const raw = await broker.connect(RUN);
    await raw.publish(STATUS, says("TRAINING"));
    await presumeFailed(broker.collector, { run: RUN, client: "fedml-edge-3", reason: "No contact.", at: 1 });
    broker = await broker.restart();
    const back = await broker.connect(RUN);
    await back.publish(STATUS, says("FINISHED"));
    await finishRun(broker.collector, RUN, { client: "script", status: "FINISHED" });
    expect((await broker.run(RUN)).status).toBe("FINISHED");
  });

  test.each([
    ["with data", METRICS, acc(0)],
    ["with its status", STATUS, says("TRAINING")],
  ])("comes back %s, leaves again without a word, and has failed", async (_how, topic, message) => {
    await away(3);
    const back = await broker.connect(RUN);
    await back.publish(topic, message);
    expect((await broker.run(RUN)).status).toBe("RUNNING");
    const failed = changedTo("FAILED");
    await back.vanish();
    await failed;
    expect((await broker.run(RUN)).reason).toContain("had not said how it ended");
  });

  test("is waited for when another has come back before it", async () => {
    await away(3, 4);
    const back = await broker.connect(RUN);
    await back.publish(STATUS, says("TRAINING", 3));
    await back.publish(STATUS, says("TRAINING", 4));
    await back.publish(STATUS, says("FINISHED", 3));
    expect((await broker.run(RUN)).status).toBe("RUNNING");
    await back.publish(STATUS, says("FINISHED", 4));
    expect((await broker.run(RUN)).status).toBe("FINISHED");
  });
});

test("where others write to the run it goes on, and how it ended stays", async () => {
  await start();
  await createRun(broker.collector, { id: RUN, writer: { client: "launch-1", role: "launch", rank: 0 } });
  const raw = await broker.connect(RUN);
  await raw.publish(METRICS, acc(0));
  await raw.vanish();
  const ended = await broker.connect("2");
  await ended.publish("fl_run/fl_server/mlops/status", '{"edge_id": 0, "run_id": "2", "status": "KILLED"}');
  await ended.vanish();
  await new Promise((resolve) => setTimeout(resolve, 150));
  expect((await broker.run(RUN)).status).toBe("RUNNING");
  expect((await broker.run("2")).status).toBe("KILLED");
});
