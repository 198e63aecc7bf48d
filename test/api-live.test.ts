import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { readEvents, type EventReader } from "./helpers/events.ts";

let at: TestCollector;
let seq = 0;
const open: EventReader[] = [];

beforeEach(async () => {
  at = createTestCollector();
  seq = 0;
  await at.json("/api/v1/runs", { body: { id: "1" } });
});
afterEach(async () => {
  for (const reader of open.splice(0)) await reader.close();
  await at.close();
});

async function watch(query = "?run=1", headers: Record<string, string> = {}): Promise<EventReader> {
  const reader = readEvents(await at.request(`/api/v1/live${query}`, { headers }));
  open.push(reader);
  return reader;
}

const log = (items: unknown[], more: object = {}) =>
  at.json("/api/v1/runs/1/records", { body: { client: "c", seq: ++seq, items, ...more } });

describe("live", () => {
  test("a record is heard of with its ordinal, step, time and value", async () => {
    const reader = await watch();
    await log([{ step: 3, time: 1000, metrics: { loss: 0.5, note: "hi" } }]);
    const { json, id } = await reader.until("record");
    expect(json).toEqual({
      run: "1",
      more: false,
      series: [
        { key: "loss", rank: 0, x: null, n: 1, points: [[0, 3, 1000, 0.5]] },
        { key: "note", rank: 0, x: null, n: 1, points: [[0, 3, 1000, "hi"]] },
      ],
    });
    expect(Number(id)).toBe(at.collector.journal.bounds().last);
  });

  test("a custom axis travels with its points", async () => {
    const reader = await watch();
    await log([{ x: "epoch", time: 1, metrics: { acc: 0.1, epoch: 7 } }]);
    const { json } = await reader.until("record");
    expect(json.series[0]).toMatchObject({ key: "acc", x: "epoch", points: [[0, 0, 1, 0.1, 7]] });
  });

  test("a burst is thinned to what a chart needs: ends, extremes and what is not finite", async () => {
    const reader = await watch();
    const values = Array.from({ length: 50_000 }, (_, i) => Math.sin(i / 1000));
    values[31_234] = 99;
    values[31_300] = -99;
    const items = values.map((loss) => ({ metrics: { loss } as Record<string, unknown> }));
    items[40_000] = { metrics: { loss: "NaN" } };
    await log(items);
    const { json } = await reader.until("record");
    const [series] = json.series;
    expect(series.n).toBe(50_000);
    expect(series.points.length).toBeLessThanOrEqual(260);
    const ordinals = series.points.map(([ordinal]: [number]) => ordinal);
    expect(ordinals).toEqual([...ordinals].sort((a, b) => a - b));
    expect([ordinals[0], ordinals.at(-1)]).toEqual([0, 49_999]);
    for (const ordinal of [31_234, 31_300, 40_000]) expect(ordinals).toContain(ordinal);
  });

  test("a tick stays small, however many series and however long the lines", async () => {
    const reader = await watch();
    const keys = Array.from({ length: 900 }, (_, i) => `key${i}`);
    const metrics = () => Object.fromEntries(keys.map((key) => [key, Math.random()]));
    await log(Array.from({ length: 100 }, () => ({ metrics: metrics() })));
    const records = await reader.until("record");
    expect(records.json.series).toHaveLength(900);
    expect(records.json.series.every(({ n }: { n: number }) => n === 100)).toBe(true);
    expect(records.data.length).toBeLessThan(2_000_000);
    const text = "x".repeat(100_000);
    const items = Array.from({ length: 30 }, (_, i) => ({ text: `${i} ${text}` }));
    await at.json("/api/v1/runs/1/logs", { body: { client: "c", seq: ++seq, items } });
    const lines = await reader.until("log");
    expect(lines.data.length).toBeLessThan(300_000);
    expect(lines.json.skipped).toBe(28);
    expect(lines.json.lines.map(({ line }: { line: number }) => line)).toEqual([29, 30]);
  });

  test("what comes within a quarter of a second comes as one tick", async () => {
    const reader = await watch();
    await log([{ metrics: { a: 0 } }]);
    await reader.until("record");
    for (let i = 1; i <= 20; i++) await log([{ metrics: { a: i } }]);
    const { json } = await reader.until("record");
    expect(json.series[0].n).toBeGreaterThan(5);
  });

  test("Last-Event-ID brings exactly what was missed", async () => {
    const first = await watch();
    await log([{ metrics: { a: 1 } }]);
    const { id } = await first.until("record");
    await first.close();
    await log([{ metrics: { a: 2 } }]);
    await at.json("/api/v1/runs/1/logs", { body: { client: "c", seq: ++seq, items: [{ text: "hello" }] } });
    const second = await watch("?run=1", { "last-event-id": id! });
    expect((await second.until("record")).json.series[0].points).toMatchObject([
      [1, 1, expect.any(Number), 2],
    ]);
    const lines = await second.until("log");
    expect(lines.json).toMatchObject({ run: "1", skipped: 0, lines: [{ line: 1, text: "hello" }] });
    await log([{ metrics: { a: 3 } }]);
    expect((await second.until("record")).json.series[0].points[0][0]).toBe(2);
  });

  test("`after` works like Last-Event-ID, and a seq that never was means reset", async () => {
    await log([{ metrics: { a: 1 } }]);
    const { last } = at.collector.journal.bounds();
    expect((await (await watch(`?run=1&after=${last - 1}`)).until("record")).json.series).toHaveLength(1);
    expect((await (await watch(`?run=1&after=${last + 5}`)).next()).event).toBe("reset");
  });

  test("an entry that was deleted from the journal means reset", async () => {
    for (let i = 0; i < 5; i++) await log([{ metrics: { a: i } }]);
    at.collector.connection.exec("DELETE FROM journal WHERE seq <= 3");
    expect((await (await watch("?run=1&after=1")).next()).event).toBe("reset");
    expect((await (await watch("?run=1&after=3")).next()).event).toBe("ready");
  });

  test("who missed too many bytes is told to reload", async () => {
    const { last } = at.collector.journal.bounds();
    for (let i = 0; i < 200; i++) {
      const text = Buffer.from(crypto.getRandomValues(new Uint8Array(60_000))).toString("base64");
      await at.json("/api/v1/runs/1/logs", { body: { client: "c", seq: ++seq, items: [{ text }] } });
    }
    expect((await (await watch(`?run=1&after=${last}`)).next()).event).toBe("reset");
    expect((await (await watch(`?run=1&after=${last + 190}`)).next()).event).toBe("ready");
  });

  test("a change of the run is an event, and a missed one means reset", async () => {
    const reader = await watch();
    const { id } = await reader.until("ready");
    await at.json("/api/v1/runs/1", { method: "PATCH", body: { name: "renamed" } });
    expect((await reader.until("run")).json).toMatchObject({ id: "1", name: "renamed", deleted: false });
    expect((await (await watch(`?run=1&after=${id}`)).next()).event).toBe("reset");
  });

  test("the list hears of every run, and not of what they log", async () => {
    const reader = await watch("");
    await log([{ metrics: { a: 1 } }]);
    await at.json("/api/v1/runs", { body: { id: "2", name: "second" } });
    await reader.until("ready");
    expect(await reader.next()).toMatchObject({ event: "run", json: { id: "2", name: "second" } });
    await at.json("/api/v1/runs/1/finish", { body: {} });
    await at.json("/api/v1/runs/1", { method: "DELETE" });
    expect((await reader.until("run")).json).toMatchObject({ id: "1", status: "FINISHED" });
  });

  test("progress lines are heard while they are rewritten, and by who comes later", async () => {
    const reader = await watch();
    const body = { client: "c", seq: 1, items: [], open: { stderr: "50 %" } };
    await at.json("/api/v1/runs/1/logs", { body });
    expect((await reader.until("open")).json).toMatchObject({ run: "1", stderr: "50 %", stdout: null });
    expect((await (await watch()).until("open")).json).toMatchObject({ stderr: "50 %" });
  });

  test("a reader that does not read is told to reload instead of filling memory", async () => {
    const response = await at.request("/api/v1/live?run=1");
    const text = "x".repeat(200_000);
    const write = () =>
      at.json("/api/v1/runs/1/logs", { body: { client: "c", seq: ++seq, items: [{ text }] } });
    // A tick each, until more than four megabytes wait.
    for (let i = 0; i < 24; i++) {
      await write();
      await Bun.sleep(251);
    }
    const reader = readEvents(response);
    open.push(reader);
    for (let i = 0; i < 15; i++) await reader.until("log");
    await write();
    expect((await reader.until("reset")).json).toEqual({ reason: "too slow" });
    await write();
    expect((await reader.until("log")).json.lines).toHaveLength(1);
  }, 20_000);

  test("there is room for 200 readers, and again when they have gone", async () => {
    const responses = [];
    for (let i = 0; i < 200; i++) responses.push(await at.request("/api/v1/live?run=1"));
    const refused = await at.request("/api/v1/live?run=1");
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).toBe("1");
    for (const response of responses) await response.body!.cancel();
    expect((await at.request("/api/v1/live", { method: "HEAD" })).status).toBe(200);
    await (await watch()).until("ready");
  });

  test("an unknown run is 404, a deleted one 410", async () => {
    expect((await at.request("/api/v1/live?run=9")).status).toBe(404);
    await at.json("/api/v1/runs/1", { method: "DELETE", body: undefined }).catch(() => {});
    await at.json("/api/v1/runs/1?force=true", { method: "DELETE" });
    expect((await at.request("/api/v1/live?run=1")).status).toBe(410);
  });
});

describe("models and artifacts", () => {
  async function logModel(run: string, text: string): Promise<{ id: number }> {
    const bytes = Buffer.from(text);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    at.collector.blobs.putSmall([{ sha256, bytes }]);
    return at.json(`/api/v1/runs/${run}/artifacts`, {
      body: {
        kind: "model",
        name: "net",
        type: "model",
        files: [{ path: "a.bin", size: bytes.length, sha256 }],
      },
    });
  }

  test("are heard of by those who watch their run or the list, not by those of another run", async () => {
    await at.json("/api/v1/runs", { body: { id: "2" } });
    const [own, other, list] = [await watch(), await watch("?run=2"), await watch("")];
    await logModel("1", "one");
    expect((await own.until("artifact")).json).toEqual({ run: "1" });
    expect((await list.until("artifact")).json).toEqual({ run: "1" });
    await at.json("/api/v1/runs/2", { method: "PATCH", body: { name: "b" } });
    await other.next();
    expect((await other.next()).event).toBe("run");
  });

  test("whose alias moves are heard of by everybody", async () => {
    const { id } = await logModel("1", "one");
    const [own, list] = [await watch(), await watch("")];
    await at.json(`/api/v1/artifacts/${id}/versions/v1`, {
      method: "PATCH",
      body: { add_aliases: ["best"] },
    });
    expect((await own.until("artifact")).json).toEqual({ run: null });
    expect((await list.until("artifact")).json).toEqual({ run: null });
  });

  test("are heard of after the connection was lost, too", async () => {
    const after = at.collector.journal.bounds().last;
    const { id } = await logModel("1", "one");
    await at.json(`/api/v1/artifacts/${id}/versions/v1`, {
      method: "PATCH",
      body: { add_aliases: ["best"] },
    });
    for (const query of [`?run=1&after=${after}`, `?after=${after}`]) {
      const reader = await watch(query);
      const heard = [(await reader.until("artifact")).json, (await reader.until("artifact")).json];
      expect(heard).toEqual([{ run: "1" }, { run: null }]);
    }
  });
});
