import { expect, test } from "bun:test";
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
