import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipReader } from "@zip.js/zip.js";
import { CHUNK_BYTES, MAX_FILE_BYTES, PACK_TYPE } from "../src/blob/schema.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const base64 = (digest: string) => Buffer.from(digest, "hex").toString("base64");

let at: TestCollector;
beforeAll(async () => {
  at = createTestCollector();
  for (const id of ["1", "2"]) await at.json("/api/v1/runs", { body: { id } });
});
afterAll(() => at.close());

interface Send {
  method?: string;
  type?: string;
  token?: string;
  headers?: Record<string, string>;
}

/** A request with bytes as its body. */
const send = async (
  path: string,
  body: Uint8Array | ReadableStream,
  { method = "POST", type, token, headers }: Send = {},
) =>
  at.app.request(`/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${token ?? at.trust.tokens.admin}`,
      ...(type !== undefined && { "content-type": type }),
      ...headers,
    },
    body: body as never,
  });

const put = (digest: string, index: number | string, bytes: Uint8Array, options: Send = {}) =>
  send(`/blobs/${digest}/chunks/${index}`, bytes, {
    method: "PUT",
    type: "application/octet-stream",
    ...options,
  });

const pack = (...files: Uint8Array[]) =>
  Buffer.concat(
    files.flatMap((bytes) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [Buffer.from(sha256(bytes), "hex"), length, bytes];
    }),
  );

const chunksOf = (bytes: Uint8Array) =>
  Array.from({ length: Math.ceil(bytes.length / CHUNK_BYTES) }, (_, index) =>
    bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
  );

const opening = (bytes: Uint8Array) => ({ size: bytes.length, chunks: chunksOf(bytes).map(sha256) });

async function upload(bytes: Uint8Array): Promise<string> {
  const digest = sha256(bytes);
  const { missing } = await at.json(`/api/v1/blobs/${digest}/upload`, { body: opening(bytes) });
  for (const index of missing) expect((await put(digest, index, chunksOf(bytes)[index]!)).status).toBe(204);
  await at.json(`/api/v1/blobs/${digest}/commit`, { method: "POST" });
  return digest;
}

/** Keeps the contents and logs them; where there is a run, as its. */
async function log(
  name: string,
  contents: Record<string, string | Uint8Array>,
  { run = "", ...more }: Record<string, unknown> = {},
) {
  const files = Object.entries(contents).map(([path, content]) => ({
    path,
    bytes: Buffer.from(content as string),
  }));
  expect(
    (await send("/blobs/pack", pack(...files.map(({ bytes }) => bytes)), { type: PACK_TYPE })).status,
  ).toBe(200);
  return at.json(run === "" ? "/api/v1/artifacts" : `/api/v1/runs/${run as string}/artifacts`, {
    body: {
      kind: "model",
      name,
      type: "model",
      files: files.map(({ path, bytes }) => ({ path, size: bytes.length, sha256: sha256(bytes) })),
      ...more,
    },
  });
}

const problem = async (response: Response | Promise<Response>) => {
  const { status, detail, hint } = (await (await response).json()) as Record<string, unknown>;
  expect(hint).toBeString();
  return `${status as number} ${detail as string}`;
};

const big = randomBytes(2 * CHUNK_BYTES + 1234);

describe("bytes come", () => {
  test("in chunks, of which only the missing ones are asked for, and are committed once", async () => {
    const digest = sha256(big);
    const chunks = chunksOf(big);
    expect(await at.json("/api/v1/blobs/missing", { body: { sha256: [digest] } })).toEqual({
      missing: [digest],
    });
    const open = () => at.json(`/api/v1/blobs/${digest}/upload`, { body: opening(big) });
    expect(await open()).toEqual({ complete: false, missing: [0, 1, 2] });
    expect((await put(digest, 2, chunks[2]!)).status).toBe(204);
    expect((await put(digest, 2, chunks[2]!)).status).toBe(204);
    expect(await open()).toEqual({ complete: false, missing: [0, 1] });
    expect(await problem(at.request(`/api/v1/blobs/${digest}/commit`, { method: "POST" }))).toContain(
      "409 2 chunks",
    );
    await Promise.all([0, 1].map((index) => put(digest, index, chunks[index]!)));
    const commits = await Promise.all(
      [0, 1].map(() => at.request(`/api/v1/blobs/${digest}/commit`, { method: "POST" })),
    );
    expect(commits.map(({ status }) => status)).toEqual([201, 201]);
    expect(await commits[0]!.json()).toEqual({ sha256: digest, size: big.length });
    expect((await at.request(`/api/v1/blobs/${digest}/commit`, { method: "POST" })).status).toBe(200);
    expect(await open()).toEqual({ complete: true, missing: [] });
  });

  test("as a stream without a length", async () => {
    const bytes = randomBytes(100_000);
    const digest = sha256(bytes);
    await at.json(`/api/v1/blobs/${digest}/upload`, { body: opening(bytes) });
    const stream = new ReadableStream({
      start(controller) {
        for (let from = 0; from < bytes.length; from += 7000)
          controller.enqueue(new Uint8Array(bytes.subarray(from, from + 7000)));
        controller.close();
      },
    });
    const response = await send(`/blobs/${digest}/chunks/0`, stream, {
      method: "PUT",
      type: "application/octet-stream",
    });
    expect(response.status).toBe(204);
    await at.json(`/api/v1/blobs/${digest}/commit`, { method: "POST" });
  });

  test("in packs of small files, an empty one too", async () => {
    const files = [Buffer.from("a"), Buffer.from(""), randomBytes(65_536)];
    const response = await send("/blobs/pack", pack(...files), { type: PACK_TYPE });
    expect(await response.json()).toEqual({ stored: 3 });
    expect(await at.json("/api/v1/blobs/missing", { body: { sha256: files.map(sha256) } })).toEqual({
      missing: [],
    });
    expect(await (await send("/blobs/pack", new Uint8Array(), { type: PACK_TYPE })).json()).toEqual({
      stored: 0,
    });
  });

  test("of the largest file there may be: the list of its chunks fits into a request", async () => {
    const digest = sha256(Buffer.from("as large as it gets"));
    const chunk = sha256(Buffer.from("a chunk"));
    const count = MAX_FILE_BYTES / CHUNK_BYTES;
    const chunks = Array.from({ length: count }, () => chunk);
    // Python's JSON has a space behind each comma.
    const body = `{"size": ${MAX_FILE_BYTES}, "chunks": ${JSON.stringify(chunks).replaceAll(",", ", ")}}`;
    const { complete, missing } = await at.json(`/api/v1/blobs/${digest}/upload`, { body });
    expect([complete, missing.length]).toEqual([false, count]);
  });

  describe("wrongly, and are refused", () => {
    const small = randomBytes(100_000);
    const digest = sha256(small);
    beforeAll(() => at.json(`/api/v1/blobs/${digest}/upload`, { body: opening(small) }));

    test.each<[string, () => Promise<Response>, string]>([
      ["a digest that is a path", () => put("..%2f..%2ftoken", 0, small), "400 That is no path"],
      ["a digest in capitals", () => put(digest.toUpperCase(), 0, small), "400 That is no SHA-256"],
      ["a chunk that is no number", () => put(digest, "x", small), "400 That is no number"],
      ["a chunk beyond the end", () => put(digest, 1, small), "400 There is no chunk 1"],
      ["a chunk too short", () => put(digest, 0, small.subarray(1)), "400 Chunk 0 has 99999 bytes"],
      [
        "a chunk changed",
        () => put(digest, 0, Buffer.from(small).fill(7, 0, 1).fill(8, 1, 2)),
        "400 The bytes do not fit",
      ],
      [
        "a chunk whose Content-Digest is another",
        () => put(digest, 0, small, { headers: { "content-digest": `sha-256=:${base64("0".repeat(64))}:` } }),
        "400 The Content-Digest of chunk 0",
      ],
      [
        "a chunk of an upload that nobody opened",
        () => put("0".repeat(64), 0, small),
        "404 That upload is not open",
      ],
      [
        "a chunk larger than any",
        () => put(digest, 0, Buffer.alloc(CHUNK_BYTES + 1)),
        "413 The body is larger than 8 MiB",
      ],
      [
        "a chunk of another type",
        () => put(digest, 0, small, { type: "text/plain" }),
        "415 Content-Type text/plain",
      ],
      [
        "a chunk that is compressed",
        () => put(digest, 0, small, { headers: { "content-encoding": "gzip" } }),
        "415 Content-Encoding gzip",
      ],
      [
        "a pack cut short",
        () => send("/blobs/pack", pack(small.subarray(0, 50)).subarray(0, 80), { type: PACK_TYPE }),
        "400 The pack ends",
      ],
      [
        "a pack of a head alone",
        () => send("/blobs/pack", new Uint8Array(35), { type: PACK_TYPE }),
        "400 The pack ends",
      ],
      [
        "a pack with a file too large for it",
        () => send("/blobs/pack", pack(small), { type: PACK_TYPE }),
        "413 A file of 100000 bytes",
      ],
      [
        "a pack whose bytes are not their digest's",
        () =>
          send("/blobs/pack", Buffer.concat([pack(Buffer.from("a")).subarray(0, 36), Buffer.from("b")]), {
            type: PACK_TYPE,
          }),
        "400 The bytes of ca978112",
      ],
      [
        "an upload that names too few chunks",
        () =>
          at.request(`/api/v1/blobs/${digest}/upload`, { body: { size: CHUNK_BYTES + 1, chunks: [digest] } }),
        "400 chunks: must name",
      ],
      [
        "an upload of a size that no disk has",
        () => at.request(`/api/v1/blobs/${digest}/upload`, { body: { size: 1e300, chunks: [] } }),
        "400 size",
      ],
      [
        "another upload under the same digest",
        () => at.request(`/api/v1/blobs/${digest}/upload`, { body: { size: 1, chunks: [digest] } }),
        "409 Another upload",
      ],
    ])("%s", async (_, request, message) => {
      expect(await problem(request())).toStartWith(message);
    });

    test("after all of which the right chunk is taken", async () => {
      const headers = { "content-digest": `md5=:AAAA:, sha-256=:${base64(digest)}:` };
      expect((await put(digest, 0, small, { headers })).status).toBe(204);
      await at.json(`/api/v1/blobs/${digest}/commit`, { method: "POST" });
    });
  });
});

describe("logging over HTTP", () => {
  test("makes versions, says which are new, and shows them from every side", async () => {
    expect(
      await log("net", { "a.bin": "1" }, { run: "1", aliases: ["best"], origin: { edge: "7" } }),
    ).toMatchObject({ version: "v1", is_new: true });
    const again = await at.request("/api/v1/runs/2/artifacts", {
      body: {
        kind: "model",
        name: "net",
        type: "model",
        files: [{ path: "a.bin", size: 1, sha256: sha256(Buffer.from("1")) }],
      },
    });
    expect(again.status).toBe(200);
    const { id } = await again.json();
    await log("net", { "a.bin": "2" }, { run: "2" });
    const used = await at.json("/api/v1/runs/1/inputs", { body: { kind: "model", name: "net" } });
    expect(used).toMatchObject({ version: "v2", used_by: ["1"] });
    expect(await at.json("/api/v1/runs/1/artifacts")).toMatchObject({
      run: "1",
      outputs: [{ name: "net", version: "v1", origin: { edge: "7" }, produced_by: ["1", "2"] }],
      inputs: [{ name: "net", version: "v2", origin: {} }],
    });
    const { artifacts } = await at.json("/api/v1/artifacts?kind=model&name=net");
    expect(artifacts).toMatchObject([{ id, versions: 2, latest: { version: "v2" } }]);
    expect(await at.json(`/api/v1/artifacts/${id}`)).toEqual(artifacts[0]);
    expect(await at.json(`/api/v1/artifacts/${id}/versions/best`)).toMatchObject({
      version: "v1",
      aliases: ["best"],
    });
    expect(await at.json(`/api/v1/artifacts/${id}/versions?alias=best`)).toMatchObject({
      versions: [{ version: "v1" }],
      next: null,
    });
    expect(await problem(at.request(`/api/v1/artifacts/${id}/versions/worst`))).toStartWith("404");
  });

  test("who logs the same files again adds what is known of them, and takes nothing away", async () => {
    const files = { "a.bin": "the same" };
    await log("known", files, { metadata: { loss: 0.5, epoch: 3 }, description: "first" });
    expect(await log("known", files)).toMatchObject({
      is_new: false,
      description: "first",
      metadata: { loss: 0.5, epoch: 3 },
    });
    expect(
      await log("known", files, { run: "1", metadata: { loss: 0.4, f1: 0.9 }, description: "second" }),
    ).toMatchObject({
      version: "v1",
      is_new: false,
      description: "second",
      metadata: { loss: 0.4, epoch: 3, f1: 0.9 },
    });
    const { connection } = at.collector;
    const { payload } = connection
      .prepare("SELECT payload FROM journal WHERE kind = 'artifact.logged' ORDER BY seq DESC LIMIT 1")
      .get() as { payload: Uint8Array };
    // A copy elsewhere is made from this.
    expect(JSON.parse(Buffer.from(payload).toString())).toMatchObject({
      description: "second",
      metadata: { loss: 0.4, epoch: 3, f1: 0.9 },
    });
  });

  test("pages give what follows, once", async () => {
    for (let i = 0; i < 5; i++) await log("paged", { [`f${i}`]: `${i}`, g: "g", h: `${i}h` });
    const { id } = await log("paged-2", { a: "1" });
    const names: string[] = [];
    for (let next: number | null = 0; next !== null;) {
      const page: any = await at.json(
        `/api/v1/artifacts?search=paged&limit=1${next ? `&after=${next}` : ""}`,
      );
      names.push(...page.artifacts.map(({ name }: { name: string }) => name));
      next = page.next;
    }
    expect(names).toEqual(["paged-2", "paged"]);
    const versions: string[] = [];
    for (let next: string | null = ""; next !== null;) {
      const page: any = await at.json(`/api/v1/artifacts/${id - 1}/versions?limit=2&after=${next}`);
      versions.push(...page.versions.map(({ version }: { version: string }) => version));
      next = page.next;
    }
    expect(versions).toEqual(["v5", "v4", "v3", "v2", "v1"]);
    const first = await at.json(`/api/v1/artifacts/${id - 1}/versions/v3/files?limit=2`);
    expect(first).toMatchObject({ files: [{ path: "f2" }, { path: "g" }], next: "g" });
    const second = await at.json(`/api/v1/artifacts/${id - 1}/versions/v3/files?limit=2&after=g`);
    expect(second).toMatchObject({ files: [{ path: "h" }], next: null });
  });

  test("a version is changed, and deleted unless an alias holds it", async () => {
    const { id } = await log("changed", { a: "1" });
    const path = `/api/v1/artifacts/${id}/versions/v1`;
    const body = { description: "d", metadata: { loss: 0.5 }, add_aliases: ["最佳"] };
    expect(await at.json(path, { method: "PATCH", body })).toMatchObject({
      description: "d",
      metadata: { loss: 0.5 },
      aliases: ["latest", "最佳"],
    });
    expect(
      await at.json(`/api/v1/artifacts/${id}/versions?alias=${encodeURIComponent("最佳")}`),
    ).toMatchObject({ versions: [{ version: "v1" }] });
    expect(await problem(at.request(path, { method: "DELETE" }))).toStartWith(
      "409 v1 of changed is called 最佳",
    );
    expect(await at.json(`${path}?force=true`, { method: "DELETE" })).toEqual({ deleted: "v1" });
    expect(await problem(at.request(path))).toStartWith("404");
    expect(await at.json(`/api/v1/artifacts/${id}`, { method: "DELETE" })).toEqual({ deleted: String(id) });
    expect(await problem(at.request(`/api/v1/artifacts/${id}`))).toStartWith("404");
  });

  test("a name that aliases or runs refer to goes only with force; what a run uses, too", async () => {
    const { id } = await log("referred", { a: "1" }, { run: "1", aliases: ["best", "paper"] });
    await log("referred", { a: "2" }, { run: "2" });
    const path = `/api/v1/artifacts/${id}`;
    const gone = (suffix = "") => problem(at.request(path + suffix, { method: "DELETE" }));
    expect(await gone()).toBe(
      "409 referred has 2 versions: best, paper lead to them, and 2 runs logged or used them.",
    );
    await at.json("/api/v1/runs/1/inputs", { body: { kind: "model", name: "referred" } });
    expect(await gone("/versions/v2")).toBe("409 v2 of referred is used by run 1.");
    expect(await at.json(`${path}?force=true`, { method: "DELETE" })).toEqual({ deleted: String(id) });
    const { id: free } = await log("free", { a: "1" });
    await log("free", { a: "2" });
    expect(await at.json(`/api/v1/artifacts/${free}`, { method: "DELETE" })).toEqual({
      deleted: String(free),
    });
  });

  test.each([
    ["..", "must be more than dots"],
    ["a/b", "must not contain slashes"],
    ["a\0b", "control characters"],
    ["a\u202eb", "direction of text"],
    ["x".repeat(1000), "name"],
  ])("the name %j is refused", async (name, message) => {
    const body = {
      kind: "model",
      name,
      type: "model",
      files: [{ path: "a", size: 1, sha256: "0".repeat(64) }],
    };
    expect(await problem(at.request("/api/v1/artifacts", { body }))).toContain(message);
  });

  test.each(["../a", "/etc/passwd", "a/../../b", "a\\b", "a\0", "\u202etxt", "x/".repeat(600) + "x"])(
    "the path %j is refused",
    async (path) => {
      const body = {
        kind: "model",
        name: "x",
        type: "model",
        files: [{ path, size: 1, sha256: "0".repeat(64) }],
      };
      expect(await problem(at.request("/api/v1/artifacts", { body }))).toStartWith("400 files.0.path");
    },
  );

  test("bytes that are not here are named", async () => {
    const body = {
      kind: "model",
      name: "x",
      type: "model",
      files: [{ path: "a", size: 1, sha256: "0".repeat(64) }],
    };
    const response = await at.request("/api/v1/artifacts", { body });
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ missing: ["0".repeat(64)] });
  });
});

describe("a download", () => {
  const bytes = randomBytes(300_000);
  const digest = sha256(bytes);
  let path: string;
  const get = (headers: Record<string, string> = {}, method = "GET") => at.request(path, { method, headers });
  beforeAll(async () => {
    await upload(bytes);
    const files = [{ path: 'd/模 "a"\'%.html', size: bytes.length, sha256: digest }];
    const { id } = await at.json("/api/v1/artifacts", {
      body: { kind: "artifact", name: "d", type: "dataset", files },
    });
    path = `/api/v1/artifacts/${id}/versions/latest/file?path=${encodeURIComponent(files[0]!.path)}`;
  });

  test("is an attachment that no browser shows, with its digest as tag", async () => {
    const response = await get();
    const { headers } = response;
    expect(headers.get("content-type")).toBe("application/octet-stream");
    expect(headers.get("content-disposition")).toBe(
      `attachment; filename="_ _a_'_.html"; filename*=UTF-8''%E6%A8%A1%20%22a%22%27%25.html`,
    );
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("content-security-policy")).toBe("default-src 'none'; sandbox");
    expect(headers.get("etag")).toBe(`"${digest}"`);
    expect(headers.get("repr-digest")).toBe(`sha-256=:${base64(digest)}:`);
    expect(headers.get("content-length")).toBe("300000");
    expect(sha256(new Uint8Array(await response.arrayBuffer()))).toBe(digest);
  });

  test.each<[string, [number, number]]>([
    ["bytes=0-9", [0, 10]],
    ["bytes=299990-", [299_990, 300_000]],
    ["bytes=-10", [299_990, 300_000]],
    ["bytes=-999999999", [0, 300_000]],
    ["bytes=299999-999999999", [299_999, 300_000]],
    ["Bytes = 5-5".replaceAll(" ", ""), [5, 6]],
  ])("%s is a part of it", async (range, [start, end]) => {
    const response = await get({ range });
    expect(response.status).toBe(206);
    expect(response.headers.get("content-range")).toBe(`bytes ${start}-${end - 1}/300000`);
    expect(response.headers.get("content-length")).toBe(String(end - start));
    expect(Buffer.from(await response.arrayBuffer()).equals(bytes.subarray(start, end))).toBe(true);
  });

  test.each(["bytes=300000-", "bytes=999999999999-", "bytes=-0"])("%s is beyond its end", async (range) => {
    const response = await get({ range });
    expect(response.headers.get("content-range")).toBe("bytes */300000");
    expect(await problem(response)).toStartWith("416");
  });

  test.each([
    "bytes=9-5",
    "bytes=0-1,5-6",
    "lines=0-1",
    "bytes=-",
    "bytes=a-b",
    `bytes=0-${"9".repeat(400)}`,
  ])("%s is no range, so all of it comes", async (range) => {
    const response = await get({ range });
    expect(response.status).toBe(200);
    expect((await response.arrayBuffer()).byteLength).toBe(300_000);
  });

  test("goes on from where it broke off only if it is still the same", async () => {
    const resumed = await get({ range: "bytes=299999-", "if-range": `"${digest}"` });
    expect(resumed.status).toBe(206);
    const changed = await get({ range: "bytes=299999-", "if-range": '"other"' });
    expect(changed.status).toBe(200);
    expect((await changed.arrayBuffer()).byteLength).toBe(300_000);
  });

  test.each([`"${digest}"`, `W/"${digest}"`, `"x", "${digest}"`, "*"])(
    "is not sent again to who has %s",
    async (tag) => {
      const response = await get({ "if-none-match": tag });
      expect(response.status).toBe(304);
      expect(await response.text()).toBe("");
      expect((await get({ "if-none-match": '"x"' })).status).toBe(200);
    },
  );

  describe("of many small files in one answer", () => {
    const packPath = () => path.replace(/\/file\?.*/, "/pack").replace("latest", "v1");
    let many: string;
    const contents: Record<string, string> = { "a/1": "one", "a/2": "", b: "x".repeat(65_536), 最: "one" };
    beforeAll(async () => {
      const { id } = await log("many", contents, { run: "2" });
      many = `/api/v1/artifacts/${id}/versions/latest/pack`;
    });
    const ask = (paths: unknown, more: object = {}) => at.request(many, { body: { paths }, ...more });

    test("is as uploads bring them, in the order of the request", async () => {
      const paths = ["最", "b", "a/2", "a/1", "a/1"];
      const response = await ask(paths);
      expect(response.headers.get("content-type")).toBe(PACK_TYPE);
      expect(response.headers.get("x-content-type-options")).toBe("nosniff");
      const expected = pack(...paths.map((path) => Buffer.from(contents[path]!)));
      expect(Buffer.from(await response.arrayBuffer()).equals(expected)).toBe(true);
    });

    test("is bounded, and refused for what it has not got", async () => {
      expect(await problem(ask(["b", "c"]))).toBe("404 It has no file c.");
      expect(await problem(ask([]))).toStartWith("400 paths");
      expect(await problem(ask(Array.from({ length: 2001 }, () => "a/1")))).toStartWith("400 paths");
      expect(await problem(ask("b"))).toStartWith("400 paths");
      expect(await problem(ask(["x".repeat(1001)]))).toStartWith("400 paths.0");
      expect(await problem(ask(Array.from({ length: 128 }, () => "b")))).toStartWith("413 These files");
      const body = { paths: ['d/模 "a"\'%.html'] };
      expect(await problem(at.request(packPath(), { body }))).toStartWith("413 d/模");
    });

    test("needs a token that may read, or a run's that logged or uses it", async () => {
      const statusWith = async (token: string | null) => (await ask(["a/1"], { token })).status;
      const { tokens } = at.trust;
      expect(await statusWith(tokens.read)).toBe(200);
      expect(await statusWith(tokens.ofRun("2"))).toBe(200);
      expect(await statusWith(tokens.ofRun("1"))).toBe(403);
      expect(await statusWith(null)).toBe(401);
    });
  });

  describe("of a whole version as a zip", () => {
    test("has every file in a folder of its name, as an attachment", async () => {
      const contents = { "a/1": "one", "a/2": "", "最 b": "x".repeat(300_000) };
      await upload(Buffer.from(contents["最 b"]));
      await send("/blobs/pack", pack(Buffer.from("one"), Buffer.from("")), { type: PACK_TYPE });
      const { id } = await at.json("/api/v1/artifacts", {
        body: {
          kind: "model",
          name: "zip 最",
          type: "model",
          files: Object.entries(contents).map(([path, text]) => ({
            path,
            size: text.length,
            sha256: sha256(Buffer.from(text)),
          })),
        },
      });
      const response = await at.request(`/api/v1/artifacts/${id}/versions/latest/zip`);
      const { headers } = response;
      expect(headers.get("content-type")).toBe("application/zip");
      expect(headers.get("content-disposition")).toBe(
        `attachment; filename="zip _-v1.zip"; filename*=UTF-8''zip%20%E6%9C%80-v1.zip`,
      );
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      const zip = new ZipReader(new Uint8ArrayReader(new Uint8Array(await response.arrayBuffer())));
      const found: Record<string, string> = {};
      for (const entry of await zip.getEntries())
        if (!entry.directory)
          found[entry.filename] = Buffer.from(await entry.getData!(new Uint8ArrayWriter())).toString();
      expect(found).toEqual(
        Object.fromEntries(Object.entries(contents).map(([path, text]) => [`zip 最-v1/${path}`, text])),
      );
    });

    test("is there for whom the version is", async () => {
      const { id } = await log("zipped", { a: "zipped" }, { run: "1" });
      const zip = `/api/v1/artifacts/${id}/versions/v1/zip`;
      const { tokens } = at.trust;
      const statusWith = async (token: string | null) => {
        const response = await at.request(zip, { token });
        await response.arrayBuffer();
        return response.status;
      };
      expect(await statusWith(tokens.read)).toBe(200);
      expect(await statusWith(tokens.ofRun("1"))).toBe(200);
      expect(await statusWith(tokens.ofRun("2"))).toBe(403);
      expect(await statusWith(null)).toBe(401);
      expect(await problem(at.request(zip.replace("v1/zip", "v7/zip")))).toStartWith("404");
      expect((await at.request(zip, { method: "HEAD" })).status).toBe(200);
    });

    test("ends early where it is deleted meanwhile", async () => {
      const contents = Object.fromEntries(Array.from({ length: 1100 }, (_, n) => [`f${n}`, "small"]));
      const { id } = await log("deleted meanwhile", contents);
      const response = await at.request(`/api/v1/artifacts/${id}/versions/v1/zip`);
      await at.json(`/api/v1/artifacts/${id}`, { method: "DELETE" });
      expect(await response.arrayBuffer().catch((error: unknown) => error)).toBeInstanceOf(Error);
    }, 30_000);

    test("ends early where bytes are damaged, rather than pass for whole", async () => {
      const { id } = await log("damaged", { a: "sound", b: "to be damaged" });
      at.collector.connection
        .prepare("UPDATE blob SET data = ? WHERE sha256 = ?")
        .run(Buffer.from("is damaged now"), sha256(Buffer.from("to be damaged")));
      const zip = `/api/v1/artifacts/${id}/versions/v1/zip`;
      const response = await at.request(zip);
      expect(await response.arrayBuffer().catch((error: unknown) => error)).toBeInstanceOf(Error);
      // Nobody hears why, unless he asks again.
      const again = await at.request(zip);
      expect(again.status).toBe(500);
      expect(await again.json()).toMatchObject({
        type: "urn:binnacle:damaged",
        detail: expect.stringMatching(/^The file "b" of the model damaged v1 is damaged or gone/),
        hint: expect.stringContaining("binnacle doctor"),
      });
      // The same bytes once more mend it.
      const bytes = Buffer.from("to be damaged");
      at.collector.blobs.putSmall([{ sha256: sha256(bytes), bytes }]);
      expect((await (await at.request(zip)).arrayBuffer()).byteLength).toBeGreaterThan(0);
    });
  });

  test("is described by HEAD", async () => {
    const response = await get({}, "HEAD");
    expect(response.status).toBe(200);
    expect(response.headers.get("content-length")).toBe("300000");
    expect(response.headers.get("etag")).toBe(`"${digest}"`);
    expect(await response.text()).toBe("");
  });

  test("of a path that is not among the files is refused, whatever it looks like", async () => {
    for (const file of ["d", "../token", "/etc/passwd", "d/%2e%2e", "x".repeat(1001)])
      expect(await problem(at.request(path.replace(/path=.*/, `path=${encodeURIComponent(file)}`)))).toMatch(
        /^40[04] /,
      );
    expect(await problem(at.request(path.replace(/\?.*/, "")))).toStartWith("400 path");
  });
});

describe("a preview", () => {
  const png = Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), randomBytes(100)]);
  const script = "<script>alert(1)</script>";
  let base: string;
  const show = (file: string) => at.request(`${base}/preview?path=${file}`);
  beforeAll(async () => {
    const { id } = await log("shown", {
      "a.csv": "a,b\n1,é\n",
      "a.svg": `<svg xmlns="http://www.w3.org/2000/svg">${script}</svg>`,
      "a.html": script,
      "a.png": png,
      "text.png": script,
      "a.jpg": Buffer.from("\xff\xd8\xff\xe0 rest", "latin1"),
      "a.gif": "GIF89a rest",
      "a.webp": "RIFF1234WEBPVP8 ",
      "a.pt": Buffer.from([0x80, 2, 0, 1]),
      "latin1.txt": Buffer.from("caf\xe9", "latin1"),
      empty: "",
    });
    base = `/api/v1/artifacts/${id}/versions/v1`;
  });

  test.each([
    ["a.csv", "a,b\n1,é\n"],
    ["a.html", script],
    ["text.png", script],
    ["a.svg", `<svg xmlns="http://www.w3.org/2000/svg">${script}</svg>`],
    ["empty", ""],
  ])("of %s is plain text", async (file, text) => {
    const response = await show(file);
    expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(response.headers.get("content-security-policy")).toBe("default-src 'none'; sandbox");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(await response.text()).toBe(text);
  });

  test.each([
    ["a.png", "image/png"],
    ["a.jpg", "image/jpeg"],
    ["a.gif", "image/gif"],
    ["a.webp", "image/webp"],
  ])("of %s is a picture by its first bytes", async (file, type) => {
    const response = await show(file);
    expect(response.headers.get("content-type")).toBe(type);
    expect(response.headers.get("content-security-policy")).toBe("default-src 'none'; sandbox");
    if (file === "a.png") expect(Buffer.from(await response.arrayBuffer()).equals(png)).toBe(true);
  });

  test.each(["a.pt", "latin1.txt"])("of %s there is none", async (file) => {
    expect(await problem(show(file))).toStartWith("415");
  });

  test("of a long text is its beginning, not cut within a character", async () => {
    const text = `a${"é".repeat(200_000)}`;
    const digest = await upload(Buffer.from(text));
    const files = [{ path: "long.txt", size: Buffer.byteLength(text), sha256: digest }];
    const { id } = await at.json("/api/v1/artifacts", {
      body: { kind: "artifact", name: "long", type: "log", files },
    });
    const response = await at.request(`/api/v1/artifacts/${id}/versions/v1/preview?path=long.txt`);
    expect(response.headers.get("binnacle-cut")).toBe("400001");
    const shown = await response.text();
    expect(Buffer.byteLength(shown)).toBe(256 * 1024 - 1);
    expect(text.startsWith(shown)).toBe(true);
  });
});

describe("who may", () => {
  const status = async (path: string, token: string, init: { method?: string; body?: unknown } = {}) =>
    (await at.request(`/api/v1${path}`, { token, ...init })).status;
  let id: number;
  const body = {
    kind: "model",
    name: "theirs",
    type: "model",
    files: [{ path: "a", size: 1, sha256: sha256(Buffer.from("t")) }],
  };
  beforeAll(async () => {
    ({ id } = await log("theirs", { a: "t" }, { run: "2" }));
  });

  test("a run's token brings bytes, logs to its run, and reads what that run logged or uses", async () => {
    const token = at.trust.tokens.ofRun("1");
    const version = `/artifacts/${id}/versions/v1`;
    expect(await status("/blobs/missing", token, { body: { sha256: [] } })).toBe(200);
    expect((await send("/blobs/pack", pack(Buffer.from("own")), { type: PACK_TYPE, token })).status).toBe(
      200,
    );
    for (const path of [version, `${version}/files`, `${version}/file?path=a`, `${version}/preview?path=a`])
      expect(await status(path, token)).toBe(403);
    expect(await status(`/artifacts/${id}/versions/v99`, token)).toBe(403);
    expect(await status("/runs/2/inputs", token, { body: { kind: "model", name: "theirs" } })).toBe(403);
    expect(await status("/runs/1/inputs", token, { body: { kind: "model", name: "theirs" } })).toBe(200);
    for (const path of [version, `${version}/files`, `${version}/file?path=a`, `${version}/preview?path=a`])
      expect(await status(path, token)).toBe(200);
    expect(await status("/runs/1/artifacts", token, { body })).toBe(200);
    expect(await status("/runs/2/artifacts", token, { body })).toBe(403);
    expect(await status("/artifacts", token, { body })).toBe(403);
    for (const path of ["/artifacts", `/artifacts/${id}`, `/artifacts/${id}/versions`])
      expect(await status(path, token)).toBe(403);
    expect(await status(version, token, { method: "PATCH", body: {} })).toBe(403);
    expect(await status(version, token, { method: "DELETE" })).toBe(403);
  });

  test("a read token looks and downloads, and does nothing else", async () => {
    const token = at.trust.tokens.read;
    const version = `/artifacts/${id}/versions/v1`;
    for (const path of [
      "/artifacts",
      `/artifacts/${id}`,
      `/artifacts/${id}/versions`,
      version,
      `${version}/file?path=a`,
    ])
      expect(await status(path, token)).toBe(200);
    expect(await status("/blobs/missing", token, { body: { sha256: [] } })).toBe(403);
    expect((await put("0".repeat(64), 0, Buffer.from("x"), { token })).status).toBe(403);
    expect(await status("/artifacts", token, { body })).toBe(403);
    expect(await status(version, token, { method: "PATCH", body: {} })).toBe(403);
  });

  test("a write token logs and names, and deletes nothing", async () => {
    const token = at.trust.tokens.write;
    const version = `/artifacts/${id}/versions/v1`;
    expect(await status("/artifacts", token, { body })).toBe(200);
    expect(await status(version, token, { method: "PATCH", body: { description: "d" } })).toBe(200);
    expect(await status(version, token, { method: "DELETE" })).toBe(403);
    expect(await status(`/artifacts/${id}`, token, { method: "DELETE" })).toBe(403);
  });
});
