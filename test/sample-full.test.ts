import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { appendSamples } from "../src/sample/append.ts";
import { querySamples } from "../src/sample/query.ts";
import { loudly } from "./helpers/binary.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const DEVICE = "0123456789abcdef";
const BEGIN = 1_790_000_400_000;
const mount = (...args: string[]) => spawnSync("mount", args).status === 0;
const probe = makeDataDir();
const canMount = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", probe);
if (canMount) spawnSync("umount", ["-l", probe]);
else loudly("no right to mount a small disk to fill");
rmSync(probe, { recursive: true, force: true });

test.skipIf(!canMount)(
  "a disk that fills up leaves samples out; what was taken is whole, and there is more once there is room",
  async () => {
    const dataDir = makeDataDir();
    mount("-t", "tmpfs", "-o", "size=12m", "tmpfs", dataDir);
    const store = openStore({ dataDir, device: DEVICE, samples: { tickMs: 1e9 }, trim: { keepEntries: 0 } });
    const filler = join(dataDir, "filler");
    try {
      writeFileSync(filler, Buffer.alloc(8 * 1024 * 1024));
      const { samples } = store.collector;
      const kept: number[] = [];
      const append = async (second: number) => {
        const values = Object.fromEntries(
          Array.from({ length: 400 }, (_, i) => [`unknown.reading@${i}`, Math.random()]),
        );
        const before = samples.dropped;
        await appendSamples(store.collector, DEVICE, [
          { subject: "", time: BEGIN + 1000 * second, values: { ...values, "load.1": second } },
        ]);
        if (samples.dropped === before) kept.push(second);
      };
      let second = 0;
      while (samples.dropped === 0 && second < 3000) await append(second++);
      expect(samples.dropped).toBeGreaterThan(0);
      // What waits for room must not hold who asks for it.
      const sealed = samples.seal();
      await append(second++);
      rmSync(filler);
      while (kept.at(-1) !== second - 1 && second < 4000) {
        await Bun.sleep(20);
        await store.collector.quota.check();
        await append(second++);
      }
      await sealed;
      expect(kept.at(-1)).toBe(second - 1);
      const loads = async () => {
        const page = await querySamples(store.collector, DEVICE, {
          from: BEGIN,
          to: BEGIN + 1000 * second,
          points: 5000,
          readings: ["load.1"],
        });
        expect(page.step).toBe(1000);
        return page.series[0]!.mean;
      };
      expect(await loads()).toEqual(kept);
      await store.collector.tidy(10_000);
      await store.reopen();
      expect(await loads()).toEqual(kept);
      expect(store.fatal).toEqual([]);
    } finally {
      await store.close();
      spawnSync("umount", ["-l", dataDir]);
      rmSync(dataDir, { recursive: true, force: true });
    }
  },
  60_000,
);
