/**
 * Collector and platform as processes of their own, a network that fails in many ways between them, and kill -9 of either at
 * random moments. What is recorded meanwhile is at the platform in the end: see the oracle in helpers/relay-load.ts.
 */
import { expect, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { startChild, type ChildOptions } from "./helpers/child.ts";
import { drained } from "./helpers/drained.ts";
import { createFaultProxy, createRandom } from "./helpers/fault-proxy.ts";
import { killInTurn } from "./helpers/relay-kills.ts";
import { createRelayLoad } from "./helpers/relay-load.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const ALL_KILLS = Number(process.env.KILLS ?? 30);
/** In one pair of data folders: all that is in them is compared again and again. */
const KILLS = Math.min(100, ALL_KILLS);
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const SEEDS = Array.from({ length: Math.ceil(ALL_KILLS / KILLS) }, (_, round) => SEED + 10 * round);
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
    const stores = await killInTurn({
      kills: KILLS,
      seed,
      start: (side, folder) => startChild(folder, side === "platform" ? platformOptions : collectorOptions),
    });
    // Entries were deleted all the while.
    for (const { collector } of stores.all) expect(collector.journal.bounds().first).toBeGreaterThan(1);
    await stores.remove();
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
