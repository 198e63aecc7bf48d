import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { endOfRun, type WriterEnd } from "../src/run/finish.ts";
import { isMemorableName, memorableName, newRunId } from "../src/run/name.ts";
import { mergeConfig } from "../src/run/set.ts";
import type { RunStatus } from "../src/run/schema.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

let at: TestCollector;
beforeEach(() => {
  at = createTestCollector();
});
afterEach(() => at.close());

const create = (body: object) => at.json("/api/v1/runs", { body });
const get = (id: string) => at.json(`/api/v1/runs/${id}`);
const finish = (id: string, body: object = {}) => at.json(`/api/v1/runs/${id}/finish`, { body });
const stop = (id: string, body: object = {}) => at.json(`/api/v1/runs/${id}/stop`, { body });
const set = (id: string, body: object) => at.json(`/api/v1/runs/${id}`, { method: "PATCH", body });
const status = async (path: string, init = {}) => (await at.request(path, init)).status;
const log = (id: string, client: string, seq: number, step?: number, rank = 0) =>
  at.json(`/api/v1/runs/${id}/records`, {
    body: { client, seq, rank, items: [{ ...(step !== undefined && { step }), metrics: { loss: 1 } }] },
  });

test("memorableName() and newRunId() make what they promise, again and again", () => {
  for (let i = 0; i < 1000; i++) {
    expect(newRunId()).toMatch(/^[1-9]\d{14}$/);
    expect(isMemorableName(memorableName())).toBe(true);
  }
  for (const name of ["brisk-otter-0", "brisk-otter", "resnet-50", "brisk-otter-42-b", "my-otter-7"])
    expect(isMemorableName(name), name).toBe(false);
});

describe("createRun", () => {
  test("gives an id of 15 digits and a memorable name where there is none", async () => {
    const response = await at.request("/api/v1/runs", { body: {} });
    expect(response.status).toBe(201);
    const run = (await response.json()) as Record<string, unknown>;
    expect(run["id"]).toMatch(/^[1-9]\d{14}$/);
    expect(isMemorableName(run["name"] as string)).toBe(true);
    expect(run).toMatchObject({ status: "RUNNING", project: "default", next_step: 0, finished: null });
  });

  test("keeps every digit of an integer in the config, whoever sends it", async () => {
    const config = '{"seed":12345678901234567890,"ids":[-9007199254740993,7],"lr":1e-3,"big":1e300}';
    const response = await at.request("/api/v1/runs", { body: `{"config":${config}}` });
    expect(((await response.json()) as { config: unknown }).config).toEqual({
      seed: "12345678901234567890",
      ids: ["-9007199254740993", 7],
      lr: 0.001,
      big: 1e300,
    });
  });

  test("joins a live run as another writer, merges config, takes over a name where none was chosen", async () => {
    await create({ id: "42", config: { a: 1, b: 1 }, writer: { client: "one" } });
    const body = { id: "42", name: "mine", config: { b: 2 }, writer: { client: "two", rank: 1 } };
    expect(await status("/api/v1/runs", { body })).toBe(200);
    expect(await get("42")).toMatchObject({
      name: "mine",
      config: { a: 1, b: 2 },
      writers: [{ client: "one" }, { client: "two", rank: 1 }],
    });
    await create({ id: "42", name: "another", project: "p", writer: { client: "three" } });
    expect(await get("42")).toMatchObject({ name: "mine", project: "p" });
  });

  test("eight ranks that create one run at once make one run", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, rank) =>
        at.request("/api/v1/runs", { body: { id: "7", writer: { client: `c${rank}`, rank } } }),
      ),
    );
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 200, 200, 200, 200, 200, 200, 201]);
    expect((await get("7")).writers).toHaveLength(8);
  });

  test("resumes an ended run, whose writer counts on from the last step of its rank", async () => {
    await create({ id: "1", writer: { client: "a" } });
    await create({ id: "1", writer: { client: "b", rank: 1 } });
    await log("1", "a", 1, 41);
    await log("1", "b", 1, 7, 1);
    await finish("1", { status: "FAILED", reason: "out of memory", exit_code: 3 });
    expect(await create({ id: "1", writer: { client: "c" } })).toMatchObject({
      status: "RUNNING",
      reason: null,
      finished: null,
      exit_code: null,
      last_step: 41,
      next_step: 42,
    });
    expect((await create({ id: "1", writer: { client: "d", rank: 1 } })).next_step).toBe(8);
    expect((await create({ id: "1", writer: { client: "e", rank: 2 } })).next_step).toBe(0);
    await log("1", "c", 1);
    expect((await get("1")).last_step).toBe(42);
  });

  test("resumed with another command, it is listed with that one; who joins it live leaves it", async () => {
    await create({ id: "1", command: "train.py", writer: { client: "a" } });
    expect((await create({ id: "1", command: "helper.py", writer: { client: "b" } })).command).toBe(
      "train.py",
    );
    await finish("1", {});
    expect((await create({ id: "1", writer: { client: "c" } })).command).toBe("train.py");
    await finish("1", {});
    expect((await create({ id: "1", command: "more.py", writer: { client: "d" } })).command).toBe("more.py");
  });

  test("said again by the same writer changes nothing, and above all reopens nothing", async () => {
    const body = { id: "1", config: { a: 1 }, writer: { client: "a" } };
    await create(body);
    await log("1", "a", 1);
    await set("1", { config: { a: 2 } });
    expect(await create(body)).toMatchObject({ config: { a: 2 }, next_step: 1 });
    await finish("1", { client: "a" });
    const last = at.collector.journal.bounds().last;
    expect(await create(body)).toMatchObject({ status: "FINISHED" });
    expect(at.collector.journal.bounds().last).toBe(last);
  });

  test("keeps the steps of resumed writers over a restart", async () => {
    await create({ id: "1", writer: { client: "a" } });
    await log("1", "a", 1, 9);
    await finish("1");
    await create({ id: "1", writer: { client: "b" } });
    at = await at.restart();
    await log("1", "b", 1);
    expect((await get("1")).last_step).toBe(10);
  });

  test("a run that began in the past says so", async () => {
    const run = await create({ started: Date.parse("2020-01-02T03:04:05.678Z") });
    expect(run.started).toBe("2020-01-02T03:04:05.678Z");
    expect(run.created).toBe(run.started);
    const ahead = await create({ started: Date.parse("2120-01-01T00:00:00Z") });
    expect(Date.parse(ahead.created)).toBeLessThanOrEqual(Date.now());
    expect(await finish(run.id, { finished: Date.parse("2020-01-03T00:00:00Z") })).toMatchObject({
      finished: "2020-01-03T00:00:00.000Z",
    });
  });
});

describe("endOfRun", () => {
  const w = (client: string, outcome: RunStatus | null, role: WriterEnd["role"] = "client"): WriterEnd => ({
    client,
    role,
    outcome,
  });
  type Status = "FINISHED" | "FAILED" | "KILLED";
  const f = (name: string, writers: WriterEnd[], client: string | undefined, status: Status, want: string) =>
    test(`${name} → ${want}`, () =>
      expect(
        endOfRun(writers, client, status, name.startsWith("stopping"), name.startsWith("presumed")) ??
          "goes on",
      ).toBe(want));

  f("the only writer", [w("a", null)], "a", "FINISHED", "FINISHED");
  f("the first of two", [w("a", null), w("b", null)], "a", "FINISHED", "goes on");
  f("the last of two", [w("a", "FINISHED"), w("b", null)], "b", "FINISHED", "FINISHED");
  f("the last, after a failure", [w("a", "FAILED"), w("b", null)], "b", "FINISHED", "FAILED");
  f("the last fails", [w("a", "FINISHED"), w("b", null)], "b", "FAILED", "FAILED");
  f("the last, after a kill", [w("a", "KILLED"), w("b", null)], "b", "FINISHED", "KILLED");
  f("a failure beats a kill", [w("a", "KILLED"), w("b", "FAILED"), w("c", null)], "c", "FINISHED", "FAILED");
  f("a client under launch", [w("l", null, "launch"), w("a", null)], "a", "FAILED", "goes on");
  f("launch, its client not done", [w("l", null, "launch"), w("a", null)], "l", "FINISHED", "FINISHED");
  f("launch, its client failed", [w("l", null, "launch"), w("a", "FAILED")], "l", "FINISHED", "FINISHED");
  f("a client after launch vanished", [w("l", "FAILED", "launch"), w("a", null)], "a", "FINISHED", "FAILED");
  f("launch beside another", [w("l", null, "launch"), w("m", null, "launch")], "m", "FINISHED", "goes on");
  f(
    "the last launch of two",
    [w("l", null, "launch"), w("m", "FAILED", "launch")],
    "l",
    "FINISHED",
    "FAILED",
  );
  f("presumed: launch, its client alive", [w("l", null, "launch"), w("a", null)], "l", "FAILED", "goes on");
  f("presumed: launch alone", [w("l", null, "launch")], "l", "FAILED", "FAILED");
  f(
    "stopping: launch beside another",
    [w("l", null, "launch"), w("m", null, "launch")],
    "m",
    "KILLED",
    "goes on",
  );
  f("the whole run", [w("a", null), w("b", null)], undefined, "FINISHED", "FINISHED");
  f("an unknown writer, none other", [], "x", "FAILED", "FAILED");
  f("an unknown writer beside another", [w("a", null)], "x", "FAILED", "goes on");
  f("stopping: the last writer", [w("a", null)], "a", "FINISHED", "KILLED");
  f("stopping: the first of two", [w("a", null), w("b", null)], "a", "FAILED", "goes on");
});

describe("finishRun", () => {
  test("the word of launch is final, with exit code and reason", async () => {
    await create({ id: "1", writer: { client: "l", role: "launch" } });
    await create({ id: "1", writer: { client: "a" } });
    expect(await finish("1", { client: "a", status: "FINISHED" })).toMatchObject({ status: "RUNNING" });
    const body = { client: "l", status: "FAILED", exit_code: 137, reason: "killed by SIGKILL" };
    expect(await finish("1", body)).toMatchObject({
      status: "FAILED",
      exit_code: 137,
      reason: "killed by SIGKILL",
    });
  });

  test("a run that two launches share ends with the later one, and fails if either did", async () => {
    await create({ id: "1", writer: { client: "l", role: "launch" } });
    await create({ id: "1", writer: { client: "m", role: "launch", rank: 1 } });
    const failed = { client: "m", status: "FAILED", exit_code: 4, reason: "exit code 4" };
    expect(await finish("1", failed)).toMatchObject({ status: "RUNNING" });
    expect(await finish("1", { client: "l", status: "FINISHED", exit_code: 0 })).toMatchObject({
      status: "FAILED",
      exit_code: 4,
      reason: "exit code 4",
    });
  });

  test("the first cause of a failure is the run's reason", async () => {
    await create({ id: "1", writer: { client: "a" } });
    await create({ id: "1", writer: { client: "b", rank: 1 } });
    await finish("1", { client: "b", status: "FAILED", reason: "NCCL timeout" });
    expect(await finish("1", { client: "a", status: "FAILED", reason: "peer is gone" })).toMatchObject({
      status: "FAILED",
      reason: "NCCL timeout",
    });
  });

  test("an explicit end stands: said again, contradicted, or written to later", async () => {
    await create({ id: "1", writer: { client: "a" } });
    const first = await finish("1", { client: "a" });
    expect(await finish("1", { client: "a", status: "FAILED", reason: "no" })).toEqual(first);
    expect(await finish("1", { status: "KILLED" })).toEqual(first);
    await log("1", "a", 1);
    expect(await get("1")).toMatchObject({ status: "FINISHED", last_step: 0 });
  });
});

describe("a resumed run", () => {
  for (const [name, end] of [
    ["finished as a whole", () => finish("1")],
    ["finished by launch", () => finish("1", { client: "l", status: "FAILED" })],
    ["stopped", () => stop("1")],
  ] as const)
    test(`${name} owes nothing to the writers it had before`, async () => {
      await create({ id: "1", writer: { client: "l", role: "launch" } });
      await create({ id: "1", writer: { client: "silent" } });
      await end();
      expect((await create({ id: "1", writer: { client: "new" } })).status).toBe("RUNNING");
      expect((await finish("1", { client: "new" })).status).not.toBe("RUNNING");
    });

  test("that failed before can finish well", async () => {
    await create({ id: "1", writer: { client: "a" } });
    await finish("1", { client: "a", status: "FAILED", reason: "out of memory" });
    await create({ id: "1", writer: { client: "b" } });
    expect(await finish("1", { client: "b" })).toMatchObject({ status: "FINISHED", reason: null });
  });
});

describe("stopRun", () => {
  test("where nobody listens the run is KILLED at once, with its reason", async () => {
    await create({ id: "1", writer: { client: "a" } });
    expect(await stop("1", { reason: "diverged" })).toMatchObject({ status: "KILLED", reason: "diverged" });
    const ended = await get("1");
    expect(await stop("1")).toMatchObject({ status: "KILLED", finished: ended.finished });
  });

  test("a writer that listens hears it, and its end is KILLED", async () => {
    await create({ id: "1", writer: { client: "a" } });
    const heard: unknown[] = [];
    at.collector.presence.connect("1", "a", { stop: (request) => heard.push(request) });
    expect(await stop("1", { reason: "enough" })).toMatchObject({ status: "STOPPING", reason: "enough" });
    expect(await stop("1", { force: true })).toMatchObject({ status: "STOPPING" });
    expect(heard).toEqual([
      { force: false, reason: "enough" },
      { force: true, reason: "enough" },
    ]);
    expect(await finish("1", { client: "a", status: "FINISHED" })).toMatchObject({
      status: "KILLED",
      reason: "enough",
    });
  });
});

describe("setRun", () => {
  test("changes what is given; config key by key, null removes", async () => {
    await create({ id: "1", name: "n", config: { keep: 1, drop: 2 }, notes: "old" });
    const body = { config: { drop: null, "a/b": [1, { c: null }] }, tags: ["x", "y", "x"], notes: null };
    expect(await set("1", body)).toMatchObject({
      name: "n",
      config: { keep: 1, "a/b": [1, { c: null }] },
      tags: ["x", "y"],
      notes: null,
    });
  });

  test("keys named like parts of an object are keys", () => {
    const merged = mergeConfig({ a: 1 }, JSON.parse('{"__proto__": {"x": 1}, "constructor": 2}'));
    expect(Object.keys(merged)).toEqual(["a", "__proto__", "constructor"]);
    expect(Object.getPrototypeOf(merged)).toBe(Object.prototype);
  });

  test("integers beyond 2^53 come back as the text they were given as", async () => {
    await create({ id: "1", config: { seed: "18446744073709551615" } });
    expect((await get("1")).config.seed).toBe("18446744073709551615");
  });
});

describe("findRun", () => {
  test("a unique beginning will do; an exact id beats longer ones; else the candidates are named", async () => {
    let now = 1e12;
    await at.close();
    at = createTestCollector({ now: () => now });
    for (const id of ["12", "123", "129", "5_5"]) {
      now += 1000;
      await create({ id, name: `run ${id}` });
    }
    expect((await get("123")).id).toBe("123");
    expect((await get("5")).id).toBe("5_5");
    expect((await get("12")).id).toBe("12");
    const response = await at.request("/api/v1/runs/1");
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ candidates: [{ id: "129" }, { id: "123" }, { id: "12" }] });
    expect(await status("/api/v1/runs/9")).toBe(404);
    // No pattern of LIKE.
    expect(await status("/api/v1/runs/5_5_")).toBe(404);
  });
});

describe("listRuns", () => {
  beforeEach(async () => {
    let now = 1e12;
    await at.close();
    at = createTestCollector({ now: () => now });
    for (const [id, name, project] of [
      ["1", "Alpha", "vision"],
      ["2", "beta", "vision"],
      ["3", "Gamma_100%", "text"],
      ["4", "delta", "text"],
    ]) {
      now += 1000;
      await create({ id, name, project });
    }
    await set("2", { tags: ["Baseline"], notes: "see ticket" });
    await finish("1");
    await finish("4", { status: "FAILED" });
  });
  const ids = async (query: string) =>
    (await at.json(`/api/v1/runs${query}`)).runs.map(({ id }: { id: string }) => id).join("");

  const f = (query: string, want: string) =>
    test(`${query || "(nothing)"} → ${want || "none"}`, async () => expect(await ids(query)).toBe(want));
  f("", "4321");
  f("?order=asc", "1234");
  f("?sort=name", "1243");
  f("?sort=project", "3412");
  f("?sort=finished", "4132");
  f("?status=RUNNING", "32");
  f("?status=FINISHED,FAILED", "41");
  f("?project=text", "43");
  f("?search=ALPHA", "1");
  f("?search=base", "2");
  f("?search=ticket", "2");
  f("?search=_100%25", "3");
  f("?search=%25", "3");
  f("?search=a_p", "");
  f("?project=text&status=RUNNING&search=gam", "3");

  test("pages meet every run once, in any order, though runs are deleted between them", async () => {
    for (const sort of ["created", "name", "status", "finished"])
      for (const order of ["asc", "desc"]) {
        const met: string[] = [];
        let after: string | null = "";
        while (after !== null) {
          const query: string = `?sort=${sort}&order=${order}&limit=1${after && `&after=${after}`}`;
          const page = await at.json(`/api/v1/runs${query}`);
          met.push(...page.runs.map(({ id }: { id: string }) => id));
          after = page.next;
        }
        expect(met.sort(), `${sort} ${order}`).toEqual(["1", "2", "3", "4"]);
      }
    const page = await at.json("/api/v1/runs?limit=1");
    await at.json("/api/v1/runs/4", { method: "DELETE" });
    expect(await ids(`?after=${page.next}`)).toBe("321");
  });

  test("an unknown status is refused by name", async () => {
    const response = await at.request("/api/v1/runs?status=DONE");
    expect(response.status).toBe(400);
    expect(((await response.json()) as { hint: string }).hint).toContain("FINISHED");
  });
});

describe("deleteRun", () => {
  test("a live run is kept unless forced; its writers are told to stop", async () => {
    await create({ id: "1", writer: { client: "a" } });
    const heard: unknown[] = [];
    at.collector.presence.connect("1", "a", { stop: (request) => heard.push(request) });
    expect(await status("/api/v1/runs/1", { method: "DELETE" })).toBe(409);
    expect(await status("/api/v1/runs/1?force=true", { method: "DELETE" })).toBe(200);
    expect(heard).toEqual([{ force: true, reason: "The run was deleted." }]);
  });

  test("everything about it is gone, its id stays taken, late writes hear 410", async () => {
    await create({ id: "1", name: "secret name", config: { password: "hunter2" }, notes: "n" });
    await log("1", "a", 1);
    await finish("1");
    await at.json("/api/v1/runs/1", { method: "DELETE" });
    const late = { client: "a", seq: 2, items: [{ metrics: { a: 1 } }] };
    const lines = { client: "a", seq: 2, items: [{ text: "x" }] };
    for (let restarted = 0; restarted < 2; restarted++) {
      expect(await status("/api/v1/runs/1")).toBe(410);
      expect(await status("/api/v1/runs/1/records", { body: late })).toBe(410);
      expect(await status("/api/v1/runs/1/logs", { body: lines })).toBe(410);
      expect(await status("/api/v1/runs/1/metrics")).toBe(410);
      expect(await status("/api/v1/runs/1/points?key=loss")).toBe(410);
      expect(await status("/api/v1/runs/1/logs")).toBe(410);
      expect(await status("/api/v1/runs/1/finish", { body: {} })).toBe(410);
      expect(await status("/api/v1/runs/1/stop", { body: {} })).toBe(410);
      expect(await status("/api/v1/runs/1/heartbeat?client=a")).toBe(410);
      expect(await status("/api/v1/runs", { body: { id: "1" } })).toBe(410);
      expect(await status("/api/v1/runs/1", { method: "DELETE" })).toBe(410);
      expect((await at.json("/api/v1/runs")).runs).toEqual([]);
      const rows = at.collector.connection.prepare("SELECT * FROM run").all();
      expect(JSON.stringify(rows)).not.toMatch(/secret name|hunter2/);
      at = await at.restart();
    }
  });
});
