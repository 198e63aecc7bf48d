import { afterEach, describe, expect, test } from "bun:test";
import { createDestinations } from "../src/relay/destinations.ts";
import { countDropped, listDrops } from "../src/relay/drops.ts";
import { historyOf, historyParts } from "../src/relay/history.ts";
import { createLosses } from "../src/relay/losses.ts";
import { createOutbox, type JournalOutbox } from "../src/relay/outbox.ts";
import { EXPIRED, NO_ROOM, PRUNED, THINNED } from "../src/relay/reasons.ts";
import { relayBanner } from "../src/ui/relay-view.ts";
import { pruneRuns } from "../src/run/retain.ts";
import { appendSamples } from "../src/sample/append.ts";
import type { Entry } from "../src/entry.ts";
import { unpackSamples } from "../src/store/sample-batch.ts";
import type { CollectorOptions } from "../src/collector.ts";
import { openStore, type TestStore } from "./helpers/store.ts";

const DEVICE = "0123456789abcdef";
const BEGIN = 1_790_000_400_000;
const HOUR = 3_600_000;
const STEP = 1_800_000;
const MiB = 1024 * 1024;

let clock = BEGIN;
let stores: TestStore[] = [];
let outboxes: JournalOutbox[] = [];

afterEach(async () => {
  for (const outbox of outboxes) outbox.close();
  for (const store of stores) await store.close();
  [outboxes, stores] = [[], []];
});

function open(options: Partial<CollectorOptions> = {}): TestStore {
  clock = BEGIN;
  const store = openStore({
    device: DEVICE,
    now: () => clock,
    trim: { keepEntries: 0 },
    ...options,
    samples: { tickMs: 1e9, monotonic: () => clock, ...options.samples },
  });
  stores.push(store);
  return store;
}

/** As it is while nobody answers: the journal is kept for it as far as the quota has room for that. */
function addDestination({ collector, dataDir }: TestStore, name: string): JournalOutbox {
  createDestinations(collector.connection, dataDir).add({
    name,
    kind: "platform",
    url: "http://127.0.0.1:1",
    from: "history",
    created: clock,
    skip: 0,
  });
  const outbox = createOutbox({
    collector,
    destination: name,
    history: {
      parts: (runs) => historyParts(collector, runs),
      of: (part, from, bounds) => historyOf(collector, part, from, bounds),
    },
    maxHeldBytes: collector.quota.journalBytes(),
  });
  outboxes.push(outbox);
  return outbox;
}

const arrived = ({ collector }: TestStore, outbox: JournalOutbox) =>
  outbox.save({ epoch: 1, acked: collector.journal.position().seq, paused: null }, []);

const random = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`unknown.reading@${i}`, Math.random()]));

/** Twenty readings each half hour, ten seconds an entry; the clock goes on to the next one. */
async function readSome({ collector }: TestStore, width = 1200): Promise<void> {
  const from = clock;
  for (let batch = 0; batch < 2; batch++) {
    const samples = Array.from({ length: 10 }, (_, i) => ({
      subject: "",
      time: from + 1000 * (10 * batch + i),
      values: random(width),
    }));
    clock = samples.at(-1)!.time;
    await appendSamples(collector, DEVICE, samples);
  }
  await collector.samples.finish();
  await collector.tidy(10_000);
  clock = from + STEP;
}

/** Readings later than `after` that history would bring as they were read. */
async function broughtInFull({ collector }: TestStore, after: number): Promise<number> {
  const { bounds } = await historyParts(collector);
  let rows = 0;
  for await (const { frames } of historyOf(collector, { of: "samples", device: DEVICE }, after, bounds))
    for (const frame of frames)
      if (frame.kind === "sample.appended")
        rows += unpackSamples(frame as unknown as Entry).filter(({ time }) => time > after).length;
  return rows;
}

describe("a collector that is cut off and runs out of room", () => {
  test("thins old readings, then leaves new ones out, then refuses files, then records; every reading is kept or counted", async () => {
    const store = open({ quota: { maxBytes: 4 * MiB } });
    const { quota, samples, connection, journal } = store.collector;
    expect(quota.journalBytes()).toBe(MiB);
    await store.addRun("r");
    const up = addDestination(store, "up");
    const other = addDestination(store, "other");
    let offered = 0;
    let thinnedAt: number | undefined;
    let held = 0;
    const block = async () => {
      await readSome(store);
      await store.append("r", [{ metrics: { loss: Math.random() } }]);
      offered += 20;
      await arrived(store, other);
      await quota.check();
      const [{ bytes }] = connection
        .prepare("SELECT coalesce(sum(length(payload)), 0) AS bytes FROM journal")
        .all() as [{ bytes: number }];
      held = Math.max(held, bytes);
      if (thinnedAt === undefined && listDrops(connection).length > 0) thinnedAt = offered;
    };
    await block();
    await block();
    await arrived(store, up);
    const delivered = offered;
    const deliveredUpTo = clock - STEP + 19_000;
    while (samples.dropped === 0 && offered < 20_000) await block();

    // Readings first: the old ones became coarser long before new ones were left out.
    expect(thinnedAt).toBeLessThan(offered - 20);
    expect(held).toBeGreaterThan(0.5 * MiB);
    expect(held).toBeLessThan(1.25 * MiB);
    expect(journal.bounds().first).toBeGreaterThan(1);
    await block();
    await block();

    const drops = listDrops(connection);
    expect(drops.map(({ destination, reason }) => [destination, reason]).sort()).toEqual([
      [null, NO_ROOM],
      ["up", THINNED],
    ]);
    const [thinned, refused] = [THINNED, NO_ROOM].map((why) => drops.find(({ reason }) => reason === why)!);
    expect(refused!.records).toBe(samples.dropped);
    expect(thinned!.records).toBeGreaterThan(0);
    expect(
      delivered + (await broughtInFull(store, deliveredUpTo)) + thinned!.records + refused!.records,
    ).toBe(offered);
    expect(Date.parse(thinned!.first_time!)).toBe(BEGIN + 2 * STEP);
    expect(Date.parse(thinned!.last_time!)).toBeLessThan(clock - 3 * HOUR);
    expect(Date.parse(refused!.last_time!)).toBeGreaterThan(Date.parse(thinned!.last_time!));
    // Who has everything misses nothing but what never was.
    expect(countDropped(connection, "other").records).toBe(refused!.records);
    expect(countDropped(connection, "up").records).toBe(refused!.records + thinned!.records);
    const banner = relayBanner({ relays: [], drops }, Date.parse(drops[0]!.at));
    expect(banner?.text).toContain("dropped");

    // Models, records and what steers runs go on.
    expect(quota.status().refusing).toBeNull();
    quota.claim(1000);
    await store.append("r", [{ metrics: { loss: 1 } }]);

    const order: string[] = [];
    for (let i = 0; i < 500 && !order.includes("records"); i++) {
      const blob = Buffer.from(crypto.getRandomValues(new Uint8Array(3000))).toString("base64");
      await store.append("r", [{ metrics: { text: blob } }]).catch((error: { code: string }) => {
        expect(error.code).toBe("disk-full");
        order.push("records");
      });
      try {
        quota.claim(0);
      } catch {
        if (!order.includes("files")) order.push("files");
      }
      await quota.check();
    }
    expect(order).toEqual(["files", "records"]);
    await store.addRun("another");
    expect(store.fatal).toEqual([]);
  }, 60_000);

  test("counts readings that grew too old for it, from the first that it lacks", async () => {
    const store = open();
    const { connection, samples } = store.collector;
    const up = addDestination(store, "up");
    await readSome(store, 3);
    await arrived(store, up);
    await readSome(store, 3);
    await readSome(store, 3);
    store.collector.journal.hold("relay up", undefined);
    await store.collector.tidy(10_000);
    clock += 71 * HOUR;
    await samples.expire();
    expect(listDrops(connection)).toEqual([]);
    clock += 2 * HOUR;
    await samples.expire();
    expect(listDrops(connection)).toMatchObject([
      {
        destination: "up",
        stream: `device:${DEVICE}`,
        reason: EXPIRED,
        records: 40,
        first_time: new Date(BEGIN + STEP).toISOString(),
        last_time: new Date(BEGIN + 2 * STEP + 19_000).toISOString(),
      },
    ]);
  });

  test("counts nothing that the journal still has for it", async () => {
    const store = open();
    addDestination(store, "up");
    await readSome(store, 3);
    clock += 80 * HOUR;
    await store.collector.samples.expire();
    expect(store.collector.samples.starts(DEVICE, "", 1, 0, clock)).toEqual([]);
    expect(listDrops(store.collector.connection)).toEqual([]);
  });

  test("counts runs that retention removes, and not those it had", async () => {
    const store = open();
    const { collector } = store;
    const up = addDestination(store, "up");
    const record = async (run: string) => {
      await store.addRun(run);
      await store.append(run, [{ metrics: { a: 1 } }, { metrics: { a: 2 } }]);
      collector.connection
        .prepare("UPDATE run SET status = 'FINISHED', created = ?, finished = ? WHERE id = ?")
        .run(clock, clock, run);
      clock += HOUR;
    };
    await record("had");
    await arrived(store, up);
    await record("lost");
    await record("too");
    collector.journal.hold("relay up", undefined);
    await collector.tidy(10_000);
    clock += 48 * HOUR;
    expect(await pruneRuns(collector, { keepDays: 1 }, false)).toEqual(["had", "lost", "too"]);
    expect(listDrops(collector.connection)).toMatchObject([
      { destination: "up", kind: "run", reason: PRUNED, records: 4 },
    ]);
  });
});

test("what is left out while the collector ends breaks nothing", async () => {
  const store = open();
  const { samples } = store.collector;
  await store.reopen();
  samples.drop(DEVICE, [{ time: clock }], "busy");
  expect(samples.dropped).toBe(1);
});

test("a week of losses is a few rows, with all of it in their sums", async () => {
  const { collector } = open();
  const losses = createLosses(collector.connection, collector.journal, () => clock);
  const put = (stream: string, reason: string) =>
    losses.put({
      destination: "",
      stream,
      kind: "sample.appended",
      first: clock,
      last: clock + 9000,
      records: 10,
      reason,
    });
  for (let batch = 0; batch < 100; batch++, clock += 10_000) put("device:a", NO_ROOM);
  expect(listDrops(collector.connection)).toMatchObject([
    { records: 1000, first_time: new Date(BEGIN).toISOString() },
  ]);
  // With hours between they stand alone, up to a number.
  for (let batch = 0; batch < 84; batch++, clock += 2 * HOUR) put("device:a", NO_ROOM);
  expect(listDrops(collector.connection).length).toBeLessThanOrEqual(50);
  collector.connection.exec("BEGIN");
  for (let device = 0; device < 1100; device++) put(`device:${device}`, NO_ROOM);
  collector.connection.exec("COMMIT");
  const rows = collector.connection.prepare("SELECT count(*) AS rows FROM relay_drop").get();
  expect((rows as { rows: number }).rows).toBeLessThanOrEqual(1001);
  expect(countDropped(collector.connection, "up").records).toBe(10 * (100 + 84 + 1100));
});
