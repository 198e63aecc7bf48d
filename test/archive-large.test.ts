/**
 * A run of a million points and a file of 512 MiB goes from one collector to another over HTTP, each a process of its own, so
 * that its memory can be measured; and kill -9 at moments of the import.
 */
import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CHUNK_BYTES } from "../src/blob/schema.ts";
import { exitCodeOf } from "../src/cli/error.ts";
import { exportRun, importRun } from "../src/client/typescript/archive.ts";
import { tracesOf } from "./helpers/archive.ts";
import { ADMIN_TOKEN, startChild, type Child } from "./helpers/child.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const MiB = 1024 * 1024;
const POINTS = 1_000_000;
const FILE_CHUNKS = 64;
const KILLS = Number(process.env["KILLS"] ?? 12);

const folders: string[] = [];
const children: Child[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) await child.kill();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

async function start(dataDir = makeDataDir()): Promise<Child & { dataDir: string }> {
  if (!folders.includes(dataDir)) folders.push(dataDir);
  const child = await startChild(dataDir);
  children.push(child);
  return { ...child, dataDir };
}

const connectionOf = ({ port }: Child) => ({ url: `http://127.0.0.1:${port}`, token: ADMIN_TOKEN });

async function post(child: Child, path: string, body: unknown): Promise<void> {
  const response = await child.request(path, body);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
}

/** Five metrics of each record, NaN among them. */
async function logPoints(child: Child, run: string, points: number): Promise<void> {
  await post(child, "/runs", { id: run, writer: { client: "w" } });
  for (let seq = 1, at = 0; at < points / 5; seq++) {
    const items = Array.from({ length: Math.min(4000, points / 5 - at) }, (_, i) => ({
      time: 1.7e12 + 13.5 * (at + i),
      metrics: {
        loss: 1 / (at + i + 1),
        accuracy: (at + i) % 9 === 0 ? "NaN" : Math.sin(at + i),
        rate: 0.001,
        "norm/grad": Math.sqrt(at + i),
        epoch: Math.floor((at + i) / 1000),
      },
    }));
    await post(child, `/runs/${run}/records`, { client: "w", seq, items });
    at += items.length;
  }
}

/** Chunks of which no two are the same. */
async function logLargeFile(child: Child, run: string, count: number): Promise<string> {
  const whole = createHash("sha256");
  const piece = new Uint8Array(CHUNK_BYTES).map((_, i) => (i * 2654435761) >>> 13);
  const chunkOf = (index: number) => {
    new DataView(piece.buffer).setUint32(0, index);
    return piece;
  };
  const chunks: string[] = [];
  for (let index = 0; index < count; index++) {
    whole.update(chunkOf(index));
    chunks.push(createHash("sha256").update(chunkOf(index)).digest("hex"));
  }
  const sha256 = whole.digest("hex");
  const size = count * CHUNK_BYTES;
  await post(child, `/blobs/${sha256}/upload`, { size, chunks });
  for (let index = 0; index < count; index++) {
    const response = await fetch(`http://127.0.0.1:${child.port}/api/v1/blobs/${sha256}/chunks/${index}`, {
      method: "PUT",
      body: chunkOf(index),
      headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/octet-stream" },
    });
    expect(response.status).toBe(204);
  }
  await post(child, `/blobs/${sha256}/commit`, {});
  await post(child, `/runs/${run}/artifacts`, {
    kind: "model",
    name: "net",
    type: "model",
    files: [{ path: "weights.bin", size, sha256 }],
  });
  return sha256;
}

/** Most memory it ever had, MiB; undefined where the kernel does not tell. */
function peakOf({ process: { pid } }: Child): number | undefined {
  const path = `/proc/${pid}/status`;
  if (!existsSync(path)) return undefined;
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(path, "utf8"))![1]) / 1024;
}

/**
 * The same data in a collector that has sealed all of it: where less is, the edge of a bucket lies a node off, and charts of equal
 * points differ.
 */
async function sealed(child: Child & { dataDir: string }): Promise<Child & { dataDir: string }> {
  await child.kill();
  const store = openStore({ dataDir: child.dataDir });
  await store.collector.tidy(60_000);
  await store.close();
  return start(child.dataDir);
}

const answersOf = async (child: Child, run: string) => {
  const answers: string[] = [];
  for (const path of [
    `/runs/${run}`,
    `/runs/${run}/metrics`,
    // Every point, and the charts made of them.
    ...["loss", "accuracy", "rate", "norm/grad", "epoch"].flatMap((key) =>
      ["", "&points=700", "&points=300&x=time&from=1700000100000"].map(
        (query) => `/runs/${run}/points?key=${encodeURIComponent(key)}${query}`,
      ),
    ),
  ])
    answers.push(
      createHash("sha256")
        .update(await (await child.request(path)).text())
        .digest("hex"),
    );
  return answers;
};

test("a million points and 512 MiB come across in bounded memory, exactly", async () => {
  let [from, to] = [await start(), await start()];
  await logPoints(from, "large", POINTS);
  const sha256 = await logLargeFile(from, "large", FILE_CHUNKS);
  await post(from, "/runs/large/finish", {});
  const folder = mkdtempSync(join(tmpdir(), "binnacle-archive-"));
  folders.push(folder);
  const file = join(folder, "large.zip");
  const size = await exportRun(connectionOf(from), "large", file);
  expect(size).toBe(statSync(file).size);
  expect(size).toBeGreaterThan(512 * MiB);
  expect(readdirSync(folder)).toEqual(["large.zip"]);

  const imported = await importRun(connectionOf(to), file);
  expect(imported).toMatchObject({
    run: "large",
    points: POINTS,
    versions: [{ version: "v1", is_new: true }],
  });
  for (const child of [from, to]) {
    const peak = peakOf(child);
    // The file alone is 512: whoever held it, or the zip, would be above.
    if (peak !== undefined) expect(peak).toBeLessThan(480);
  }
  expect(readdirSync(join(to.dataDir, "imports"))).toEqual([]);
  [from, to] = [await sealed(from), await sealed(to)];
  expect(await answersOf(to, "large")).toEqual(await answersOf(from, "large"));
  const { id } = imported.versions[0]!;
  const download = await fetch(
    `http://127.0.0.1:${to.port}/api/v1/artifacts/${id}/versions/v1/file?path=weights.bin`,
    { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } },
  );
  const hash = createHash("sha256");
  for await (const part of download.body!) hash.update(part);
  expect(hash.digest("hex")).toBe(sha256);
}, 300_000);

test(
  `kill -9 during ${KILLS} imports leaves the run whole or not at all, and room for the next`,
  async () => {
    const from = await start();
    await logPoints(from, "killed", 200_000);
    await post(from, "/runs/killed/finish", {});
    const folder = mkdtempSync(join(tmpdir(), "binnacle-archive-"));
    folders.push(folder);
    const file = join(folder, "killed.zip");
    await exportRun(connectionOf(from), "killed", file);
    const expected = await answersOf(await sealed(from), "killed");

    let to = await start();
    const begun = performance.now();
    const { run: probe } = await importRun(connectionOf(to), file, { newId: true });
    const takes = performance.now() - begun;
    await post(to, `/runs/${probe}/finish`, {});
    let whole = 0;
    for (let kill = 0; kill < KILLS && whole === 0; kill++) {
      const importing = importRun(connectionOf(to), file).then(
        () => true,
        () => false,
      );
      // From the beginning to a little past the end.
      await Bun.sleep((1.1 * takes * (kill + 0.5)) / KILLS);
      await to.kill();
      const answered = await importing;
      to = await start(to.dataDir);
      const response = await to.request("/runs/killed");
      if (response.status === 200) {
        whole++;
        to = await sealed(to);
        expect(await answersOf(to, "killed")).toEqual(expected);
      } else {
        expect([response.status, answered]).toEqual([404, false]);
        const { runs } = (await (await to.request("/runs")).json()) as { runs: { id: string }[] };
        expect(runs.map(({ id }) => id)).toEqual([probe]);
      }
    }
    if (whole === 0) {
      await retried(() => importRun(connectionOf(to), file));
      to = await sealed(to);
      expect(await answersOf(to, "killed")).toEqual(expected);
    }
    await to.kill();
    // Nothing of the tries is left besides the runs that are there.
    const store = openStore({ dataDir: to.dataDir });
    expect(tracesOf(store.collector, "killed")).not.toContain("unfinished_import");
    expect(readdirSync(to.dataDir)).not.toContain("imports");
    await store.close();
  },
  120_000 + 15_000 * KILLS,
);

/** What a killed import left is removed in the background: until then its id is not free. */
async function retried<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++)
    try {
      return await work();
    } catch (error) {
      if (tries > 50 || (error as { code?: string }).code !== "busy") throw error;
      await Bun.sleep(100);
    }
}

test.each([["damaged"], ["gone"]])(
  "an export that meets a file that is %s writes nothing, and says which",
  async (how) => {
    const from = await start();
    await logPoints(from, "damaged", 100);
    const sha256 = await logLargeFile(from, "damaged", 2);
    const path = join(from.dataDir, "blobs", sha256.slice(0, 2), sha256.slice(2));
    if (how === "gone") rmSync(path);
    else {
      const descriptor = openSync(path, "r+");
      writeSync(descriptor, "damage", 5 * MiB);
      closeSync(descriptor);
    }
    const folder = mkdtempSync(join(tmpdir(), "binnacle-archive-"));
    folders.push(folder);
    const failure = await exportRun(connectionOf(from), "damaged", join(folder, "x.zip")).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({
      code: "damaged",
      message: expect.stringMatching(
        new RegExp(`^The file "weights.bin" of the model net v1 is damaged or gone: .*${sha256}`),
      ),
    });
    expect(exitCodeOf(failure)).toBe(1);
    expect(readdirSync(folder)).toEqual([]);
  },
  60_000,
);
