/**
 * kill -9 of the collector at random moments while files are uploaded: after so many answers, however long a busy machine takes. The oracle: a version that was answered 2xx is whole, byte
 * for byte; one without an answer is whole or not there; a chunk that was answered 204 is not asked for again.
 */
import { expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CHUNK_BYTES, PACK_TYPE } from "../src/blob/schema.ts";
import { ADMIN_TOKEN, startChild, type Child } from "./helpers/child.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const KILLS = Number(process.env.KILLS ?? 25);
const UPLOADERS = 3;
/** A version takes five to eight. */
const MAX_ANSWERS = 16;

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

interface Version {
  name: string;
  /** From these bytes the files are made again: to keep them all would fill the memory. */
  seed: string;
  chunks: number;
  /** Chunks that were answered 204. */
  acked: Set<number>;
  state: "open" | "acked";
}

/** Files of a version: a large one and some small. */
function filesOf({ seed, chunks }: Version): { path: string; bytes: Buffer }[] {
  const noise = createHash("sha512").update(seed).digest();
  const large = Buffer.alloc((chunks - 1) * CHUNK_BYTES + 70_000, noise);
  for (let at = 0; at < large.length; at += 1_000_000) large.write(`${seed} ${at}`, at);
  const small = [0, 1, 2].map((index) => ({
    path: `d/small-${index}`,
    bytes: Buffer.from(`${seed} ${index}`),
  }));
  return [{ path: "large.bin", bytes: large }, ...small];
}

const chunksOf = (bytes: Buffer) =>
  Array.from({ length: Math.ceil(bytes.length / CHUNK_BYTES) }, (_, index) =>
    bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
  );

class Gone extends Error {}

/** Called with each answer. */
let onAnswer = () => {};

/** Resolves a moment after so many answers, so that what comes next may be anywhere on its way. */
async function answers(count: number): Promise<void> {
  const began = performance.now();
  await new Promise<void>((resolve) => {
    let left = count;
    onAnswer = () => {
      if (--left === 0) resolve();
    };
  });
  await Bun.sleep((Math.random() * UPLOADERS * (performance.now() - began)) / count);
}

async function call(
  child: Child,
  path: string,
  init: RequestInit & { body?: unknown } = {},
): Promise<Response> {
  try {
    const response = await fetch(`http://127.0.0.1:${child.port}/api/v1${path}`, {
      ...init,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}`, ...(init.headers as Record<string, string>) },
    });
    // An answer that was cut off is none.
    const body = response.status === 204 ? null : await response.arrayBuffer();
    onAnswer();
    return new Response(body, { status: response.status });
  } catch (error) {
    throw new Gone("the collector is gone", { cause: error });
  }
}

const post = async (child: Child, path: string, body: unknown = {}) => {
  const headers = { "content-type": "application/json" };
  const response = await call(child, path, { method: "POST", headers, body: JSON.stringify(body) });
  expect(response.status, await response.clone().text()).toBeLessThan(300);
  return (await response.json()) as any;
};

const counts = { chunks: 0, resumed: 0, spared: 0 };

/** Uploads and logs a version, from wherever it stands. */
async function bring(child: Child, version: Version): Promise<void> {
  const files = filesOf(version);
  const [large, ...small] = files as [(typeof files)[0], ...typeof files];
  const digest = sha256(large.bytes);
  const chunks = chunksOf(large.bytes);
  const opened = await post(child, `/blobs/${digest}/upload`, {
    size: large.bytes.length,
    chunks: chunks.map(sha256),
  });
  const missing = new Set<number>(opened.missing);
  // What was answered is here, however the collector ended.
  for (const index of version.acked)
    expect(missing.has(index), `chunk ${index} of ${version.name} again`).toBe(false);
  if (version.acked.size > 0) counts.resumed++;
  counts.spared += version.acked.size;
  const next = [...missing];
  const sending = [0, 1].map(async () => {
    for (let index = next.shift(); index !== undefined; index = next.shift()) {
      const headers = { "content-type": "application/octet-stream" };
      const body = new Uint8Array(chunks[index]!);
      const response = await call(child, `/blobs/${digest}/chunks/${index}`, {
        method: "PUT",
        headers,
        body,
      });
      expect(response.status).toBe(204);
      version.acked.add(index);
      counts.chunks++;
    }
  });
  // Both are gone at the same moment, and neither may be left to fail alone.
  for (const { status, reason } of (await Promise.allSettled(sending)) as {
    status: string;
    reason?: unknown;
  }[])
    if (status === "rejected") throw reason;
  if (!opened.complete) await post(child, `/blobs/${digest}/commit`);
  const pack = Buffer.concat(
    small.flatMap(({ bytes }) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [Buffer.from(sha256(bytes), "hex"), length, bytes];
    }),
  );
  const packed = await call(child, "/blobs/pack", {
    method: "POST",
    headers: { "content-type": PACK_TYPE },
    body: pack,
  });
  expect(packed.status).toBe(200);
  await post(child, "/runs/1/artifacts", {
    kind: "model",
    name: version.name,
    type: "model",
    files: files.map(({ path, bytes }) => ({ path, size: bytes.length, sha256: sha256(bytes) })),
  });
  version.state = "acked";
}

/** Everything that is listed is whole, and everything that was answered is listed. */
async function check(child: Child, versions: Version[]): Promise<void> {
  const get = async (path: string) => {
    const response = await call(child, path);
    expect(response.status, path).toBe(200);
    return response;
  };
  const { artifacts } = (await (await get("/artifacts?limit=1000")).json()) as any;
  const listed = new Map<string, any>(artifacts.map((each: any) => [each.name, each]));
  for (const version of versions) {
    const found = listed.get(version.name);
    if (version.state === "acked") expect(found, version.name).toBeDefined();
    if (!found) continue;
    expect(found.latest).toMatchObject({ version: "v1", files: 4 });
    for (const { path, bytes } of filesOf(version)) {
      const response = await get(`/artifacts/${found.id}/versions/v1/file?path=${encodeURIComponent(path)}`);
      expect(sha256(new Uint8Array(await response.arrayBuffer())), `${version.name} ${path}`).toBe(
        sha256(bytes),
      );
    }
  }
}

test(
  `${KILLS} kills during uploads lose nothing that was answered, and send no chunk twice`,
  async () => {
    const dataDir = makeDataDir();
    let child = await startChild(dataDir);
    await post(child, "/runs", { id: "1" });
    const versions: Version[] = [];
    const current: (Version | undefined)[] = Array.from({ length: UPLOADERS }, () => undefined);

    async function upload(uploader: number): Promise<void> {
      try {
        for (;;) {
          let version = current[uploader];
          if (!version) {
            const seed = randomBytes(16).toString("hex");
            version = {
              name: `m-${versions.length}`,
              seed,
              chunks: 1 + (versions.length % 4),
              acked: new Set(),
              state: "open",
            };
            current[uploader] = version;
            versions.push(version);
          }
          await bring(child, version);
          current[uploader] = undefined;
        }
      } catch (error) {
        if (!(error instanceof Gone)) throw error;
      }
    }

    for (let kill = 1; kill <= KILLS; kill++) {
      const uploading = Promise.all(current.map((_, uploader) => upload(uploader)));
      // A collector that ends by itself is no kill: what it said of it is looked at below.
      await Promise.race([answers(1 + Math.floor(Math.random() * MAX_ANSWERS)), uploading]);
      await child.kill();
      await uploading;
      expect(child.stderr()).toBe("");
      child = await startChild(dataDir);
      // All of them at the end; the last ones, which the kill may have met, each time.
      await check(child, kill === KILLS ? versions : versions.slice(-2 * UPLOADERS));
    }
    for (const version of current) if (version) await bring(child, version);
    await check(child, versions);
    const acked = versions.filter(({ state }) => state === "acked").length;
    console.log(
      `${KILLS} kills: ${versions.length} versions, ${counts.chunks} chunks answered; ${counts.resumed} uploads resumed, which ${counts.spared} chunks were not sent to again`,
    );
    expect(acked).toBe(versions.length);
    expect(versions.length).toBeGreaterThan(KILLS / 2);
    expect(counts.spared).toBeGreaterThan(0);
    await child.kill();

    const store = openStore({ dataDir });
    const { connection, blobs } = store.collector;
    expect(await blobs.verify()).toEqual([]);
    expect(connection.prepare("PRAGMA integrity_check").raw(true).get()).toEqual(["ok"]);
    expect(connection.prepare("PRAGMA foreign_key_check").all()).toEqual([]);
    const incoming = join(dataDir, "blobs", "incoming");
    expect(existsSync(incoming) ? readdirSync(incoming) : []).toEqual([]);
    await store.close();
    rmSync(dataDir, { recursive: true, force: true });
  },
  60_000 + KILLS * 10_000,
);
