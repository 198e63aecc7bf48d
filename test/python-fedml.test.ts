import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Span } from "../src/span/schema.ts";
import { findPythons, python, runPython, spooled, startServer, type TestServer } from "./helpers/python.ts";

// Many processes, perhaps on a busy machine.
setDefaultTimeout(60_000);

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.remove());

const spansOf = async (run: string): Promise<Span[]> => (await server.get(`/api/v1/runs/${run}/spans`)).spans;
const briefly = ({ kind, name, value, edge, ended }: Span) => [kind, name, value, edge, ended !== null];
const linesOf = async (run: string): Promise<{ stream: string; text: string }[]> =>
  (await server.get(`/api/v1/runs/${run}/logs`)).lines;
let runs = 0;
const newRun = () => `python-fedml-${++runs}`;

/** Every name of the client's modules that has to do with tracking, and what it is called with. */
const CALLS = `
fedml.log({"acc": 0.1}); fedml.log_metric({"acc": 0.2}); fedml.log_endpoint({"latency": 1})
fedml.log_llm_record({"prompt": "hello", "round": 3, "a/b": [1]}, version="release")
mlops.pre_setup(None); mlops.init(None)
mlops.log_training_status("TRAINING", run_id=None, edge_id=7, is_from_model=True, enable_broadcast=True)
mlops.log_aggregation_status("RUNNING", run_id="0")
mlops.log_round_info(2, -1); mlops.log_round_info(2, 0); mlops.log_round_info(total_rounds=2, round_index=1)
mlops.event("train", event_started=True, event_value="0", event_edge_id=7)
mlops.event("train", event_started=False, event_value="0", event_edge_id=7)
mlops.event("wait")
mlops.log_aggregated_model_info(1, "s3://bucket/model"); mlops.log_client_model_info(1, 2, "s3://bucket/client")
mlops.log_aggregated_model_info(1, None)
mlops.log_training_model_net_info("Net(Linear)", None); mlops.log_training_model_input_info([[1, 28, 28]], ["float32"])
assert mlops.get_training_model_input_info("url", None) == ([[1, 28, 28]], ["float32"])
mlops.log_sys_perf(); mlops.stop_sys_perf(); mlops.log_server_payload("1", 2, {}); mlops.enable_logging_to_file(7)
mlops.log_endpoint_status("ep-1", "DEPLOYED")
mlops.log_run_log_lines("0", 7, ["first\\n", "second"], log_source="train", use_mqtt=True); mlops.log_run_logs({"logs": ["third"]})
mlops.register_run_status_callback(None)
fedml.set_env_version("local"); assert fedml.get_env_version() == "local"
fedml.set_local_on_premise_platform_host("h"); assert fedml.get_local_on_premise_platform_host() == "h"
fedml.set_local_on_premise_platform_port(81); assert fedml.get_local_on_premise_platform_port() == "81"
for name in dir(mlops):
    if name.startswith("ARTIFACT_TYPE_NAME_"):
        assert getattr(fedml, name) == getattr(mlops, name)
assert mlops.ClientConstants.MSG_MLOPS_CLIENT_STATUS_TRAINING == "TRAINING"
assert mlops.ServerConstants.MSG_MLOPS_SERVER_STATUS_EXCEPTION == "EXCEPTION"
mlops.log_training_finished_status(edge_id=7); mlops.log_aggregation_finished_status()
`;

describe.each(findPythons(true))("the reference's calls on Python $version", ({ path }) => {
  const run = (script: string, id: string, env: Record<string, string> = {}) =>
    runPython(`import fedml, sys\nfrom fedml import mlops\n${script}`, {
      python: path,
      env: { ...server.env, BINNACLE_FEDML: "native", BINNACLE_RUN_ID: id, ...env },
    });
  const ok = async (script: string, id: string, env: Record<string, string> = {}) => {
    const { code, out, err } = await run(script, id, env);
    if (code !== 0) throw new Error(`${code}: ${out}\n${err}`);
    return { out, err };
  };

  test("all of them, and what becomes of each", async () => {
    const id = newRun();
    await ok(CALLS, id);
    const spans = await spansOf(id);
    expect(spans.map(briefly).map(String).sort()).toEqual(
      [
        ["event", "aggregated model", "s3://bucket/model", null, true],
        ["event", "client model", "s3://bucket/client", null, true],
        ["event", "train", "0", "7", true],
        ["event", "wait", null, null, false],
        ["round", "round", "0", null, true],
        ["round", "round", "1", null, true],
        ["status", "FINISHED", null, "7", true],
        ["status", "FINISHED", null, "server", true],
        ["status", "RUNNING", null, "server", true],
        ["status", "TRAINING", null, "7", true],
      ]
        .map(String)
        .sort(),
    );
    const rounds = spans.filter(({ kind }) => kind === "round");
    expect(rounds.map(({ round, total }) => [round, total])).toEqual([
      [0, 2],
      [1, 2],
    ]);
    // Each begins where the one before it ended.
    expect(rounds[0]!.started).not.toBeNull();
    expect(rounds[1]!.started).toBe(rounds[0]!.ended!);
    expect(await server.points(id, "acc")).toEqual([
      [0, 0.1],
      [1, 0.2],
    ]);
    expect(await server.points(id, "latency")).toEqual([[2, 1]]);
    expect((await server.points(id, "llm/prompt")).map(([, value]) => value)).toEqual(["hello"]);
    expect((await server.points(id, "llm/round_idx")).map(([, value]) => value)).toEqual([3]);
    expect((await server.points(id, "llm/a_b")).map(([, value]) => value)).toEqual([[1]]);
    expect((await server.points(id, "endpoint/status")).map(([, value]) => value)).toEqual(["DEPLOYED"]);
    expect((await linesOf(id)).map(({ text }) => text)).toEqual(["first", "second", "third"]);
    expect(await server.run(id)).toMatchObject({
      status: "FINISHED",
      config: { training_model_net: "Net(Linear)", training_model_input: { sizes: [[1, 28, 28]] } },
    });
  });

  test.each([
    ["mlops.log_training_failed_status()", "FAILED", "The script reported FAILED."],
    ["mlops.log_aggregation_exception_status()", "FAILED", "The script reported EXCEPTION."],
    ["mlops.send_exit_train_msg()", "FAILED", "The script reported FAILED."],
    ["mlops.log_training_status('killed')", "KILLED", "The script reported KILLED."],
    [
      "mlops.log_training_failed_status(); mlops.log_aggregation_finished_status()",
      "FAILED",
      "The script reported FAILED.",
    ],
    ["mlops.log_training_finished_status(); raise ValueError('late')", "FAILED", "ValueError: late"],
  ])("after %s the run ends %s", async (calls, status, reason) => {
    const id = newRun();
    await run(calls, id);
    expect(await server.run(id)).toMatchObject({ status, reason });
  });

  test("a status that is said twice is one, and the callback hears of each that this process says", async () => {
    const id = newRun();
    const { out } = await ok(
      `
import threading
heard, done = [], threading.Event()
def hear(run_id, status):
    heard.append((run_id, status, threading.current_thread() is threading.main_thread()))
    if status == "RUNNING":
        raise RuntimeError("the script's own")
    if status == "FINISHED":
        done.set()
mlops.register_run_status_callback(hear)
mlops.log_training_status("RUNNING"); mlops.log_training_status("RUNNING"); mlops.log_training_finished_status()
assert done.wait(20)
print(heard)`,
      id,
    );
    expect(out.trim()).toBe(
      `[('${id}', 'RUNNING', False), ('${id}', 'RUNNING', False), ('${id}', 'FINISHED', False)]`,
    );
    expect((await spansOf(id)).map(({ name }) => name)).toEqual(["RUNNING", "FINISHED"]);
  });

  test("which edge a process is, is said by the call, FedML's arguments, its launcher, or its rank", async () => {
    const id = newRun();
    const edges = (code: string, env: Record<string, string> = {}) =>
      ok(`from argparse import Namespace as A\n${code}`, id, env);
    await edges(`mlops.event("given", event_edge_id=0)`);
    await edges(`fedml.init(A(rank=0, server_id=9)); mlops.event("server")`);
    await edges(`fedml.init(A(rank=1, client_id=4)); mlops.event("client")`);
    await edges(`fedml.init(A(rank=2, client_id_list="[5, 6]")); mlops.event("listed")`);
    await edges(`mlops.event("launched")`, { FEDML_CURRENT_EDGE_ID: "8" });
    await edges(`mlops.event("ranked")`, { RANK: "3" });
    await edges(`mlops.event("nobody")`);
    const spans = await spansOf(id);
    expect(Object.fromEntries(spans.map(({ name, edge }) => [name, edge]))).toEqual({
      given: "0",
      server: "9",
      client: "4",
      listed: "5",
      launched: "8",
      ranked: "rank 3",
      nobody: null,
    });
  });

  test("what is printed is recorded from log_print_init on, and printed as it was", async () => {
    const id = newRun();
    const { out, err } = await ok(
      `
import logging
logging.basicConfig(format="%(message)s", level=logging.INFO)
print("before")
stdout = sys.stdout
mlops.log_print_init(); mlops.log_print_init()
print("one"); print("two", end=""); print(" halves"); sys.stderr.write("told\\n"); logging.info("logged")
sys.stdout.write("10%\\r50%\\r100%\\n"); print("open", end="", flush=True)
mlops.log_print_cleanup(); mlops.log_print_cleanup()
assert sys.stdout is stdout
print(" after")`,
      id,
    );
    expect(out).toBe("before\none\ntwo halves\n10%\r50%\r100%\nopen after\n");
    expect(err).toContain("told\nlogged\n");
    const lines = (await linesOf(id)).filter(({ text }) => !text.startsWith("binnacle:"));
    expect(lines.map(({ stream, text }) => `${stream} ${text}`)).toEqual([
      "stdout one",
      "stdout two halves",
      "stderr told",
      "stderr logged",
      "stdout 100%",
      "stdout open",
    ]);
  });

  test("what of an LLM record waits for another call is recorded at the end, by whom it is", async () => {
    const id = newRun();
    await ok(
      `
import os
fedml.log_llm_record({"prompt": "a"}, commit=False); fedml.log_llm_record({"round": 1}, commit=False)
child = os.fork()
if child == 0:
    fedml.log({"forked": 1})
    import binnacle
    binnacle.finish()
    os._exit(0)
os.waitpid(child, 0)
`,
      id,
    );
    expect((await server.points(id, "llm/prompt")).map(([, value]) => value)).toEqual(["a"]);
    expect((await server.points(id, "llm/round_idx")).map(([, value]) => value)).toEqual([1]);
    expect((await server.points(id, "forked")).map(([, value]) => value)).toEqual([1]);
  });

  test("a progress bar holds up no print however long it is, and is what it came to", async () => {
    const id = newRun();
    await ok(
      `
import threading, time
mlops.log_print_init()
began = time.thread_time()
for i in range(12_000):
    sys.stdout.write("\\r%5d/12000 %s" % (i + 1, "#" * 80))
spent = time.thread_time() - began
sys.stdout.write("\\n1%\\r2%\\r\\r"); sys.stdout.write("\\n3%\\r"); sys.stdout.write("4%\\r")
mlops.log_print_cleanup()
assert spent < 1.5, spent`,
      id,
    );
    const bars = (await linesOf(id)).filter(({ stream }) => stream === "stdout").map(({ text }) => text);
    expect(bars).toEqual([`12000/12000 ${"#".repeat(80)}`, "2%", "4%"]);
  });

  test("what threads print into one line is all there", async () => {
    const id = newRun();
    await ok(
      `
import threading
sys.setswitchinterval(1e-6)
mlops.log_print_init()
def dots():
    for i in range(3000):
        sys.stdout.write(".")
threads = [threading.Thread(target=dots) for _ in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print()`,
      id,
    );
    const line = (await linesOf(id)).find(({ stream }) => stream === "stdout");
    expect(line!.text).toHaveLength(12_000);
  });

  test("a script whose run is over prints on", async () => {
    const { out } = await ok(
      `
import binnacle
mlops.log_print_init()
print("kept"); binnacle.finish(); print("printed")`,
      newRun(),
    );
    expect(out).toBe("kept\nprinted\n");
  });

  test("a script whose output can't be recorded prints on, and is told why, once", async () => {
    const { out, err } = await ok(
      `
import os, threading
mlops.log_print_init()
child = os.fork()
if child == 0:
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    print("one"); print("two", flush=True)
    os._exit(0)
os.waitpid(child, 0)`,
      newRun(),
    );
    expect(out).toBe("one\ntwo\n");
    expect(err.split("\n").filter((line) => line.includes("not recorded"))).toEqual([
      "binnacle: what is printed is not recorded: can't start new thread",
    ]);
  });

  test("what cannot be recorded is reported where it is called, and nothing is left locked", async () => {
    const id = newRun();
    const { out } = await ok(
      `
for call in (lambda: mlops.event(""), lambda: mlops.log_round_info(3, "x"), lambda: mlops.log_round_info(3, -2),
             lambda: mlops.log_training_status("DONE"), lambda: fedml.log_llm_record({"a": object()}), lambda: fedml.log_llm_record([1]),
             lambda: mlops.register_run_status_callback(3), lambda: fedml.FedMLRunner, lambda: fedml.event):
    try:
        call()
    except (TypeError, ValueError, AttributeError) as error:
        print(type(error).__name__, str(error)[:60])
mlops.event("still", event_value="\\U0001F600" * 2000)`,
      id,
    );
    expect(
      out
        .split("\n")
        .slice(0, -1)
        .map((line) => line.split(" ")[0]),
    ).toEqual([
      "ValueError",
      "TypeError",
      "ValueError",
      "ValueError",
      "TypeError",
      "TypeError",
      "TypeError",
      "AttributeError",
      "AttributeError",
    ]);
    expect(out).toContain("no 'event' (fedml.mlops has it)");
    const [span] = await spansOf(id);
    expect(span).toMatchObject({ name: "still", value: "😀".repeat(500) });
  });

  test("binnacle.span records how long a block takes, each its own though they overlap", async () => {
    const id = newRun();
    await ok(
      `
import binnacle
with binnacle.span("eval", value=1):
    inner = binnacle.span("eval", value=1)
    with binnacle.span("load", edge="disk"):
        pass
    inner.end(); inner.end()
open_one = binnacle.span("never")
try:
    with binnacle.span("broken"):
        raise ValueError
except ValueError:
    pass`,
      id,
    );
    expect((await spansOf(id)).map(briefly)).toEqual([
      ["event", "eval", "1", null, true],
      ["event", "eval", "1", null, true],
      ["event", "load", null, "disk", true],
      ["event", "never", null, null, false],
      ["event", "broken", null, null, true],
    ]);
  });
});

test("spans are kept on disk while no collector answers, and sent by `sync` or the next process", async () => {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  const id = newRun();
  const env = { BINNACLE_SPOOL: folder, BINNACLE_FEDML: "native", BINNACLE_RUN_ID: id };
  try {
    await python(
      `import fedml\nfedml.log({"a": 1})\nfor i in range(1500):\n  fedml.mlops.event("step", event_value=i)\nfedml.log({"a": 2})`,
      { env },
    );
    const batches = spooled(folder).filter(({ path }) => path.endsWith("/spans"));
    expect(batches.map(({ body }) => body.items.length).reduce((sum, n) => sum + n, 0)).toBe(1500);
    expect(Math.max(...batches.map(({ body }) => body.items.length))).toBeLessThanOrEqual(1000);
    await python(`import binnacle\nbinnacle.init(run_id="${newRun()}")\nimport time; time.sleep(3)`, {
      env: { ...server.env, BINNACLE_SPOOL: folder },
    });
    expect((await server.get(`/api/v1/runs/${id}/spans`)).count).toBe(1500);
    expect((await server.points(id, "a")).map(([, value]) => value)).toEqual([1, 2]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("with a collector that hangs none of ten thousand calls waits for it", async () => {
  const hanging = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  try {
    const out = await python(
      `
import fedml, os, time
from fedml import mlops
mlops.event("first")
worst = 0
for i in range(10_000):
    began = time.perf_counter()
    mlops.event("step", i % 2 == 0, i // 2)
    worst = max(worst, time.perf_counter() - began)
print(worst)
os._exit(0)`,
      {
        env: {
          BINNACLE_URL: `http://127.0.0.1:${hanging.port}`,
          BINNACLE_SPOOL: folder,
          BINNACLE_FEDML: "native",
        },
      },
    );
    // What waits for an answer waits for seconds; what is less is the machine.
    expect(Number(out)).toBeLessThan(1);
  } finally {
    hanging.stop(true);
    rmSync(folder, { recursive: true, force: true });
  }
});
