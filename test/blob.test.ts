import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { createIntake } from "../src/blob/intake.ts";
import { CHUNK_BYTES, SMALL_BYTES } from "../src/blob/schema.ts";
import { createBlobWorker } from "../src/blob/worker.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const chunksOf = (bytes: Uint8Array) =>
  Array.from(
    { length: Math.ceil(bytes.length / CHUNK_BYTES) },
    (_, index) =>
      // A Buffer's slice() would share its memory, which goes with a chunk to the worker.
      new Uint8Array(bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES)),
  );
const uploadOf = (bytes: Uint8Array) => ({ size: bytes.length, chunks: chunksOf(bytes).map(sha256) });
const bytesOf = async (stream: ReadableStream<Uint8Array>) =>
  new Uint8Array(await new Response(stream).arrayBuffer());

/** (`rejects` waits without letting the worker's answers through.) */
const failureOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "nothing failed",
    (error: unknown) => (error as Error).message,
  );

let test_: TestCollector;
let now: number;
beforeEach(() => {
  now = Date.now();
  test_ = createTestCollector({ now: () => now });
});
afterEach(() => test_.close());

const blobs = () => test_.collector.blobs;
const folder = () => join(test_.dataDir, "blobs");
const pathOf = (digest: string) => join(folder(), digest.slice(0, 2), digest.slice(2));

async function put(bytes: Uint8Array): Promise<string> {
  const digest = sha256(bytes);
  const { missing } = await blobs().open(digest, uploadOf(bytes));
  for (const index of missing) await blobs().putChunk(digest, index, chunksOf(bytes)[index]!);
  await blobs().commit(digest);
  return digest;
}

const big = randomBytes(2 * CHUNK_BYTES + 12_345);

describe("a file", () => {
  test("is kept under its digest, for its owner alone, and read back whole and in part", async () => {
    const digest = await put(big);
    expect(statSync(pathOf(digest)).mode & 0o777).toBe(0o600);
    expect(readFileSync(pathOf(digest)).equals(big)).toBe(true);
    expect(Buffer.from(await bytesOf(blobs().read(digest))).equals(big)).toBe(true);
    const part = await bytesOf(blobs().read(digest, CHUNK_BYTES - 5, CHUNK_BYTES + 5));
    expect(Buffer.from(part).equals(big.subarray(CHUNK_BYTES - 5, CHUNK_BYTES + 5))).toBe(true);
    expect(blobs().usedBytes()).toBe(big.length);
    expect(readdirSync(join(folder(), "incoming"))).toEqual([]);
  });

  test("that is here already needs nothing more", async () => {
    const digest = await put(big);
    expect(await blobs().open(digest, uploadOf(big))).toEqual({ complete: true, missing: [] });
    await blobs().commit(digest);
    expect(blobs().usedBytes()).toBe(big.length);
  });

  test("comes in any order, and twice", async () => {
    const digest = sha256(big);
    const chunks = chunksOf(big);
    expect((await blobs().open(digest, uploadOf(big))).missing).toEqual([0, 1, 2]);
    for (const index of [2, 0, 2, 1, 0]) await blobs().putChunk(digest, index, chunks[index]!.slice());
    await blobs().commit(digest);
    expect(readFileSync(pathOf(digest)).equals(big)).toBe(true);
  });

  test("half sent needs only the rest after a restart, though what a crash tore is not trusted", async () => {
    const digest = sha256(big);
    const chunks = chunksOf(big);
    await blobs().open(digest, uploadOf(big));
    await blobs().putChunk(digest, 0, chunks[0]!.slice());
    await blobs().putChunk(digest, 1, chunks[1]!.slice());
    const path = join(folder(), "incoming", digest);
    const torn = readFileSync(path);
    torn[CHUNK_BYTES + 7]! ^= 1;
    writeFileSync(path, torn);
    test_ = await test_.restart();
    expect((await blobs().open(digest, uploadOf(big))).missing).toEqual([1, 2]);
    expect(await put(big)).toBe(digest);
  });

  test("shares the chunks it has in common with another", async () => {
    await put(big);
    const changed = Buffer.from(big);
    changed[CHUNK_BYTES + 1]! ^= 255;
    expect((await blobs().open(sha256(changed), uploadOf(changed))).missing).toEqual([1]);
    const digest = await put(changed);
    expect(readFileSync(pathOf(digest)).equals(changed)).toBe(true);
  });

  test("of no bytes is a file", async () => {
    blobs().putSmall([{ sha256: sha256(new Uint8Array()), bytes: new Uint8Array() }]);
    expect(blobs().size(sha256(new Uint8Array()))).toBe(0);
    expect(await bytesOf(blobs().read(sha256(new Uint8Array())))).toHaveLength(0);
  });
});

describe("what does not fit", () => {
  test("a chunk that is not what its digest says is refused, and can be sent again", async () => {
    const digest = sha256(big);
    await blobs().open(digest, uploadOf(big));
    const wrong = chunksOf(big)[0]!;
    wrong[0]! ^= 1;
    expect(await failureOf(blobs().putChunk(digest, 0, wrong))).toContain("do not fit their digest");
    expect(await put(big)).toBe(digest);
  });

  test("chunks that are right and a whole that is not leave nothing behind", async () => {
    const digest = "0".repeat(64);
    await blobs().open(digest, uploadOf(big));
    for (const [index, chunk] of chunksOf(big).entries()) await blobs().putChunk(digest, index, chunk);
    expect(await failureOf(blobs().commit(digest))).toContain("the whole is not what its digest says");
    expect(blobs().has(digest)).toBe(false);
    expect(existsSync(join(folder(), "incoming", digest))).toBe(false);
  });

  test.each([
    ["a chunk too short", 0, 10, "has 10 bytes and should have"],
    ["a chunk beyond the end", 3, 10, "There is no chunk 3"],
  ])("%s is refused", async (_, index, length, message) => {
    const digest = sha256(big);
    await blobs().open(digest, uploadOf(big));
    expect(await failureOf(blobs().putChunk(digest, index, new Uint8Array(length)))).toContain(message);
  });

  test("an unfinished upload says what is missing", async () => {
    const digest = sha256(big);
    await blobs().open(digest, uploadOf(big));
    await blobs().putChunk(digest, 1, chunksOf(big)[1]!);
    const error = await blobs()
      .commit(digest)
      .catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "conflict", details: { missing: [0, 2] } });
  });

  test("chunks for an upload that nobody opened are refused", async () => {
    expect(await failureOf(blobs().putChunk(sha256(big), 0, new Uint8Array(1)))).toContain("not open");
  });

  test("a digest that is a path never becomes one", async () => {
    expect(
      await failureOf(blobs().open("../../../../etc/passwd", { size: 1, chunks: ["0".repeat(64)] })),
    ).toContain("no SHA-256");
  });

  test("many small files are kept together, or none of them", () => {
    const files = Array.from({ length: 100 }, (_, index) => Buffer.from(`file ${index}`)).map((bytes) => ({
      sha256: sha256(bytes),
      bytes,
    }));
    expect(() => blobs().putSmall([...files, { sha256: "0".repeat(64), bytes: Buffer.from("x") }])).toThrow();
    expect(blobs().missing(files.map(({ sha256 }) => sha256))).toHaveLength(100);
    blobs().putSmall(files);
    blobs().putSmall(files);
    expect(blobs().missing(files.map(({ sha256 }) => sha256))).toEqual([]);
    const large = randomBytes(SMALL_BYTES + 1);
    expect(() => blobs().putSmall([{ sha256: sha256(large), bytes: large }])).toThrow("larger than");
  });
});

describe("what nothing refers to", () => {
  test("goes after a day, and not before; its chunks are then sent again", async () => {
    const digest = await put(big);
    blobs().putSmall([{ sha256: sha256(Buffer.from("x")), bytes: Buffer.from("x") }]);
    now += 23 * 3600_000;
    expect(await blobs().collect()).toBe(0);
    now += 2 * 3600_000;
    expect(await blobs().collect()).toBe(2);
    expect(existsSync(pathOf(digest))).toBe(false);
    expect(blobs().usedBytes()).toBe(0);
    const changed = Buffer.from(big);
    changed[0]! ^= 255;
    expect((await blobs().open(sha256(changed), uploadOf(changed))).missing).toEqual([0, 1, 2]);
  });

  test("stays a day from when somebody asked for it", async () => {
    const digest = await put(big);
    now += 23 * 3600_000;
    expect(blobs().missing([digest])).toEqual([]);
    now += 23 * 3600_000;
    expect(await blobs().collect()).toBe(0);
  });

  test("goes with its file at once, so that the same bytes can come again while others go", async () => {
    const files = Array.from({ length: 4 }, () => randomBytes(SMALL_BYTES + 1));
    for (const bytes of files) await put(bytes);
    const digests = files.map(sha256);
    now += 25 * 3600_000;
    const collected = blobs().collect();
    expect(digests.map((digest) => [blobs().has(digest), existsSync(pathOf(digest))])).toEqual(
      digests.map(() => [false, false]),
    );
    for (const bytes of files) await put(bytes);
    expect(await collected).toBe(4);
    expect(await blobs().verify()).toEqual([]);
  });

  test("is read to its end by who began before it was deleted", async () => {
    const digest = await put(big);
    const reader = blobs().read(digest).getReader();
    const first = await reader.read();
    now += 48 * 3600_000;
    expect(await blobs().collect()).toBe(1);
    let length = first.value!.length;
    for (let next = await reader.read(); !next.done; next = await reader.read()) length += next.value.length;
    expect(length).toBe(big.length);
  });
});

/** Each piece in the same memory, as a request's are. */
async function* inPieces(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  const memory = new Uint8Array(new SharedArrayBuffer(length));
  for (let at = 0; at < bytes.length; at += length) {
    const piece = bytes.subarray(at, at + length);
    memory.set(piece);
    yield memory.subarray(0, piece.length);
  }
}

describe("a chunk in pieces", () => {
  test("is what its pieces are, whatever their lengths and whoever else sends", async () => {
    const digest = sha256(big);
    await blobs().open(digest, uploadOf(big));
    const chunks = chunksOf(big);
    await Promise.all(
      [1, 0, 2].map((index) => blobs().putChunk(digest, index, inPieces(chunks[index]!, 300_007 + index))),
    );
    await blobs().commit(digest);
    expect(readFileSync(pathOf(digest)).equals(big)).toBe(true);
  });

  test("that breaks off, or is too long, leaves nothing that counts", async () => {
    const digest = sha256(big);
    await blobs().open(digest, uploadOf(big));
    async function* broken() {
      yield* inPieces(chunksOf(big)[0]!.subarray(0, 3_000_000), 1_000_000);
      throw new Error("the sender is gone");
    }
    expect(await failureOf(blobs().putChunk(digest, 0, broken()))).toBe("the sender is gone");
    const tooLong = Buffer.concat([chunksOf(big)[0]!, Buffer.from("x")]);
    expect(await failureOf(blobs().putChunk(digest, 0, inPieces(tooLong, 1_000_000)))).toContain(
      `has ${CHUNK_BYTES + 1} bytes and should have`,
    );
    expect((await blobs().open(digest, uploadOf(big))).missing).toEqual([0, 1, 2]);
    expect(await put(big)).toBe(digest);
    expect(readFileSync(pathOf(digest)).equals(big)).toBe(true);
  });

  test("sent by two at once is not written over by the one who is wrong", async () => {
    const digest = sha256(big);
    await blobs().open(digest, uploadOf(big));
    const [right] = chunksOf(big);
    const wrong = right!.map((byte) => byte ^ 255);
    for (const order of [
      [right!, wrong],
      [wrong, right!],
    ]) {
      const outcomes = await Promise.all(
        order.map((bytes) => failureOf(blobs().putChunk(digest, 0, inPieces(bytes, 500_000)))),
      );
      // Once it is here, nobody looks at what else is sent for it.
      expect(outcomes[order.indexOf(right!)]).toBe("nothing failed");
    }
    expect(await put(big)).toBe(digest);
    expect(readFileSync(pathOf(digest)).equals(big)).toBe(true);
  });
});

describe("bytes of which nobody said what they are", () => {
  const silent = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  test("are kept however slowly they come", async () => {
    const worker = createBlobWorker((error) => test_.unforeseen.push(error), 1);
    const kept: string[] = [];
    const intake = createIntake({
      folder: folder(),
      worker,
      claim: () => {},
      isWanted: () => true,
      putSmall: () => {},
      keep: (digest) => kept.push(digest),
    });
    const bytes = big.subarray(0, 3 * SMALL_BYTES);
    async function* slowly() {
      for await (const piece of inPieces(bytes, SMALL_BYTES)) {
        yield piece;
        await silent(50);
      }
    }
    expect(await intake.put(slowly())).toMatchObject({ sha256: sha256(bytes), size: bytes.length });
    expect(kept).toEqual([sha256(bytes)]);
    worker.close();
  });

  test("are to be sent again where those before them are not known any more", async () => {
    const worker = createBlobWorker((error) => test_.unforeseen.push(error));
    const path = join(test_.dataDir, "x.part");
    await worker.run({ kind: "append", path, position: 0, bytes: new Uint8Array(3) });
    worker.close();
    const next = createBlobWorker((error) => test_.unforeseen.push(error));
    for (const job of [
      { kind: "append", path, position: 3, bytes: new Uint8Array(3) },
      { kind: "appended", path },
    ] as const)
      expect(await next.run(job).catch((error: unknown) => error)).toMatchObject({ code: "busy" });
    next.close();
  });
});

describe("a damaged file", () => {
  const small = Buffer.from("x");
  const isMissing = (digest: string) => blobs().missing([digest]).length === 1;

  function spoil(digest: string): void {
    const bytes = readFileSync(pathOf(digest));
    bytes[100]! ^= 1;
    writeFileSync(pathOf(digest), bytes);
  }

  test("is found by its digest", async () => {
    const digest = await put(big);
    blobs().putSmall([{ sha256: sha256(small), bytes: small }]);
    expect(await blobs().verify()).toEqual([]);
    spoil(digest);
    expect(await blobs().verify()).toEqual([digest]);
  });

  test("is known after a restart, until somebody brings its bytes", async () => {
    const digest = await put(big);
    spoil(digest);
    blobs().putSmall([{ sha256: sha256(small), bytes: small }]);
    test_.collector.connection.exec("UPDATE blob SET data = 'y' WHERE data IS NOT NULL");
    expect((await blobs().verify()).sort()).toEqual([digest, sha256(small)].sort());
    test_ = await test_.restart();
    expect(blobs().has(digest)).toBe(false);
    expect(isMissing(sha256(small))).toBe(true);
    // Only what is wrong is sent again.
    expect(await blobs().open(digest, uploadOf(big))).toEqual({ complete: false, missing: [0] });
    expect(await put(big)).toBe(digest);
    blobs().putSmall([{ sha256: sha256(small), bytes: small }]);
    test_ = await test_.restart();
    expect(blobs().has(digest) && blobs().has(sha256(small))).toBe(true);
    expect(readFileSync(pathOf(digest)).equals(big)).toBe(true);
    expect(await bytesOf(blobs().read(sha256(small)))).toEqual(new Uint8Array(small));
    expect(await blobs().verify()).toEqual([]);
  });

  test("is noticed when it is read, as far as a look tells", async () => {
    const digest = await put(big);
    blobs().putSmall([{ sha256: sha256(small), bytes: small }]);
    test_.collector.connection.exec("UPDATE blob SET data = 'y' WHERE data IS NOT NULL");
    expect(() => blobs().read(sha256(small))).toThrow("damaged or gone");
    expect(isMissing(sha256(small))).toBe(true);
    truncateSync(pathOf(digest), CHUNK_BYTES);
    expect(() => blobs().body(digest, 0, 10)).toThrow("damaged or gone");
    expect(isMissing(digest)).toBe(true);
  });

  test.each([
    ["gone", (path: string) => rmSync(path), [0, 1, 2]],
    ["cut short", (path: string) => truncateSync(path, CHUNK_BYTES + 1), [1, 2]],
  ])("that is %s is noticed by who uploads the same, and healed", async (_, harm, missing) => {
    const digest = await put(big);
    harm(pathOf(digest));
    expect(await blobs().open(digest, uploadOf(big))).toEqual({ complete: false, missing });
    await put(big);
    expect(readFileSync(pathOf(digest)).equals(big)).toBe(true);
    expect(await blobs().verify()).toEqual([]);
  });

  test("is noticed when a chunk is taken from it", async () => {
    const digest = await put(big);
    spoil(digest);
    const other = Buffer.from(big);
    other[CHUNK_BYTES]! ^= 1;
    expect((await blobs().open(sha256(other), uploadOf(other))).missing).toEqual([0, 1]);
    expect(isMissing(digest)).toBe(true);
  });

  test("is forgotten with its blob", async () => {
    const digest = await put(big);
    spoil(digest);
    await blobs().verify();
    now += 48 * 3600_000;
    expect(await blobs().collect()).toBe(1);
    expect(await blobs().verify()).toEqual([]);
    expect(test_.collector.connection.prepare("SELECT * FROM blob_damage").all()).toEqual([]);
  });
});
