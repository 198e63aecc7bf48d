import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createApp } from "../src/app.ts";
import { registerDevice } from "../src/device/register.ts";
import { recordEvents } from "../src/sample/event.ts";
import { runDevice } from "../src/store/tables.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { DEVICE, facts, gpu } from "./helpers/device.ts";
import { readEvents, type EventReader } from "./helpers/events.ts";

const OTHER = "00000000000000aa";

let at: TestCollector;
const open: EventReader[] = [];

beforeEach(async () => {
  at = createTestCollector();
  await registerDevice(at.collector, DEVICE, facts());
  await registerDevice(at.collector, OTHER, facts({ name: "node2" }));
});
afterEach(async () => {
  for (const reader of open.splice(0)) await reader.close();
  await at.close();
});

/** Past the present state. */
async function watch(query = `?device=${DEVICE}`, devices = 1): Promise<EventReader> {
  const reader = readEvents(await at.request(`/api/v1/devices/live${query}`));
  open.push(reader);
  await reader.until("ready");
  for (let i = 0; i < devices; i++) await reader.until("device");
  return reader;
}

const put = (value: number, device = DEVICE, subject = "") =>
  at.collector.latest.put(device, [{ subject, time: value, values: { "cpu.user": value } }]);
const timesOf = ({ json }: { json: any }) => json.samples.map(({ time }: any) => time);

describe("devices, live", () => {
  test("the present comes first: the collector's time, then each device with its newest values", async () => {
    const time = Date.now();
    at.collector.latest.put(OTHER, [{ subject: "", time, values: { "cpu.user": 0.5 } }]);
    const reader = readEvents(await at.request("/api/v1/devices/live"));
    open.push(reader);
    const ready = await reader.next();
    expect(ready.event).toBe("ready");
    expect(Math.abs(ready.json.time - Date.now())).toBeLessThan(5000);
    const devices = [await reader.next(), await reader.next()];
    expect(devices.map(({ event, json }) => [event, json.name])).toEqual([
      ["device", "node1"],
      ["device", "node2"],
    ]);
    expect(devices[1]!.json.latest[""].values).toEqual({ "cpu.user": 0.5 });
    expect(devices[0]!.json).toEqual(await at.json(`/api/v1/devices/${DEVICE}`));
  });

  test("what is read within a second is one event, the same for all who watch", async () => {
    const readers = [await watch(), await watch(), await watch("", 2)];
    put(1);
    put(2, DEVICE, "GPU-0");
    put(3);
    for (const reader of readers) {
      const tick = await reader.next();
      expect(tick.event).toBe("samples");
      expect(tick.json).toEqual({
        device: DEVICE,
        samples: [
          { subject: "", time: 1, values: { "cpu.user": 1 } },
          { subject: "GPU-0", time: 2, values: { "cpu.user": 2 } },
          { subject: "", time: 3, values: { "cpu.user": 3 } },
        ],
      });
    }
    const first = performance.now();
    put(4);
    expect(timesOf(await readers[0]!.next())).toEqual([4]);
    expect(performance.now() - first).toBeGreaterThan(800);
  });

  test("who watches one device hears of no other", async () => {
    const reader = await watch();
    put(1, OTHER);
    await recordEvents(at.collector, OTHER, [{ subject: "", time: 1, kind: "clock.jumped", text: "theirs" }]);
    await registerDevice(at.collector, OTHER, facts({ name: "node3" }));
    put(2);
    const tick = await reader.next();
    expect([tick.event, timesOf(tick)]).toEqual(["samples", [2]]);
  });

  test("an event is told at once, as it is listed", async () => {
    const reader = await watch();
    await recordEvents(at.collector, DEVICE, [
      { subject: "GPU-0", time: 1000, kind: "gpu.xid", text: "Xid 79", detail: { xid: 79 } },
    ]);
    const { event, json } = await reader.next();
    expect(event).toBe("event");
    expect(json).toEqual((await at.json(`/api/v1/devices/${DEVICE}/events`)).events[0]);
  });

  test("a device is told again when what it is changes, and not otherwise", async () => {
    const reader = await watch();
    await registerDevice(at.collector, DEVICE, facts());
    await at.json("/api/v1/runs", { body: { id: "1" } });
    const lost = [gpu(0, { lost: true }), gpu(1)];
    await registerDevice(at.collector, DEVICE, facts({ gpus: lost }));
    expect((await reader.next()).json.gpus[0].lost).toBe(true);
  });

  test("a device is told again when a run comes to live there, and when it ends", async () => {
    const reader = await watch();
    await at.json("/api/v1/runs", { body: { id: "1" } });
    await at.collector.db.insert(runDevice).values({ run: "1", device: DEVICE, from: 1 });
    await at.json("/api/v1/runs/1", { method: "PATCH", body: { notes: "n" } });
    expect((await reader.until("device")).json.runs).toEqual(["1"]);
    await at.json("/api/v1/runs/1/finish", { body: {} });
    expect((await reader.until("device")).json.runs).toEqual([]);
  });

  test("a device that registers later is heard of by who watches all", async () => {
    const reader = await watch("", 2);
    await registerDevice(at.collector, "00000000000000bb", facts({ name: "node3" }));
    expect((await reader.next()).json.name).toBe("node3");
  });

  test("who does not keep up loses what comes meanwhile, hears so, and holds nobody up", async () => {
    const slow = (await at.request(`/api/v1/devices/live?device=${DEVICE}`)).body!.getReader();
    const quick = await watch();
    const record = (text: string) =>
      recordEvents(at.collector, DEVICE, [{ subject: "", time: 1, kind: "clock.jumped", text }]);
    await record("x".repeat(300_000));
    expect((await quick.next()).json.text).toHaveLength(300_000);
    await record("missed by the slow one");
    expect((await quick.next()).json.text).toBe("missed by the slow one");
    await registerDevice(at.collector, DEVICE, facts({ name: "renamed" }));
    expect((await quick.next()).json.name).toBe("renamed");

    const decoder = new TextDecoder();
    let text = "";
    const readOn = async (until: string) => {
      while (!text.includes(until)) text += decoder.decode((await slow.read()).value, { stream: true });
    };
    await readOn('xx"');
    await record("it listens again");
    await readOn("renamed");
    expect(text).not.toContain("missed by the slow one");
    expect([...text.matchAll(/event: (\w+)/g)].map(([, name]) => name)).toEqual([
      "ready",
      "device",
      "event",
      "ready",
      "event",
      "device",
    ]);
    await slow.cancel();
  });

  test("an unknown device, and none of that name, are refused", async () => {
    expect((await at.request("/api/v1/devices/live?device=nowhere")).status).toBe(404);
    expect((await at.request(`/api/v1/devices/live?device=${"x".repeat(300)}`)).status).toBe(400);
  });

  test("HEAD answers and holds nothing open", async () => {
    const response = await at.request("/api/v1/devices/live", { method: "HEAD" });
    expect(response.headers.get("content-type")).toStartWith("text/event-stream");
    expect(response.body).toBeNull();
  });

  test("the stream ends when the server is about to", async () => {
    const ending = new AbortController();
    const app = createApp(at.collector, {
      trust: at.trust,
      onUnforeseen: (error) => at.unforeseen.push(error),
      ending: ending.signal,
    });
    const headers = { authorization: `Bearer ${at.trust.tokens.read}` };
    const reader = readEvents(await app.request("/api/v1/devices/live", { headers }));
    await reader.until("device");
    ending.abort();
    await reader.ended();
  });
});
