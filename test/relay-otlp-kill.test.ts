/** A collector in a process of its own, killed at the worst moment there is: after the backend's 200, before that is noted. */
import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { startChild } from "./helpers/child.ts";
import { startBackend } from "./helpers/otlp.ts";
import { until } from "./helpers/relay.ts";
import { makeDataDir } from "./helpers/store.ts";
import type { RelayList } from "../src/relay/schema.ts";

const KILLS = 5;
const BATCHES = 4;

test("killed between the backend's answer and its note of it, a collector loses nothing; what comes again is the same", async () => {
  const folder = makeDataDir();
  const backend = startBackend();
  let collector = await startChild(folder, { relays: true });
  const post = async (path: string, body: unknown) =>
    expect((await collector.request(path, body)).status).toBeLessThan(300);
  let killed: Promise<void> | undefined;
  let isArmed = false;
  // It has taken them by then: what happens to its answer it does not know.
  backend.answer = async ({ points }) => {
    if (isArmed && points.length > 0) {
      isArmed = false;
      killed = collector.kill();
      await killed;
    }
    return undefined;
  };
  try {
    await post("/relays", { name: "otel", url: `otlp+${backend.url}` });
    await post("/runs", { id: "a", writer: { client: "c", role: "client" } });
    let seq = 0;
    /** As a client does: what got no answer is sent again. */
    async function record(): Promise<void> {
      const items = Array.from({ length: 3 }, (_, i) => ({ metrics: { loss: 3 * seq + i } }));
      const body = { client: "c", seq: seq + 1, items };
      const answer = await collector.request("/runs/a/records", body).catch(() => undefined);
      if (answer?.ok) seq++;
    }
    for (let kill = 0; kill < KILLS; kill++) {
      isArmed = true;
      killed = undefined;
      for (let batch = 0; batch < BATCHES && !killed; batch++) await record();
      await until(
        () => killed !== undefined,
        (is) => is,
      );
      await killed;
      collector = await startChild(folder, { relays: true });
      await until(
        async () => (await (await collector.request("/relays")).json()) as RelayList,
        ({ relays: [relay] }) => relay!.state === "idle" && relay!.backlog.entries === 0,
      );
    }
    await record();
    await until(
      async () => (await (await collector.request("/relays")).json()) as RelayList,
      ({ relays: [relay] }) => relay!.state === "idle" && relay!.backlog.entries === 0,
    );
    const timesByValue = new Map<number, Set<bigint>>();
    for (const { value, time } of backend.points)
      timesByValue.set(value, (timesByValue.get(value) ?? new Set()).add(time));
    const expected = Array.from({ length: 3 * seq }, (_, i) => i);
    expect(expected.filter((value) => !timesByValue.has(value))).toEqual([]);
    // After each kill something came twice, and as the same point.
    expect(backend.points.length).toBeGreaterThanOrEqual(timesByValue.size + KILLS);
    expect([...timesByValue].filter(([, times]) => times.size > 1)).toEqual([]);
  } finally {
    await collector.kill();
    await backend.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}, 120_000);
