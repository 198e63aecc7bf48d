/** kill -9 of a collector or of the platform that it relays to, again and again, on a network that fails. */
import { expect } from "bun:test";
import { rmSync } from "node:fs";
import type { Party } from "./child.ts";
import { drained, relayOf } from "./drained.ts";
import { createFaultProxy, createRandom } from "./fault-proxy.ts";
import { createRelayLoad } from "./relay-load.ts";
import { makeDataDir, openStore, type TestStore } from "./store.ts";

/** All that was recorded is compared so often. */
const CHECK_EVERY = 10;
/** The destination is added to a collector that has a history. */
const KILLS_BEFORE = 2;

export interface KillOptions {
  kills: number;
  seed: number;
  start: (side: "collector" | "platform", dataDir: string) => Promise<Party>;
  /** Whether the collector takes what would read the hardware. */
  samples?: boolean;
}

/** What both have in the end, compared already. */
export interface Killed {
  all: TestStore[];
  remove(): Promise<void>;
}

export async function killInTurn({ kills: most, seed, start, samples = true }: KillOptions): Promise<Killed> {
  const random = createRandom(seed);
  const load = createRelayLoad(createRandom(seed + 1), { samples });
  const folders = { collector: makeDataDir(), platform: makeDataDir() };
  let platform: Party | undefined = await start("platform", folders.platform);
  let collector = await start("collector", folders.collector);
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
    platform = await start("platform", folders.platform);
  }

  async function startCollector(): Promise<void> {
    collector = await start("collector", folders.collector);
  }

  async function check(): Promise<void> {
    proxy.calm();
    await drained(collector, { platform });
    await load.check(platform!, collector);
  }

  for (let kill = 1; kill <= most; kill++) {
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
    await Bun.sleep(10 + random() ** 2 * 400);
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
  const relay = await drained(collector, { platform });
  expect(relay).toMatchObject({ error: null, notice: null, dead_letters: 0, dropped: { records: 0 } });
  expect(relay.acked).toBe(before + 2);
  const response = await platform.request("/runs/fresh/points?key=value");
  expect(((await response.json()) as { points: [number, number][] }).points.map(([, y]) => y)).toEqual([42]);

  const { answered, refused, unanswered } = load.counts;
  console.log(
    `${JSON.stringify(kills)}, faults ${JSON.stringify(proxy.met)}: ${answered} requests answered, ${refused} refused, ${unanswered} without an answer; ${relay.acked} entries arrived in epoch ${relay.epoch}`,
  );
  expect(answered!).toBeGreaterThan(10 * most);
  expect(relay.epoch).toBe(1);
  await collector.kill();
  await platform.kill();
  proxy.close();

  const stores = {
    platform: openStore({ dataDir: folders.platform }),
    collector: openStore({ dataDir: folders.collector }),
  };
  await load.checkSamples(stores.platform.collector, stores.collector.collector);
  const all = Object.values(stores);
  for (const { collector } of all) {
    expect(collector.connection.prepare("PRAGMA integrity_check").raw(true).get()).toEqual(["ok"]);
    expect(collector.connection.prepare("PRAGMA foreign_key_check").all()).toEqual([]);
  }
  return {
    all,
    async remove() {
      for (const { collector } of all) await collector.close();
      for (const folder of Object.values(folders)) rmSync(folder, { recursive: true, force: true });
    },
  };
}
