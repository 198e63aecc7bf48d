import { afterEach, beforeEach, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { Encoding } from "../src/entry.ts";
import { receiveBatch } from "../src/source/receive.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { fact, lines, problemOf, records, runRow, TestSource } from "./helpers/source.ts";

let platform: TestCollector;
let source: TestSource;

beforeEach(async () => {
  platform = createTestCollector({ platform: true });
  source = await TestSource.create(platform);
  await source.greet(9);
});
afterEach(() => platform.close());

const created = fact(1, "run.created", "r", runRow());
const batch = [
  created,
  records(2, "r", { ordinal: 0, values: [1, 2] }),
  records(3, "r", { ordinal: 2, values: [3] }),
];

/** What is on the disk, and not what somebody remembers. */
function stored(): { acked: number; entries: number; runs: number } {
  const { connection } = platform.collector;
  const one = (sql: string) => Object.values(connection.prepare(sql).get() as object)[0] as number;
  return {
    acked: one("SELECT acked FROM source"),
    entries: one("SELECT count(*) FROM journal"),
    runs: one("SELECT count(*) FROM run"),
  };
}

async function losses(): Promise<number[]> {
  const { points } = await platform.json("/api/v1/runs/r/points?key=loss");
  return points.map(([, value]: [number, number]) => value);
}

test("entries and the cursor that counts them are written in one transaction", async () => {
  const { connection } = platform.collector;
  // A cursor that can't be written: whoever wrote it apart would have stored the entries all the same.
  connection.exec(
    "CREATE TRIGGER refuse BEFORE UPDATE OF acked ON source WHEN new.acked > old.acked BEGIN SELECT RAISE(ABORT, 'no cursor'); END",
  );
  expect((await source.batch(0, 3, batch)).status).toBe(500);
  platform.unforeseen.length = 0;
  expect(stored()).toEqual({ acked: 0, entries: 0, runs: 0 });
  connection.exec("DROP TRIGGER refuse");
  expect(await source.send(0, 3, batch)).toBe(3);
  expect(stored()).toEqual({ acked: 3, entries: 3, runs: 1 });
  expect(await losses()).toEqual([1, 2, 3]);
});

test("where an entry can't be stored the cursor does not count it either", async () => {
  const { connection } = platform.collector;
  connection.exec(
    "CREATE TRIGGER refuse BEFORE INSERT ON journal WHEN new.ordinal = 2 BEGIN SELECT RAISE(ABORT, 'no entry'); END",
  );
  expect((await source.batch(0, 3, batch)).status).toBe(500);
  platform.unforeseen.length = 0;
  expect(stored()).toEqual({ acked: 0, entries: 0, runs: 0 });
  connection.exec("DROP TRIGGER refuse");
  expect(await source.send(0, 3, batch)).toBe(3);
  expect(await losses()).toEqual([1, 2, 3]);
});

test("a batch for which there is no room on the disk is taken whole when there is some", async () => {
  const { connection } = platform.collector;
  const { pages } = connection.prepare("SELECT page_count AS pages FROM pragma_page_count").get() as {
    pages: number;
  };
  const text = Array.from({ length: 40 }, () => randomBytes(5000).toString("hex"));
  const large = [...batch, lines(4, "r", { first: 1, texts: text })];
  connection.exec(`PRAGMA max_page_count=${pages + 20}`);
  expect(await problemOf(await source.batch(0, 4, large))).toMatchObject({ status: 507, type: "disk-full" });
  expect(stored()).toEqual({ acked: 0, entries: 0, runs: 0 });
  expect(platform.collector.counters.find("r")).toBeUndefined();
  connection.exec("PRAGMA max_page_count=1000000000");
  // It looks for room by itself before it takes anything.
  let status = 507;
  while (status === 507) {
    ({ status } = await source.batch(0, 4, large));
    if (status === 507) await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(status).toBe(200);
  expect(stored()).toEqual({ acked: 4, entries: 4, runs: 1 });
  expect(await losses()).toEqual([1, 2, 3]);
  expect((await platform.json("/api/v1/runs/r/logs")).total).toBe(40);
}, 60_000);

test("an id that somebody takes in the same moment is somebody's: the batch goes in under another", async () => {
  const { collector } = platform;
  const { nonce, turn, path, id } = source;
  const sender = { id, name: "lab" };
  const session = { epoch: 1, nonce, turn, path };
  const taken = receiveBatch(collector, sender, {
    ...session,
    prev: 0,
    last: 3,
    digest: null,
    frames: batch,
  });
  // Queued before the batch, and not yet in the tables when it is planned.
  const entry = { ...created, kind: "run.created" as const, encoding: Encoding.json };
  const insert = `INSERT INTO run (id, name, project, status, config, tags, created)
    VALUES ('r', 'ours', 'default', 'RUNNING', '{}', '[]', 1)`;
  await collector.journal.append(entry, {}, [{ sql: insert, params: [] }]);
  expect(await taken).toEqual({ acked: 3 });
  const { runs } = await platform.json("/api/v1/runs");
  expect(
    runs.map(({ id, source }: { id: string; source: string | null }) => `${id} ${source}`).sort(),
  ).toEqual(["r null", "r.lab lab"]);
});

test("a run that is created here while a source brings one of its id is that source's", async () => {
  const ours = platform.request("/api/v1/runs", { body: { id: "r", name: "ours" } });
  await source.send(0, 3, batch);
  expect([201, 409]).toContain((await ours).status);
});

test("what is bad in a batch leaves nothing of it behind, and is named", async () => {
  const bad = records(3, "r", { ordinal: 2, values: [3] });
  bad.count = 7;
  const refused = await problemOf(await source.batch(0, 3, [...batch.slice(0, 2), bad]));
  expect(refused).toMatchObject({ status: 400, type: "invalid", seq: 3 });
  expect(stored()).toEqual({ acked: 0, entries: 0, runs: 0 });
  // Its owner keeps it, and goes on without.
  expect(await source.send(0, 2, batch.slice(0, 2))).toBe(2);
  expect(await source.send(2, 4, [records(4, "r", { ordinal: 3, values: [4] })])).toBe(4);
  expect(await losses()).toEqual([1, 2, 4]);
});

test("an entry of a run that is not here asks for what is kept of it, and stores nothing", async () => {
  const refused = await problemOf(
    await source.batch(0, 2, [{ ...created, run: "other" }, records(2, "r", { ordinal: 0, values: [1] })]),
  );
  expect(refused).toMatchObject({ status: 422, type: "unknown-run", run: "r", seq: 2 });
  expect(stored()).toEqual({ acked: 0, entries: 0, runs: 0 });
});
