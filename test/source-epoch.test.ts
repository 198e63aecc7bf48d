import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LEASE_MS } from "../src/relay/contract.ts";
import { digestOf } from "../src/relay/digest.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { fact, lines, problemOf, records, runRow, TestSource } from "./helpers/source.ts";

let clock: { now: number };
let platform: TestCollector;
let source: TestSource;

beforeEach(async () => {
  clock = { now: 1_800_000_000_000 };
  platform = createTestCollector({ platform: true, now: () => clock.now });
  source = await TestSource.create(platform);
});
afterEach(() => platform.close());

const created = fact(1, "run.created", "r", runRow());
const first = records(2, "r", { ordinal: 0, values: [1, 2, 3], clientSeq: 1 });
const second = records(3, "r", { ordinal: 3, values: [4, 5], clientSeq: 2 });

async function losses(run = "r"): Promise<number[]> {
  const { points } = await platform.json(`/api/v1/runs/${run}/points?key=loss`);
  return points.map(([, value]: [number, number]) => value);
}

describe("in one epoch", () => {
  test("a batch that comes again, or overlaps, changes nothing and is answered as the first time", async () => {
    await source.greet(3);
    expect(await source.send(0, 3, [created, first, second])).toBe(3);
    expect(await source.send(0, 3, [created, first, second])).toBe(3);
    expect(await source.send(1, 2, [first])).toBe(3);
    const third = records(4, "r", { ordinal: 5, values: [6] });
    expect(await source.send(1, 4, [first, second, third])).toBe(4);
    expect(await losses()).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("a gap is refused with what is expected, and nothing of the batch is stored", async () => {
    await source.greet(3);
    await source.send(0, 1, [created]);
    expect(await problemOf(await source.batch(2, 3, [second]))).toMatchObject({
      status: 409,
      type: "sequence-gap",
      expected: 2,
    });
    expect((await platform.json("/api/v1/runs/r/metrics")).metrics).toEqual([]);
  });

  test("an empty batch passes over what is not sent", async () => {
    await source.greet(10);
    expect(await source.send(0, 7, [])).toBe(7);
    expect(await source.greet(10)).toMatchObject({ acked: 7, digest: null, epoch: 1 });
    expect(await source.send(7, 8, [{ ...created, seq: 8 }])).toBe(8);
  });

  test("the cursor says what its last entry was", async () => {
    await source.greet(2);
    await source.send(0, 2, [created, first]);
    expect(await source.greet(2)).toMatchObject({ acked: 2, digest: digestOf(first), source: source.id });
  });

  test("entries out of their order, or beyond the batch, are no batch", async () => {
    await source.greet(3);
    for (const frames of [
      [first, created],
      [created, created],
      [created, { ...first, seq: 9 }],
    ])
      expect(await problemOf(await source.batch(0, 3, frames))).toMatchObject({
        status: 400,
        type: "invalid",
      });
    expect((await platform.json("/api/v1/runs")).runs).toEqual([]);
  });

  test("what comes late, of an earlier greeting, changes nothing", async () => {
    await source.greet(3);
    const { turn } = source;
    await source.greet(3);
    const late = await source.batch(0, 1, [created], { "x-relay-turn": String(turn) });
    expect(await problemOf(late)).toMatchObject({ status: 409, type: "sequence-gap" });
    expect((await platform.json("/api/v1/runs")).runs).toEqual([]);
  });

  test("batches that come at once are taken one after another", async () => {
    await source.greet(40);
    const answers = [source.send(0, 1, [created])];
    for (let seq = 2; seq <= 40; seq++)
      answers.push(
        source.send(seq - 1, seq, [records(seq, "r", { ordinal: seq - 2, values: [seq], clientSeq: seq })]),
      );
    expect(await Promise.all(answers)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    expect(await losses()).toEqual(Array.from({ length: 39 }, (_, i) => i + 2));
  });
});

describe("who is who", () => {
  test("a copy that is alive beside its original is refused for as long as that is heard", async () => {
    await source.greet(3);
    await source.send(0, 3, [created, first, second]);
    const copy = new TestSource(platform, source.token, source.id);
    copy.openings = [];
    const refused = await problemOf(await copy.request("cursor", { json: copy.hello(3) }));
    expect(refused).toMatchObject({ status: 409, type: "source-in-use" });
    expect(await problemOf(await copy.batch(3, 4, []))).toMatchObject({ status: 409, type: "source-in-use" });
    clock.now += LEASE_MS - 1;
    await source.greet(3);
    clock.now += LEASE_MS - 1;
    expect((await problemOf(await copy.request("cursor", { json: copy.hello(3) }))).type).toBe(
      "source-in-use",
    );
  });

  test("a copy under an id of its own brings all it has, beside its original", async () => {
    await source.greet(2);
    await source.send(0, 2, [created, first]);
    const copy = new TestSource(platform, source.token);
    await copy.greet(2);
    await copy.send(0, 2, [created, { ...first }]);
    expect(await losses("r.lab-2")).toEqual([1, 2, 3]);
    expect(await losses()).toEqual([1, 2, 3]);
  });

  test("one that was opened anew goes on where it was, however often in between", async () => {
    await source.greet(3);
    await source.send(0, 2, [created, first]);
    source.reopen(2);
    source.reopen(3);
    source.reopen(3);
    expect(await source.greet(3)).toMatchObject({ acked: 2, epoch: 1 });
    expect(await source.send(2, 3, [second])).toBe(3);
    expect(await losses()).toEqual([1, 2, 3, 4, 5]);
  });

  test("another token may not speak for it", async () => {
    await source.greet(0);
    const other = await TestSource.create(platform, "office");
    const thief = new TestSource(platform, other.token, source.id);
    expect(await problemOf(await thief.request("cursor", { json: thief.hello(0) }))).toMatchObject({
      status: 403,
      type: "forbidden",
    });
    // A new token of the same name is its own.
    const next = await platform.json("/api/v1/sources", { body: { name: "lab" } });
    source.token = next.token;
    await source.greet(0);
  });

  test("a circle is refused, at a greeting and at every request", async () => {
    await source.greet(1);
    const own = platform.collector.installation.id;
    source.path = [source.id, own];
    expect((await problemOf(await source.request("cursor", { json: source.hello(1) }))).type).toBe("circle");
    source.turn--;
    expect(await problemOf(await source.batch(0, 1, [created]))).toMatchObject({
      status: 409,
      type: "circle",
    });
    const itself = new TestSource(platform, source.token, own);
    expect((await problemOf(await itself.request("cursor", { json: itself.hello(0) }))).type).toBe("circle");
  });
});

describe("a source that was restored", () => {
  beforeEach(async () => {
    await source.greet(3);
    await source.send(0, 3, [created, first, second]);
  });

  /** As a backup of it was when its newest entry was `last`. */
  function restore(last: number): void {
    source.nonce = randomBytes(16).toString("hex");
    source.turn = 0;
    source.openings = [{ nonce: platformNonce(), last }];
    clock.now += LEASE_MS + 1;
  }

  const platformNonce = () =>
    (
      platform.collector.connection.prepare("SELECT nonce FROM source WHERE id = ?").get(source.id) as {
        nonce: string;
      }
    ).nonce;

  test("is told to begin an epoch, and loses nothing of what it has since", async () => {
    restore(2);
    const refused = await problemOf(await source.request("cursor", { json: source.hello(2) }));
    expect(refused).toMatchObject({ status: 412, type: "epoch", epoch: 1 });
    source.epoch = 2;
    const cursor = await source.greet(2);
    expect(cursor).toMatchObject({ epoch: 2, acked: 2 });
    // What it counts from 3 on are other records than those that are here.
    const other = records(3, "r", { ordinal: 3, values: [40, 50, 60], client: "c9", clientSeq: 1 });
    expect(await source.send(2, 3, [other])).toBe(3);
    expect(await losses()).toEqual([1, 2, 3, 4, 5, 40, 50, 60]);
    expect(
      await source.send(3, 4, [records(4, "r", { ordinal: 6, values: [70], client: "c9", clientSeq: 2 })]),
    ).toBe(4);
    expect((await losses()).slice(5)).toEqual([40, 50, 60, 70]);
  });

  test("batches that its clients send again are not here twice", async () => {
    restore(2);
    source.epoch = 2;
    await source.greet(2);
    const again = { ...second, time: second.time + 500 };
    const more = records(4, "r", { ordinal: 5, values: [6], clientSeq: 3 });
    await source.send(2, 4, [again, more]);
    expect(await losses()).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("nor where history brings some of them, which tells of no client: the run goes on as another one", async () => {
    const said = lines(4, "r", { first: 1, texts: ["a"], clientSeq: 3 });
    const third = records(5, "r", { ordinal: 5, values: [6], clientSeq: 4 });
    await source.send(3, 5, [said, third]);
    restore(2);
    source.epoch = 2;
    await source.greet(2);
    await source.send(2, 4, [second, said]);
    // The third one is no entry any more.
    const metrics = { of: "metrics" as const, run: "r" };
    expect(await source.positions([metrics])).toEqual([0]);
    const held = (ordinal: number, values: number[]) => records(0, "r", { ordinal, values, client: null });
    const pieces = [held(0, [1, 2, 3, 4, 5]), held(5, [6])];
    const where = { acked: 4, upto: 5 };
    expect((await source.history(metrics, 0, 6, pieces, where)).status).toBe(200);
    await source.whole("r", where);
    const { runs } = await platform.json("/api/v1/runs");
    const now = runs.find((run: { deleted_at_source: string | null }) => run.deleted_at_source === null);
    expect(await losses(now.id)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await losses()).toEqual([1, 2, 3, 4, 5, 6]);
    // And is not begun once more.
    expect(await source.positions([metrics])).toEqual([6]);
  });

  test("lines likewise", async () => {
    await source.send(3, 4, [lines(4, "r", { first: 1, texts: ["a", "b"], clientSeq: 3 })]);
    restore(3);
    source.epoch = 2;
    await source.greet(3);
    await source.send(3, 6, [
      lines(4, "r", { first: 1, texts: ["a", "b"], clientSeq: 3 }),
      lines(5, "r", { first: 3, texts: ["c"], clientSeq: 4 }),
      lines(6, "r", { first: 4, texts: ["d"], clientSeq: 5 }),
    ]);
    const { lines: here } = await platform.json("/api/v1/runs/r/logs");
    expect(here.map(({ text }: { text: string }) => text)).toEqual(["a", "b", "c", "d"]);
    const numbers = here.map(({ line }: { line: number }) => line);
    expect([...numbers].sort((a: number, b: number) => a - b)).toEqual(numbers);
    expect(new Set(numbers).size).toBe(4);
  });

  test("a version that it counts again is another version", async () => {
    const logged = (seq: number, version: number, sha: string, time: number) =>
      fact(
        seq,
        "artifact.logged",
        "r",
        {
          kind: "model",
          name: "net",
          type: "model",
          files: [{ path: "m", size: 1, sha256: sha.repeat(64) }],
          aliases: ["best"],
          origin: {},
          version,
          time,
        },
        { time },
      );
    await source.send(3, 5, [logged(4, 1, "a", 1000), logged(5, 2, "b", 2000)]);
    restore(4);
    source.epoch = 2;
    await source.greet(4);
    await source.send(4, 6, [
      logged(5, 2, "c", 3000),
      fact(6, "artifact.changed", "artifact:", {
        kind: "model",
        name: "net",
        version: 2,
        description: "the later one",
        add_aliases: [],
        remove_aliases: [],
      }),
    ]);
    const [{ id }] = (await platform.json("/api/v1/artifacts?kind=model")).artifacts;
    const { versions } = await platform.json(`/api/v1/artifacts/${id}/versions`);
    expect(
      versions.map(({ version, description }: { version: string; description: string }) => [
        version,
        description,
      ]),
    ).toEqual([
      ["v3", "the later one"],
      ["v2", null],
      ["v1", null],
    ]);
    expect(versions[0].aliases).toContain("best");
  });

  test("one whose last entry is another one than here is told so, though it has as many", async () => {
    const changed = records(3, "r", { ordinal: 3, values: [44, 55], clientSeq: 2 });
    const refused = await problemOf(
      await source.batch(2, 4, [changed, records(4, "r", { ordinal: 5, values: [6] })]),
    );
    expect(refused).toMatchObject({ status: 412, type: "epoch" });
    expect(await losses()).toEqual([1, 2, 3, 4, 5]);
  });
});

test("a platform that was restored says how far it is, and takes the rest again", async () => {
  await source.greet(2);
  await source.send(0, 2, [created, first]);
  const dataDir = mkdtempSync(join(tmpdir(), "binnacle-test-"));
  const place = platform.dataDir;
  await platform.collector.close();
  cpSync(place, dataDir, { recursive: true });
  platform = createTestCollector({ dataDir: place, platform: true, now: () => clock.now });
  Object.assign(source, { platform });
  await source.greet(3);
  await source.send(2, 3, [second]);
  expect(await losses()).toEqual([1, 2, 3, 4, 5]);
  await platform.close();
  platform = createTestCollector({ dataDir, platform: true, now: () => clock.now });
  Object.assign(source, { platform });
  expect(await source.greet(3)).toMatchObject({ acked: 2, epoch: 1, digest: digestOf(first) });
  await source.send(2, 3, [second]);
  expect(await losses()).toEqual([1, 2, 3, 4, 5]);
  rmSync(place, { recursive: true, force: true });
});
