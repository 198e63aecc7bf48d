import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createCipheriv, createHash } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deleteVersion } from "../src/artifact/delete.ts";
import { blobPath } from "../src/blob/path.ts";
import { CHUNK_BYTES } from "../src/blob/schema.ts";
import { startContent, type ContentLane } from "../src/relay/content.ts";
import { createHttp } from "../src/relay/http.ts";
import { logFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const SOURCE = "0123456789abcdef0123456789abcdef";

interface Request {
  method: string;
  /** Below …/content. */
  path: string;
  bytes: number;
}

let here: TestCollector;
let there: TestCollector;
let server: ReturnType<typeof Bun.serve>;
let requests: Request[];
/** May answer in the platform's place. */
let answer: (request: Request) => Response | undefined;
let lanes: { lane: ContentLane; stop: AbortController }[];

beforeEach(() => {
  here = createTestCollector();
  there = createTestCollector();
  requests = [];
  lanes = [];
  answer = () => undefined;
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    reusePort: false,
    async fetch(request) {
      const { pathname } = new URL(request.url);
      const path = pathname.replace(`/relay/v1/sources/${SOURCE}/content`, "");
      const body = new Uint8Array(await request.arrayBuffer());
      const seen = { method: request.method, path, bytes: body.length };
      requests.push(seen);
      const own = answer(seen);
      if (own) return own;
      const headers = new Headers(request.headers);
      headers.set("authorization", `Bearer ${there.trust.tokens.admin}`);
      return there.app.request(`/api/v1/blobs${path.replace(/^\/blobs/, "")}`, {
        method: request.method,
        headers,
        body,
      });
    },
  });
});

afterEach(async () => {
  for (const { lane, stop } of lanes) {
    stop.abort();
    await lane.ended;
  }
  await server.stop(true);
  await here.close();
  await there.close();
});

/** `until` resolves when the lane's status is as wanted. */
function begin() {
  const { collector } = here;
  const stop = new AbortController();
  let look = () => {};
  const http = createHttp({ url: `http://127.0.0.1:${server.port}`, token: () => "a token of the source" });
  const lane = startContent(
    {
      collector,
      http,
      source: () => SOURCE,
      clock: {
        monotonic: () => performance.now(),
        now: Date.now,
        sleep: (ms, signal) =>
          new Promise((resolve) => {
            if (signal.aborted) return resolve();
            const timer = setTimeout(resolve, Math.min(ms, 2 ** 30));
            signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
          }),
      },
      // No pause after a failure.
      random: () => 0,
      onChange: () => look(),
    },
    stop.signal,
  );
  lanes.push({ lane, stop });
  const until = (wanted: (status: NonNullable<ReturnType<ContentLane["status"]>>) => boolean) =>
    new Promise<void>((resolve) => {
      look = () => {
        const status = lane.status();
        if (status && wanted(status)) resolve();
      };
      look();
    });
  return { lane, stop, until, done: () => until(({ files }) => files === 0) };
}

const contentsOf = (at: TestCollector): string[] =>
  (at.collector.connection.prepare("SELECT sha256 FROM blob ORDER BY sha256").all() as { sha256: string }[])
    .map(({ sha256 }) => sha256)
    .filter((sha256) => at.collector.blobs.has(sha256));

/** The same for the same seed. */
function noise(bytes: number, seed: number): Uint8Array<ArrayBuffer> {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16));
  return new Uint8Array(cipher.update(Buffer.alloc(bytes)));
}

const sha256Of = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** A file of several chunks, as a client brings it. */
async function keepLarge(at: TestCollector, bytes: Uint8Array<ArrayBuffer>) {
  const { blobs } = at.collector;
  const sha256 = sha256Of(bytes);
  const pieces = Array.from({ length: Math.ceil(bytes.length / CHUNK_BYTES) }, (_, i) =>
    bytes.slice(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES),
  );
  await blobs.open(sha256, { size: bytes.length, chunks: pieces.map(sha256Of) });
  for (const [i, piece] of pieces.entries()) await blobs.putChunk(sha256, i, piece);
  await blobs.commit(sha256);
  return { path: "large.bin", size: bytes.length, sha256 };
}

describe("files of versions", () => {
  test("arrive whole, each once, whatever versions have them; what is there already is not sent", async () => {
    const shared = noise(300_000, 1);
    await logFiles(here.collector, null, "net", { files: { "a.txt": "one", "w.bin": shared } });
    await logFiles(here.collector, null, "net", { files: { "b.txt": "two", "copy.bin": shared } });
    await logFiles(there.collector, null, "theirs", { files: { "b.txt": "two" } });
    const { done, stop, lane } = begin();
    await done();
    expect(contentsOf(there)).toEqual(contentsOf(here));
    expect(lane.status()).toEqual({ files: 0, bytes: 0, error: null });
    const packed = requests.filter(({ path }) => path === "/pack").reduce((sum, { bytes }) => sum + bytes, 0);
    expect(packed).toBe(36 + "one".length);
    expect(requests.filter(({ method }) => method === "PUT").map(({ bytes }) => bytes)).toEqual([300_000]);
    stop.abort();
    await lane.ended;

    requests.length = 0;
    await begin().done();
    expect(requests.map(({ path }) => path)).toEqual(["/missing"]);
  });

  test("that are logged later go then, and a version is read back as it was", async () => {
    const { done, until } = begin();
    await done();
    const large = await keepLarge(here, noise(2 * CHUNK_BYTES + 17, 3));
    await here.json("/api/v1/artifacts", {
      body: { kind: "model", type: "model", name: "big", files: [large] },
    });
    await until(({ files }) => files === 0 && there.collector.blobs.has(large.sha256));
    const bytes = await new Response(there.collector.blobs.read(large.sha256)).bytes();
    expect(sha256Of(bytes)).toBe(large.sha256);
  });

  test("go on where they broke off: chunks that are there are not sent again", async () => {
    const large = await keepLarge(here, noise(5 * CHUNK_BYTES, 5));
    await here.json("/api/v1/artifacts", {
      body: { kind: "model", type: "model", name: "big", files: [large] },
    });
    const refused: string[] = [];
    // The first try of each chunk but the first is not taken.
    answer = ({ method, path }) => {
      if (method !== "PUT" || path.endsWith("/0") || refused.includes(path)) return undefined;
      refused.push(path);
      return new Response(null, { status: 503 });
    };
    const { done } = begin();
    await done();
    expect(there.collector.blobs.has(large.sha256)).toBe(true);
    expect(refused.length).toBe(4);
    expect(requests.filter(({ method }) => method === "PUT").length).toBe(5 + 4);
  });

  test("never more than four chunks are under way", async () => {
    const large = await keepLarge(here, noise(9 * CHUNK_BYTES, 7));
    await here.json("/api/v1/artifacts", {
      body: { kind: "model", type: "model", name: "big", files: [large] },
    });
    let now = 0;
    let most = 0;
    const { putChunk } = there.collector.blobs;
    there.collector.blobs.putChunk = async (...args) => {
      most = Math.max(most, ++now);
      await putChunk(...args);
      now--;
    };
    await begin().done();
    expect(there.collector.blobs.has(large.sha256)).toBe(true);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(4);
  });

  test("that are damaged or gone here are told by name, the others go, and nobody asks on and on", async () => {
    const files = {
      "good.bin": noise(200_000, 1),
      "bad.bin": noise(200_000, 2),
      "gone.bin": noise(200_000, 3),
    };
    await logFiles(here.collector, null, "net", { files });
    const folder = join(here.dataDir, "blobs");
    writeFileSync(blobPath(folder, sha256Of(files["bad.bin"])), noise(200_000, 4));
    rmSync(blobPath(folder, sha256Of(files["gone.bin"])));
    const { done, lane, until } = begin();
    await done();
    expect(contentsOf(there)).toEqual([sha256Of(files["good.bin"])]);
    expect(lane.status()).toMatchObject({ files: 0, bytes: 0 });
    const { error } = lane.status()!;
    expect(error).toContain("bad.bin of the model net:v1 is damaged or gone here");
    expect(error).toContain("gone.bin of the model net:v1 is damaged or gone here");
    expect(error).not.toContain("good.bin");
    // A version that has them again, whole, mends it.
    await logFiles(here.collector, null, "again", { files });
    lane.again();
    await until(({ error }) => error === null);
    expect(contentsOf(there).length).toBe(3);
  });

  test("that the platform refuses do not hold up the others", async () => {
    await logFiles(here.collector, null, "net", { files: { "a.txt": "one", "b.txt": "two" } });
    let packs = 0;
    // Both together, then the first alone.
    answer = ({ path }) =>
      path === "/pack" && packs++ < 2
        ? Response.json({ type: "urn:binnacle:invalid", detail: "not this one" }, { status: 422 })
        : undefined;
    const { done, lane } = begin();
    await done();
    expect(contentsOf(there).length).toBe(1);
    expect(lane.status()!.error).toMatch(/of the model net:v1 is refused by the platform: not this one/);
  });

  test("of versions that are deleted meanwhile are left, and their absence is nothing to tell", async () => {
    const { id } = await logFiles(here.collector, null, "net", { files: { "a.bin": noise(200_000, 1) } });
    const sha256 = sha256Of(noise(200_000, 1));
    answer = ({ method }) => {
      if (method !== "PUT") return undefined;
      return new Response(null, { status: 503 });
    };
    const { lane, until } = begin();
    await until(({ error }) => error !== null);
    await deleteVersion(here.collector, id, 1, { force: true });
    rmSync(blobPath(join(here.dataDir, "blobs"), sha256));
    answer = () => undefined;
    await until(({ files, error }) => files === 0 && error === null);
    expect(lane.status()).toEqual({ files: 0, bytes: 0, error: null });
    expect(contentsOf(there)).toEqual([]);
  });

  test("are counted once, however often they were tried", async () => {
    const { done, until, lane } = begin();
    await done();
    let asked = 0;
    const counts: (number | null)[] = [];
    answer = ({ path }) => {
      if (path !== "/pack") return undefined;
      counts.push(lane.status()!.files);
      return ++asked < 5 ? new Response(null, { status: 503 }) : undefined;
    };
    await logFiles(here.collector, null, "net", { files: { "a.txt": "one" } });
    await until(({ files, error }) => asked === 5 && files === 0 && error === null);
    expect(counts).toEqual([1, 1, 1, 1, 1]);
  });

  test("that nobody could count tell why: a refusal that passes is waited for in minutes, and entries get through meanwhile", async () => {
    await logFiles(here.collector, null, "net", { files: { "a.txt": "one" } });
    answer = ({ path }) => (path === "/missing" ? new Response(null, { status: 401 }) : undefined);
    const { lane, until, done } = begin();
    await until(({ error }) => error !== null);
    expect(lane.status()).toEqual({ files: null, bytes: null, error: expect.stringContaining("401") });
    answer = () => undefined;
    lane.again();
    await done();
    expect(lane.status()).toEqual({ files: 0, bytes: 0, error: null });
    expect(contentsOf(there).length).toBe(1);
  }, 5000);

  test("wait while the platform says that there is no room, for as long as it says", async () => {
    await logFiles(here.collector, null, "net", { files: { "a.txt": "one" } });
    let asked = 0;
    answer = ({ path }) =>
      path === "/pack" && asked++ < 2
        ? Response.json({ type: "urn:binnacle:disk-full", detail: "The disk is full." }, { status: 507 })
        : undefined;
    const { done, until } = begin();
    await until(({ error }) => error === "The disk is full.");
    await done();
    expect(asked).toBe(3);
    expect(contentsOf(there).length).toBe(1);
  });
});
