import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getArtifactByName, getVersion } from "../src/artifact/find.ts";
import { listVersions } from "../src/artifact/list.ts";
import { logArtifact } from "../src/artifact/log.ts";
import { LogArtifact } from "../src/artifact/schema.ts";
import { setVersion } from "../src/artifact/set.ts";
import { useArtifact } from "../src/artifact/use.ts";
import { CHUNK_BYTES } from "../src/blob/schema.ts";
import { watchBlobs } from "../src/blob/watch.ts";
import { ARTIFACT_STREAM } from "../src/entry.ts";
import { appendRecords } from "../src/metric/append.ts";
import { createRun } from "../src/run/create.ts";
import { deleteRun } from "../src/run/delete.ts";
import { finishRun } from "../src/run/finish.ts";
import { pruneRuns } from "../src/run/retain.ts";
import { loudly } from "./helpers/binary.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { until } from "./helpers/launch.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const MiB = 1024 * 1024;
const HOUR = 3600_000;
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const chunksOf = (bytes: Uint8Array) =>
  Array.from(
    { length: Math.ceil(bytes.length / CHUNK_BYTES) },
    (_, index) => new Uint8Array(bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES)),
  );
const opening = (bytes: Uint8Array) => ({ size: bytes.length, chunks: chunksOf(bytes).map(sha256) });
const outcomeOf = (promise: Promise<unknown>) => promise.catch((error: unknown) => error);

let at: TestCollector;
let now: number;
beforeEach(() => {
  now = Date.now();
  at = createTestCollector({ now: () => now });
});
afterEach(() => at.close());
const collector = () => at.collector;

async function put(bytes: Uint8Array): Promise<string> {
  const digest = sha256(bytes);
  const { blobs } = collector();
  const { missing } = await blobs.open(digest, opening(bytes));
  for (const index of missing) await blobs.putChunk(digest, index, chunksOf(bytes)[index]!);
  await blobs.commit(digest);
  return digest;
}

async function log(run: string | null, name: string, content: string | Uint8Array, more: object = {}) {
  const bytes = Buffer.from(content as string);
  const digest = sha256(bytes);
  if (bytes.length > 65_536) await put(bytes);
  else collector().blobs.putSmall([{ sha256: digest, bytes }]);
  const files = [{ path: "f", size: bytes.length, sha256: digest }];
  return logArtifact(
    collector(),
    run,
    LogArtifact.parse({ kind: "model", name, type: "model", files, ...more }),
  );
}

async function addRun(id: string): Promise<void> {
  await createRun(collector(), { id });
  await finishRun(collector(), id, { status: "FINISHED" });
}

const versionsOf = async (name: string) => {
  const { id } = await getArtifactByName(collector(), "model", name);
  return (await listVersions(collector(), id)).map(({ version }) => version);
};

describe("with a run goes", () => {
  beforeEach(async () => {
    for (const id of ["1", "2"]) await addRun(id);
  });

  test("what it alone logged, and its numbers stay taken", async () => {
    await log("1", "net", "a");
    await log("1", "net", "b");
    await log("2", "net", "c");
    await deleteRun(collector(), "1", false);
    expect(await versionsOf("net")).toEqual(["v3"]);
    await deleteRun(collector(), "2", false);
    expect(await versionsOf("net")).toEqual([]);
    expect(await log(null, "net", "d")).toMatchObject({ version: "v4" });
  });

  test("nothing that an alias leads to, that no run logged, or that another run logged or uses", async () => {
    await log("1", "net", "a", { aliases: ["best"] });
    await log("1", "net", "b");
    await log("2", "net", "b");
    const { id } = await log("1", "net", "c");
    await useArtifact(collector(), "2", id, 3);
    await log(null, "net", "d");
    await useArtifact(collector(), "1", id, 4);
    await deleteRun(collector(), "1", false);
    expect(await versionsOf("net")).toEqual(["v4", "v3", "v2", "v1"]);
    const shown = await getVersion(collector(), id, 2);
    expect(shown.produced_by).toEqual(["2"]);
    expect(await getVersion(collector(), id, 3)).toMatchObject({ produced_by: [], used_by: ["2"] });
    expect((await getVersion(collector(), id, 4)).used_by).toEqual([]);
    await setVersion(collector(), id, 1, { remove_aliases: ["best"] });
    await deleteRun(collector(), "2", false);
    // Two runs had logged it, and both are gone.
    expect(await versionsOf("net")).toEqual(["v4", "v3", "v1"]);
  });

  test("all or nothing of it: a version that is logged at the same time is new, or the one that stays", async () => {
    for (let i = 0; i < 10; i++) {
      const [first, other] = [`a${i}`, `b${i}`];
      await addRun(first);
      await addRun(other);
      await log(first, "raced", `${i}`);
      const [, logged] = await Promise.all([
        deleteRun(collector(), first, false),
        log(other, "raced", `${i}`),
      ]);
      expect(await versionsOf("raced")).toContain(logged.version);
      expect((await getVersion(collector(), logged.id, Number(logged.version.slice(1)))).produced_by).toEqual(
        [other],
      );
    }
  });

  test("as many bytes as a bound on what runs take asks for, and not those that no run would free", async () => {
    await log("1", "net", randomBytes(3 * MiB));
    await log("2", "net", randomBytes(2 * MiB));
    await log(null, "kept", randomBytes(6 * MiB));
    await log("2", "named", randomBytes(6 * MiB), { aliases: ["best"] });
    await put(randomBytes(6 * MiB));
    const { pruner, blobs } = collector();
    expect(blobs.heldBytes()).toBe(5 * MiB);
    expect(await pruneRuns(collector(), { keepBytes: pruner.usedBytes() + 1 }, false)).toEqual([]);
    expect(await pruneRuns(collector(), { keepBytes: pruner.usedBytes() - MiB }, false)).toEqual(["1"]);
    expect(blobs.heldBytes()).toBe(2 * MiB);
  }, 20_000);
});

describe("collecting", () => {
  const blobs = () => collector().blobs;
  const folder = () => join(at.dataDir, "blobs");

  test("takes files that a crash left without a row, and what was on its way out, once they are old", async () => {
    const digest = await put(randomBytes(100_000));
    const orphan = "ab".padEnd(64, "0");
    mkdirSync(join(folder(), "ab"), { recursive: true });
    const paths = [join(folder(), "ab", orphan.slice(2)), join(folder(), "incoming", `${digest}.going`)];
    for (const path of paths) writeFileSync(path, "x");
    await blobs().collect();
    expect(paths.map(existsSync)).toEqual([true, false]);
    utimesSync(paths[0]!, new Date(now - 25 * HOUR), new Date(now - 25 * HOUR));
    await blobs().collect();
    expect(existsSync(paths[0]!)).toBe(false);
    expect(blobs().has(digest)).toBe(true);
  });

  test("gives up uploads of which nothing was heard for a week, and counts what they take until then", async () => {
    const bytes = randomBytes(2 * CHUNK_BYTES);
    const digest = sha256(bytes);
    await blobs().open(digest, opening(bytes));
    await blobs().putChunk(digest, 0, chunksOf(bytes)[0]!);
    expect(blobs().usedBytes()).toBeGreaterThanOrEqual(CHUNK_BYTES);
    expect(blobs().usedBytes()).toBeLessThan(CHUNK_BYTES + MiB);
    now += 2 * HOUR;
    await blobs().collect();
    const error = await outcomeOf(blobs().putChunk(digest, 1, chunksOf(bytes)[1]!));
    expect(error).toMatchObject({ code: "not-found" });
    expect((await blobs().open(digest, opening(bytes))).missing).toEqual([1]);
    now += 8 * 24 * HOUR;
    await blobs().collect();
    expect(readdirSync(join(folder(), "incoming"))).toEqual([]);
    expect(blobs().usedBytes()).toBe(0);
  });

  test("counts what is under way at a cost that hardly grows with how often that is asked", async () => {
    mkdirSync(join(folder(), "incoming"), { recursive: true });
    for (let i = 0; i < 2000; i++)
      writeFileSync(join(folder(), "incoming", `${String(i).padStart(32, "0")}.part`), "x");
    const cost = (times: number) => {
      const began = performance.now();
      for (let i = 0; i < times; i++) expect(blobs().usedBytes()).toBeGreaterThanOrEqual(2000);
      return performance.now() - began;
    };
    const once = cost(1);
    expect(cost(200)).toBeLessThan(20 * once);
    await blobs().collect();
    expect(blobs().usedBytes()).toBe(0);
  });

  test("happens by itself, a while after the start and then again", async () => {
    const seen: number[] = [];
    const end = watchBlobs({ ...blobs(), collect: async () => seen.push(now) }, () => {}, {
      firstMs: 20,
      everyMs: 20,
    });
    await until(() => seen.length >= 3);
    end();
    const count = seen.length;
    await Bun.sleep(80);
    expect(seen.length).toBe(count);
  });
});

test("of many open uploads the one that was silent longest is to be opened again", async () => {
  const { blobs } = collector();
  const all = Array.from({ length: 300 }, (_, index) => Buffer.from(`upload ${index}`.padEnd(70_000)));
  for (const bytes of all) await blobs.open(sha256(bytes), opening(bytes));
  const [first, last] = [all[0]!, all.at(-1)!];
  await blobs.putChunk(sha256(last), 0, new Uint8Array(last));
  const error = await outcomeOf(blobs.putChunk(sha256(first), 0, new Uint8Array(first)));
  expect(error).toMatchObject({ code: "not-found", hint: expect.stringContaining("open it again") });
  expect((await blobs.open(sha256(first), opening(first))).missing).toEqual([0]);
});

test("a file that had its name already when the process ended is not sent again", async () => {
  const { blobs, connection } = collector();
  const bytes = randomBytes(CHUNK_BYTES + 5);
  const digest = await put(bytes);
  connection.prepare("DELETE FROM blob WHERE sha256 = ?").run(digest);
  expect(await blobs.open(digest, opening(bytes))).toEqual({ complete: false, missing: [] });
  await blobs.commit(digest);
  expect(await blobs.verify()).toEqual([]);
  expect(blobs.usedBytes()).toBe(2 * bytes.length);
});

test("changes of artifacts are no run's: they pass the journal and its trimming without a row", async () => {
  await log(null, "net", "a");
  const { journal, counters, tidy } = collector();
  expect(journal.read(0, 10).map(({ kind, run }) => [kind, run])).toEqual([
    ["artifact.logged", ARTIFACT_STREAM],
  ]);
  expect(counters.find(ARTIFACT_STREAM)).toBeUndefined();
  await tidy(5000);
  expect(journal.read(0, 10)).toEqual([]);
  at = await at.restart();
  expect(await versionsOf("net")).toEqual(["v1"]);
});

const mount = (...args: string[]) => spawnSync("mount", args).status === 0;
const probe = makeDataDir();
const canMount = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", probe);
if (canMount) spawnSync("umount", ["-l", probe]);
else loudly("no right to mount a small disk to fill");
rmSync(probe, { recursive: true, force: true });

test.skipIf(!canMount).each([
  ["before it is, by the margin", 4 * MiB],
  ["by the file itself", 0],
])(
  "a disk that fills during an upload, met %s: the file waits, records go on, and only the rest is sent when there is room",
  async (_, minFreeBytes) => {
    const dataDir = makeDataDir();
    mount("-t", "tmpfs", "-o", "size=88m", "tmpfs", dataDir);
    const filler = join(dataDir, "filler");
    writeFileSync(filler, Buffer.alloc(44 * MiB));
    const store = openStore({ dataDir, quota: { minFreeBytes } });
    try {
      const { blobs, quota } = store.collector;
      await store.addRun("r");
      await quota.check();
      const bytes = randomBytes(6 * CHUNK_BYTES);
      const digest = sha256(bytes);
      const chunks = chunksOf(bytes);
      let open = await blobs.open(digest, opening(bytes));
      const kept: number[] = [];
      let refused: unknown;
      for (const index of open.missing) {
        refused = await outcomeOf(blobs.putChunk(digest, index, new Uint8Array(chunks[index]!)));
        if (refused) break;
        kept.push(index);
      }
      expect(refused).toMatchObject({ code: "disk-full" });
      expect(kept.length).toBeGreaterThanOrEqual(3);
      if (minFreeBytes > 0)
        expect(
          await appendRecords(store.collector, "r", {
            client: "c",
            seq: 1,
            items: [{ metrics: { loss: 1 } }],
          }),
        ).toEqual({ acked: 1 });
      rmSync(filler);
      await quota.check();
      open = await blobs.open(digest, opening(bytes));
      expect(open.missing).toEqual([0, 1, 2, 3, 4, 5].filter((index) => !kept.includes(index)));
      for (const index of open.missing) await blobs.putChunk(digest, index, new Uint8Array(chunks[index]!));
      await blobs.commit(digest);
      expect(await blobs.verify()).toEqual([]);
      expect(store.fatal).toEqual([]);
    } finally {
      await store.close();
      // Lazily: libSQL lets go of its descriptors only with the process.
      spawnSync("umount", ["-l", dataDir]);
      rmSync(dataDir, { recursive: true, force: true });
    }
  },
  30_000,
);
