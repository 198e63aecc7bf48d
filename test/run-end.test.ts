import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { reviewRuns, restoreRuns } from "../src/run/watch.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { readEvents, type EventReader } from "./helpers/events.ts";

const SECOND = 1000;
const clock = { now: 0 };
let at: TestCollector;
let open: EventReader[] = [];

beforeEach(() => {
  clock.now = 1e12;
  at = createTestCollector({ now: () => clock.now });
});
afterEach(async () => {
  for (const reader of open.splice(0)) await reader.close();
  await at.close();
});

const create = (writer: object) => at.json("/api/v1/runs", { body: { id: "1", writer } });
const get = () => at.json("/api/v1/runs/1");
const log = (client: string, seq: number) =>
  at.json("/api/v1/runs/1/records", { body: { client, seq, items: [{ metrics: { a: seq } }] } });
const finish = (body: object) => at.json("/api/v1/runs/1/finish", { body });

async function heartbeat(client: string): Promise<EventReader> {
  const reader = readEvents(await at.request(`/api/v1/runs/1/heartbeat?client=${client}`));
  open.push(reader);
  return reader;
}

async function after(seconds: number): Promise<void> {
  clock.now += seconds * SECOND;
  await reviewRuns(at.collector);
}

/** Lets the server see the end of a stream. */
async function close(reader: EventReader): Promise<void> {
  await reader.close();
  open = open.filter((other) => other !== reader);
}

describe("a writer that goes without a word", () => {
  test("has 10 seconds to come back; then its run is FAILED as of when it went", async () => {
    await create({ client: "a", pid: 5 });
    const reader = await heartbeat("a");
    expect((await get()).writers).toMatchObject([{ client: "a", live: true }]);
    await close(reader);
    const went = clock.now;
    await after(9);
    expect(await get()).toMatchObject({ status: "RUNNING", writers: [{ live: false }] });
    await after(1);
    expect(await get()).toMatchObject({
      status: "FAILED",
      reason: "Its connection ended without a finish (killed, or crashed).",
      finished: new Date(went).toISOString(),
    });
  });

  test("and then sends something after all: its run goes on, and may end well", async () => {
    await create({ client: "a" });
    await close(await heartbeat("a"));
    await after(10);
    expect((await get()).status).toBe("FAILED");
    await log("a", 1);
    expect(await get()).toMatchObject({ status: "RUNNING", reason: null, finished: null });
    await finish({ client: "a" });
    expect(await get()).toMatchObject({ status: "FINISHED", reason: null });
  });

  test("and whose heartbeat comes back: the same", async () => {
    await create({ client: "a" });
    await close(await heartbeat("a"));
    await after(10);
    await heartbeat("a");
    expect(await get()).toMatchObject({ status: "RUNNING", writers: [{ live: true }] });
  });

  test("and whose finish comes late: that is how it ended", async () => {
    await create({ client: "a" });
    await close(await heartbeat("a"));
    await after(3600);
    await finish({ client: "a", status: "FINISHED", exit_code: 0, finished: clock.now - 1800 * SECOND });
    expect(await get()).toMatchObject({
      status: "FINISHED",
      exit_code: 0,
      finished: new Date(clock.now - 1800 * SECOND).toISOString(),
    });
  });

  test("and whose run is launched again: the new one may end well", async () => {
    await create({ client: "a" });
    await close(await heartbeat("a"));
    await after(10);
    expect((await create({ client: "b" })).status).toBe("RUNNING");
    await finish({ client: "b" });
    expect(await get()).toMatchObject({ status: "FINISHED", reason: null });
  });

  test("beside others that go on: the run goes on with them, and ends FAILED", async () => {
    await create({ client: "a" });
    await create({ client: "b", rank: 1 });
    await heartbeat("b");
    await close(await heartbeat("a"));
    await after(10);
    expect(await get()).toMatchObject({ status: "RUNNING" });
    await finish({ client: "b", status: "FINISHED" });
    expect(await get()).toMatchObject({
      status: "FAILED",
      reason: expect.stringContaining("killed, or crashed"),
    });
  });

  test("beside others, and comes back: nothing happened", async () => {
    await create({ client: "a" });
    await create({ client: "b", rank: 1 });
    await heartbeat("b");
    await close(await heartbeat("a"));
    await after(10);
    await log("a", 1);
    await finish({ client: "b" });
    expect(await get()).toMatchObject({ status: "RUNNING", reason: null });
    await finish({ client: "a" });
    expect((await get()).status).toBe("FINISHED");
  });

  test("launch itself, while what it launched goes on: so does the run, and says in the end what happened", async () => {
    await create({ client: "l", role: "launch" });
    await create({ client: "a" });
    await heartbeat("a");
    await close(await heartbeat("l"));
    await after(10);
    expect((await get()).status).toBe("RUNNING");
    await log("a", 1);
    await finish({ client: "a", status: "FINISHED", exit_code: 0 });
    expect(await get()).toMatchObject({
      status: "FAILED",
      reason: expect.stringContaining("`launch` ended without saying so"),
      exit_code: null,
    });
  });

  test("under launch: the run waits for the word of launch", async () => {
    await create({ client: "l", role: "launch" });
    await create({ client: "a" });
    await heartbeat("l");
    await close(await heartbeat("a"));
    await after(10);
    expect((await get()).status).toBe("RUNNING");
    await finish({ client: "l", status: "FAILED", exit_code: 137, reason: "killed by SIGKILL" });
    expect(await get()).toMatchObject({ status: "FAILED", exit_code: 137 });
  });
});

test("who asks for the head of a heartbeat holds none", async () => {
  await create({ client: "a" });
  const response = await at.request("/api/v1/runs/1/heartbeat?client=a", { method: "HEAD" });
  expect(response.status).toBe(200);
  expect((await get()).writers).toMatchObject([{ client: "a", live: false }]);
});

describe("stopping", () => {
  test("a writer hears it over its heartbeat; KILLED when it is done", async () => {
    await create({ client: "a" });
    const reader = await heartbeat("a");
    await at.json("/api/v1/runs/1/stop", { body: { reason: "diverged" } });
    expect((await reader.until("stop")).json).toEqual({ force: false, reason: "diverged" });
    expect((await get()).status).toBe("STOPPING");
    await at.json("/api/v1/runs/1/stop", { body: { force: true } });
    expect((await reader.until("stop")).json).toMatchObject({ force: true });
    await finish({ client: "a", status: "FAILED", exit_code: 143, reason: "SIGTERM" });
    expect(await get()).toMatchObject({ status: "KILLED", reason: "diverged", exit_code: 143 });
  });

  test("a writer that dies of it is KILLED too, not FAILED", async () => {
    await create({ client: "a" });
    const reader = await heartbeat("a");
    await at.json("/api/v1/runs/1/stop", { body: {} });
    await close(reader);
    await after(10);
    expect(await get()).toMatchObject({ status: "KILLED" });
    await log("a", 1);
    expect((await get()).status).toBe("KILLED");
  });

  test("a writer that was away when it was said hears it when it comes back", async () => {
    await create({ client: "a" });
    await close(await heartbeat("a"));
    await at.json("/api/v1/runs/1/stop", { body: { reason: "enough" } });
    expect((await get()).status).toBe("KILLED");
    expect((await (await heartbeat("a")).until("stop")).json).toEqual({ force: false, reason: "enough" });
  });
});

describe("over a restart of the collector", () => {
  const restart = async () => {
    for (const reader of open.splice(0)) await reader.close();
    at = await at.restart();
    await restoreRuns(at.collector);
  };

  test("writers have a minute to come back", async () => {
    await create({ client: "a", pid: 999_999, boot: "elsewhere" });
    await heartbeat("a");
    await restart();
    await after(59);
    expect((await get()).status).toBe("RUNNING");
    await heartbeat("a");
    await after(60);
    expect((await get()).status).toBe("RUNNING");
  });

  test("those that don't come back were lost meanwhile; their data reopens the run all the same", async () => {
    await create({ client: "a", pid: 999_999, boot: "elsewhere" });
    await restart();
    await after(60);
    expect(await get()).toMatchObject({
      status: "FAILED",
      reason: "It did not come back after the collector was restarted.",
    });
    await restart();
    await log("a", 1);
    expect((await get()).status).toBe("RUNNING");
  });

  test("a run that is being stopped is still being stopped", async () => {
    await create({ client: "a" });
    await heartbeat("a");
    await at.json("/api/v1/runs/1/stop", { body: { reason: "enough" } });
    await restart();
    expect((await (await heartbeat("a")).until("stop")).json).toEqual({ force: false, reason: "enough" });
    await finish({ client: "a" });
    expect((await get()).status).toBe("KILLED");
  });
});
