import { afterEach, expect, test } from "bun:test";
import { CollectorError } from "../src/error.ts";
import { createWriter } from "../src/fedml/writer.ts";
import { createRun } from "../src/run/create.ts";
import { presumeFinished } from "../src/run/finish.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

let it: TestCollector;
afterEach(() => it.close());

async function start(...runs: string[]) {
  it = createTestCollector();
  for (const id of runs) await createRun(it.collector, { id });
  return createWriter(it.collector);
}
const points = async (run: string, key: string) =>
  (await it.json(`/api/v1/runs/${run}/points?key=${key}`)).points;
const entries = () => it.collector.journal.read(0, 10_000).filter(({ kind }) => kind === "metric.appended");

test("what comes at once for a run is one entry, in its order", async () => {
  const writer = await start("a", "b");
  await Promise.all(
    Array.from({ length: 1000 }, (_, step) =>
      writer.records(step % 2 === 0 ? "a" : "b", [{ step, metrics: { v: step } }]),
    ),
  );
  expect((await points("a", "v")).map(([step]: [number]) => step)).toEqual(
    Array.from({ length: 500 }, (_, at) => 2 * at),
  );
  expect(entries()).toHaveLength(2);
});

test("what comes while an entry is on its way to disk is the next one", async () => {
  const writer = await start("a");
  const sent: Promise<void>[] = [];
  for (let step = 0; step < 300; step++) {
    sent.push(writer.records("a", [{ step, metrics: { v: step } }]));
    if (step % 3 === 0) await sent.at(-1);
  }
  await Promise.all(sent);
  expect(entries().length).toBeLessThanOrEqual(201);
  expect((await points("a", "v")).map(([step]: [number]) => step)).toEqual(
    Array.from({ length: 300 }, (_, step) => step),
  );
});

test("what comes in whatever turn after the last was answered is stored", async () => {
  const writer = await start("a");
  for (let turns = 0; turns < 6; turns++) {
    await writer.records("a", [{ step: 2 * turns, metrics: { v: 0 } }]);
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    await writer.records("a", [{ step: 2 * turns + 1, metrics: { v: 1 } }]);
  }
  expect(await points("a", "v")).toHaveLength(12);
});

test("ranks of a run do not wait for each other's commits, each in its order", async () => {
  const writer = await start("a");
  const { journal } = it.collector;
  const append = journal.append.bind(journal);
  let underWay = 0;
  let most = 0;
  journal.append = (...given) => {
    most = Math.max(most, ++underWay);
    return append(...given).finally(() => underWay--);
  };
  await Promise.all([0, 1, 2, 3].map((rank) => writer.lines("a", [{ text: `of ${rank}` }], rank)));
  expect(most).toBe(4);
  for (let n = 0; n < 20; n++) void writer.lines("a", [{ text: `line ${n}` }], n % 2);
  await Promise.all([0, 1].map((rank) => writer.lines("a", [{ text: "last" }], rank)));
  const { lines } = await it.json("/api/v1/runs/a/logs?rank=1&limit=100");
  expect(lines.map(({ text }: { text: string }) => text)).toEqual([
    "of 1",
    ...Array.from({ length: 10 }, (_, n) => `line ${2 * n + 1}`),
    "last",
  ]);
});

test("what is durable is not said to have failed because its run could not be taken up again", async () => {
  const writer = await start("a");
  await writer.lines("a", [{ text: "first" }]);
  await presumeFinished(it.collector, { run: "a", reason: "It seemed so.", at: it.collector.now() });
  const append = it.collector.journal.append.bind(it.collector.journal);
  it.collector.journal.append = (entry, ...rest) =>
    entry.kind === "run.changed"
      ? Promise.reject(new CollectorError("disk-full", "No space left."))
      : append(entry, ...rest);
  await writer.lines("a", [{ text: "second" }]);
  it.collector.journal.append = append;
  await writer.lines("a", [{ text: "third" }]);
  expect((await it.json("/api/v1/runs/a")).status).toBe("RUNNING");
  expect((await it.json("/api/v1/runs/a/logs?limit=10")).total).toBe(3);
});

test("a run that lines of one rank took up again lives as long as records of another come", async () => {
  const writer = await start("a");
  await presumeFinished(it.collector, { run: "a", reason: "It seemed so.", at: it.collector.now() });
  await writer.lines("a", [{ text: "back" }], 1);
  expect((await it.json("/api/v1/runs/a")).status).toBe("RUNNING");
  const { presence } = it.collector;
  const clients: string[] = [];
  const contact = presence.contact.bind(presence);
  presence.contact = (run, client) => (clients.push(client), contact(run, client));
  await writer.records("a", [{ metrics: { v: 1 } }]);
  await writer.lines("a", [{ text: "on" }], 1);
  expect(new Set(clients).size).toBe(1);
});

test("a record that cannot be is refused alone", async () => {
  const writer = await start("a");
  const sent = await Promise.allSettled(
    [{ v: 1 }, { "a\u0000b": 1 }, { v: 2 }, { v: Infinity }, { v: 3 }].map((metrics, step) =>
      writer.records("a", [{ step, metrics }]),
    ),
  );
  expect(sent.map(({ status }) => status)).toEqual([
    "fulfilled",
    "rejected",
    "fulfilled",
    "rejected",
    "fulfilled",
  ]);
  expect(await points("a", "v")).toEqual([
    [0, 1],
    [2, 2],
    [4, 3],
  ]);
});

test("what was refused for want of room takes no number: the next is stored", async () => {
  const writer = await start("a");
  await writer.records("a", [{ metrics: { v: 0 } }]);
  it.collector.journal.refuse(new CollectorError("disk-full", "No space left."));
  const error = await writer.records("a", [{ metrics: { v: 1 } }]).catch((error: unknown) => error);
  expect((error as CollectorError).code).toBe("disk-full");
  it.collector.journal.refuse(undefined);
  await writer.records("a", [{ metrics: { v: 2 } }]);
  await writer.lines("a", [{ text: "a line" }]);
  await writer.records("a", [{ metrics: { v: 3 } }]);
  expect((await points("a", "v")).map(([, value]: [number, number]) => value)).toEqual([0, 2, 3]);
});

test("steps that nobody brings are counted on after a restart", async () => {
  const writer = await start("a");
  await writer.records("a", [{ metrics: { v: 0 } }, { metrics: { v: 1 } }]);
  it = await it.restart();
  await createWriter(it.collector).records("a", [{ metrics: { v: 2 } }]);
  expect(await points("a", "v")).toEqual([
    [0, 0],
    [1, 1],
    [2, 2],
  ]);
});

test("more than may wait is refused, and what waits is stored", async () => {
  const writer = await start("a");
  const text = "x".repeat(1024 * 1024 - 1000);
  const sent = await Promise.allSettled(Array.from({ length: 80 }, () => writer.lines("a", [{ text }])));
  const refused = sent.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  expect(refused.length).toBeGreaterThan(10);
  expect(new Set(refused.map(({ reason }) => (reason as CollectorError).code))).toEqual(new Set(["busy"]));
  expect((await it.json("/api/v1/runs/a/logs?limit=1")).total).toBe(80 - refused.length);
  await writer.lines("a", [{ text: "again" }]);
});

test("what is nested counts as large as it is", async () => {
  const writer = await start("a");
  const nested = { talk: ["x".repeat(4 * 1024 * 1024)] };
  const sent = await Promise.allSettled(
    Array.from({ length: 20 }, () => writer.records("a", [{ metrics: { nested } }])),
  );
  expect(sent.filter(({ status }) => status === "rejected").length).toBeGreaterThanOrEqual(4);
});

test("nobody writes to a run that is not there or was deleted", async () => {
  const writer = await start("a");
  const code = (error: unknown) => (error as CollectorError).code;
  expect(await writer.records("none", [{ metrics: { v: 0 } }]).catch(code)).toBe("not-found" as never);
  await it.request("/api/v1/runs/a?force=true", { method: "DELETE" });
  expect(await writer.lines("a", [{ text: "x" }]).catch(code)).toBe("gone" as never);
});
