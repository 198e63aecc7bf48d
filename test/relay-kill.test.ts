/**
 * Collector and platform as processes of their own, a network that fails in many ways between them, and kill -9 of either at
 * random moments. What is recorded meanwhile is at the platform in the end: see the oracle in helpers/relay-load.ts.
 */
import { expect, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { startChild, type Child, type ChildOptions } from "./helpers/child.ts";
import { createFaultProxy, createRandom } from "./helpers/fault-proxy.ts";
import { createRelayLoad, drained, relayOf } from "./helpers/relay-load.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const ALL_KILLS = Number(process.env.KILLS ?? 30);
/** In one pair of data folders: all that is in them is compared again and again. */
const KILLS = Math.min(100, ALL_KILLS);
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const SEEDS = Array.from({ length: Math.ceil(ALL_KILLS / KILLS) }, (_, round) => SEED + 10 * round);
/** All that was recorded is compared so often. */
const CHECK_EVERY = 10;
/** The destination is added to a collector that has a history. */
const KILLS_BEFORE = 2;
/** Small, so that chunks are sealed and entries deleted all the time. */
const series = { chunkPoints: 64, maxPoints: 200, tickMs: 20 };
const trim = { keepEntries: 20, everyMs: 20 };
const collectorOptions: ChildOptions = { series, trim, relays: true };
const platformOptions: ChildOptions = { series, trim, platform: true };

test.each(SEEDS)(
  `${KILLS} kills of either side, on a network that fails, lose nothing and double nothing: SEED=%d`,
  async (seed) => {
    // As it may never come to an end.
    console.log(`SEED=${seed}`);
    const random = createRandom(seed);
    const load = createRelayLoad(createRandom(seed + 1));
    const folders = { collector: makeDataDir(), platform: makeDataDir() };
    let platform: Child | undefined = await startChild(folders.platform, platformOptions);
    let collector = await startChild(folders.collector, collectorOptions);
    const proxy = await createFaultProxy({
      target: () => platform?.port,
      random: createRandom(seed + 2),
      // Now and then longer than a request may take.
      silence: () => (random() < 0.01 ? 20_000 : 50 + random() * 500),
    });
    const kills = { collector: 0, platform: 0, both: 0 };
    const { token } = (await (await platform.request("/sources", { name: "lab" })).json()) as {
      token: string;
    };

    async function killPlatform(): Promise<void> {
      const killed = platform!;
      await killed.kill();
      expect(killed.stderr()).toBe("");
      platform = undefined;
    }

    async function startPlatform(): Promise<void> {
      platform = await startChild(folders.platform, platformOptions);
    }

    async function startCollector(): Promise<void> {
      collector = await startChild(folders.collector, collectorOptions);
    }

    async function check(): Promise<void> {
      proxy.calm();
      await drained(collector);
      await load.check(platform!, collector);
    }

    for (let kill = 1; kill <= KILLS; kill++) {
      if (kill === KILLS_BEFORE + 1) {
        const added = await collector.request("/relays", { name: "up", url: proxy.url, token });
        expect(added.status).toBe(201);
      }
      proxy.foul = random() < 0.8;
      const victim = (["collector", "platform", "platform", "both"] as const)[Math.floor(random() * 4)]!;
      kills[victim]++;
      const stopping = new AbortController();
      const writing = load.write(collector, { signal: stopping.signal });
      // Who waits to try again is woken, as a person would: else most of the time would be pauses.
      if (kill > KILLS_BEFORE) await collector.request("/relays/up/retry", {});
      await Bun.sleep(10 + random() * 400);
      if (victim !== "collector") await killPlatform();
      if (victim === "both") await Bun.sleep(random() * 100);
      if (victim !== "platform") {
        await collector.kill();
        expect(collector.stderr()).toBe("");
      }
      if (random() < 0.3) await Bun.sleep(random() * 200);
      // Whichever comes first.
      const starting = [
        victim !== "collector" && startPlatform,
        victim !== "platform" && startCollector,
      ].filter((start) => start !== false);
      if (random() < 0.5) starting.reverse();
      for (const start of starting) await start();
      stopping.abort();
      await writing;
      if (kill % CHECK_EVERY === 0) await check();
    }

    // What is recorded after all that passes as if nothing had been.
    await check();
    const before = (await relayOf(collector)).acked;
    expect((await collector.request("/runs", { id: "fresh" })).status).toBe(201);
    const items = [{ metrics: { value: 42 } }];
    expect((await collector.request("/runs/fresh/records", { client: "c", seq: 1, items })).status).toBe(200);
    const relay = await drained(collector);
    expect(relay).toMatchObject({ error: null, notice: null, dead_letters: 0, dropped: { records: 0 } });
    expect(relay.acked).toBe(before + 2);
    const response = await platform.request("/runs/fresh/points?key=value");
    expect(((await response.json()) as { points: [number, number][] }).points.map(([, y]) => y)).toEqual([
      42,
    ]);

    const { answered, refused, unanswered } = load.counts;
    console.log(
      `${JSON.stringify(kills)}, faults ${JSON.stringify(proxy.met)}: ${answered} requests answered, ${refused} refused, ${unanswered} without an answer; ${relay.acked} entries arrived in epoch ${relay.epoch}`,
    );
    expect(answered!).toBeGreaterThan(10 * KILLS);
    expect(relay.epoch).toBe(1);
    await collector.kill();
    await platform.kill();
    proxy.close();

    const stores = {
      platform: openStore({ dataDir: folders.platform }),
      collector: openStore({ dataDir: folders.collector }),
    };
    await load.checkSamples(stores.platform.collector, stores.collector.collector);
    for (const { collector } of Object.values(stores)) {
      expect(collector.connection.prepare("PRAGMA integrity_check").raw(true).get()).toEqual(["ok"]);
      expect(collector.connection.prepare("PRAGMA foreign_key_check").all()).toEqual([]);
      // Entries were deleted all the while.
      expect(collector.journal.bounds().first).toBeGreaterThan(1);
      await collector.close();
    }
    for (const folder of Object.values(folders)) rmSync(folder, { recursive: true, force: true });
  },
  60_000 + KILLS * 10_000,
);

test("a platform that is set back to a copy of its folder gets what it has lost again", async () => {
  console.log(`SEED=${SEED}`);
  const load = createRelayLoad(createRandom(SEED));
  const folders = { collector: makeDataDir(), platform: makeDataDir(), copy: makeDataDir() };
  let platform = await startChild(folders.platform, platformOptions);
  const collector = await startChild(folders.collector, collectorOptions);
  const proxy = await createFaultProxy({ target: () => platform.port, random: Math.random });
  const { token } = (await (await platform.request("/sources", { name: "lab" })).json()) as { token: string };
  expect((await collector.request("/relays", { name: "up", url: proxy.url, token })).status).toBe(201);
  await load.write(collector, { steps: 40 });
  const { acked } = await drained(collector);
  await platform.kill();
  cpSync(folders.platform, folders.copy, { recursive: true });
  platform = await startChild(folders.platform, platformOptions);
  // Of this much the collector's journal has forgotten some when the platform goes back.
  await load.write(collector, { steps: 40 });
  expect((await drained(collector)).acked).toBeGreaterThan(acked + 20);
  await platform.kill();
  rmSync(folders.platform, { recursive: true });
  cpSync(folders.copy, folders.platform, { recursive: true });
  platform = await startChild(folders.platform, platformOptions);
  await load.write(collector, { steps: 10 });
  expect(await drained(collector)).toMatchObject({ error: null, dead_letters: 0 });
  await load.check(platform, collector);
  await Promise.all([collector.kill(), platform.kill()]);
  proxy.close();
  const stores = [folders.platform, folders.collector].map((dataDir) => openStore({ dataDir }));
  await load.checkSamples(stores[0]!.collector, stores[1]!.collector);
  for (const { collector } of stores) await collector.close();
  for (const folder of Object.values(folders)) rmSync(folder, { recursive: true, force: true });
}, 60_000);
