import { afterEach, beforeEach, expect, test } from "bun:test";
import { deviceStream, Encoding } from "../src/entry.ts";
import { appendSamples } from "../src/sample/append.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { readEvents, type EventReader } from "./helpers/events.ts";

const BEGIN = 1_790_000_400_000;
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

async function watch(query: string): Promise<EventReader> {
  const reader = readEvents(await at.request(`/api/v1/live${query}`));
  open.push(reader);
  return reader;
}

const log = (metrics: object) =>
  at.json("/api/v1/runs/1/records", { body: { client: "c", seq: ++seq, items: [{ metrics }] } });
const last = () => at.collector.journal.bounds().last;

/** What the machine a run lives on says meanwhile. */
async function hearOfDevices(samples = 10): Promise<void> {
  const { collector } = at;
  for (let i = 0; i < samples; i++)
    await appendSamples(collector, collector.device, [
      { subject: "run/1", time: BEGIN + 1000 * i, values: { "run.cpu": i } },
    ]);
  for (const [kind, run] of [
    ["use.changed", "1"],
    ["device.changed", deviceStream(collector.device)],
    ["event.recorded", deviceStream(collector.device)],
  ] as const)
    await collector.journal.append(
      {
        kind,
        version: 1,
        run,
        client: null,
        clientSeq: null,
        ordinal: null,
        nextStep: null,
        count: 1,
        time: BEGIN,
        encoding: Encoding.json,
        payload: new TextEncoder().encode("{}"),
      },
      {},
    );
}

/** Names of the events up to this one, and what it says. */
async function until(reader: EventReader, event: string) {
  const names: string[] = [];
  for (;;) {
    const next = await reader.next();
    names.push(next.event);
    if (next.event === event) return { names, json: next.json };
  }
}

test("who watches a run or the list hears nothing of samples, and goes on hearing of all else", async () => {
  const list = await watch("");
  const run = await watch("?run=1");
  await hearOfDevices();
  await log({ a: 1 });
  const record = await until(run, "record");
  expect(record.names).toEqual(["ready", "record"]);
  expect(record.json.series[0].points).toHaveLength(1);
  await at.json("/api/v1/runs", { body: { id: "2" } });
  const created = await until(list, "run");
  // Of run 1, that its first writer appeared.
  expect(new Set(created.names)).toEqual(new Set(["ready", "run"]));
});

test("who comes back gets what was missed among them, and no reset for their sake", async () => {
  await log({ a: 1 });
  const before = last();
  await hearOfDevices(300);
  await log({ a: 2 });
  const { names, json } = await until(await watch(`?run=1&after=${before}`), "record");
  expect(names).toEqual(["ready", "record"]);
  expect(json.series[0].points.map((point: number[]) => point[3])).toEqual([2]);
  const list = await watch(`?after=${last() - 250}`);
  await at.json("/api/v1/runs", { body: { id: "2" } });
  expect((await until(list, "run")).names).toEqual(["ready", "run"]);
});
