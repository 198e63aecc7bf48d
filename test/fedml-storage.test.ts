import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { SignatureV4 } from "@smithy/signature-v4";
import { S3Client } from "bun";
import { deleteRun } from "../src/run/delete.ts";
import { createTestStorage, type StorageOf, type TestStorage } from "./helpers/storage.ts";

const DAY_MS = 24 * 3600 * 1000;
const RUN = "100000000000077";
const OTHER = "100000000000078";
const BUCKET = "fedml";

const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");

function crcOf(bytes: Uint8Array | string): string {
  const big = Buffer.alloc(4);
  big.writeUInt32BE(crc32(bytes));
  return big.toString("base64");
}

let storage: TestStorage;
let skew: number;
beforeEach(async () => {
  skew = 0;
  storage = await createTestStorage({ now: () => Date.now() + skew });
});
afterEach(() => storage.close());

/** Bun's own client: it signs by code that is neither ours nor the library's. */
const clientOf = (run: string, keys: Partial<StorageOf> = {}) =>
  new S3Client({ ...storage.of(run), region: "us-east-1", bucket: BUCKET, ...keys });

class Sha256 {
  #hash;
  constructor(secret?: Uint8Array | string) {
    this.#hash = secret === undefined ? createHash("sha256") : new Bun.CryptoHasher("sha256", secret);
  }
  update(bytes: Uint8Array) {
    this.#hash.update(bytes);
  }
  async digest() {
    return new Uint8Array(this.#hash.digest());
  }
  reset() {}
}

interface Asked {
  method?: string;
  /** Behind the bucket, as it goes over the wire. */
  key?: string;
  query?: Record<string, string>;
  body?: Uint8Array | string;
  headers?: Record<string, string>;
  /** Of the body, as it is signed. */
  digest?: string;
  date?: Date;
  keys?: Partial<StorageOf>;
}

/** A request as boto3 makes it. */
async function sign({
  method = "PUT",
  key = "x.zip",
  query = {},
  body,
  headers = {},
  digest = sha256(body ?? ""),
  date = new Date(),
  keys = {},
}: Asked): Promise<{ url: string; init: RequestInit & { headers: Record<string, string> } }> {
  const of = { ...storage.of(RUN), ...keys };
  const url = new URL(`${of.endpoint}/${BUCKET}/${key}`);
  const signer = new SignatureV4({
    service: "s3",
    region: "us-east-1",
    credentials: of,
    sha256: Sha256 as never,
    uriEscapePath: false,
  });
  const signed = await signer.sign(
    {
      method,
      protocol: "http:",
      hostname: url.hostname,
      path: url.pathname,
      query,
      headers: { host: url.host, "x-amz-content-sha256": digest, ...headers },
    },
    { signingDate: date },
  );
  const search = new URLSearchParams(query).toString();
  return {
    url: `${of.endpoint}/${BUCKET}/${key}${search === "" ? "" : `?${search}`}`,
    init: { method, headers: signed.headers, ...(body !== undefined && { body: body as BodyInit }) },
  };
}

async function send(asked: Asked): Promise<Response> {
  const { url, init } = await sign(asked);
  return fetch(url, init);
}

const codeOf = async (response: Response) =>
  `${response.status} ${/<Code>(.*?)<\/Code>/.exec(await response.text())?.[1]}`;

const countOf = (what: string) => storage.edge.counts.list().find((each) => each.what === what)?.count ?? 0;
const find = (key: string, scope = RUN) => storage.objects.find({ scope, bucket: BUCKET, key });
const rowsOf = (table: string) =>
  (storage.collector.connection.prepare(`SELECT count(*) FROM ${table}`).raw(true).get() as [number])[0];
const incoming = () => {
  const folder = join(storage.dataDir, "blobs", "incoming");
  return existsSync(folder) ? readdirSync(folder) : [];
};

describe("an object", () => {
  test.each([
    ["empty", 0],
    ["small", 5000],
    ["as long as what lies in the database", 64 * 1024],
    ["longer", 64 * 1024 + 1],
    ["of some pieces", 3_000_001],
  ])("that is %s is kept by its content and read back by who knows its address", async (_, size) => {
    const bytes = randomBytes(size);
    await clientOf(RUN).write("my model_model.zip", bytes);
    expect(find("my model_model.zip")).toMatchObject({ sha256: sha256(bytes), size });
    expect(storage.collector.blobs.size(sha256(bytes))).toBe(size);
    const address = `${storage.of(RUN).endpoint}/${BUCKET}/my%20model_model.zip`;
    const response = await fetch(address);
    expect(response.status).toBe(200);
    expect(sha256(await response.bytes())).toBe(sha256(bytes));
    const head = await fetch(address, { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe(String(size));
    expect(head.headers.get("etag")).toBe(`"${sha256(bytes)}"`);
    expect(incoming()).toEqual([]);
  });

  test("is read in part", async () => {
    const bytes = randomBytes(200_000);
    await clientOf(RUN).write("a.bin", bytes);
    const address = `${storage.of(RUN).endpoint}/${BUCKET}/a.bin`;
    const part = await fetch(address, { headers: { range: "bytes=100-199" } });
    expect([part.status, part.headers.get("content-range")]).toEqual([206, "bytes 100-199/200000"]);
    expect(Buffer.from(await part.bytes()).equals(bytes.subarray(100, 200))).toBe(true);
    expect(await codeOf(await fetch(address, { headers: { range: "bytes=200000-" } }))).toBe(
      "416 InvalidRange",
    );
  });

  test("is never shown as a page, whatever it calls itself", async () => {
    await send({
      key: "page.html",
      body: "<script>alert(1)</script>",
      headers: { "content-type": "text/html" },
    });
    const { headers } = await fetch(`${storage.of(RUN).endpoint}/${BUCKET}/page.html`);
    expect(headers.get("content-type")).toBe("application/octet-stream");
    expect(headers.get("content-disposition")).toStartWith("attachment");
    expect(headers.get("content-security-policy")).toContain("sandbox");
  });

  test("takes the place of the one before it, in its own run alone", async () => {
    await clientOf(RUN).write("a.bin", "first");
    await clientOf(OTHER).write("a.bin", "other");
    await clientOf(RUN).write("a.bin", "second");
    expect(await clientOf(RUN).file("a.bin").text()).toBe("second");
    expect(await clientOf(OTHER).file("a.bin").text()).toBe("other");
  });

  test("that is not there says so in the words that clients know", async () => {
    expect(await codeOf(await fetch(`${storage.of(RUN).endpoint}/${BUCKET}/none`))).toBe("404 NoSuchKey");
  });

  test("comes by a link that is good for a while, and not afterwards", async () => {
    const link = clientOf(RUN).presign("linked.bin", { method: "PUT", expiresIn: 60 });
    expect((await fetch(link, { method: "PUT", body: "one" })).status).toBe(200);
    expect(await codeOf(await fetch(link.replace("linked", "another"), { method: "PUT", body: "two" }))).toBe(
      "403 SignatureDoesNotMatch",
    );
    skew = 61_000;
    expect(await codeOf(await fetch(link, { method: "PUT", body: "three" }))).toBe("403 AccessDenied");
    expect(find("linked.bin")).toMatchObject({ sha256: sha256("one") });
    expect(find("another.bin")).toBeUndefined();
  });

  test("comes in chunks with its checksum behind them, and is what they hold", async () => {
    const chunked = (crc: string) =>
      send({
        body: `5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-amz-checksum-crc32:${crc}\r\n\r\n`,
        digest: "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        headers: {
          "content-encoding": "aws-chunked",
          "x-amz-decoded-content-length": "11",
          "x-amz-trailer": "x-amz-checksum-crc32",
        },
      });
    expect(await codeOf(await chunked(crcOf("hello there")))).toBe("400 BadDigest");
    expect(find("x.zip")).toBeUndefined();
    expect((await chunked(crcOf("hello world"))).status).toBe(200);
    expect(await clientOf(RUN).file("x.zip").text()).toBe("hello world");
  });
});

describe("what is not signed as it should be", () => {
  const BODY = "x".repeat(100_000);
  const cases: [string, string, () => Promise<Response>][] = [
    [
      "not at all",
      "403 AccessDenied",
      () => fetch(`${storage.of(RUN).endpoint}/${BUCKET}/x.zip`, { method: "PUT", body: BODY }),
    ],
    [
      "by another secret",
      "403 SignatureDoesNotMatch",
      () => send({ body: BODY, keys: { secretAccessKey: "f".repeat(64) } }),
    ],
    [
      "by a key that is none",
      "403 InvalidAccessKeyId",
      () => send({ body: BODY, keys: { accessKeyId: "AKIAIOSFODNN7EXAMPLE" } }),
    ],
    [
      "by another run's key",
      "403 AccessDenied",
      () => {
        const { accessKeyId, secretAccessKey } = storage.of(OTHER);
        return send({ body: BODY, keys: { accessKeyId, secretAccessKey } });
      },
    ],
    [
      "too long ago",
      "403 RequestTimeTooSkewed",
      () => send({ body: BODY, date: new Date(Date.now() - 16 * 60_000) }),
    ],
    [
      "too far ahead",
      "403 RequestTimeTooSkewed",
      () => send({ body: BODY, date: new Date(Date.now() + 16 * 60_000) }),
    ],
    [
      "for another key",
      "403 SignatureDoesNotMatch",
      async () => {
        const { url, init } = await sign({ key: "y.zip", body: BODY });
        return fetch(url.replace("y.zip", "x.zip"), init);
      },
    ],
    [
      "for another method",
      "403 SignatureDoesNotMatch",
      async () => {
        const { url, init } = await sign({ method: "DELETE" });
        return fetch(url, { ...init, method: "PUT", body: BODY });
      },
    ],
    [
      "with a signature that was changed",
      "403 SignatureDoesNotMatch",
      async () => {
        const { url, init } = await sign({ body: BODY });
        const { authorization = "" } = init.headers;
        const last = authorization.at(-1) === "0" ? "1" : "0";
        return fetch(url, {
          ...init,
          headers: { ...init.headers, authorization: authorization.slice(0, -1) + last },
        });
      },
    ],
    [
      "without its signature",
      "400 AuthorizationHeaderMalformed",
      async () => {
        const { url, init } = await sign({ body: BODY });
        const authorization = init.headers["authorization"]!.replace(/, *Signature=.*/, "");
        return fetch(url, { ...init, headers: { ...init.headers, authorization } });
      },
    ],
    [
      "without the header that says what the body is",
      "403 AccessDenied",
      async () => {
        const { url, init } = await sign({ body: BODY });
        return fetch(url, { ...init, headers: { ...init.headers, "x-amz-acl": "public-read" } });
      },
    ],
    [
      "in chunks that are signed each",
      "501 NotImplemented",
      () => send({ body: BODY, digest: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" }),
    ],
  ];
  test.each(cases)("(%s) is refused, counted, and leaves nothing", async (_, code, ask) => {
    expect(await codeOf(await ask())).toBe(code);
    expect(countOf("unsigned")).toBe(1);
    expect(find("x.zip")).toBeUndefined();
    expect(storage.collector.blobs.size(sha256(BODY))).toBeUndefined();
    expect(incoming()).toEqual([]);
  });

  test("and a body that is another one than was signed, or than its checksum says", async () => {
    for (const size of [100, 300_000]) {
      const body = "x".repeat(size);
      const { url, init } = await sign({ body });
      const changed = `y${body.slice(1)}`;
      expect(await codeOf(await fetch(url, { ...init, body: changed }))).toBe(
        "400 XAmzContentSHA256Mismatch",
      );
      const wrong = await send({ body, headers: { "x-amz-checksum-crc32": crcOf(changed) } });
      expect(await codeOf(wrong)).toBe("400 BadDigest");
    }
    expect(find("x.zip")).toBeUndefined();
    expect(incoming()).toEqual([]);
  });

  test("and an address whose secret is none", async () => {
    const { endpoint } = storage.of(RUN);
    const response = await fetch(`${endpoint.replace(/-[0-9a-f]{32}/, `-${"0".repeat(32)}`)}/${BUCKET}/a`);
    expect(response.status).toBe(401);
    expect(countOf("wrong-secret")).toBe(1);
  });
});

describe("a key", () => {
  test.each([
    ["that goes upwards", "..%2F..%2Fetc%2Fpasswd", "400 InvalidArgument"],
    ["that goes upwards in the middle", "a%2F..%2Fb", "400 InvalidArgument"],
    ["that is absolute", "%2Fetc%2Fpasswd", "400 InvalidArgument"],
    ["with control characters", "a%00b", "400 InvalidArgument"],
    ["with marks of direction", "a%E2%80%AEgpj.exe", "400 InvalidArgument"],
    ["with backslashes", "a%5C..%5Cb", "400 InvalidArgument"],
    ["that is too long", "a".repeat(1025), "400 KeyTooLongError"],
    ["that is no text", "a%FFb", "400 InvalidURI"],
  ])("%s is refused and counted", async (_, key, code) => {
    expect(await codeOf(await send({ key, body: "x" }).catch(() => raw(key)))).toBe(code);
    expect(countOf("bad-object")).toBe(1);
    expect(rowsOf("object")).toBe(0);
  });

  const raw = (key: string) =>
    fetch(`${storage.of(RUN).endpoint}/${BUCKET}/${key}`, { method: "PUT", body: "x" });

  test("with dots that the way resolves leads out of the storage, not into it", async () => {
    const { port } = storage;
    const { pathname } = new URL(storage.of(RUN).endpoint);
    const answer = await overSocket(
      port,
      `PUT ${pathname}/${BUCKET}/../../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 40[134] /);
    expect(rowsOf("object")).toBe(0);
  });
});

/** What is answered to bytes as they are. */
const overSocket = (port: number, text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    socket.on("data", (bytes) => (answer += bytes.toString("latin1")));
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
  });

describe("an object in parts", () => {
  async function begin(key = "big.bin"): Promise<string> {
    const response = await send({ method: "POST", key, query: { uploads: "" } });
    return /<UploadId>(.*?)<\/UploadId>/.exec(await response.text())![1]!;
  }

  const putPart = (uploadId: string, number: number, body: Uint8Array, key = "big.bin") =>
    send({ key, query: { partNumber: String(number), uploadId }, body });

  const listOf = (parts: [number, string][]) =>
    `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts
      .map(
        ([number, etag]) => `<Part><ETag>&quot;${etag}&quot;</ETag><PartNumber>${number}</PartNumber></Part>`,
      )
      .join("")}</CompleteMultipartUpload>`;

  const complete = (uploadId: string, parts: [number, string][], key = "big.bin") =>
    send({ method: "POST", key, query: { uploadId }, body: listOf(parts) });

  test("that come at once and in any order is all of them, in theirs", async () => {
    const parts = [randomBytes(5_000_000), randomBytes(700_000), randomBytes(1234)];
    const upload = await begin();
    const sent = await Promise.all([2, 0, 1].map((index) => putPart(upload, index + 1, parts[index]!)));
    expect(sent.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(sent[0]!.headers.get("etag")).toBe(`"${sha256(parts[2]!)}"`);
    const list = parts.map((part, index): [number, string] => [index + 1, sha256(part)]);
    const response = await complete(upload, list);
    expect(response.status).toBe(200);
    const whole = Buffer.concat(parts);
    expect(await response.text()).toContain(`<ETag>"${sha256(whole)}"</ETag>`);
    expect(find("big.bin")).toMatchObject({ sha256: sha256(whole), size: whole.length });
    expect(sha256(await clientOf(RUN).file("big.bin").bytes())).toBe(sha256(whole));
    expect(incoming()).toEqual([]);
    // Its client did not hear the answer.
    const again = await complete(upload, list);
    expect(again.status).toBe(200);
  });

  test("of which one came twice is of the one that came last", async () => {
    const upload = await begin();
    await putPart(upload, 1, randomBytes(100_000));
    const last = randomBytes(100_000);
    await putPart(upload, 1, last);
    expect(incoming()).toHaveLength(1);
    expect((await complete(upload, [[1, sha256(last)]])).status).toBe(200);
    expect(find("big.bin")).toMatchObject({ sha256: sha256(last) });
  });

  test("is not made of others than were named", async () => {
    const upload = await begin();
    const part = randomBytes(100_000);
    const etag = sha256(part);
    await putPart(upload, 2, part);
    expect(await codeOf(await complete(upload, [[1, etag]]))).toBe("400 InvalidPart");
    expect(await codeOf(await complete(upload, [[2, sha256("x")]]))).toBe("400 InvalidPart");
    expect(
      await codeOf(
        await complete(upload, [
          [2, etag],
          [1, etag],
        ]),
      ),
    ).toBe("400 InvalidPartOrder");
    expect(
      await codeOf(await send({ method: "POST", key: "big.bin", query: { uploadId: upload }, body: "<no" })),
    ).toBe("400 MalformedXML");
    expect(await codeOf(await complete(upload, [[2, etag]], "other.bin"))).toBe("404 NoSuchUpload");
    expect(await codeOf(await putPart("0".repeat(32), 1, part))).toBe("404 NoSuchUpload");
    expect(await codeOf(await putPart(upload, 10_001, part))).toBe("400 InvalidArgument");
    expect(find("big.bin")).toBeUndefined();
    expect((await complete(upload, [[2, etag]])).status).toBe(200);
  });

  test.each([
    ["that is all beginnings", "<Part>".repeat(32_768)],
    ["whose ETag is all spaces", `<Part><PartNumber>1</PartNumber><ETag>${" ".repeat(3000)}</Part>`],
  ])("is not made of a list %s, nor held up by it", async (_, list) => {
    const query = { uploadId: await begin() };
    const ask = (uploadId = query) =>
      send({ method: "POST", key: "big.bin", query: uploadId, body: `<CompleteMultipartUpload>${list}` });
    expect(await codeOf(await ask())).toMatch(/^400 (MalformedXML|InvalidPart)$/);
    expect(await codeOf(await ask({ uploadId: "0".repeat(32) }))).toBe("404 NoSuchUpload");
  });

  test("that is given up leaves nothing", async () => {
    const upload = await begin();
    const part = randomBytes(100_000);
    await putPart(upload, 1, part);
    expect((await send({ method: "DELETE", key: "big.bin", query: { uploadId: upload } })).status).toBe(204);
    expect(incoming()).toEqual([]);
    expect(await codeOf(await complete(upload, [[1, sha256(part)]]))).toBe("404 NoSuchUpload");
  });

  test("goes on after a restart; what nobody completes goes after a day, and what no row knows at once", async () => {
    const part = randomBytes(100_000);
    const upload = await begin();
    await putPart(upload, 1, part);
    const silent = await begin("silent.bin");
    await putPart(silent, 1, part, "silent.bin");
    storage = await storage.restart();
    // As a kill leaves it: the bytes, and nobody who knows of them.
    writeFileSync(join(storage.dataDir, "blobs", "incoming", `${"0".repeat(32)}.part`), "x");
    await storage.collector.blobs.collect();
    expect(incoming()).toHaveLength(2);
    expect((await complete(upload, [[1, sha256(part)]])).status).toBe(200);
    expect(find("big.bin")).toMatchObject({ sha256: sha256(part) });
    skew = DAY_MS + 1000;
    await storage.collector.blobs.collect();
    expect(incoming()).toEqual([]);
    expect(rowsOf("object_upload")).toBe(0);
    // An object keeps its bytes.
    expect(storage.collector.blobs.has(sha256(part))).toBe(true);
  });

  test("of 100 MB comes as another S3 client sends it, and goes back the same", async () => {
    const bytes = randomBytes(100 * 1024 * 1024);
    const client = clientOf(RUN);
    const writer = client.file("model.zip").writer({ partSize: 8 * 1024 * 1024, queueSize: 4 });
    for (let at = 0; at < bytes.length; at += 1024 * 1024)
      await writer.write(bytes.subarray(at, at + 1024 * 1024));
    await writer.end();
    expect(find("model.zip")).toMatchObject({ sha256: sha256(bytes), size: bytes.length });
    expect(sha256(await client.file("model.zip").bytes())).toBe(sha256(bytes));
    expect(incoming()).toEqual([]);
  }, 60_000);
});

describe("what does not come to its end", () => {
  /** Announces more than it sends. */
  async function sendPart(length: number, sent: number): Promise<Socket> {
    const { url, init } = await sign({ digest: "UNSIGNED-PAYLOAD" });
    const { pathname, host } = new URL(url);
    const head = [
      `PUT ${pathname} HTTP/1.1`,
      ...Object.entries(init.headers).map(([name, value]) => `${name}: ${value}`),
      `content-length: ${length}`,
    ].join("\r\n");
    expect(init.headers["host"]).toBe(host);
    const socket = connect(storage.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write(`${head}\r\n\r\n${"x".repeat(sent)}`);
    return socket;
  }

  test("leaves nothing, and is counted", async () => {
    const socket = await sendPart(2_000_000, 1_000_000);
    while (incoming().length === 0) await Bun.sleep(5);
    socket.destroy();
    while (countOf("broken-off") === 0) await Bun.sleep(5);
    while (incoming().length > 0) await Bun.sleep(5);
    expect(find("x.zip")).toBeUndefined();
  }, 30_000);

  async function fill(): Promise<void> {
    await clientOf(RUN).write("before.bin", "there");
    const { usedBytes } = storage.collector.quota.status();
    await storage.close();
    storage = await createTestStorage({ quota: { maxBytes: usedBytes + 2_000_000, ballastBytes: 0 } });
    await storage.collector.quota.check();
    await clientOf(RUN).write("before.bin", "there");
  }

  test("on a full disk is refused with the reason, and what was there stays", async () => {
    await fill();
    const body = randomBytes(20_000_000);
    expect(await codeOf(await send({ body }))).toBe("507 InsufficientStorage");
    expect(find("x.zip")).toBeUndefined();
    expect(incoming()).toEqual([]);
    expect(await clientOf(RUN).file("before.bin").text()).toBe("there");
  });

  test("and is refused is answered before all of it came, where it is long", async () => {
    await fill();
    const socket = await sendPart(4_000_000_000, 40_000_000);
    const [answer] = await once(socket, "data");
    expect(String(answer)).toStartWith("HTTP/1.1 507 ");
    socket.destroy();
    // (A sender that went silent is answered, too, after 15 seconds.)
  }, 12_000);
});

describe("a run's objects", () => {
  test("go with it, and nothing more comes", async () => {
    const bytes = randomBytes(100_000);
    await clientOf(RUN).write("a.bin", bytes);
    await clientOf(OTHER).write("a.bin", bytes.subarray(1));
    await deleteRun(storage.collector, RUN, true);
    expect(find("a.bin")).toBeUndefined();
    expect(find("a.bin", OTHER)).toBeDefined();
    expect(await codeOf(await send({ key: "b.bin", body: "late" }))).toBe("410 NoSuchRun");
    skew = DAY_MS + 1000;
    await storage.collector.blobs.collect();
    expect(storage.collector.blobs.has(sha256(bytes))).toBe(false);
    expect(storage.collector.blobs.has(sha256(bytes.subarray(1)))).toBe(true);
  });

  test("go with it where it logged them, but not what another has put in their place", async () => {
    await clientOf(RUN).write("a.bin", "old");
    await clientOf(OTHER).write("a.bin", "new");
    const place = { scope: "", bucket: BUCKET, key: "open.bin" };
    storage.objects.put(place, find("a.bin")!);
    storage.objects.tie(place, RUN, sha256("old"));
    storage.objects.put(place, find("a.bin", OTHER)!);
    await deleteRun(storage.collector, RUN, true);
    expect(find("open.bin", "")).toMatchObject({ sha256: sha256("new") });
    storage.objects.tie(place, OTHER, sha256("new"));
    // Its client did not hear the answer.
    storage.objects.put(place, find("a.bin", OTHER)!);
    await deleteRun(storage.collector, OTHER, true);
    expect(find("open.bin", "")).toBeUndefined();
  });

  test("are deleted one by one by who may write them", async () => {
    await clientOf(RUN).write("a.bin", "x");
    await clientOf(RUN).delete("a.bin");
    expect(find("a.bin")).toBeUndefined();
  });
});
