import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CollectorError } from "../src/error.ts";
import { Encoding, type NewEntry } from "../src/entry.ts";
import { encodeBatch, type MetricBatch } from "../src/metric/batch.ts";
import type { AppendItem } from "../src/store/journal.ts";
import type { Write } from "../src/store/journal-rows.ts";
import { openStore, type TestStore } from "./helpers/store.ts";

let store: TestStore;
beforeEach(async () => {
  store = openStore();
  await store.addRun("a");
  await store.addRun("b");
  store.collector.connection.exec("CREATE TABLE kept (what TEXT PRIMARY KEY) WITHOUT ROWID");
});
afterEach(() => store.close());

/** A batch of records that takes the next numbers of its run, as whoever appends one does. */
function records(run: string, values: number[], writes: Write[] = []): AppendItem {
  const counter = store.collector.counters.get(run);
  const count = values.length;
  const batch: MetricBatch = {
    ordinal: counter.nextOrdinal,
    rank: 0,
    count,
    step: Float64Array.from(values, (_, i) => counter.nextOrdinal + i),
    time: new Float64Array(count).fill(1),
    numbers: [{ key: "loss", index: null, values: Float64Array.from(values) }],
    texts: [],
    axes: [],
  };
  counter.nextOrdinal += count;
  return { entry: entryOf("metric.appended", run, batch), data: batch, writes };
}

const entryOf = (kind: NewEntry["kind"], run: string, batch: MetricBatch): NewEntry => ({
  kind,
  version: 1,
  run,
  client: null,
  clientSeq: null,
  ordinal: batch.ordinal,
  nextStep: null,
  count: batch.count,
  time: 1,
  ...encodeBatch(batch),
});

const fact = (run: string, writes: Write[] = []): AppendItem => ({
  entry: {
    kind: "run.changed",
    version: 1,
    run,
    client: null,
    clientSeq: null,
    ordinal: null,
    nextStep: null,
    count: 1,
    time: 1,
    encoding: Encoding.json,
    payload: new TextEncoder().encode("{}"),
  },
  data: {},
  writes,
});

const keep = (what: string): Write => ({ sql: "INSERT INTO kept (what) VALUES (?)", params: [what] });

const kept = () =>
  (store.collector.connection.prepare("SELECT what FROM kept ORDER BY what").all() as { what: string }[]).map(
    ({ what }) => what,
  );
const losses = async (run: string) =>
  (await store.collector.series.points(run, "loss"))?.points.map(([, value]) => value) ?? [];
const failed = (promise: Promise<unknown>) => promise.then(() => "stored").catch((error: unknown) => error);

describe("entries that stand or fall together", () => {
  test("are all there, in their order, with their writes, and the last one's seq is told", async () => {
    const { journal } = store.collector;
    const before = journal.bounds().last;
    const seq = await journal.appendAll([
      records("a", [1, 2], [keep("1")]),
      fact("a"),
      records("b", [3], [keep("2")]),
    ]);
    expect(seq).toBe(before + 3);
    expect(journal.read(before, 10).map(({ kind, run }) => `${kind} ${run}`)).toEqual([
      "metric.appended a",
      "run.changed a",
      "metric.appended b",
    ]);
    expect(kept()).toEqual(["1", "2"]);
    expect(await losses("a")).toEqual([1, 2]);
    await store.reopen();
    expect(await losses("b")).toEqual([3]);
  });

  test("are announced one by one, when all of them are durable", async () => {
    const { journal, bus, connection } = store.collector;
    const heard: [number, number][] = [];
    const before = journal.bounds().last;
    bus.subscribe(({ seq }) => {
      const { last } = connection.prepare("SELECT max(seq) AS last FROM journal").get() as { last: number };
      heard.push([seq - before, last - before]);
    });
    await journal.appendAll([records("a", [1]), fact("b"), records("b", [2])]);
    expect(heard).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ]);
  });

  test("none of them is there where one breaks a constraint, and strangers in the same commit are", async () => {
    const { journal, counters } = store.collector;
    await journal.appendAll([fact("a", [keep("taken")])]);
    const before = journal.bounds().last;
    const first = journal.append(fact("b").entry, {}, [keep("before")]);
    const unit = journal.appendAll([
      records("a", [1], [keep("1")]),
      records("a", [2], [keep("taken")]),
      records("a", [3], [keep("3")]),
    ]);
    const last = journal.append(fact("b").entry, {}, [keep("after")]);
    const other = journal.appendAll([fact("b", [keep("x")]), fact("b", [keep("y")])]);
    const result = await failed(unit);
    expect((result as { code?: string }).code).toStartWith("SQLITE_CONSTRAINT");
    await Promise.all([first, last, other]);
    expect(kept()).toEqual(["after", "before", "taken", "x", "y"]);
    expect(journal.bounds().last - before).toBe(4);
    expect(journal.read(before, 10).every(({ run }) => run === "b")).toBe(true);
    expect(await losses("a")).toEqual([]);
    // The numbers that it had taken are given back.
    expect(counters.get("a").nextOrdinal).toBe(0);
    expect(store.fatal).toEqual([]);
  });

  test("a unit is refused whole where data is refused, though it holds what steers runs, and takes what is behind it along", async () => {
    const { journal, counters } = store.collector;
    const before = journal.bounds().last;
    journal.refuse(new CollectorError("disk-full", "No room."));
    const alone = journal.append(fact("b").entry, {}, [keep("steers")]);
    const unit = journal.appendAll([
      fact("a", [keep("1")]),
      records("a", [1], [keep("2")]),
      fact("b", [keep("3")]),
    ]);
    const behind = journal.append(records("a", [2]).entry, undefined, [keep("4")]);
    expect(await failed(unit)).toMatchObject({ code: "disk-full" });
    expect(await failed(behind)).toMatchObject({ code: "disk-full" });
    await alone;
    journal.refuse(undefined);
    expect(kept()).toEqual(["steers"]);
    expect(journal.bounds().last).toBe(before + 1);
    expect(counters.get("a").nextOrdinal).toBe(0);
    await journal.appendAll([records("a", [5]), records("a", [6])]);
    expect(await losses("a")).toEqual([5, 6]);
  });

  test("a unit with samples waits with them where these alone are refused", async () => {
    const { journal } = store.collector;
    journal.refuse(new CollectorError("disk-full", "Tight."), "samples");
    const sample = fact("device:0123456789abcdef");
    sample.entry.kind = "sample.appended";
    const unit = journal.appendAll([fact("a", [keep("1")]), sample]);
    const metrics = journal.appendAll([records("b", [1], [keep("2")])]);
    expect(await failed(unit)).toMatchObject({ code: "disk-full" });
    await metrics;
    expect(kept()).toEqual(["2"]);
  });

  test("none of them is there where the disk is full in the middle, and all are when there is room", async () => {
    const { journal, connection, counters } = store.collector;
    const { pages } = connection.prepare("SELECT page_count AS pages FROM pragma_page_count").get() as {
      pages: number;
    };
    const before = journal.bounds().last;
    connection.exec(`PRAGMA max_page_count=${pages + 10}`);
    const large = Array.from({ length: 20_000 }, () => Math.random());
    const unit = journal.appendAll([
      fact("a", [keep("1")]),
      records("a", large, [keep("2")]),
      fact("b", [keep("3")]),
    ]);
    expect(await failed(unit)).toMatchObject({ code: "disk-full" });
    connection.exec("PRAGMA max_page_count=1000000000");
    expect(kept()).toEqual([]);
    expect(journal.bounds().last).toBe(before);
    expect(counters.get("a").nextOrdinal).toBe(0);
    // It looks for room by itself.
    let stored: unknown;
    while (stored !== "stored") {
      stored = await failed(journal.appendAll([fact("a", [keep("1")]), records("a", large, [keep("2")])]));
      if (stored !== "stored") await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(kept()).toEqual(["1", "2"]);
    expect(await losses("a")).toHaveLength(20_000);
    expect(store.fatal).toEqual([]);
  }, 60_000);

  test("no commit parts them, however much else there is and however large they are", async () => {
    const { journal, connection } = store.collector;
    // What a reader of the same connection sees between two commits.
    const units = 12;
    const each = 40;
    const before = journal.bounds().last;
    const seen = new Set<number>();
    store.collector.bus.subscribe(() => {
      const { last } = connection.prepare("SELECT max(seq) AS last FROM journal").get() as { last: number };
      seen.add(last - before);
    });
    const values = Array.from({ length: 4000 }, () => Math.random());
    const appended = Array.from({ length: units }, () =>
      journal.appendAll(Array.from({ length: each }, () => records("a", values))),
    );
    await Promise.all(appended);
    expect([...seen].every((count) => count % each === 0)).toBe(true);
    // Two at the least: one commit alone would prove nothing.
    expect(seen.size).toBeGreaterThan(1);
    expect(journal.bounds().last - before).toBe(units * each);
  }, 60_000);

  test("what is queued behind a stop is rejected, all of it", async () => {
    const { journal } = store.collector;
    const unit = journal.appendAll([fact("a", [keep("1")]), fact("b", [keep("2")])]);
    const closing = journal.close();
    await unit;
    await closing;
    expect(await failed(journal.appendAll([fact("a"), fact("b")]))).toMatchObject({ code: "unreachable" });
    expect(kept()).toEqual(["1", "2"]);
  });
});
