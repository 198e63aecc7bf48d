import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Collector } from "../src/collector.ts";
import { historyOf, historyParts } from "../src/relay/history.ts";
import type { SpanPage } from "../src/span/schema.ts";
import {
  bytesOf,
  digestAnew,
  exportOf,
  importTo,
  jsonOf,
  putJson,
  textOf,
  unzip,
  zipOf,
} from "./helpers/archive.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { createLink } from "./helpers/relay-link.ts";
import { fact, framesOf, okay, problemOf, runRow, TestSource } from "./helpers/source.ts";

const RUN = "123456789012345";

let here: TestCollector;
let there: TestCollector;
beforeEach(() => {
  here = createTestCollector();
  there = createTestCollector({ platform: true });
});
afterEach(async () => {
  await here.close();
  await there.close();
});

const create = (id = RUN) => here.json("/api/v1/runs", { body: { id } });
const spansOf = async (at: TestCollector, run = RUN) =>
  (await at.json<SpanPage>(`/api/v1/runs/${run}/spans?limit=10000`)).spans;

let seq = 0;
const record = (items: object[], run = RUN) =>
  here.json(`/api/v1/runs/${run}/spans`, { body: { client: `c${++seq}`, seq: 1, items } });

const items = [
  { name: "train", value: "0", edge: "7", started: 1000 },
  { kind: "round", name: "round", value: "0", started: 900, ended: 6000, round: 0, total: 3 },
  { kind: "status", name: "TRAINING", edge: "7", started: 950 },
  { name: "lost", edge: "7", ended: 1500.25 },
];

describe("spans on their way to a platform", () => {
  let source: TestSource;
  beforeEach(async () => {
    source = await TestSource.create(there);
  });

  test("arrive with the entries, beginnings and ends of their own batches", async () => {
    await create();
    await record(items);
    await source.relay(here.collector);
    expect(await spansOf(there)).toEqual(await spansOf(here));
    await record([{ name: "train", value: "0", edge: "7", ended: 5000 }]);
    await source.relay(here.collector);
    expect(await spansOf(there)).toEqual(await spansOf(here));
    expect((await spansOf(there)).find(({ name }) => name === "train")?.ended).not.toBeNull();
  });

  /** All that is kept, said once more. */
  async function tellFacts(from: Collector, acked: number): Promise<void> {
    const { bounds } = await historyParts(from);
    for await (const { frames } of historyOf(from, { of: "facts" }, 0, bounds))
      await okay(await source.history({ of: "facts" }, 0, 0, frames, { acked, upto: acked }));
  }

  test("said again, as history or as entries of before, change nothing and take nothing back", async () => {
    await create();
    await record(items);
    await record([{ name: "train", value: "0", edge: "7", ended: 5000 }]);
    const acked = await source.relay(here.collector);
    const { last } = there.collector.journal.bounds();
    await tellFacts(here.collector, acked);
    expect(there.collector.journal.bounds().last).toBe(last);
    // What they were like before comes behind what they are like.
    const old = framesOf(here.collector).filter(({ kind }) => kind === "span.recorded");
    await okay(
      await source.post(
        "requeued",
        old.map((frame) => ({ ...frame, seq: 0 })),
      ),
    );
    expect(await spansOf(there)).toEqual(await spansOf(here));
    expect(there.collector.journal.bounds().last).toBe(last);
  });

  test("of a collector whose journal is gone come as history, more than one frame of them", async () => {
    await create();
    for (let at = 0; at < 1200; at += 400)
      await record(
        Array.from({ length: 400 }, (_, i) => ({ name: "step", value: `${at + i}`, started: at + i })),
      );
    await here.collector.tidy(10_000);
    const link = createLink(here.collector, there.collector);
    try {
      await link.upToDate();
      expect((await spansOf(there)).length).toBe(1200);
      expect(await spansOf(there)).toEqual(await spansOf(here));
    } finally {
      await link.close();
    }
  });

  test("of a run that was deleted here are left out", async () => {
    await create();
    await source.relay(here.collector);
    await there.request(`/api/v1/runs/${RUN}?force=true`, { method: "DELETE" });
    await record(items);
    await source.relay(here.collector);
    expect(there.collector.connection.prepare("SELECT id FROM span").all()).toEqual([]);
  });

  const row = {
    id: "a",
    kind: "event",
    name: "n",
    value: "",
    edge: "",
    started: 1,
    ended: null,
    round: null,
    total: null,
  };
  for (const [what, payload] of [
    ["no time", [{ ...row, started: null }]],
    ["a time that no Date holds", [{ ...row, started: 1e300 }]],
    ["an id that is none", [{ ...row, id: "../a" }]],
    ["a kind nobody knows", [{ ...row, kind: "phase" }]],
    ["no list", { ...row }],
  ] as const)
    test(`one with ${what} is refused`, async () => {
      await source.greet(2);
      await source.send(0, 1, [fact(1, "run.created", RUN, { ...runRow(), id: RUN })]);
      const refused = await problemOf(await source.batch(1, 2, [fact(2, "span.recorded", RUN, payload)]));
      expect(refused).toMatchObject({ type: "invalid", seq: 2 });
    });

  test("of a run that the platform never heard of ask for its history", async () => {
    await source.greet(1);
    const refused = await problemOf(await source.batch(0, 1, [fact(1, "span.recorded", RUN, [row])]));
    expect(refused).toMatchObject({ type: "unknown-run", run: RUN });
  });
});

describe("spans in an archive", () => {
  const bring = async (zip: Uint8Array<ArrayBuffer>, query = "") => {
    const response = await importTo(there, zip, query);
    return { status: response.status, body: await response.json() };
  };

  test("come back as they were, under a new id too", async () => {
    await create();
    await record(items);
    const zip = await exportOf(here, RUN);
    expect(await bring(zip)).toMatchObject({ status: 201, body: { spans: items.length } });
    expect(await spansOf(there)).toEqual(await spansOf(here));
    const { body } = await bring(zip, "?new_id=true");
    expect(await spansOf(there, body.run)).toEqual(await spansOf(here));
  });

  test("a run without any is written as older importers read it, and one with some says that they can't", async () => {
    await create();
    const none = await unzip(await exportOf(here, RUN));
    expect(jsonOf(none, "manifest.json").version).toBe(1);
    expect(none.has("spans.ndjson")).toBe(false);
    await record(items);
    const some = await unzip(await exportOf(here, RUN));
    expect(jsonOf(some, "manifest.json")).toMatchObject({ version: 2, counts: { spans: items.length } });
  });

  test("an archive from before there were spans is imported", async () => {
    await create();
    const files = await unzip(await exportOf(here, RUN));
    const manifest = jsonOf(files, "manifest.json");
    delete manifest.counts.spans;
    putJson(files, "manifest.json", manifest);
    expect(await bring(await zipOf(files))).toMatchObject({ status: 201, body: { spans: 0 } });
    expect(await spansOf(there)).toEqual([]);
  });

  for (const [what, change] of [
    ["a span twice", (text: string) => text + text],
    ["one less than it says", (text: string) => text.slice(text.indexOf("\n") + 1)],
    ["one without a time", (text: string) => text.replace('"started":1000', '"started":null')],
    ["a line that is no JSON", (text: string) => text.replace("{", "")],
  ] as const)
    test(`with ${what} is refused, and nothing of it stays`, async () => {
      await create();
      await record(items);
      const files = await unzip(await exportOf(here, RUN));
      files.set("spans.ndjson", bytesOf(change(textOf(files, "spans.ndjson"))));
      digestAnew(files);
      expect((await bring(await zipOf(files))).status).toBe(400);
      expect(there.collector.connection.prepare("SELECT run FROM span").all()).toEqual([]);
      expect((await there.request(`/api/v1/runs/${RUN}`)).status).toBe(404);
    });
});
