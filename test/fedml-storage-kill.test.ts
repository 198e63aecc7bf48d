/**
 * kill -9 of the collector while FedML's clients put objects. The oracle: an object that was answered is whole, byte for byte, and the
 * newest under its name; one without an answer is whole or not there; nothing is left of what nobody completed.
 */
import { expect, test } from "bun:test";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { S3Client } from "bun";
import { createKeys } from "../src/fedml/keys.ts";
import { createTokens } from "../src/token.ts";
import { ADMIN_TOKEN, startChild, type Child } from "./helpers/child.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const KILLS = Number(process.env.KILLS ?? 12);
const CLIENTS = 3;
const PART = 5 * 1024 * 1024;
const RUN = "100000000000077";
const BUCKET = "fedml";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

const keys = createKeys(() => createTokens(ADMIN_TOKEN));
const clientOf = ({ port }: Child) =>
  new S3Client({
    endpoint: `http://127.0.0.1:${port}/fedml/${keys.secretOf({ run: RUN })}/s3`,
    ...keys.s3Of({ run: RUN }),
    region: "us-east-1",
    bucket: BUCKET,
    retry: 0,
  });

/** By key: what was answered last, and what was sent since without an answer. */
interface Known {
  acked: string | undefined;
  open: Set<string>;
}

const noise = randomBytes(2 * PART + 700_000);
/** In the database, as a file, in parts. */
const lengths = [2000, 300_000, 2 * PART + 500_000];

test(
  `objects outlive ${KILLS} kills of the collector, or were never answered`,
  async () => {
    const dataDir = makeDataDir();
    const known = new Map<string, Known>();
    let answers = 0;
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        const child = await startChild(dataDir, { fedml: true });
        const s3 = clientOf(child);
        let isOver = false;
        const enough = Promise.withResolvers<void>();
        let left = randomInt(1, 12);
        const work = Array.from({ length: CLIENTS }, async (_, who) => {
          while (!isOver) {
            const key = `${who}-${randomInt(4)}.zip`;
            const from = randomInt(200_000);
            const bytes = noise.subarray(from, from + lengths[randomInt(lengths.length)]!);
            const digest = sha256(bytes);
            const one = known.get(key) ?? { acked: undefined, open: new Set() };
            known.set(key, one);
            one.open.add(digest);
            try {
              await s3.file(key).write(bytes, { partSize: PART, queueSize: 2 });
            } catch {
              return;
            }
            one.acked = digest;
            one.open.clear();
            answers++;
            if (--left === 0) enough.resolve();
          }
        });
        await enough.promise;
        await Bun.sleep(randomInt(40));
        const killed = child.kill();
        isOver = true;
        await killed;
        await Promise.all(work);
      }
      const child = await startChild(dataDir, { fedml: true });
      for (const [key, { acked, open }] of known) {
        const response = await fetch(`${endpointOf(child)}/${BUCKET}/${key}`);
        const digest = response.ok ? sha256(await response.bytes()) : undefined;
        if (digest === undefined || digest !== acked) {
          expect(acked === undefined || digest !== undefined).toBe(true);
          if (digest !== undefined) expect([...open]).toContain(digest);
        }
      }
      await child.kill();
      const store = openStore({ dataDir, now: () => Date.now() + 8 * 24 * 3600 * 1000 });
      await store.collector.blobs.collect();
      const incoming = join(dataDir, "blobs", "incoming");
      expect(existsSync(incoming) ? readdirSync(incoming) : []).toEqual([]);
      expect(await store.collector.blobs.verify()).toEqual([]);
      await store.collector.close();
      expect(answers).toBeGreaterThan(KILLS);
    } finally {
      rmSync(dataDir, { recursive: true, force: true });
    }
  },
  10_000 * KILLS,
);

const endpointOf = ({ port }: Child) => `http://127.0.0.1:${port}/fedml/${keys.secretOf({ run: RUN })}/s3`;
