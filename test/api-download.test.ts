/** Over a real socket, where the server itself has a hand in lengths, ranges and the sending of files. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { CHUNK_BYTES } from "../src/blob/schema.ts";
import { ADMIN_TOKEN, startChild, type Child } from "./helpers/child.ts";
import { makeDataDir } from "./helpers/store.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const bytes = randomBytes(3 * CHUNK_BYTES + 77);
const digest = sha256(bytes);
const authorization = `Bearer ${ADMIN_TOKEN}`;

let dataDir: string;
let child: Child;
let version: string;

async function upload(content: Buffer, name: string): Promise<string> {
  const id = sha256(content);
  const chunks = Array.from({ length: Math.ceil(content.length / CHUNK_BYTES) }, (_, index) =>
    content.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
  );
  const { missing } = (await (
    await child.request(`/blobs/${id}/upload`, { size: content.length, chunks: chunks.map(sha256) })
  ).json()) as { missing: number[] };
  for (const index of missing) {
    const response = await fetch(`http://127.0.0.1:${child.port}/api/v1/blobs/${id}/chunks/${index}`, {
      method: "PUT",
      headers: { authorization, "content-type": "application/octet-stream" },
      body: new Uint8Array(chunks[index]!),
    });
    expect(response.status).toBe(204);
  }
  expect((await child.request(`/blobs/${id}/commit`, {})).status).toBeLessThan(300);
  const files = [{ path: "f.bin", size: content.length, sha256: id }];
  const logged = await child.request("/artifacts", { kind: "model", name, type: "model", files });
  return `/api/v1/artifacts/${((await logged.json()) as { id: number }).id}/versions/v1`;
}

const get = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  fetch(`http://127.0.0.1:${child.port}${path}`, { method, headers: { authorization, ...headers } });

beforeAll(async () => {
  dataDir = makeDataDir();
  child = await startChild(dataDir);
  version = await upload(bytes, "net");
});
afterAll(async () => {
  await child.kill();
  rmSync(dataDir, { recursive: true, force: true });
});

test("a file comes with its length, its tag and nothing that a browser would show", async () => {
  const response = await get(`${version}/file?path=f.bin`);
  expect(response.headers.get("content-length")).toBe(String(bytes.length));
  expect(response.headers.get("content-type")).toBe("application/octet-stream");
  expect(response.headers.get("content-disposition")).toStartWith("attachment;");
  expect(response.headers.get("etag")).toBe(`"${digest}"`);
  expect(sha256(new Uint8Array(await response.arrayBuffer()))).toBe(digest);
});

test.each<[Record<string, string>, number, [number, number]]>([
  [{ range: "bytes=10-19" }, 206, [10, 20]],
  [{ range: `bytes=${CHUNK_BYTES - 3}-` }, 206, [CHUNK_BYTES - 3, bytes.length]],
  [{ range: "bytes=-5" }, 206, [bytes.length - 5, bytes.length]],
  [{ range: "bytes=10-19", "if-range": `"${digest}"` }, 206, [10, 20]],
  [{ range: "bytes=10-19", "if-range": '"other"' }, 200, [0, bytes.length]],
  [{ range: "bytes=1-2,5-6" }, 200, [0, bytes.length]],
])("%j → %p", async (headers, status, [start, end]) => {
  const response = await get(`${version}/file?path=f.bin`, headers);
  expect(response.status).toBe(status);
  expect(response.headers.get("content-range")).toBe(
    status === 206 ? `bytes ${start}-${end - 1}/${bytes.length}` : null,
  );
  expect(Buffer.from(await response.arrayBuffer()).equals(bytes.subarray(start, end))).toBe(true);
});

test("HEAD tells the length and sends nothing", async () => {
  const socket = connect(child.port, "127.0.0.1");
  socket.write(
    `HEAD ${version}/file?path=f.bin HTTP/1.1\r\nHost: 127.0.0.1:${child.port}\r\n` +
      `Authorization: ${authorization}\r\nConnection: close\r\n\r\n`,
  );
  let text = "";
  for await (const piece of socket) text += String(piece);
  expect(text).toStartWith("HTTP/1.1 200 ");
  expect(text.toLowerCase()).toContain(`content-length: ${bytes.length}\r\n`);
  expect(text).toEndWith("\r\n\r\n");
});

test("who is in the middle of a file gets the rest of it though the version is deleted and its bytes collected", async () => {
  const other = randomBytes(6 * CHUNK_BYTES);
  const path = await upload(other, "deleted");
  const response = await get(`${path}/file?path=f.bin`);
  const reader = response.body!.getReader();
  const hash = createHash("sha256");
  hash.update((await reader.read()).value!);
  const deleted = await get(path, {}, "DELETE");
  expect(deleted.status).toBe(200);
  // As the collection does a day later.
  const id = sha256(other);
  rmSync(join(dataDir, "blobs", id.slice(0, 2), id.slice(2)));
  for (let next = await reader.read(); !next.done; next = await reader.read()) hash.update(next.value);
  expect(hash.digest("hex")).toBe(id);
  expect((await get(`${path}/file?path=f.bin`)).status).toBe(404);
  expect((await get(`${version}/file?path=f.bin`, {}, "HEAD")).status).toBe(200);
});

test("bodies beyond what fits into memory are to come again, and those under way come to their end", async () => {
  // As large as a pack may be: 33 of them are more than all bodies together may take.
  const files = Array.from({ length: 120 }, () => randomBytes(65_000));
  const pack = Buffer.concat(
    files.flatMap((bytes) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [Buffer.from(sha256(bytes), "hex"), length, bytes];
    }),
  );
  const head =
    `POST /api/v1/blobs/pack HTTP/1.1\r\nHost: 127.0.0.1:${child.port}\r\nAuthorization: ${authorization}\r\n` +
    `Content-Type: application/vnd.binnacle.blobs\r\nConnection: close\r\nContent-Length: ${pack.length}\r\n\r\n`;
  const answers = Array.from({ length: 40 }, () => {
    const socket = connect(child.port, "127.0.0.1");
    socket.write(head);
    socket.write(pack.subarray(0, 65_000));
    const answer = (async () => {
      let text = "";
      for await (const piece of socket) text += String(piece);
      return text.slice(9, 12);
    })().catch(() => "cut");
    return { socket, answer };
  });
  // Those that are refused are answered at once; with the first of them all others are under way.
  await Promise.race(answers.map(({ answer }) => answer));
  for (const { socket } of answers) socket.write(pack.subarray(65_000));
  const statuses = await Promise.all(answers.map(({ answer }) => answer));
  expect(statuses.filter((status) => status === "200").length).toBeGreaterThanOrEqual(30);
  // Who is answered in the middle of sending may find the connection gone.
  expect(statuses.filter((status) => status === "503" || status === "cut").length).toBeGreaterThanOrEqual(1);
  expect(statuses.filter((status) => !["200", "503", "cut"].includes(status))).toEqual([]);
  expect(child.stderr()).toBe("");
});
