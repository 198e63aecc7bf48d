/**
 * The n-th fsync, write or rename fails, at the collector and at the platform. Either the process goes on, or it ends and says so,
 * and the next start goes on; what was answered is at the platform, and nothing twice: see the oracle in helpers/relay-load.ts.
 */
import { expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { startChild, type Child, type ChildOptions } from "./helpers/child.ts";
import { drained } from "./helpers/drained.ts";
import { createFaultProxy, createRandom } from "./helpers/fault-proxy.ts";
import { createRelayLoad } from "./helpers/relay-load.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";
import { noStrace, strace } from "./helpers/strace.ts";

const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const LONG = process.env.LONG !== undefined;
const SIDES = ["collector", "platform"] as const;
type Side = (typeof SIDES)[number];
const ERRORS = ["EIO", "ENOSPC"] as const;
/** What a short load comes to of each, about: each of the first so many fails in long runs, else `times` that are spread over them. */
const CALLS = [
  { call: "fsync", within: 24, times: 3 },
  { call: "pwrite64", within: 150, times: 3 },
  { call: "rename", within: 2, times: 2 },
];
/** Long runs end then, however far they came. */
const MOST_MS = Number(process.env.FAULT_MINUTES ?? 40) * 60_000;

interface Fault {
  side: Side;
  call: string;
  error: (typeof ERRORS)[number];
  when: number;
}

/** None comes twice, and a walk that is cut short has been everywhere. */
function faults(): Fault[] {
  const golden = (Math.sqrt(5) - 1) / 2;
  const all = CALLS.flatMap(({ call, within, times }) =>
    SIDES.flatMap((side, at) => {
      const count = LONG ? within : times;
      return Array.from({ length: count }, (_, i) => 1 + Math.floor((i * within) / count)).flatMap(
        (when, i) =>
          ERRORS.filter((_, which) => LONG || which === (i + at) % ERRORS.length).map((error) => ({
            side,
            call,
            error,
            when,
          })),
      );
    }),
  );
  return all
    .map((fault, i) => ({ fault, rank: ((i + 1) * golden) % 1 }))
    .toSorted((a, b) => a.rank - b.rank)
    .map(({ fault }) => fault);
}

const STEPS = 10;
const series = { chunkPoints: 64, maxPoints: 200, tickMs: 20 };
const trim = { keepEntries: 20, everyMs: 20 };
const options: Record<Side, ChildOptions> = {
  collector: { series, trim, relays: true },
  platform: { series, trim, platform: true },
};

// -D: what is started is the process itself, which a signal must reach.
const tracing = strace("-D", "-f", "-qq", "--seccomp-bpf");

test.skipIf(noStrace)(
  "an fsync, a write or a rename that fails at either side loses nothing and doubles nothing",
  async () => {
    console.log(`SEED=${SEED}`);
    const random = createRandom(SEED);
    const load = createRelayLoad(createRandom(SEED + 1));
    const folders: Record<Side, string> = { collector: makeDataDir(), platform: makeDataDir() };
    const start = (side: Side, through?: string[]) => startChild(folders[side], options[side], through);
    const running: Record<Side, Child> = {
      platform: await start("platform"),
      collector: await start("collector"),
    };
    // Its port stays while the platform's changes.
    const proxy = await createFaultProxy({ target: () => running.platform.port, random });
    const made = await running.platform.request("/sources", { name: "lab" });
    const { token } = (await made.json()) as { token: string };
    const added = await running.collector.request("/relays", { name: "up", url: proxy.url, token });
    expect(added.status).toBe(201);
    const ended: Record<string, number> = {};
    const wentOn: Record<string, number> = {};

    async function failing({ side, call, error, when }: Fault): Promise<void> {
      const what = `${call} ${when} of the ${side}, ${error}`;
      const trace = join(folders[side], "..", `trace-${process.pid}`);
      await running[side].kill();
      const inject = `inject=${call}:error=${error}:when=${when}`;
      const through = [...tracing, "-o", trace, "-e", `trace=${call}`, "-e", inject];
      let code: number | null | undefined;
      const child = await start(side, through).catch((failure: Error) => failure);
      if (child instanceof Error) {
        // It could not start, and says why.
        expect(child.message, what).toMatch(/ended with [1-9]\d*: \S/);
        code = 1;
      } else {
        running[side] = child;
        await load.write(running.collector, { steps: STEPS, large: call === "rename" ? when : 0 });
        const ending = new AbortController();
        const arrived = drained(running.collector, { signal: ending.signal }).then(
          () => undefined,
          () => undefined,
        );
        code = await Promise.race([child.exited, arrived]);
        if (code !== undefined) {
          expect(code, what).toBeGreaterThan(0);
          expect(child.stderr(), what).not.toBe("");
        } else await child.kill();
        ending.abort();
        await arrived;
      }
      const isInjected = existsSync(trace) && readFileSync(trace, "utf8").includes("(INJECTED)");
      rmSync(trace, { force: true });
      const counts = code === undefined ? wentOn : ended;
      const name = `${side} ${call} ${error}`;
      if (isInjected) counts[name] = (counts[name] ?? 0) + 1;
      // Nothing else ends it.
      else
        expect(code, `${what}: ${child instanceof Error ? child.message : child.stderr()}`).toBeUndefined();
      running[side] = await start(side);
      await drained(running.collector, { platform: running.platform });
      await load.check(running.platform, running.collector);
    }

    const began = performance.now();
    const all = faults();
    const done = [];
    for (const fault of all) {
      if (LONG && performance.now() - began > MOST_MS) break;
      await failing(fault);
      done.push(fault);
    }

    console.log(
      `${done.length} of ${all.length}: ended: ${JSON.stringify(ended)}, went on: ${JSON.stringify(wentOn)}, ${JSON.stringify(load.counts)}`,
    );
    // Of the twelve there are: how many calls a load makes is not always the same.
    expect(Object.keys({ ...ended, ...wentOn }).length).toBeGreaterThan(8);
    await load.write(running.collector, { steps: STEPS });
    const relay = await drained(running.collector, { platform: running.platform });
    expect(relay).toMatchObject({
      error: null,
      notice: null,
      dead_letters: 0,
      dropped: { records: 0 },
      epoch: 1,
    });
    await load.check(running.platform, running.collector);
    for (const side of SIDES) await running[side].kill();
    proxy.close();
    const stores = SIDES.map((side) => openStore({ dataDir: folders[side] }));
    await load.checkSamples(stores[1]!.collector, stores[0]!.collector);
    for (const { collector } of stores) {
      expect(collector.connection.prepare("PRAGMA integrity_check").raw(true).get()).toEqual(["ok"]);
      expect(await collector.blobs.verify()).toEqual([]);
      await collector.close();
    }
    for (const folder of Object.values(folders)) rmSync(folder, { recursive: true, force: true });
  },
  LONG ? 3_000_000 : 240_000,
);
