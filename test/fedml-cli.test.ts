import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { createRun } from "../src/run/create.ts";
import { finishRun } from "../src/run/finish.ts";
import { createLogView } from "../src/fedml/log-view.ts";
import { clockIn } from "../src/fedml/zone.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

setDefaultTimeout(60_000);

const RUN = "123456789012345";
let it: TestCollector;
let admin: string;
let now = Date.parse("2026-11-23T09:00:00.250Z");

beforeEach(async () => {
  now = Date.parse("2026-11-23T09:00:00.250Z");
  it = createTestCollector({ fedml: "on", now: () => now });
  await it.fedml!.listen({ host: "127.0.0.1", port: 0 });
  admin = it.trust.tokens.admin;
  await createRun(it.collector, { id: RUN, name: "first", project: "vision" });
});
afterEach(() => it.close());

async function post(path: string, body: object, run = RUN): Promise<{ status: number; body: any }> {
  const secret = it.fedml!.keys.secretOf({ run });
  const response = await it.request(`/fedml/${secret}/fedmlOpsServer${path}`, {
    body,
    token: null,
    headers: { host: "127.0.0.1:7070" },
  });
  return { status: response.status, body: await response.json() };
}

const data = async (path: string, body: object, run = RUN) => {
  const answer = await post(path, body, run);
  expect(answer.status).toBe(200);
  expect(answer.body.code).toBe("SUCCESS");
  return answer.body.data;
};

const list = (fields: object) =>
  data("/api/v1/platform/queryJobList", {
    platformType: "falcon",
    jobName: "",
    jobId: "",
    projectName: "",
    userApiKey: admin,
    ...fields,
  });

const counted = () => Object.fromEntries(it.fedml!.counts.list().map(({ what, count }) => [what, count]));

test("a key is one of the collector's tokens: JSON's true, or false", async () => {
  const { tokens } = it.trust;
  for (const apiKey of [admin, tokens.read, tokens.write, tokens.ofRun(RUN)])
    expect(await data("/api/v1/cli/heartBeat", { apiKey })).toBe(true);
  for (const apiKey of ["", "x", null, 1, `${admin}0`, it.fedml!.keys.secretOf({ run: RUN })])
    expect((await post("/api/v1/cli/heartBeat", { apiKey })).body).toMatchObject({
      code: "FAILURE",
      data: false,
    });
  expect(counted()).toEqual({ "bad-key": 6 });
});

test("runs are listed in FedML's words, by id, name and project", async () => {
  await createRun(it.collector, { id: "2", name: "second", project: "text" });
  now += 3_600_000;
  await finishRun(it.collector, RUN, { status: "KILLED" });
  now += 3_600_000;
  const { jobList } = await list({});
  expect(jobList.map(({ id }: any) => id).sort()).toEqual([RUN, "2"].sort());
  expect((await list({ jobId: RUN })).jobList).toEqual([
    {
      id: RUN,
      name: "first",
      status: "KILLED",
      createTime: "2026-11-23T09:00:00Z",
      endTime: "2026-11-23T10:00:00Z",
      spendTime: 3_600_000,
      cost: null,
      jobUrl: `http://127.0.0.1:7070/runs/${RUN}`,
      gpuMachines: [],
    },
  ]);
  const ids = async (fields: object) => (await list(fields)).jobList?.map(({ id }: any) => id) ?? null;
  expect(await ids({ jobId: 2 })).toEqual(["2"]);
  expect(await ids({ jobName: "second" })).toEqual(["2"]);
  expect(await ids({ jobName: "SEC" })).toEqual(["2"]);
  expect(await ids({ projectName: "vision" })).toEqual([RUN]);
  // Not an empty list: the client's `status` would break on it.
  expect(await ids({ jobId: "3" })).toBeNull();
  expect(await ids({ jobName: "third" })).toBeNull();
  const [live] = (await list({ jobId: "2" })).jobList;
  expect([live.status, live.endTime, live.spendTime]).toEqual(["RUNNING", null, 7_200_000]);
});

test("a run's own token lists and reads that run alone, and stops none", async () => {
  await createRun(it.collector, { id: "2", name: "second" });
  const key = it.trust.tokens.ofRun("2");
  expect((await list({ userApiKey: key })).jobList.map(({ id }: any) => id)).toEqual(["2"]);
  expect((await list({ userApiKey: key, jobId: RUN })).jobList).toBeNull();
  const logs = { pageNum: 1, pageSize: 10, timeZone: "Etc/UTC" };
  expect((await post("/api/v1/log/getLogsFromCli", { apiKey: key, runId: RUN, ...logs })).status).toBe(403);
  expect((await post("/api/v1/log/getLogsFromCli", { apiKey: key, runId: "2", ...logs })).status).toBe(200);
  for (const apiKey of [key, it.trust.tokens.read, it.trust.tokens.write])
    expect((await post("/api/v1/application/stopApplicationFromCli", { apiKey, jobId: "2" })).status).toBe(
      403,
    );
  expect((await it.json("/api/v1/runs/2")).status).toBe("RUNNING");
});

test("without a key nothing is read or stopped, whatever the secret", async () => {
  for (const [path, body] of [
    ["/api/v1/platform/queryJobList", { jobId: RUN, userApiKey: "x" }],
    ["/api/v1/log/getLogsFromCli", { runId: RUN }],
    ["/api/v1/application/stopApplicationFromCli", { jobId: RUN, apiKey: null }],
  ] as const)
    expect((await post(path, body)).status).toBe(401);
  expect((await it.json(`/api/v1/runs/${RUN}`)).status).toBe("RUNNING");
  expect(counted()).toEqual({ "bad-key": 3 });
});

test("a stop reaches the run's writers, and one that can't be is no success", async () => {
  const heard: string[] = [];
  it.collector.presence.connect(RUN, "launch-1", { stop: ({ reason }) => void heard.push(reason!) });
  expect(
    await data("/api/v1/application/stopApplicationFromCli", {
      platformType: "falcon",
      jobId: RUN,
      apiKey: admin,
    }),
  ).toEqual({
    id: RUN,
    status: "STOPPING",
  });
  expect(heard).toEqual(["Stopped by `fedml run stop`."]);
  expect(
    (await post("/api/v1/application/stopApplicationFromCli", { jobId: "9", apiKey: admin })).status,
  ).toBe(404);
});

test("logs come page by page under both generations' keys, with times of the reader's clock", async () => {
  const upload = `[FedML-Client @device-id-17] [Mon, 23 Nov 2026 22:33:34.938608884] [ERROR] `;
  const secret = it.fedml!.keys.secretOf({ run: RUN });
  const logs = [`${upload}[train.py:12:main] failed\n`, `${upload}  File "train.py"\n`, "bare\n"];
  for (const edge_id of [17, 18])
    await it.request(`/fedml/${secret}/fedmlLogsServer/logs/update`, {
      body: { run_id: RUN, edge_id, logs },
      token: null,
      headers: { host: "127.0.0.1:7070" },
    });
  const page = (fields: object) =>
    data("/api/v1/log/getLogsFromCli", {
      apiKey: admin,
      edgeId: "-1",
      pageNum: 1,
      pageSize: 4,
      runId: RUN,
      timeZone: "Asia/Kolkata",
      ...fields,
    });
  const first = await page({});
  expect(first).toMatchObject({
    total_num: 6,
    totalSize: 6,
    total_pages: 2,
    totalPages: 2,
    current_page: 1,
    pageNum: 1,
    log_full_url: `http://127.0.0.1:7070/runs/${RUN}/logs`,
  });
  expect(first.logs).toEqual(first.logList);
  expect(first.logs.slice(0, 3)).toEqual([
    "[FedML-Client @device-id-17] [2026-11-24 04:03:34.938 +0530] [ERROR] [train.py:12:main] failed",
    '[FedML-Client @device-id-17] [2026-11-24 04:03:34.938 +0530] [ERROR]   File "train.py"',
    "[2026-11-24 04:03:34.938 +0530] bare",
  ]);
  expect(first.devices).toEqual([
    { id: "17", name: "edge 17", log_url: `http://127.0.0.1:7070/runs/${RUN}/logs?rank=0` },
    { id: "18", name: "edge 18", log_url: `http://127.0.0.1:7070/runs/${RUN}/logs?rank=1` },
  ]);
  const second = await page({ pageNum: 2 });
  expect(second.logs).toHaveLength(2);
  expect((await page({ pageNum: 3 })).logs).toEqual([]);
  expect((await page({ pageNum: 0, pageSize: 0 })).logs).toHaveLength(6);
  expect(await page({ edgeId: 18 })).toMatchObject({ total_num: 3, total_pages: 1 });
  expect(await page({ edgeId: "19" })).toMatchObject({ total_num: 0, total_pages: 0, logs: [] });
  for (const timeZone of ["local", "", null, "../etc"])
    expect((await page({ timeZone, pageSize: 1 })).logs[0]).toContain("[2026-11-23 22:33:34.938 +00]");
});

test("more lines than a page of the store holds come in full", async () => {
  const text = "x".repeat(100_000);
  const items = Array.from({ length: 120 }, (_, n) => ({ text: `${n} ${text}` }));
  await it.json(`/api/v1/runs/${RUN}/logs`, { body: { client: "c", seq: 1, items } });
  const { logs, total_num } = await data("/api/v1/log/getLogsFromCli", {
    apiKey: admin,
    pageNum: 1,
    pageSize: 1000,
    runId: RUN,
  });
  expect(total_num).toBe(120);
  expect(logs.map((line: string) => Number(/ (\d+) x/.exec(line)![1]))).toEqual(items.map((_, n) => n));
});

test("a page has all its lines, of whatever length: where they are too much the longest are cut", async () => {
  const items = Array.from({ length: 40 }, (_, n) => ({
    text: n % 2 === 0 ? `short ${n}` : "x".repeat(980_000 + n),
  }));
  await it.json(`/api/v1/runs/${RUN}/logs`, { body: { client: "c", seq: 1, items } });
  const { logs, total_num } = await data("/api/v1/log/getLogsFromCli", {
    apiKey: admin,
    pageNum: 1,
    pageSize: 10_000,
    runId: RUN,
  });
  expect(total_num).toBe(40);
  expect(logs).toHaveLength(40);
  expect(logs.join("").length).toBeLessThan(17_000_000);
  for (const [n, line] of logs.entries())
    expect(line.slice(-60)).toMatch(
      n % 2 === 0 ? new RegExp(`\\] short ${n}$`) : /x{30} … \(\d+ characters more\)$/,
    );
  const view = createLogView();
  for (let n = 0; n < 2; n++) view.add("a".repeat(n) + "😀".repeat(8_000_000));
  expect(view.lines[0]).toEndWith("😀 … (11805696 characters more)");
  expect(view.lines[1]).toEndWith("😀\ufffd … (11805697 characters more)");
});

test("what was counted once of a device's lines is not read again for its next page", async () => {
  const secret = it.fedml!.keys.secretOf({ run: RUN });
  const upload = (edge_id: string, logs: string[]) =>
    it.json(`/fedml/${secret}/fedmlLogsServer/logs/update`, {
      body: { run_id: RUN, edge_id, logs },
      token: null,
      headers: { host: "127.0.0.1:7070" },
    });
  const lines = Array.from({ length: 3000 }, (_, n) => `${n} ${"x".repeat(1000)}\n`);
  for (let n = 0; n < 3000; n += 500) {
    await upload("a b", lines.slice(n, n + 500));
    await upload("other", ["other\n"]);
  }
  it.collector.logs.seal();
  let read = 0;
  const { after } = it.collector.logs;
  it.collector.logs.after = (...given) => (read++, after(...given));
  const page = async (pageNum: number) => {
    read = 0;
    const body = { apiKey: admin, edgeId: "a b", pageNum, pageSize: 100, runId: RUN };
    const { logs, total_num } = await data("/api/v1/log/getLogsFromCli", body);
    return { numbers: logs.map((line: string) => Number(/(\d+) x/.exec(line)![1])), total_num, read };
  };
  const first = await page(1);
  const last = await page(30);
  const numbers = Array.from({ length: 3000 }, (_, n) => n);
  expect([first.total_num, first.numbers]).toEqual([3000, numbers.slice(0, 100)]);
  expect([last.total_num, last.numbers]).toEqual([3000, numbers.slice(2900)]);
  expect(first.read).toBeGreaterThan(10);
  expect(last.read).toBeLessThan(first.read / 2);
  await upload("a b", ["3000 x\n"]);
  expect(await page(31)).toMatchObject({ total_num: 3001, numbers: [3000] });
});

test("a device gets a number that stays, and nothing of what it says is kept", async () => {
  const bind = (deviceid: string) =>
    data("/edges/binding", { accountid: "me", deviceid, api_key: "secret-key", ip: "10.0.0.1" });
  const { id, ...rest } = await bind("0x1@Linux.Edge.Device");
  expect(id).toBeGreaterThan(0);
  expect(Number.isSafeInteger(id)).toBe(true);
  expect((await bind("0x1@Linux.Edge.Device")).id).toBe(id);
  expect((await bind("0x2@Linux.Edge.Device")).id).not.toBe(id);
  expect(Object.keys(rest)).toEqual(["userName", "url", "general_edge_id"]);
  expect(JSON.stringify(await it.json("/api/v1/runs"))).not.toContain("secret-key");
});

test("a simulation under a run's secret is that run, which takes its names unless it has some", async () => {
  const project = await data(
    "/projects/createSim",
    { name: "simulations", userids: "k", platform_type: "2" },
    "77",
  );
  expect(project).toBe("simulations");
  expect(
    await data("/runs/createSim", { userids: "k", projectid: project, edgeids: [1], name: "sim 1" }, "77"),
  ).toBe("77");
  expect(await it.json("/api/v1/runs/77")).toMatchObject({ name: "sim 1", project: "simulations" });
  expect(await data("/runs/createSim", { projectid: project, name: "sim 2" })).toBe(RUN);
  expect(await it.json(`/api/v1/runs/${RUN}`)).toMatchObject({ name: "first", project: "vision" });
});

test("with the edge open a simulation makes a run of its own", async () => {
  const open = createTestCollector({ fedml: "open" });
  const body = { userids: "k", projectid: "p", edgeids: [1] };
  const { data: id } = await open.json("/fedmlOpsServer/runs/createSim", {
    body,
    token: null,
    headers: { host: "localhost" },
  });
  expect(id).toMatch(/^\d{15}$/);
  expect(await open.json(`/api/v1/runs/${id}`)).toMatchObject({ name: `FedML ${id}`, project: "p" });
  await open.close();
});

const clocks: [zone: unknown, time: string, shown: string][] = [
  ["Etc/UTC", "2026-11-23T09:33:34.938Z", "2026-11-23 09:33:34.938 +00"],
  ["Asia/Shanghai", "2024-12-23T14:05:37.676Z", "2024-12-23 22:05:37.676 +08"],
  ["America/St_Johns", "2026-11-23T00:00:00.000Z", "2026-11-22 20:30:00.000 -0330"],
  // The hour that comes twice, and the one that never comes
  ["Europe/Berlin", "2026-10-25T00:59:59.999Z", "2026-10-25 02:59:59.999 +02"],
  ["Europe/Berlin", "2026-10-25T01:00:00.000Z", "2026-10-25 02:00:00.000 +01"],
  ["Europe/Berlin", "2026-03-29T01:00:00.000Z", "2026-03-29 03:00:00.000 +02"],
  ["Nowhere/At_All", "1970-01-01T00:00:00.000Z", "1970-01-01 00:00:00.000 +00"],
  [undefined, "2026-11-23T09:33:34.938Z", "2026-11-23 09:33:34.938 +00"],
];
for (const [zone, time, shown] of clocks)
  test(`${time} is ${shown} in ${zone}`, () => expect(clockIn(zone)(Date.parse(time))).toBe(shown));
