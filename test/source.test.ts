import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { registerDevice } from "../src/device/register.ts";
import { recordUse } from "../src/device/use.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { DEVICE, facts, machineValues } from "./helpers/device.ts";
import { framesOf, TestSource } from "./helpers/source.ts";

let platform: TestCollector;
let node: TestCollector;
let source: TestSource;

beforeEach(async () => {
  platform = createTestCollector({ platform: true });
  node = createTestCollector();
  source = await TestSource.create(platform);
});
afterEach(async () => {
  await node.close();
  await platform.close();
});

const RUN = "run-1";

async function train(at: TestCollector, run = RUN): Promise<void> {
  await at.json("/api/v1/runs", {
    body: {
      id: run,
      name: "net",
      config: { lr: 0.1, __proto__: null },
      tags: ["a"],
      writer: { client: "c1", rank: 0, device: "node-1", pid: 7 },
    },
  });
  for (let seq = 1; seq <= 3; seq++)
    await at.json(`/api/v1/runs/${run}/records`, {
      body: {
        client: "c1",
        seq,
        items: Array.from({ length: 20 }, (_, i) => ({
          step: 20 * (seq - 1) + i,
          time: 1_700_000_000_000 + i,
          metrics: { loss: 1 / (i + seq), acc: i === 3 ? "NaN" : i / 20, note: i === 5 ? "text" : i },
        })),
      },
    });
  await at.json(`/api/v1/runs/${run}/logs`, {
    body: {
      client: "c1",
      seq: 4,
      items: [
        { text: "hello", time: 1 },
        { text: "wörld \udc80", stream: "stderr" },
      ],
    },
  });
}

/** What a person sees of a run, but for whose it is. */
async function view(at: TestCollector, run = RUN) {
  const { source: _source, writers, ...detail } = await at.json(`/api/v1/runs/${run}`);
  return {
    detail,
    writers: writers.map(({ live: _live, ...writer }: { live: boolean }) => writer),
    metrics: await at.json(`/api/v1/runs/${run}/metrics`),
    loss: await at.json(`/api/v1/runs/${run}/points?key=loss`),
    note: await at.json(`/api/v1/runs/${run}/points?key=note`),
    buckets: await at.json(`/api/v1/runs/${run}/points?key=acc&points=10`),
    logs: await at.json(`/api/v1/runs/${run}/logs`),
  };
}

describe("a journal that is relayed", () => {
  test("is here as it is there: run, writers, metrics, lines", async () => {
    await train(node);
    const acked = await source.relay(node.collector);
    expect(acked).toBe(node.collector.journal.bounds().last);
    expect(await view(platform)).toEqual(await view(node));
    expect((await platform.json(`/api/v1/runs/${RUN}`)).source).toBe("lab");
  });

  test("goes on being so after a restart of the platform", async () => {
    await train(node);
    await source.relay(node.collector);
    platform = await platform.restart();
    Object.assign(source, { platform });
    expect(await view(platform)).toEqual(await view(node));
    await node.json(`/api/v1/runs/${RUN}/finish`, { body: { client: "c1", status: "FAILED", exit_code: 3 } });
    await source.relay(node.collector);
    expect(await view(platform)).toEqual(await view(node));
  });
});
