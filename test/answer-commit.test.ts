/**
 * Who is answered is answered after COMMIT. In the tick in which the answer comes the database's files are copied: what a kill -9 in that
 * moment would have left. No kill has to strike the right millisecond for it.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import Database from "libsql";
import { makeFolder } from "./helpers/files.ts";
import { keepFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { fact, lines, okay, records, runRow, TestSource } from "./helpers/source.ts";

let at: TestCollector;
const closers: (() => unknown)[] = [];
beforeEach(() => {
  at = createTestCollector({ platform: true, relays: true });
});
afterEach(async () => {
  for (const close of closers.splice(0)) close();
  await at.close();
});

/** What one statement finds in the files as they are now. */
function onDisk(sql: string): unknown[][] {
  const folder = makeFolder();
  closers.push(() => folder.remove());
  for (const name of ["binnacle.db", "binnacle.db-wal"])
    if (existsSync(join(at.dataDir, name))) copyFileSync(join(at.dataDir, name), join(folder.path, name));
  const database = new Database(join(folder.path, "binnacle.db"));
  try {
    return database.prepare(sql).raw(true).all() as unknown[][];
  } finally {
    database.close();
  }
}

/** Nothing may be awaited between the answer and the copy. */
async function expectKept(answer: Promise<Response>, sql: string, rows: unknown[][]): Promise<void> {
  expect(onDisk(sql)).not.toEqual(rows);
  const { status, found } = await answer.then(({ status }) => ({ status, found: onDisk(sql) }));
  expect({ status: status < 300, found }).toEqual({ status: true, found: rows });
}

const ENTRIES = "SELECT kind, count FROM journal WHERE kind NOT LIKE 'run.%' ORDER BY seq";

describe("a client's answer comes after COMMIT", () => {
  const send = (path: string, body: unknown, method = "POST") =>
    at.request(`/api/v1${path}`, { method, body });
  beforeEach(async () => {
    await at.json("/api/v1/runs", { body: { id: "r" } });
  });

  test("records", () =>
    expectKept(
      send("/runs/r/records", {
        client: "c",
        seq: 1,
        items: [{ metrics: { loss: 1 } }, { metrics: { loss: 2 } }],
      }),
      ENTRIES,
      [["metric.appended", 2]],
    ));

  test("each of many batches at once", async () => {
    const batches = Array.from({ length: 8 }, (_, i) => i);
    const answers = batches.map((i) =>
      send("/runs/r/records", { client: `c${i}`, seq: 1, items: [{ metrics: { loss: i } }] }).then(
        ({ status }) => ({ status, found: onDisk(`SELECT client FROM journal WHERE client = 'c${i}'`) }),
      ),
    );
    expect(await Promise.all(answers)).toEqual(batches.map((i) => ({ status: 200, found: [[`c${i}`]] })));
  });

  test("lines of output", () =>
    expectKept(send("/runs/r/logs", { client: "c", seq: 1, items: [{ text: "one" }] }), ENTRIES, [
      ["log.appended", 1],
    ]));

  test("a run that begins", () =>
    expectKept(send("/runs", { id: "s", name: "second" }), "SELECT id, name FROM run WHERE id = 's'", [
      ["s", "second"],
    ]));

  test("what is said of a run", () =>
    expectKept(send("/runs/r", { tags: ["good"] }, "PATCH"), "SELECT tags FROM run", [['["good"]']]));

  test("the end of a run", () =>
    expectKept(send("/runs/r/finish", { status: "FAILED" }), "SELECT status FROM run", [["FAILED"]]));

  test("the deletion of a run", async () => {
    await at.json("/api/v1/runs/r/finish", { body: { status: "FINISHED" } });
    await expectKept(
      at.request("/api/v1/runs/r", { method: "DELETE" }),
      "SELECT kind FROM journal WHERE kind = 'run.deleted'",
      [["run.deleted"]],
    );
  });

  test("a version of a model", async () => {
    const files = await keepFiles(at.collector, { "weights.bin": "one" });
    await expectKept(
      send("/runs/r/artifacts", { kind: "model", name: "net", type: "model", files }),
      "SELECT a.name, v.version FROM artifact AS a JOIN artifact_version AS v ON v.artifact = a.id",
      [["net", 1]],
    );
  });

  test("a token of a source, and a destination", async () => {
    await expectKept(send("/sources", { name: "lab" }), "SELECT name FROM source_token", [["lab"]]);
    await expectKept(
      send("/relays", { name: "up", url: "http://127.0.0.1:1", token: "12345678" }),
      "SELECT name FROM destination",
      [["up"]],
    );
  });
});

describe("a platform's answer comes after COMMIT", () => {
  const batch = [
    fact(1, "run.created", "r", runRow()),
    records(2, "r", { ordinal: 0, values: [1, 2] }),
    lines(3, "r", { first: 1, texts: ["one"] }),
  ];
  let source: TestSource;
  beforeEach(async () => {
    source = await TestSource.create(at);
  });

  test("of a greeting, with who greeted", () =>
    expectKept(
      source.request("cursor", { json: source.hello(3) }),
      `SELECT nonce FROM source WHERE nonce = '${source.nonce}'`,
      [[source.nonce]],
    ));

  test("of a batch, with its entries and the cursor that it tells", async () => {
    await source.greet(3);
    await expectKept(
      source.batch(0, 3, batch),
      "SELECT acked, (SELECT sum(count) FROM journal) FROM source",
      [[3, 4]],
    );
  });

  test("of numbers that hold nothing", async () => {
    await source.greet(9);
    await expectKept(source.batch(0, 9, []), "SELECT acked FROM source", [[9]]);
  });

  test("of a piece of history", async () => {
    await source.greet(3);
    const held = {
      id: "r",
      row: { ...runRow(), deletedAtSource: null },
      writers: [],
      series: [{ key: "loss", rank: 0, x: null, axis: false, first: -1 }],
      uses: [],
    };
    await okay(await source.history({ of: "facts" }, 0, 0, [fact(0, "run.held", "r", held)]));
    await expectKept(
      source.history({ of: "metrics", run: "r" }, 0, 2, [
        records(0, "r", { ordinal: 0, client: null, values: [1, 2] }),
      ]),
      ENTRIES,
      [["metric.appended", 2]],
    );
  });
});
