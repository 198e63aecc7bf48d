import { afterEach, beforeEach, expect, test } from "bun:test";
import { CollectorError } from "../src/error.ts";
import { deleteRun } from "../src/run/delete.ts";
import { finishRun } from "../src/run/finish.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const RUN = "1716563514434392064";
let it: TestCollector;

beforeEach(async () => {
  it = createTestCollector({ fedml: "on" });
  await it.fedml!.listen({ host: "127.0.0.1", port: 0 });
});
afterEach(() => it.close());

/** As the client's uploader does: ids as bare numbers where they are 19 digits. */
function post(body: string | object, run = RUN): Promise<Response> {
  const path = `/fedml/${it.fedml!.keys.secretOf({ run })}/fedmlLogsServer/logs/update`;
  return it.request(path, { body, token: null, headers: { host: "127.0.0.1:7070" } });
}

const line = (n: number, { edge = "17", level = "INFO", text = `line ${n}` } = {}) =>
  `[FedML-Client @device-id-${edge}] [Mon, 23 Nov 2026 09:33:${String(Math.floor(n / 1000)).padStart(2, "0")}.${String(n % 1000).padStart(3, "0")}608884] [${level}] [train.py:12:main] ${text}\n`;

const batch = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => line(from + i));

const stored = async (query = "limit=10000", run = RUN) =>
  (await it.json(`/api/v1/runs/${run}/logs?${query}`)).lines as {
    time: number;
    level: any;
    rank: number;
    prefix?: string;
    text: string;
  }[];

const counted = () => Object.fromEntries(it.fedml!.counts.list().map(({ what, count }) => [what, count]));

test("lines are stored with their time, level and text, and are whole again with what stood before", async () => {
  const traceback = [
    line(1, { level: "ERROR", text: "Uncaught exception" }),
    "[FedML-Client @device-id-17] [Mon, 23 Nov 2026 09:33:00.001608884] [ERROR] Traceback (most recent call last):\n",
    '[FedML-Client @device-id-17] [Mon, 23 Nov 2026 09:33:00.001608884] [ERROR]   File "train.py", line 3\n',
  ];
  const response = await post(
    `{"run_id": ${RUN}, "edge_id": 17, "logs": ${JSON.stringify([" print()ed\n", line(0), ...traceback])},
      "errors": [{"errLine": 0, "errMsg": "x"}], "create_time": 1732354413.9, "source": "train"}`,
  );
  expect(response.status).toBe(200);
  const lines = await stored();
  expect(lines.map(({ level, rank, text }) => [level, rank, text])).toEqual([
    [null, 0, " print()ed"],
    ["INFO", 0, "line 0"],
    ["ERROR", 0, "Uncaught exception"],
    ["ERROR", 0, "Traceback (most recent call last):"],
    ["ERROR", 0, '  File "train.py", line 3'],
  ]);
  const time = Date.parse("2026-11-23T09:33:00Z");
  expect(lines.slice(1).map((line) => line.time)).toEqual(
    [0.608884, 1.608884, 1.608884, 1.608884].map((ms) => time + ms),
  );
  expect(lines.map(({ prefix = "", text }) => `${prefix}${text}\n`)).toEqual([
    " print()ed\n",
    line(0),
    ...traceback,
  ]);
  it = await it.restart();
  expect(await stored()).toEqual(lines);
});

test("each device's lines have a rank of their own, by which they can be asked for", async () => {
  for (const [n, edge] of ["17", "1716563514434392065", "17", "18"].entries())
    expect((await post({ run_id: RUN, edge_id: edge, logs: [line(n, { edge })] })).status).toBe(200);
  await post({ run_id: RUN, edge_id: "18", replica_id: "18_2", logs: [line(9)] });
  expect((await stored()).map(({ rank }) => rank)).toEqual([0, 1, 0, 2, 3]);
  const { writers, status } = await it.json(`/api/v1/runs/${RUN}`);
  expect(writers.map(({ rank, device }: any) => `${rank} ${device}`).sort()).toEqual([
    "0 edge 17",
    "1 edge 1716563514434392065",
    "2 edge 18",
    "3 edge 18_2",
  ]);
  expect(status).toBe("RUNNING");
  expect(await stored("rank=1")).toHaveLength(1);
});

test("a batch that comes again is stored once, also behind a restart, and with new lines behind it", async () => {
  const first = batch(0, 1000);
  await post({ run_id: RUN, edge_id: 17, logs: first });
  await post({ run_id: RUN, edge_id: 17, logs: first });
  await post({ run_id: RUN, edge_id: 17, logs: batch(1000, 1010) });
  // The answer was lost: the next cycle brings the same lines and those that came meanwhile.
  await post({ run_id: RUN, edge_id: 17, logs: batch(1000, 1020) });
  // Another device's lines are another's.
  await post({ run_id: RUN, edge_id: 18, logs: batch(1000, 1020) });
  expect(counted()).toEqual({ replayed: 1010 });
  it = await it.restart();
  await it.fedml!.listen({ host: "127.0.0.1", port: 0 });
  await post({ run_id: RUN, edge_id: 17, logs: batch(1000, 1030) });
  expect(counted()).toEqual({ replayed: 20 });
  expect((await stored("limit=10000&rank=0")).map(({ text }) => text)).toEqual(
    Array.from({ length: 1030 }, (_, n) => `line ${n}`),
  );
});

test("a batch that comes again while the first is on its way to disk is stored once", async () => {
  const logs = batch(0, 100);
  await Promise.all([1, 2, 3].map(() => post({ run_id: RUN, edge_id: 17, logs })));
  expect(await stored()).toHaveLength(100);
  expect(counted()).toEqual({ replayed: 200 });
});

test("uploads that wait for a slow disk are bounded over all", async () => {
  const { journal } = it.collector;
  const append = journal.append.bind(journal);
  const held = Promise.withResolvers<void>();
  await post({ run_id: RUN, edge_id: 17, logs: batch(0, 1) });
  journal.append = async (...given) => {
    await held.promise;
    return append(...given);
  };
  const logs = Array.from({ length: 8 }, (_, n) => line(n, { text: "x".repeat(1_000_000) }));
  const sent = Array.from({ length: 12 }, () => post({ run_id: RUN, edge_id: 17, logs }));
  const first = await Promise.race(sent);
  expect(first.status).toBe(503);
  held.resolve();
  const statuses = (await Promise.all(sent)).map(({ status }) => status);
  expect(statuses.filter((status) => status === 503)).toHaveLength(4);
  journal.append = append;
  expect((await post({ run_id: RUN, edge_id: 17, logs: batch(1, 2) })).status).toBe(200);
});

test("lines that only look alike are all kept", async () => {
  const tick = "[FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34] [INFO] [a.py:1:f] tick\n";
  for (const logs of [[tick, tick], [tick, tick], ["x\n"], ["x\n"]])
    await post({ run_id: RUN, edge_id: 0, logs });
  expect(await stored()).toHaveLength(6);
  expect(counted()).toEqual({});
});

test("lines that were printed, and kept as such, are not kept again when the client sends its file", async () => {
  const printed = [
    line(0),
    line(1, { level: "ERROR", text: "Uncaught exception" }),
    "Traceback (most recent call last):\n",
    "ValueError: 3\n",
    line(2),
  ];
  const items = printed.map((text) => ({ text: text.trimEnd() }));
  await it.json("/api/v1/runs", { body: { id: RUN } });
  await it.json(`/api/v1/runs/${RUN}/logs`, { body: { client: "launch", seq: 1, items } });
  const inherited = /^.*?ERROR\] /.exec(printed[1]!)![0];
  const logs = [
    ...printed.slice(0, 2),
    `${inherited}${printed[2]}`,
    `${inherited}${printed[3]}`,
    printed[4],
    line(3),
  ];
  // What is refused comes again, and what was printed of it was printed no less.
  it.collector.journal.refuse(new CollectorError("disk-full", "No space left."));
  expect((await post({ run_id: RUN, edge_id: 17, logs })).status).toBe(507);
  it.collector.journal.refuse(undefined);
  await post({ run_id: RUN, edge_id: 17, logs });
  expect((await stored()).map(({ text }) => text)).toEqual([...items.map(({ text }) => text), "line 3"]);
  // The same words once more are another line.
  await post({ run_id: RUN, edge_id: 17, logs: [line(2)] });
  expect(await stored()).toHaveLength(7);
});

test("everything that comes by a run's secret is that run's, and the secret itself is not shown", async () => {
  const secret = it.fedml!.keys.secretOf({ run: RUN });
  const log = `The original log url is http://127.0.0.1:7070/fedml/${secret}/s3/run/x.zip`;
  for (const run_id of ["0", null, 99]) await post({ run_id, edge_id: null, logs: [log] });
  expect((await it.json("/api/v1/runs")).runs.map(({ id }: any) => id)).toEqual([RUN]);
  const lines = await stored();
  expect(lines).toHaveLength(3);
  expect(lines[0]!.text).toBe("The original log url is http://127.0.0.1:7070/s3/run/x.zip");
});

test("late lines of a run that has ended are kept, and do not take it up again", async () => {
  await post({ run_id: RUN, edge_id: 17, logs: batch(0, 1) });
  await finishRun(it.collector, RUN, { status: "FINISHED" });
  await post({ run_id: RUN, edge_id: 17, logs: batch(1, 2) });
  await post({ run_id: RUN, edge_id: 18, logs: batch(2, 3) });
  expect((await it.json(`/api/v1/runs/${RUN}`)).status).toBe("FINISHED");
  expect(await stored()).toHaveLength(3);
});

test("a deleted run's lines are refused, as is what is no batch", async () => {
  await post({ run_id: RUN, edge_id: 17, logs: batch(0, 1) });
  await deleteRun(it.collector, RUN, true);
  expect((await post({ run_id: RUN, edge_id: 17, logs: batch(1, 2) })).status).toBe(410);
  expect((await post({ run_id: "1" }, "1")).status).toBe(400);
  expect((await post('{"logs": ["a", NaN, 17, null, {}, "b"]}', "2")).status).toBe(200);
  expect((await stored("limit=10", "2")).map(({ text }) => text)).toEqual(["a", "b"]);
  expect((await post(`{"logs": [${'"",'.repeat(100_000)}""]}`, "2")).status).toBe(413);
  expect((await post(`{"logs": ["${"x".repeat(33 * 1024 * 1024)}"]}`, "2")).status).toBe(413);
  expect(counted()).toEqual({ gone: 1, malformed: 5, "too-large": 2 });
});
