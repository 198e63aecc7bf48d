import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { heapStats } from "bun:jsc";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRun, type InitOptions, type Run } from "../src/client/typescript/run.ts";
import { replaySpool } from "../src/client/typescript/spool.ts";
import { request } from "../src/client/typescript/http.ts";
import { cleanEnv, startServer, type TestServer } from "./helpers/cli.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(30_000);

let server: TestServer;
const spool = mkdtempSync(join(tmpdir(), "binnacle-spool-"));

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  await server.close();
  rmSync(spool, { recursive: true, force: true });
});

const begin = (options: InitOptions = {}, env: Record<string, string> = {}): Run =>
  createRun({ quiet: true, ...options }, { BINNACLE_DATA: server.dataDir, BINNACLE_SPOOL: spool, ...env });

const pointsOf = async (run: string, key: string) =>
  (await server.json("metrics", "-rid", run, key, "--json")).points;

test("a run that is resumed counts on from its last step, whatever was logged before the collector answered", async () => {
  const first = begin();
  first.log({ a: 1 }, { step: 41 });
  await first.finish();
  const second = begin({ runId: first.id });
  second.log({ a: 2 });
  await second.created;
  second.log({ a: 3 });
  expect(await second.finish()).toMatchObject({ delivered: true });
  expect(await pointsOf(first.id, "a")).toEqual([
    [41, 1],
    [42, 2],
    [43, 3],
  ]);
});

test("ranks are series of their own", async () => {
  const { id } = begin();
  const runs = [0, 1].map((rank) => begin({ runId: id }, { RANK: String(rank) }));
  for (const [rank, run] of runs.entries()) run.log({ loss: rank });
  for (const run of runs) expect(await run.finish()).toMatchObject({ delivered: true });
  expect((await server.json("metrics", "-rid", id, "loss", "--rank", "1", "--json")).points).toEqual([
    [0, 1],
  ]);
});

test("a value that can't be recorded is an error here and breaks nothing later", async () => {
  const run = begin();
  run.log({ a: 1 }, { commit: false });
  expect(() => run.log({ bad: (() => 1) as unknown as number })).toThrow("metric bad");
  expect(() => run.log({ a: 1 }, { step: NaN })).toThrow("step must");
  run.log({ b: 2 });
  await run.finish();
  expect(await pointsOf(run.id, "a")).toEqual([[0, 1]]);
  expect(await pointsOf(run.id, "b")).toEqual([[0, 2]]);
  expect(() => run.log({ a: 1 })).toThrow("finished");
});

test("what is assigned to config, and set, is recorded in order", async () => {
  const run = begin({ config: { lr: 0.1, gone: 1 }, tags: ["a"] });
  run.config["batch"] = 32;
  delete run.config["gone"];
  run.set({ name: "renamed", notes: "text" });
  Object.assign(run.config, { lr: 0.2, big: 2n ** 60n });
  await run.finish();
  expect(await server.json("run", "status", run.id, "--json")).toMatchObject({
    name: "renamed",
    notes: "text",
    tags: ["a"],
    config: { lr: 0.2, batch: 32, big: "1152921504606846976" },
  });
  const { config } = await server.json("run", "status", run.id, "--json");
  expect(config).not.toHaveProperty("gone");
});

test("init again with the id of the live run is that run", async () => {
  process.env["BINNACLE_DATA"] = server.dataDir;
  const { finish, init, log } = await import("../src/client/typescript/index.ts");
  const run = init({ quiet: true, config: { a: 1 } });
  expect(init({ runId: run.id, config: { b: 2 } })).toBe(run);
  log({ x: 1 });
  expect(await finish()).toMatchObject({ delivered: true });
  expect((await server.json("run", "status", run.id, "--json")).config).toEqual({ a: 1, b: 2 });
  delete process.env["BINNACLE_DATA"];
});

test("the outcome is told", async () => {
  const run = begin();
  await run.finish({ exitCode: 7, reason: "out of memory" });
  expect(await server.json("run", "status", run.id, "--json")).toMatchObject({
    status: "FAILED",
    exit_code: 7,
    reason: "out of memory",
  });
});

test("run stop asks the script as Ctrl-C would", async () => {
  const script = `
    const { init, log } = await import(${JSON.stringify(join(import.meta.dirname, "../src/client/typescript/index.ts"))});
    const run = init({ quiet: true });
    log({ a: 1 });
    await run.created;
    console.log(run.id);
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ["-e", script], { env: cleanEnv({ BINNACLE_DATA: server.dataDir }) });
  const ended = new Promise((resolve) => child.on("close", (_, signal) => resolve(signal)));
  const id = await new Promise<string>((resolve) =>
    child.stdout.on("data", (text: Buffer) => resolve(text.toString().trim())),
  );
  // The heartbeat may still be on its way; who is not connected yet hears of it when it is.
  await server.cli("run", "stop", "-rid", id);
  expect(await ended).toBe("SIGINT");
  expect(await server.json("run", "status", id, "--json")).toMatchObject({ status: "KILLED" });
});

test("a collector that restarts under it gets everything once", async () => {
  const own = await startServer();
  const run = createRun({ quiet: true }, { BINNACLE_DATA: own.dataDir, BINNACLE_SPOOL: spool });
  await run.created;
  run.log({ a: 0 });
  await run.flush();
  await own.kill("SIGKILL");
  for (let value = 1; value < 500; value++) run.log({ a: value });
  expect(await run.flush(300)).toBe(false);
  // Another port: the client must look for it again.
  const next = await startServer({ dataDir: own.dataDir });
  for (let value = 500; value < 1000; value++) run.log({ a: value });
  expect(await run.flush(10_000)).toBe(true);
  expect(await run.finish()).toMatchObject({ delivered: true, spool: undefined });
  const { points } = await next.json("metrics", "-rid", run.id, "a", "--json");
  expect(points).toEqual(Array.from({ length: 1000 }, (_, value) => [value, value]));
  expect(readdirSync(spool)).toEqual([]);
  await next.close();
}, 20_000);

describe("a collector that hangs", () => {
  test("holds up no call, and memory stays bounded: what does not fit goes to the spool", async () => {
    const hung = createServer(() => {});
    await new Promise<void>((resolve) => hung.listen(0, "127.0.0.1", resolve));
    const { port } = hung.address() as { port: number };
    const run = begin({ url: `http://127.0.0.1:${port}`, token: "t" });
    await Bun.sleep(50);
    const held = () => {
      Bun.gc(true);
      return heapStats().heapSize;
    };
    const before = held();
    const count = 60_000;
    const times = new Float64Array(count);
    for (let value = 0; value < count; value++) {
      const started = performance.now();
      run.log({ a: value, text: `${value} ${"x".repeat(2000)}` });
      times[value] = performance.now() - started;
      // As a training does: now and then it waits for something.
      if (value % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    times.sort();
    const file = join(
      spool,
      readdirSync(spool).find((name) => name.endsWith(".ndjson"))!,
    );
    expect(statSync(file).size).toBeGreaterThan(100_000_000);
    expect(held() - before).toBeLessThan(40_000_000);
    // One call in five hundred takes a batch of a megabyte to the disk.
    expect(times[Math.floor(count * 0.99)]!).toBeLessThan(5);

    const started = performance.now();
    const { delivered, stats } = await run.finish();
    expect(performance.now() - started).toBeLessThan(7_000);
    expect({ delivered, dropped: stats.dropped }).toEqual({
      delivered: false,
      dropped: { records: 0, lines: 0 },
    });
    hung.close();

    const connection = { url: server.url, token: (await server.cli("token")).stdout.trim() };
    const result = await replaySpool(file, {
      post: (path, body, method) => request(connection, path, { body, method }),
    });
    expect(result).toMatchObject({ outcome: "sent", refused: 0 });
    const [metric] = await server.json("metrics", "-rid", run.id, "--json");
    expect(metric).toMatchObject({ name: "a", count, last: count - 1, min: 0, max: count - 1 });
  }, 60_000);
});
