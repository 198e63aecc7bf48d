import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BatchQueue } from "../src/client/typescript/batch-queue.ts";
import { createSender, type Sender, type SenderOptions } from "../src/client/typescript/sender.ts";
import { until } from "./helpers/launch.ts";

const RUN = "123456789012345";
const folders: string[] = [];
const collectors: TestCollector[] = [];
const senders: Sender[] = [];

afterEach(() => {
  for (const sender of senders.splice(0)) sender.abandon();
  for (const collector of collectors.splice(0)) collector.stop();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

interface Body {
  client: string;
  seq: number;
  items: { text: string }[];
  [key: string]: unknown;
}

type Mood = "well" | "hanging" | { status: number };

interface TestCollector {
  url: string;
  mood: Mood;
  /** Whether it knows the run. */
  hasRun: boolean;
  /** The status of what it does not take as it is. */
  refuses: (path: string, body: Body) => number | undefined;
  /** Requests in the order of their coming. */
  requests: { path: string; body: Body }[];
  /** Every line it took, numbered batches once. */
  texts: string[];
  seq: number;
  stop(): void;
}

/** Answers as the collector does: numbers batches, refuses gaps, or is in whatever mood it was put. */
function startCollector(port = 0): TestCollector {
  const released: (() => void)[] = [];
  const server = Bun.serve({
    port,
    hostname: "127.0.0.1",
    async fetch(request) {
      const { pathname } = new URL(request.url);
      const body = (await request.json()) as Body;
      const { mood } = collector;
      if (mood === "hanging") await new Promise<void>((resolve) => released.push(resolve));
      if (typeof mood === "object") return problem(mood.status);
      const refusal = collector.refuses(pathname, body);
      if (refusal !== undefined) return problem(refusal);
      collector.requests.push({ path: pathname, body });
      if (pathname === "/api/v1/runs") {
        collector.hasRun = true;
        return Response.json({ id: RUN, name: "test" }, { status: 201 });
      }
      if (!collector.hasRun) return problem(404);
      if (!pathname.endsWith("/logs") && !pathname.endsWith("/records")) return Response.json({});
      if (body.items.length === 0 && body["open"]) return Response.json({ acked: collector.seq });
      if (body.seq > collector.seq + 1) return problem(409, { expected: collector.seq + 1 });
      if (body.seq === collector.seq + 1) {
        collector.seq++;
        collector.texts.push(...body.items.map((item) => item.text ?? JSON.stringify(item)));
      }
      return Response.json({ acked: body.seq });
    },
  });
  const collector: TestCollector = {
    url: `http://127.0.0.1:${server.port}`,
    mood: "well",
    hasRun: false,
    refuses: () => undefined,
    requests: [],
    texts: [],
    seq: 0,
    stop() {
      for (const release of released) release();
      void server.stop(true);
    },
  };
  collectors.push(collector);
  return collector;
}

const codeByStatus: Record<number, string> = {
  401: "unauthorized",
  404: "not-found",
  409: "sequence-gap",
  410: "gone",
  422: "invalid",
  500: "internal",
  503: "busy",
};

function problem(status: number, details: Record<string, unknown> = {}): Response {
  const type = `urn:binnacle:${codeByStatus[status]}`;
  return Response.json({ type, title: `status ${status}`, status, ...details }, { status });
}

function open(collector: { url: string }, options: Partial<SenderOptions> = {}) {
  const spoolDir = mkdtempSync(join(tmpdir(), "binnacle-sender-"));
  folders.push(spoolDir);
  const sender = createSender({
    connection: () => ({ url: collector.url, token: "t" }),
    spoolDir,
    create: { id: RUN, name: "test", writer: { client: "c", role: "launch", rank: 2 } },
    gatherMs: 5,
    ...options,
  });
  senders.push(sender);
  return { sender, spool: join(spoolDir, `${RUN}-c.ndjson`) };
}

const line = (text: string) => ({ time: 1, stream: "stdout" as const, text });
const numbers = (count: number, from = 0) =>
  Array.from({ length: count }, (_, index) => String(from + index));
const readSpool = (path: string) =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((text) => JSON.parse(text) as { v: number; path: string; body: Body });

test("creates the run, sends in order with rank and numbers, finishes last", async () => {
  const collector = startCollector();
  const { sender, spool } = open(collector);
  expect(await sender.created).toMatchObject({ name: "test" });
  sender.logs([line("a"), line("b")]);
  sender.records([{ metrics: { loss: 1 } }]);
  sender.logs([line("c")]);
  const delivery = await sender.finish({ status: "FAILED", reason: "exit code 3", exit_code: 3 });
  expect(delivery).toMatchObject({ delivered: true, spool: undefined });
  expect(
    collector.requests.map(({ path, body }) => [path.slice(`/api/v1/runs/${RUN}`.length), body.seq]),
  ).toEqual([
    ["", undefined],
    ["/logs", 1],
    ["/records", 2],
    ["/logs", 3],
    ["/finish", undefined],
  ] as [string, number][]);
  expect(collector.requests[1]!.body).toMatchObject({ client: "c", rank: 2 });
  expect(collector.requests.at(-1)!.body).toMatchObject({ client: "c", status: "FAILED", exit_code: 3 });
  expect(existsSync(spool)).toBe(false);
});

test("many lines go in few batches", async () => {
  const collector = startCollector();
  const { sender } = open(collector);
  for (const text of numbers(20_000)) sender.logs([line(text)]);
  expect(await sender.flush(10_000)).toBe(true);
  expect(collector.texts).toEqual(numbers(20_000));
  expect(collector.requests.length).toBeLessThan(20);
});

for (const [name, mood] of [
  ["answers 500", { status: 500 }],
  ["answers 503", { status: 503 }],
  ["refuses the token", { status: 401 }],
] as const)
  test(`a collector that ${name}: kept in the spool, sent in order when it is well again`, async () => {
    const collector = startCollector();
    const changes: boolean[] = [];
    const { sender, spool } = open(collector, { onChange: (online) => changes.push(online) });
    sender.logs(numbers(10).map(line));
    await sender.flush(5000);
    collector.mood = mood;
    for (let round = 1; round < 10; round++) sender.logs(numbers(10, round * 10).map(line));
    await until(() => existsSync(spool));
    expect(statSync(spool).mode & 0o777).toBe(0o600);
    expect(readSpool(spool)[0]).toMatchObject({
      v: 1,
      path: "/api/v1/runs",
      body: { id: RUN, writer: { client: "c" } },
    });
    collector.mood = "well";
    expect(await sender.flush(10_000)).toBe(true);
    expect(collector.texts).toEqual(numbers(100));
    expect(changes).toEqual([false, true]);
    expect(statSync(spool).size).toBe(0);
  });

test("a collector that hangs blocks no producer for long, and loses nothing", async () => {
  const collector = startCollector();
  const { sender } = open(collector, { maxQueueBytes: 100_000, timeoutMs: 60_000 });
  await sender.created;
  collector.mood = "hanging";
  const started = performance.now();
  for (let round = 0; round < 100; round++) {
    sender.logs(numbers(100, round * 100).map(line));
    await sender.room();
  }
  expect(performance.now() - started).toBeLessThan(10_000);
  expect(sender.stats().online).toBe(false);
  const { delivered, spool } = await sender.finish({ status: "FINISHED" }, { offlineMs: 200 });
  expect(delivered).toBe(false);
  const kept = readSpool(spool!).flatMap(({ path, body }) => (path.endsWith("/logs") ? body.items : []));
  expect(kept.map((item) => item.text)).toEqual(numbers(10_000));
  expect(readSpool(spool!).at(-1)!.path).toEndWith("/finish");
}, 30_000);

test("no collector at all: finish keeps within its bound, and everything is in the spool, the creation first", async () => {
  const { sender, spool } = open({ url: "http://127.0.0.1:9" });
  sender.logs([line("a")]);
  const started = performance.now();
  const delivery = await sender.finish({ status: "FINISHED" }, { offlineMs: 300 });
  expect(performance.now() - started).toBeLessThan(2000);
  expect(delivery).toMatchObject({ delivered: false, spool });
  expect(readSpool(spool).map(({ path }) => path.replace(RUN, "ID"))).toEqual([
    "/api/v1/runs",
    "/api/v1/runs/ID/logs",
    "/api/v1/runs/ID/finish",
  ]);
  expect(existsSync(`${spool}.lock`)).toBe(false);
});

test("the spool has a bound: what is beyond it is dropped and counted, the finish still fits", async () => {
  const { sender, spool } = open(
    { url: "http://127.0.0.1:9" },
    { maxSpoolBytes: 200_000, maxQueueBytes: 50_000 },
  );
  await until(() => !sender.stats().online);
  for (let round = 0; round < 50; round++)
    sender.logs(Array.from({ length: 100 }, () => line("x".repeat(100))));
  const { stats } = await sender.finish({ status: "FINISHED" }, { offlineMs: 100 });
  const kept = readSpool(spool);
  const lines = kept.flatMap(({ body }) => body.items ?? []).length;
  expect(stats.dropped.lines).toBe(5000 - lines);
  expect(lines).toBeGreaterThan(500);
  expect(statSync(spool).size).toBeLessThan(700_000);
  expect(kept.at(-1)!.path).toEndWith("/finish");
});

test("while it is being sent, the spool does not let newer lines overtake", async () => {
  const first = startCollector();
  const { sender, spool } = open(first);
  sender.logs(numbers(10).map(line));
  await sender.flush(5000);
  first.mood = { status: 500 };
  for (let round = 1; round < 50; round++) {
    sender.logs(numbers(10, round * 10).map(line));
    if (round === 25) {
      await until(() => existsSync(spool));
      first.mood = "well";
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  expect(await sender.flush(10_000)).toBe(true);
  expect(first.texts).toEqual(numbers(500));
});

test("numbers that the collector has lost are passed over", async () => {
  const collector = startCollector();
  const { sender } = open(collector);
  sender.logs([line("a")]);
  await sender.flush(5000);
  sender.logs([line("b")]);
  await sender.flush(5000);
  // As after a restored backup.
  collector.seq = 0;
  sender.logs([line("c")]);
  expect(await sender.flush(5000)).toBe(true);
  expect(collector.texts).toEqual(["a", "b", "c"]);
});

test("a collector that has lost the run gets it again", async () => {
  const collector = startCollector();
  const { sender } = open(collector);
  sender.logs([line("a")]);
  await sender.flush(5000);
  collector.hasRun = false;
  collector.seq = 0;
  sender.logs([line("b")]);
  expect(await sender.flush(5000)).toBe(true);
  expect(collector.texts).toEqual(["a", "b"]);
});

test("a run that was deleted: what comes later is counted, and nothing waits for ever", async () => {
  const collector = startCollector();
  const { sender, spool } = open(collector);
  sender.logs([line("a")]);
  await sender.flush(5000);
  collector.mood = { status: 410 };
  sender.logs([line("b")]);
  const { delivered, stats } = await sender.finish({ status: "FINISHED" });
  expect(delivered).toBe(true);
  expect(stats.refused).toBe(2);
  expect(stats.error?.message).toContain("410");
  expect(existsSync(spool)).toBe(false);
  expect(existsSync(`${spool}.refused`)).toBe(false);
});

describe("a batch that is refused for good", () => {
  const isOdd = ({ items }: Body) => items?.some(({ text }) => text === "odd");

  async function sendThree(collector: TestCollector, options: Partial<SenderOptions> = {}) {
    const { sender, spool } = open(collector, options);
    for (const text of ["a", "odd", "b"]) {
      sender.logs([line(text)]);
      await sender.flush(10_000);
    }
    const { delivered, stats } = await sender.finish({ status: "FINISHED" });
    expect(delivered).toBe(true);
    return { stats, aside: `${spool}.refused` };
  }

  test("lies aside, which is said, and its number is filled at once", async () => {
    const collector = startCollector();
    collector.refuses = (_, body) => (isOdd(body) ? 422 : undefined);
    const told: unknown[] = [];
    const { stats, aside } = await sendThree(collector, { onRefused: (...args) => told.push(args) });
    expect(stats).toMatchObject({ refused: 1, refusedFile: aside });
    expect(told).toEqual([[stats.error, aside]]);
    expect(readSpool(aside).map(({ body }) => [body.seq, body.items[0]!.text])).toEqual([[2, "odd"]]);
    expect(statSync(aside).mode & 0o777).toBe(0o600);
    expect(collector.texts).toEqual(["a", "b"]);
    const numbered = collector.requests.filter(({ body }) => body.items);
    // Nothing came before its turn: the batch after it had no gap to fill.
    expect(numbered.map(({ body }) => [body.seq, body.items.length])).toEqual([
      [1, 1],
      [2, 0],
      [3, 1],
    ]);
  });

  test("lies there and counts once, though its number could not be filled at first", async () => {
    const collector = startCollector();
    let fails = 2;
    collector.refuses = (_, body) =>
      isOdd(body) ? 422 : body.seq === 2 && body.items.length === 0 && fails-- > 0 ? 503 : undefined;
    const { stats, aside } = await sendThree(collector);
    expect(fails).toBeLessThan(0);
    expect(stats.refused).toBe(1);
    expect(readSpool(aside)).toHaveLength(1);
    expect(collector.texts).toEqual(["a", "b"]);
  });

  test("as the run was lost and is not taken again, holds nothing up", async () => {
    const collector = startCollector();
    const { sender, spool } = open(collector);
    await sender.created;
    collector.hasRun = false;
    collector.refuses = (path) => (path === "/api/v1/runs" ? 422 : undefined);
    sender.logs([line("a")]);
    expect(await sender.flush(5000)).toBe(true);
    expect(sender.stats()).toMatchObject({ online: true, refused: 1 });
    expect(readSpool(`${spool}.refused`).map(({ body }) => body.items[0]!.text)).toEqual(["a"]);
  });
});

test("a creation that is refused for good rejects", async () => {
  const collector = startCollector();
  collector.mood = { status: 422 };
  const { sender } = open(collector);
  await expect(sender.created).rejects.toMatchObject({ code: "invalid" });
});

test("lines still being rewritten go by themselves, newest state only, and no number is spent on them", async () => {
  const collector = startCollector();
  const { sender } = open(collector);
  await sender.created;
  for (let state = 0; state <= 100; state++) sender.open({ stderr: `${state}%` });
  await until(() => collector.requests.some(({ body }) => body["open"]));
  sender.logs([line("a")]);
  await sender.flush(5000);
  const opens = collector.requests.filter(({ body }) => body["open"]);
  expect(opens.length).toBeLessThanOrEqual(2);
  expect(opens.at(-1)!.body["open"]).toEqual({ stderr: "100%" });
  sender.open({ stderr: null });
  await sender.finish({ status: "FINISHED" });
  expect(collector.requests.findLast(({ body }) => body["open"])!.body["open"]).toEqual({
    stderr: null,
  });
  expect(collector.texts).toEqual(["a"]);
});

test("a batch that was sent grows no more, answered or not: the collector may have it under its number", () => {
  const queue = new BatchQueue("1", "c", 0);
  queue.add("records", "a", 1);
  queue.finished(queue.begin(), false);
  queue.add("records", "b", 1);
  queue.finished(queue.begin(), true);
  queue.add("records", "c", 1);
  expect(queue.takeAll().map(({ body, items }) => [body["seq"], items])).toEqual([[2, ["b", "c"]]]);
});

test("abandon, as an exit hook calls it, leaves what was not answered in the spool", async () => {
  const collector = startCollector();
  const { sender, spool } = open(collector);
  await sender.created;
  collector.mood = "hanging";
  sender.logs([line("on its way")]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  sender.logs([line("waiting")]);
  const { delivered } = sender.abandon();
  expect(delivered).toBe(false);
  const kept = readSpool(spool).flatMap(({ body }) => body.items ?? []);
  expect(kept.map((item) => item.text)).toEqual(["on its way", "waiting"]);
});

test("a spool folder that cannot be written drops and counts, and nothing breaks", async () => {
  const { sender } = open({ url: "http://127.0.0.1:9" }, { spoolDir: "/proc/nowhere" });
  await until(() => !sender.stats().online);
  for (let round = 0; round < 10; round++)
    sender.logs(Array.from({ length: 1000 }, () => line("x".repeat(100))));
  const { stats, delivered } = await sender.finish({ status: "FINISHED" }, { offlineMs: 100 });
  expect(delivered).toBe(false);
  expect(stats.dropped.lines).toBe(10_000);
});

describe("while no collector answers and the spool folder takes nothing", () => {
  /** A file stands where the folder should be. */
  async function openWithoutDisk(maxQueueBytes?: number) {
    const parent = mkdtempSync(join(tmpdir(), "binnacle-sender-"));
    folders.push(parent);
    const spoolDir = join(parent, "spool");
    writeFileSync(spoolDir, "");
    const before = startCollector();
    before.stop();
    const { sender } = open(before, { spoolDir, ...(maxQueueBytes && { maxQueueBytes }) });
    sender.logs(numbers(10).map(line));
    await until(() => !sender.stats().online);
    return { sender, spoolDir, port: Number(new URL(before.url).port) };
  }

  test("memory keeps it, and sends it in order when one answers", async () => {
    const { sender, port } = await openWithoutDisk();
    sender.logs(numbers(10, 10).map(line));
    const collector = startCollector(port);
    expect(await sender.flush(10_000)).toBe(true);
    expect(collector.texts).toEqual(numbers(20));
    expect(sender.stats().dropped).toEqual({ records: 0, lines: 0 });
  });

  test("memory stays within its bound: the newest is dropped and counted", async () => {
    const { sender, port } = await openWithoutDisk(50_000);
    for (let round = 1; round < 100; round++) sender.logs(numbers(10, round * 10).map(line));
    const { lines } = sender.stats().dropped;
    const kept = 1000 - lines;
    expect(kept * 67).toBeWithin(45_000, 51_000);
    const collector = startCollector(port);
    expect(await sender.flush(10_000)).toBe(true);
    expect(collector.texts).toEqual(numbers(kept));
  });

  test("the folder is tried again, and gets everything once it can be written", async () => {
    const { sender, spoolDir } = await openWithoutDisk();
    rmSync(spoolDir);
    const spool = join(spoolDir, `${RUN}-c.ndjson`);
    await until(() => existsSync(spool) && statSync(spool).size > 0);
    sender.logs(numbers(10, 10).map(line));
    const { stats } = sender.abandon();
    const kept = readSpool(spool).flatMap(({ path, body }) => (path.endsWith("/logs") ? body.items : []));
    expect(kept.map((item) => item.text)).toEqual(numbers(20));
    expect(stats.dropped.lines).toBe(0);
  });
});
