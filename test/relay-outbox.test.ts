import { afterEach, describe, expect, test } from "bun:test";
import { deleteRun } from "../src/run/delete.ts";
import { BATCH_BYTES, type Frame, type Part } from "../src/relay/contract.ts";
import { createDestinations } from "../src/relay/destinations.ts";
import { digestOf } from "../src/relay/digest.ts";
import { createLetterBox } from "../src/relay/letters.ts";
import { createOutbox, type JournalOutbox } from "../src/relay/outbox.ts";
import { createRun } from "../src/run/create.ts";
import { buryRun } from "../src/run/delete.ts";
import { getRow } from "../src/run/find.ts";
import { openStore, type TestStore } from "./helpers/store.ts";

const stores: TestStore[] = [];
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
});

function open(options: Parameters<typeof openStore>[0] = {}): TestStore {
  const store = openStore(options);
  stores.push(store);
  return store;
}

const destinationsOf = ({ collector, dataDir }: TestStore) =>
  createDestinations(collector.connection, dataDir);

function addDestination(store: TestStore, { name = "up", from = "history" as "history" | "now" } = {}): void {
  destinationsOf(store).add({
    name,
    kind: "platform",
    url: "http://127.0.0.1:1",
    from,
    created: store.collector.now(),
    skip: from === "now" ? store.collector.journal.position().seq : 0,
  });
}

/** What history would be asked for. */
const asked: (string[] | undefined)[] = [];

function outboxOf({ collector }: TestStore, name = "up", maxHeldBytes?: number): JournalOutbox {
  asked.length = 0;
  return createOutbox({
    collector,
    maxHeldBytes,
    destination: name,
    history: {
      async parts(runs) {
        asked.push(runs);
        return { parts: [{ of: "facts" }] satisfies Part[], bounds: "bounds" };
      },
      async *of(_part, from) {
        yield { from, to: from, frames: [] };
      },
    },
  });
}

const records = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({ metrics: { loss: Math.sin(from + i) } }));

/** Batches of metrics that an import, or a source's history, brings have no client. */
async function appendUnsigned(store: TestStore, run: string, ordinal: number, count = 10): Promise<number> {
  return store.collector.journal.append(
    {
      kind: "metric.appended",
      version: 1,
      run,
      client: null,
      clientSeq: null,
      ordinal,
      nextStep: null,
      count,
      time: 1,
      encoding: 0,
      payload: new TextEncoder().encode(
        JSON.stringify({
          rank: 0,
          items: Array.from({ length: count }, (_, i) => ({ step: ordinal + i, time: 1, metrics: { m: i } })),
        }),
      ),
    },
    undefined,
  );
}

const save = (outbox: JournalOutbox, acked: number) => outbox.save({ epoch: 1, acked, paused: null }, []);

const summary = (frames: Frame[]) => frames.map(({ seq, kind, run }) => `${seq} ${kind} ${run}`);

describe("what a destination is sent", () => {
  test("is the journal, entry by entry, as it stands there", async () => {
    const store = open();
    addDestination(store);
    const outbox = outboxOf(store);
    expect(await outbox.read(0)).toBeUndefined();
    await store.addRun("a");
    await store.append("a", records(100));
    const piece = (await outbox.read(0))!;
    expect(piece).toMatchObject({ type: "batch", last: 2 });
    const { frames } = piece as { frames: Frame[] };
    expect(summary(frames)).toEqual(["1 run.created a", "2 metric.appended a"]);
    const [, entry] = store.collector.journal.read(0, 2);
    expect(frames[1]).toEqual(entry!);
    expect((await outbox.read(1))!).toMatchObject({ last: 2, frames: [{ seq: 2 }] });
    expect(await outbox.read(2)).toBeUndefined();
    expect(await outbox.digestAt(2)).toBe(digestOf(entry!));
    expect(await outbox.digestAt(3)).toBeUndefined();
    outbox.close();
  });

  test("comes in pieces of a bounded size, however large the backlog; an entry alone may be larger", async () => {
    const store = open();
    addDestination(store);
    const outbox = outboxOf(store);
    await store.addRun("a");
    const large = (size: number) =>
      store.collector.journal.append(
        {
          kind: "event.recorded",
          version: 1,
          run: "a",
          client: null,
          clientSeq: null,
          ordinal: null,
          nextStep: null,
          count: 1,
          time: 1,
          encoding: 0,
          payload: new Uint8Array(size),
        },
        undefined,
      );
    for (const share of [0.75, 0.125, 0.25, 2.25, 0]) await large(share * BATCH_BYTES);
    await Promise.all(Array.from({ length: 2500 }, () => large(1)));
    const sizes: [number, number][] = [];
    let after = 0;
    for (let piece; (piece = await outbox.read(after)); after = piece.last) {
      if (piece.type !== "batch") throw new Error("not a batch");
      expect(piece.frames[0]!.seq).toBe(after + 1);
      sizes.push([piece.frames.length, piece.frames.reduce((sum, { payload }) => sum + payload.length, 0)]);
    }
    expect(sizes.slice(0, 3)).toEqual([
      [3, 0.875 * BATCH_BYTES + 2],
      [1, 0.25 * BATCH_BYTES],
      [1, 2.25 * BATCH_BYTES],
    ]);
    expect(sizes.slice(3).map(([entries]) => entries)).toEqual([2000, 501]);
    outbox.close();
  });

  test("entries of a run that was deleted come in their order; retention is everybody's own", async () => {
    const store = open();
    const { collector } = store;
    addDestination(store);
    const outbox = outboxOf(store);
    await createRun(collector, { id: "a" });
    await store.append("a", records(100));
    await deleteRun(collector, "a", true);
    await createRun(collector, { id: "b" });
    await buryRun(collector, await getRow(collector, "b"), "run.pruned");
    const piece = (await outbox.read(0)) as { last: number; frames: Frame[] };
    expect(summary(piece.frames)).toEqual([
      "1 run.created a",
      "2 metric.appended a",
      "3 run.deleted a",
      "4 run.created b",
    ]);
    expect(piece.last).toBe(5);
    outbox.forget("a");
    const rest = (await outbox.read(0)) as { frames: Frame[] };
    expect(summary(rest.frames)).toEqual(["3 run.deleted a", "4 run.created b"]);
    outbox.close();
  });

  test("from now on: everything before is passed over in one empty piece", async () => {
    const store = open();
    await store.addRun("a");
    await store.append("a", records(10));
    addDestination(store, { from: "now" });
    const outbox = outboxOf(store);
    expect(outbox.backlog()).toEqual({ entries: 0, bytes: 0, oldest: undefined });
    expect(await outbox.read(0)).toEqual({ type: "batch", last: 2, frames: [] });
    expect(await outbox.read(2)).toBeUndefined();
    await store.append("a", records(10));
    expect(await outbox.read(2)).toMatchObject({ last: 3, frames: [{ seq: 3 }] });
    outbox.close();
  });

  test("an import's records come as its run's history, never as entries", async () => {
    const store = open();
    const { collector } = store;
    addDestination(store);
    const outbox = outboxOf(store);
    await store.addRun("a");
    for (const ordinal of [1, 11, 21]) await appendUnsigned(store, "a", ordinal);
    await store.append("a", records(10));
    expect(await outbox.read(0)).toMatchObject({ type: "batch", last: 1, frames: [{ seq: 1 }] });
    const piece = await outbox.read(1);
    expect(piece).toEqual({ type: "history", last: 4, runs: ["a"] });
    await outbox.parts((piece as { runs: string[] }).runs);
    expect(asked).toEqual([["a"]]);
    // Behind it: sent. What stood there when it was taken needs no history of its own.
    expect(await outbox.read(4)).toMatchObject({ type: "batch", last: 5, frames: [{ seq: 5 }] });
    await appendUnsigned(store, "a", 31);
    expect(await outbox.read(5)).toEqual({ type: "history", last: 6, runs: ["a"] });
    expect(collector.journal.position().seq).toBe(6);
    outbox.close();
  });

  test("an import that has not come to its end is nobody's yet", async () => {
    const store = open();
    const { connection, journal } = store.collector;
    addDestination(store);
    const outbox = outboxOf(store);
    connection
      .prepare("INSERT INTO unfinished_import (run, devices) VALUES (?, ?)")
      .run("x", '["0123456789abcdef"]');
    const entry = (kind: "import.began" | "sample.appended" | "run.imported", run: string) =>
      journal.append(
        {
          kind,
          version: 1,
          run,
          client: null,
          clientSeq: null,
          ordinal: null,
          nextStep: null,
          count: 1,
          time: 1,
          encoding: 0,
          payload: new TextEncoder().encode("[]"),
        },
        [],
      );
    await entry("import.began", "x");
    await appendUnsigned(store, "x", 1);
    await entry("sample.appended", "device:0123456789abcdef");
    expect(await outbox.read(0)).toEqual({ type: "batch", last: 3, frames: [] });
    connection.prepare("DELETE FROM unfinished_import").run();
    await entry("run.imported", "x");
    expect(await outbox.read(3)).toEqual({ type: "history", last: 4, runs: ["x"] });
    outbox.close();
  });
});

describe("the journal", () => {
  const trimmed = { trim: { keepEntries: 1, everyMs: 5 }, series: { everyMs: 5, chunkPoints: 64 } } as never;

  test("keeps what a destination has not acknowledged, over a restart too, and lets it go then", async () => {
    const store = open(trimmed);
    addDestination(store);
    outboxOf(store).close();
    await store.addRun("a");
    for (let i = 0; i < 20; i++) await store.append("a", records(100, i));
    await store.reopen();
    await store.collector.tidy(5000);
    expect(store.collector.journal.bounds()).toEqual({ first: 1, last: 21 });
    const outbox = outboxOf(store);
    await save(outbox, 15);
    await store.collector.tidy(5000);
    expect(store.collector.journal.bounds().first).toBe(16);
    expect(outbox.backlog()).toMatchObject({ entries: 6, oldest: expect.any(Number) });
    await save(outbox, 21);
    await store.collector.tidy(5000);
    expect(store.collector.journal.bounds().first).toBe(22);
    expect(outbox.backlog()).toEqual({ entries: 0, bytes: 0, oldest: undefined });
    outbox.close();
  });

  test("that begins behind a destination gives it history, and holds what comes after for it", async () => {
    const store = open(trimmed);
    await store.addRun("a");
    for (let i = 0; i < 5; i++) await store.append("a", records(100, i));
    await store.collector.tidy(5000);
    expect(store.collector.journal.bounds().first).toBe(7);
    addDestination(store);
    const outbox = outboxOf(store);
    expect(outbox.backlog()).toEqual({ entries: 6, bytes: undefined, oldest: undefined });
    // Nothing is held for who needs all of it anyway.
    await store.append("a", records(100));
    await store.collector.tidy(5000);
    expect(store.collector.journal.bounds().first).toBe(8);
    expect(await outbox.read(0)).toEqual({ type: "history", last: 7, runs: undefined });
    await store.append("a", records(100));
    await store.append("a", records(100));
    await store.collector.tidy(5000);
    expect(store.collector.journal.bounds().first).toBe(8);
    await save(outbox, 7);
    expect(outbox.backlog()).toMatchObject({
      entries: 2,
      bytes: expect.any(Number),
      oldest: expect.any(Number),
    });
    expect(await outbox.read(7)).toMatchObject({ type: "batch", last: 9, frames: [{ seq: 8 }, { seq: 9 }] });
    outbox.close();
  });

  test("is held up to a bound: a destination that is away for longer gets history in its place", async () => {
    const store = open(trimmed);
    const { journal } = store.collector;
    addDestination(store);
    const outbox = outboxOf(store, "up", 20_000);
    await store.addRun("a");
    for (let i = 0; i < 5; i++) await store.append("a", records(100, i));
    await save(outbox, 2);
    await store.collector.tidy(5000);
    expect(journal.bounds()).toEqual({ first: 3, last: 6 });
    for (let i = 0; i < 20; i++) await store.append("a", records(100, i));
    await store.collector.tidy(5000);
    expect(journal.bounds()).toEqual({ first: 27, last: 26 });
    expect(outbox.backlog()).toMatchObject({ entries: 24 });
    expect(await outbox.read(2)).toEqual({ type: "history", last: 26, runs: undefined });
    // What comes while history is sent is held again, up to the same bound.
    await store.append("a", records(100));
    await store.collector.tidy(5000);
    expect(journal.bounds().first).toBe(27);
    await save(outbox, 26);
    expect(await outbox.read(26)).toMatchObject({ type: "batch", last: 27, frames: [{ seq: 27 }] });
    outbox.close();
  });

  test("cut off behind a destination from now on gives it the runs since, not those before", async () => {
    const store = open(trimmed);
    const { collector } = store;
    await createRun(collector, { id: "before" });
    collector.connection.prepare("UPDATE run SET status = 'FINISHED', created = 1, finished = 2").run();
    addDestination(store, { from: "now" });
    const outbox = outboxOf(store);
    await createRun(collector, { id: "since" });
    const { skip } = destinationsOf(store).get("up")!;
    await save(outbox, skip);
    collector.journal.hold("relay up", undefined);
    await collector.tidy(5000);
    await createRun(collector, { id: "later" });
    expect(await outbox.read(skip)).toEqual({ type: "history", last: 3, runs: ["later", "since"] });
    outbox.close();
  });
});

describe("who waits", () => {
  test("hears of the next entry, and of an end", async () => {
    const store = open();
    addDestination(store);
    const outbox = outboxOf(store);
    const ending = new AbortController();
    let woken = 0;
    const first = outbox.wait(0, ending.signal).then(() => woken++);
    await store.addRun("a");
    await first;
    await outbox.wait(0, ending.signal);
    const second = outbox.wait(1, ending.signal).then(() => woken++);
    await Promise.resolve();
    expect(woken).toBe(1);
    ending.abort();
    await second;
    outbox.close();
  });
});

describe("what is durable of a destination", () => {
  test("outlives a restart, dead letters whole", async () => {
    const store = open();
    addDestination(store);
    await store.addRun("a");
    await store.append("a", records(100));
    const outbox = outboxOf(store);
    const { frames } = (await outbox.read(0)) as { frames: Frame[] };
    await outbox.save({ epoch: 3, acked: 2, paused: "no token" }, [
      { frame: frames[1]!, type: "invalid", detail: "not so" },
    ]);
    outbox.close();
    await store.reopen();
    const again = outboxOf(store);
    expect(again.state()).toEqual({ epoch: 3, acked: 2, paused: "no token" });
    const letters = createLetterBox(store.collector, "up");
    expect(letters.count()).toBe(1);
    expect(letters.list(10)).toEqual([
      {
        id: 1,
        epoch: 3,
        seq: 2,
        kind: "metric.appended",
        stream: "a",
        records: 100,
        bytes: expect.any(Number),
        type: "invalid",
        detail: "not so",
        at: expect.any(String),
      },
    ]);
    expect(letters.list(10, 1)).toEqual([]);
    expect(letters.frames(10, 0)[0]!.frame).toEqual(frames[1]!);
    // Nor is it sent by itself: a kill may have come before the platform heard that it is passed over.
    expect(await again.read(1)).toEqual({ type: "batch", last: 2, frames: [] });
    expect(letters.discard([1, 9])).toBe(1);
    expect(await again.read(1)).toMatchObject({ last: 2, frames: [{ seq: 2 }] });
    expect(letters.count()).toBe(0);
    const drops = store.collector.connection.prepare("SELECT * FROM relay_drop").all();
    expect(drops).toMatchObject([
      { destination: "up", stream: "a", kind: "metric.appended", first_seq: 2, last_seq: 2, records: 100 },
    ]);
    again.close();
  });

  test("openings are told, each with how far the journal was surely its own when it ended", async () => {
    const store = open();
    addDestination(store);
    const nonces: string[] = [];
    async function look(answered: boolean) {
      const outbox = outboxOf(store);
      const { nonce, openings } = outbox.identity();
      nonces.unshift(nonce);
      if (answered) await outbox.greeted();
      outbox.close();
      return openings;
    }
    expect(await look(true)).toEqual([]);
    await store.addRun("a");
    await store.reopen();
    expect(await look(false)).toEqual([{ nonce: nonces[1]!, last: 1 }]);
    await store.append("a", records(10));
    const { installation } = store.collector;
    installation.newEpoch(4);
    expect(installation.epoch).toBe(5);
    expect(await look(true)).toEqual([
      // Why an epoch is begun may be that other entries stand under the same nonce: nothing of this one has arrived.
      { nonce: nonces[1]!, last: 0 },
      { nonce: nonces[2]!, last: 1 },
    ]);
    // However often it is opened without a word: what was answered stays known.
    for (let i = 0; i < 18; i++) {
      await store.reopen();
      await look(false);
    }
    const told = await look(false);
    expect(told).toHaveLength(18);
    expect(told.slice(-2)).toEqual([
      { nonce: nonces.at(-3)!, last: 2 },
      { nonce: nonces.at(-1)!, last: 1 },
    ]);
  });

  test("a copy becomes a source of its own, to all destinations", async () => {
    const store = open();
    addDestination(store, { name: "up" });
    addDestination(store, { name: "other" });
    await store.addRun("a");
    const up = outboxOf(store, "up");
    const other = outboxOf(store, "other");
    const { id } = up.identity();
    await up.greeted();
    await save(up, 1);
    await save(other, 1);
    await up.newEpoch(7);
    expect(up.identity()).toMatchObject({ id, epoch: 8 });
    expect(other.identity().openings).toHaveLength(1);
    await up.newSource();
    expect(up.identity()).toMatchObject({ epoch: 1, openings: [] });
    expect(up.identity().id).not.toBe(id);
    expect(other.identity().id).toBe(up.identity().id);
    expect(other.state()).toEqual({ epoch: 0, acked: 0, paused: null });
    expect(other.backlog().entries).toBe(1);
    up.close();
    other.close();
  });

  test("an acknowledgement goes to disk with the next commit, not by one of its own", async () => {
    const store = open();
    addDestination(store);
    await store.addRun("a");
    const outbox = outboxOf(store);
    await save(outbox, 1);
    expect(store.collector.connection.prepare("PRAGMA synchronous").raw(true).get()).toEqual([2]);
    outbox.close();
    await store.reopen();
    expect(outboxOf(store).state().acked).toBe(1);
  });

  test("secrets stand beside the database, for nobody else to read", async () => {
    const store = open();
    const destinations = destinationsOf(store);
    expect(destinations.secretsOf("up")).toEqual({});
    destinations.setSecrets("up", { token: "bnc_source_secret" });
    destinations.setSecrets("other", { token: "x", ca: "pem" });
    expect(destinations.secretsOf("up")).toEqual({ token: "bnc_source_secret" });
    const file = Bun.file(`${store.dataDir}/relays.json`);
    expect(((await file.stat()).mode & 0o777).toString(8)).toBe("600");
    destinations.setSecrets("up", undefined);
    expect(await file.text()).not.toContain("bnc_source_secret");
    await Bun.write(file, "{ no json");
    expect(destinations.secretsOf("other")).toEqual({});
  });
});
