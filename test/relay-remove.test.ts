import { expect, test } from "bun:test";
import { putRejected } from "../src/relay/otlp/drops.ts";
import { blankFrame } from "../src/relay/piece.ts";
import { BUSY, EXPIRED, NO_ROOM, PRUNED, REJECTED, THINNED } from "../src/relay/reasons.ts";
import { createTestCollector } from "./helpers/collector.ts";
import { until } from "./helpers/relay.ts";

test("a destination that history has not reached is removed with word of that", async () => {
  const at = createTestCollector({ relays: true });
  try {
    const log = (seq: number, losses: number[]) =>
      at.json("/api/v1/runs/a/records", {
        body: { client: "c", seq, items: losses.map((loss) => ({ metrics: { loss } })) },
      });
    await at.json("/api/v1/runs", { body: { id: "a", writer: { client: "c", role: "client" } } });
    await log(1, [1, 2, 3]);
    const { last } = at.collector.journal.bounds();
    await at.collector.tidy(10_000);
    expect(at.collector.journal.bounds().first).toBe(last + 1);
    await at.json("/api/v1/relays", {
      body: { name: "up", url: "http://127.0.0.1:1", token: "no-such-token" },
    });
    await log(2, [4]);
    await until(
      () => at.json("/api/v1/relays"),
      ({ relays }) => relays[0].state === "waiting",
    );
    const refused = await at.request("/api/v1/relays/up", { method: "DELETE" });
    const history = { from: 1, to: last };
    expect(await refused.json()).toMatchObject({
      detail: expect.stringContaining("what is kept of before"),
      history,
    });
    const removed = await at.json("/api/v1/relays/up?discard=true", { method: "DELETE" });
    expect(removed).toEqual({ removed: "up", history });
    const { drops } = await at.json("/api/v1/relays");
    expect(drops).toMatchObject([{ stream: "a", first_seq: last + 1, records: 1 }]);
  } finally {
    await at.close();
  }
});

test("what was dropped of a destination that is added again is no longer said to be, where it will get it", async () => {
  const at = createTestCollector({ relays: true });
  try {
    const add = (from?: "now") =>
      at.json("/api/v1/relays", { body: { name: "up", url: "http://127.0.0.1:1", from } });
    const drop = () => at.json("/api/v1/relays/up?discard=true", { method: "DELETE" });
    await at.json("/api/v1/runs", { body: { id: "a" } });
    await add();
    await drop();
    expect((await at.json("/api/v1/relays")).drops).toMatchObject([{ destination: "up", records: 1 }]);
    await add("now");
    const { relays } = await at.json("/api/v1/relays");
    expect(relays[0].dropped.records).toBe(1);
    await drop();
    await add();
    const again = await at.json("/api/v1/relays");
    expect(again.relays[0].dropped).toEqual({ records: 0, bytes: 0 });
    expect(again.drops).toEqual([]);
  } finally {
    await at.close();
  }
});

test("/metrics counts by reason what will never arrive", async () => {
  const at = createTestCollector({ relays: true });
  try {
    const { connection } = at.collector;
    await at.json("/api/v1/relays", { body: { name: "up", url: "http://127.0.0.1:1" } });
    const counts = async () => {
      const text = await (await at.request("/metrics")).text();
      const line = /^binnacle_relay_dropped_records_total\{destination="up",reason="([^"]*)"\} (\d+)$/gm;
      return Object.fromEntries([...text.matchAll(line)].map(([, reason, count]) => [reason, Number(count)]));
    };
    // A counter that begins with its first loss shows no rise.
    const before = { [NO_ROOM]: 0, [BUSY]: 0, [THINNED]: 0, [EXPIRED]: 0, [PRUNED]: 0 };
    expect(await counts()).toEqual(before);
    const put = connection.prepare(
      "INSERT INTO relay_drop (destination, stream, kind, records, bytes, reason, at) VALUES (?, 'a', 'run', ?, 0, ?, 0)",
    );
    put.run("up", 3, THINNED);
    put.run("up", 4, THINNED);
    // Of any destination.
    put.run("", 5, NO_ROOM);
    put.run("other", 90, EXPIRED);
    const payload = new Uint8Array();
    const frame = {
      ...blankFrame,
      kind: "metric.appended",
      version: 1,
      run: "a",
      count: 1,
      time: 0,
      encoding: 0,
      payload,
    };
    for (const [records, message] of [
      [1, "too old"],
      [2, "too new"],
    ] as const)
      putRejected(connection, { name: "up", frames: [frame], records, message, at: 0 });
    expect(await counts()).toEqual({ ...before, [THINNED]: 7, [NO_ROOM]: 5, [REJECTED]: 3 });
  } finally {
    await at.close();
  }
});
