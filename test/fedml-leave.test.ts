import { afterEach, expect, test } from "bun:test";
import { createRun } from "../src/run/create.ts";
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
