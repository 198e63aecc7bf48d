import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { placeMark, spanId, type KnownMark, type Mark } from "../src/span/pair.ts";
import type { Span, SpanPage } from "../src/span/schema.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const RUN = "123456789012345";

/** Known spans as [id, started, ended], a mark as [started, ended]. */
type Case = [
  name: string,
  known: [string, number | null, number | null][],
  mark: Mark,
  placed: string | null,
];

const starts = (started: number): Mark => ({ started, ended: null });
const ends = (ended: number): Mark => ({ started: null, ended });

const cases: Case[] = [
  ["a first beginning", [], starts(1), "new"],
  ["its end", [["a", 1, null]], ends(5), "a"],
  ["the end said again", [["a", 1, 5]], ends(5), null],
  ["the beginning said again", [["a", 1, null]], starts(1), null],
  ["the beginning said again behind the end", [["a", 1, 5]], starts(1), null],
  ["the same once more, later", [["a", 1, 5]], starts(6), "new"],
  ["the end of the second", [["a", 1, 5], ["b", 6, null]], ends(9), "b"], // prettier-ignore
  ["an end alone", [], ends(5), "new"],
  ["an end alone said again", [["a", null, 5]], ends(5), null],
  ["the beginning behind its end", [["a", null, 5]], starts(1), "a"],
  ["a beginning after an end alone is another's", [["a", null, 5]], starts(6), "new"],
  [
    "of two ends alone the next one",
    [
      ["a", null, 9],
      ["b", null, 5],
    ],
    starts(1),
    "b",
  ],
  [
    "an end alone whose beginning is another's",
    [
      ["a", 3, 4],
      ["b", null, 5],
    ],
    starts(1),
    "new",
  ],
  [
    "a lost end: the next end is the later one's",
    [
      ["a", 1, null],
      ["b", 6, null],
    ],
    ends(9),
    "b",
  ],
  [
    "and the one after it the earlier one's",
    [
      ["a", 1, null],
      ["b", 6, 9],
    ],
    ends(12),
    "a",
  ],
  ["an end before any beginning", [["a", 6, null]], ends(5), "new"],
  ["both at one time", [["a", 5, null]], ends(5), "a"],
  ["a whole one", [], { started: 1, ended: 5 }, "new"],
  ["a whole one said again", [["a", 1, 5]], { started: 1, ended: 5 }, null],
  ["a whole one behind its beginning", [["a", 1, null]], { started: 1, ended: 5 }, "a"],
  ["another whole one with the same beginning", [["a", 1, 5]], { started: 1, ended: 7 }, "new"],
];

describe("where an end of a span belongs", () => {
  for (const [name, rows, mark, placed] of cases)
    test(name, () => {
      const known = rows.map(([id, started, ended]): KnownMark => ({ id, started, ended }));
      for (const order of [known, known.toReversed()]) {
        const found = placeMark(order, mark);
        expect(found === null || found === "new" ? found : found.id).toBe(placed);
      }
    });

  test("whoever hears of a span makes the same id of it", () => {
    const key = { kind: "event", name: "train", value: "3", edge: "7" } as const;
    expect(spanId(key, starts(1))).toBe(spanId({ ...key }, starts(1)));
    const others = [
      spanId(key, ends(1)),
      spanId(key, starts(2)),
      spanId({ ...key, edge: "8" }, starts(1)),
      spanId({ ...key, value: "" }, starts(1)),
      spanId({ ...key, name: "train3", value: "" }, starts(1)),
    ];
    expect(new Set([spanId(key, starts(1)), ...others]).size).toBe(6);
  });
});

describe("spans of a run", () => {
  let t: TestCollector;
  let seq = 0;

  beforeEach(async () => {
    seq = 0;
    t = createTestCollector();
    await t.json("/api/v1/runs", { body: { id: RUN } });
  });
  afterEach(() => t.close());

  const record = (items: object[], of: { client?: string; seq?: number; run?: string } = {}) =>
    t.request(`/api/v1/runs/${of.run ?? RUN}/spans`, {
      body: { client: of.client ?? "c", seq: of.seq ?? ++seq, items },
    });
  const list = (query = "") => t.json<SpanPage>(`/api/v1/runs/${RUN}/spans${query}`);
  const at = (time: string | null) => (time === null ? null : Date.parse(time));
  const shape = ({ name, value, edge, started, ended }: Span) => [name, value, edge, at(started), at(ended)];

  test("two ends that come in two batches are one span, listed with what is not known as null", async () => {
    expect(await (await record([{ name: "train", edge: "7", started: 1000 }])).json()).toEqual({ acked: 1 });
    expect((await list()).spans.map(shape)).toEqual([["train", null, "7", 1000, null]]);
    await record([
      { name: "train", edge: "7", ended: 5000 },
      { name: "train", edge: "7", ended: 5000 },
    ]);
    const page = await list();
    expect(page.spans.map(shape)).toEqual([["train", null, "7", 1000, 5000]]);
    expect(page).toMatchObject({ run: RUN, count: 1, next: null });
  });

  test("batches that arrive before the first is on disk find each other's spans", async () => {
    const answers = await Promise.all([
      record([{ name: "a", started: 1 }]),
      record([{ name: "a", ended: 2 }]),
      record([{ name: "a", started: 3 }]),
      record([{ name: "a", ended: 4 }]),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect((await list()).spans.map(shape)).toEqual([
      ["a", null, null, 1, 2],
      ["a", null, null, 3, 4],
    ]);
  });

  test("an id of its recorder's puts ends together, whatever their names", async () => {
    await record([
      { id: "x", name: "eval", started: 1 },
      { id: "y", name: "eval", started: 2 },
    ]);
    await record([{ id: "x", name: "eval", ended: 9 }]);
    const { spans } = await list();
    expect(spans.map(({ id, ended }) => [id, at(ended)])).toEqual([
      ["x", 9],
      ["y", null],
    ]);
    const { payload } = t.collector.journal.read(0, 100).at(-1)!;
    expect(JSON.parse(new TextDecoder().decode(payload))).toEqual([
      {
        id: "x",
        kind: "event",
        name: "eval",
        value: "",
        edge: "",
        started: 1,
        ended: 9,
        round: null,
        total: null,
      },
    ]);
  });

  test("two spans of one name that begin at once and end apart are two, also where they come again", async () => {
    const items = [
      { name: "step", started: 1, ended: 5 },
      { name: "step", started: 1, ended: 9 },
    ];
    await record(items);
    expect((await list()).spans.map(({ ended }) => at(ended)).toSorted()).toEqual([5, 9]);
    await record(items);
    await record([{ name: "step", started: 1, ended: 12 }], { client: "d", seq: 1 });
    expect((await list()).spans.map(({ ended }) => at(ended)).toSorted((a, b) => a! - b!)).toEqual([
      5, 9, 12,
    ]);
  });

  test("a batch that is sent again changes nothing, a missing one is asked for", async () => {
    await record([{ name: "a", started: 1 }]);
    expect(await (await record([{ name: "b", started: 1 }], { seq: 1 })).json()).toEqual({ acked: 1 });
    expect((await list()).count).toBe(1);
    const gap = await record([{ name: "b", started: 1 }], { seq: 3 });
    expect(gap.status).toBe(409);
    expect(await gap.json()).toMatchObject({ expected: 2 });
  });

  test("records, lines and spans of a client share its numbers", async () => {
    await record([{ name: "a", started: 1 }]);
    const body = { client: "c", seq: 2, items: [{ metrics: { loss: 1 } }] };
    expect((await t.request(`/api/v1/runs/${RUN}/records`, { body })).status).toBe(200);
    expect((await record([], { seq: 3 })).status).toBe(200);
    t = await t.restart();
    expect(await (await record([], { seq: 3 })).json()).toEqual({ acked: 3 });
    expect((await record([{ name: "a", ended: 3 }], { seq: 4 })).status).toBe(200);
    expect((await list()).spans.map(shape)).toEqual([["a", null, null, 1, 3]]);
  });

  test("a status lasts until the next one of its edge, the last one until nobody knows", async () => {
    await record([
      { kind: "status", name: "RUNNING", edge: "1", started: 10 },
      { kind: "status", name: "FINISHED", edge: "1", started: 30, ended: 30 },
      { kind: "status", name: "TRAINING", edge: "1", started: 20 },
      { kind: "status", name: "RUNNING", edge: "2", started: 15 },
    ]);
    expect((await list()).spans.map(shape)).toEqual([
      ["RUNNING", null, "1", 10, 20],
      ["RUNNING", null, "2", 15, null],
      ["TRAINING", null, "1", 20, 30],
      ["FINISHED", null, "1", 30, 30],
    ]);
  });

  test("pages follow each other without a gap, and by edge and kind", async () => {
    const items = Array.from({ length: 25 }, (_, i) => ({
      name: "step",
      value: String(i),
      edge: String(i % 2),
      kind: i % 5 === 0 ? "round" : "event",
      started: 1000 + Math.floor(i / 3),
      ended: 2000,
    }));
    await record(items);
    const seen: string[] = [];
    for (let after: string | null = ""; after !== null;) {
      const page: SpanPage = await list(`?limit=4&after=${encodeURIComponent(after)}`);
      expect(page.count).toBe(25);
      seen.push(...page.spans.map(({ value }) => value!));
      after = page.next;
    }
    expect(seen.length).toBe(25);
    expect(new Set(seen).size).toBe(25);
    expect((await list("?edge=1")).count).toBe(12);
    expect((await list("?kind=round&edge=0")).spans.every((s) => s.edge === "0" && s.kind === "round")).toBe(
      true,
    );
  });

  for (const [what, item] of [
    ["no time", { name: "a" }],
    ["an end before its beginning", { name: "a", started: 2, ended: 1 }],
    ["no name", { name: "", started: 1 }],
    ["an unknown kind", { name: "a", kind: "phase", started: 1 }],
    ["an id with a space", { name: "a", id: "a b", started: 1 }],
  ] as const)
    test(`a span with ${what} is refused, and its batch's number is not taken`, async () => {
      expect((await record([item], { seq: 1 })).status).toBe(400);
      expect((await record([{ name: "a", started: 1 }], { seq: 1 })).status).toBe(200);
      expect((await list()).count).toBe(1);
    });

  test("they go with their run, and late ones hear that it is gone", async () => {
    await record(Array.from({ length: 1000 }, (_, i) => ({ name: "a", value: String(i), started: i })));
    await record(Array.from({ length: 1000 }, (_, i) => ({ name: "b", value: String(i), started: i })));
    const late = record([{ name: "c", started: 1 }]);
    expect((await t.request(`/api/v1/runs/${RUN}?force=true`, { method: "DELETE" })).status).toBe(200);
    await late;
    expect((await record([{ name: "d", started: 1 }])).status).toBe(410);
    expect((await t.request(`/api/v1/runs/${RUN}/spans`)).status).toBe(410);
    await t.collector.pruner.vacuum();
    expect(t.collector.connection.prepare("SELECT id FROM span").all()).toEqual([]);
  });

  test("while the data folder is full they are refused as records are", async () => {
    const { CollectorError } = await import("../src/error.ts");
    t.collector.journal.refuse(new CollectorError("disk-full", "Full.", { hint: "Delete something." }));
    expect((await record([{ name: "a", started: 1 }], { seq: 1 })).status).toBe(507);
    t.collector.journal.refuse(undefined);
    expect((await record([{ name: "a", started: 1 }], { seq: 1 })).status).toBe(200);
    expect((await list()).count).toBe(1);
  });

  test("there is no run to list them of, or to record them for", async () => {
    expect((await record([{ name: "a", started: 1 }], { run: "999" })).status).toBe(404);
    expect((await t.request("/api/v1/runs/999/spans")).status).toBe(404);
  });
});

test("neither the other end of a span nor the next status of an edge is looked for among all spans of the run", async () => {
  const at = createTestCollector();
  try {
    const { connection } = at.collector;
    const prepare = connection.prepare.bind(connection);
    const texts = new Set<string>();
    connection.prepare = (sql: string) => {
      texts.add(sql);
      return prepare(sql);
    };
    await at.json("/api/v1/runs", { body: { id: RUN } });
    const items = [{ name: "train", value: "1", edge: "7", started: 1 }];
    await at.json(`/api/v1/runs/${RUN}/spans`, { body: { client: "s", seq: 1, items } });
    await at.json(`/api/v1/runs/${RUN}/spans`);
    const plan = [...texts]
      .filter((sql) => /FROM span/.test(sql))
      .flatMap((sql) => prepare(`EXPLAIN QUERY PLAN ${sql}`).all() as { detail: string }[])
      .map(({ detail }) => detail);
    const within = (index: string) => expect.stringContaining(`INDEX ${index}`);
    expect(plan).toContainEqual(within("span_name (run=? AND edge=? AND kind=? AND name=? AND value=?)"));
    expect(plan).toContainEqual(within("span_status (run=? AND edge=? AND started>?)"));
    expect(plan.filter((detail) => detail.startsWith("SCAN"))).toEqual([]);
  } finally {
    await at.close();
  }
});
