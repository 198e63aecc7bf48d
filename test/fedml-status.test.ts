import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { STATUS_BY_WORD, statusOfWord } from "../src/fedml/status.ts";
import { createRun } from "../src/run/create.ts";
import { finishRun } from "../src/run/finish.ts";
import { RunStatus } from "../src/run/schema.ts";
import { startTestBroker, type TestBroker } from "./helpers/fedml-broker.ts";
import type { RawMqtt } from "./helpers/mqtt.ts";

const RUN = "1716563514434392064";
let broker: TestBroker;
let raw: RawMqtt;
let id = 0;
beforeEach(async () => {
  broker = await startTestBroker();
  raw = await broker.connect(RUN);
});
afterEach(() => broker.close());

const tell = (topic: string, fields: object) =>
  raw.publish(topic, JSON.stringify(fields).replaceAll('"#run"', RUN), { id: (id = (id % 60_000) + 1) });
const edge = (number: number | null, status: string, topic = "fl_run/fl_client/mlops/status") =>
  tell(topic, { edge_id: number, run_id: "#run", status });
const server = (status: string, topic = "fl_run/fl_server/mlops/status") =>
  tell(topic, { run_id: "#run", edge_id: 0, status, role: "normal" });
const status = async () => (await broker.run(RUN)).status;

test("every word of FedML's has its meaning, whatever its case", () => {
  for (const [word, meaning] of Object.entries(STATUS_BY_WORD)) {
    if (meaning !== null) expect(RunStatus.options).toContain(meaning);
    expect(statusOfWord(word.toLowerCase())).toBe(meaning);
  }
  for (const word of ["DONE?", "", null, 3, "constructor", "__proto__"])
    expect(statusOfWord(word)).toBeUndefined();
});

describe("a run", () => {
  test.each(["fl_run/fl_server/mlops/status", "fl_server/mlops/status", "fl_server/flserver_agent_0/status"])(
    "is as %s says, from its provisioning to its end",
    async (topic) => {
      const seen: string[] = [];
      for (const word of ["PROVISIONING", "STARTING", "RUNNING", "FINISHED"]) {
        await server(word, topic);
        seen.push(await status());
      }
      expect(seen).toEqual(["STARTING", "STARTING", "RUNNING", "FINISHED"]);
    },
  );

  test("is as the broadcast of newer agents says, which names it in its topic alone", async () => {
    await tell(`master_agent/slave_agent/job_status/${RUN}`, { status: "FAILED", fedml_version: "0.9" });
    expect(await broker.run(RUN)).toMatchObject({ status: "FAILED", reason: "FedML reported FAILED." });
  });

  test("that was stopped is killed, whatever its clients still say of it", async () => {
    await server("RUNNING");
    await server("STOPPING");
    expect(await status()).toBe("STOPPING");
    await server("FINISHED");
    expect(await status()).toBe("KILLED");
  });

  test("stays as it ended, whatever comes late, again, or leads back", async () => {
    await edge(1, "TRAINING");
    await server("FINISHED");
    for (const word of ["RUNNING", "STARTING", "FAILED", "KILLED", "FINISHED", "QUEUED", "IDLE"]) {
      await server(word);
      await edge(1, word);
      await edge(2, word);
      expect(await status()).toBe("FINISHED");
    }
    await broker.run(RUN);
  });

  test("does not go back while it lives", async () => {
    await server("RUNNING");
    for (const word of ["STARTING", "QUEUED", "PROVISIONING", "OFFLINE", "UNDETERMINED"]) await server(word);
    expect(await status()).toBe("RUNNING");
  });

  test("whose word is none is left alone, and the word counted", async () => {
    await server("RUNNING");
    await server("BANANA");
    await tell("fl_server/mlops/status", { run_id: "#run" });
    expect(await status()).toBe("RUNNING");
    expect(broker.counted("malformed")).toBe(2);
  });

  test("that `launch` started ends as that one sees it", async () => {
    const { collector } = broker;
    await createRun(collector, { id: RUN, writer: { client: "launch-1", role: "launch", rank: 0 } });
    await server("FINISHED");
    expect(await status()).toBe("RUNNING");
    await finishRun(collector, RUN, { client: "launch-1", status: "FAILED", exit_code: 3 });
    expect(await status()).toBe("FAILED");
  });
});

describe("edges", () => {
  test("end a run when the last of them has ended, as badly as the worst", async () => {
    await edge(1, "INITIALIZING");
    await edge(2, "TRAINING");
    await edge(1, "FINISHED");
    expect(await status()).toBe("RUNNING");
    await edge(2, "FAILED");
    expect(await status()).toBe("FAILED");
    expect((await broker.run(RUN)).writers.map(({ client, live }) => [client, live])).toEqual([
      ["fedml-edge-1", false],
      ["fedml-edge-2", false],
    ]);
  });

  test("of a script without agents say it to an agent that is not there", async () => {
    await edge(0, "FINISHED", "fl_client/flclient_agent_0/status");
    expect(await status()).toBe("FINISHED");
  });

  test("that say twice how they ended are believed the first time", async () => {
    await edge(1, "TRAINING");
    await edge(2, "TRAINING");
    await edge(1, "FAILED");
    await edge(1, "FINISHED");
    await edge(2, "FINISHED");
    expect(await status()).toBe("FAILED");
  });

  test("of 19 digits or odd characters are edges", async () => {
    await tell("fl_client/mlops/status", {
      edge_id: "../../x",
      run_id: "#run",
      status: "RUNNING",
      version: "v1.0",
    });
    await raw.publish(
      "fl_client/mlops/status",
      `{"edge_id": 1716563514434392065, "run_id": ${RUN}, "status": "RUNNING"}`,
      { id: 500 },
    );
    expect((await broker.run(RUN)).writers.map(({ client }) => client).sort()).toEqual([
      "fedml-edge-.._.._x",
      "fedml-edge-1716563514434392065",
    ]);
  });

  test("that don't know their number yet, as at a process's first word, are none for which a run would wait", async () => {
    await edge(null, "TRAINING");
    expect(await status()).toBe("RUNNING");
    await edge(1, "FINISHED");
    expect(await status()).toBe("FINISHED");
  });

  test("that break off tell why", async () => {
    await edge(7, "TRAINING");
    await tell(`flserver_agent/${RUN}/client_exit_train_with_exception`, {
      run_id: "#run",
      edge_id: 7,
      status: "FAILED",
      msg: "CUDA out of memory",
    });
    expect(await broker.run(RUN)).toMatchObject({ status: "FAILED", reason: "CUDA out of memory" });
  });
});

test("agents that come and go are nobody's run", async () => {
  await tell("flclient_agent/active", { ID: "x", status: "IDLE" });
  await tell("flclient_agent/last_will_msg", { ID: "x", status: "OFFLINE" });
  expect((await broker.json("/api/v1/runs")).runs).toEqual([]);
  expect(broker.counted("unknown-topic")).toBe(0);
});
