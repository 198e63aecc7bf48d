import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { CHUNK_BYTES } from "../src/blob/schema.ts";
import { findVersion, listFiles } from "../src/client/typescript/artifacts.ts";
import { downloadVersion } from "../src/client/typescript/download.ts";
import { putFiles, putPaths, type ArtifactHead, type PutOptions } from "../src/client/typescript/put.ts";
import { findFiles } from "../src/client/typescript/walk.ts";
import { bytesOf, filesIn, makeFolder, serveFiles, type FilesServer, type Folder } from "./helpers/files.ts";

setDefaultTimeout(60_000);

let server: FilesServer;
let folder: Folder;

beforeAll(async () => {
  server = await serveFiles();
});
afterAll(() => server.close());
beforeEach(() => {
  folder = makeFolder();
});
afterEach(() => {
  server.intercept(undefined);
  folder.remove();
});

const MiB = 1024 * 1024;
const head: ArtifactHead = { kind: "artifact", name: "data", type: "dataset" };
const put = (paths: string[], options: Partial<PutOptions> & { name?: string } = {}) =>
  putPaths({ ...head, name: options.name ?? "data" }, paths, { connection: server.connection, ...options });
/** What went wrong, as a person reads it. */
const failure = (promise: Promise<unknown>): Promise<{ code: string; message: string }> =>
  promise.then(
    () => ({ code: "none", message: "it went well" }),
    (error) => error,
  );

async function listed(logged: { id: number; version: string }) {
  const files = [];
  for await (const file of listFiles(server.connection(), logged)) files.push(file);
  return files;
}

describe("what is sent", () => {
  test("a folder keeps its structure and its hidden files, and comes back byte for byte", async () => {
    folder.write("model.bin", bytesOf(20 * MiB + 1234));
    folder.write("sub/deep/er.txt", "text");
    folder.write(".hidden/.also", "hidden");
    folder.write("empty", "");
    folder.write("just.small", bytesOf(64 * 1024));
    folder.write("just.large", bytesOf(64 * 1024 + 1));
    folder.write("chunk", bytesOf(CHUNK_BYTES, 7));
    folder.write("Ünïcode ✓.txt", "ünïcode");
    mkdirSync(join(folder.path, "nothing/in/here"), { recursive: true });
    const { logged } = await put([folder.path]);
    const back = makeFolder();
    await downloadVersion(logged, back.path, { connection: server.connection });
    expect(filesIn(back.path)).toEqual(filesIn(folder.path));
    expect(Object.keys(filesIn(back.path))).toHaveLength(8);
    back.remove();
  });

  test("files are listed by the bytes of their places, however the disk orders them", async () => {
    for (const name of ["b", "a/z", "a.txt", "Z", "ä", "a/b/c"]) folder.write(name, name);
    const found = await findFiles([folder.path]);
    expect(found.map(({ path }) => path)).toEqual(["Z", "a.txt", "a/b/c", "a/z", "b", "ä"]);
  });

  test("of several paths each stands under its own name", async () => {
    const file = folder.write("weights.bin", "w");
    folder.write("tokenizer/vocab.txt", "v");
    const { logged } = await put([file, `${join(folder.path, "tokenizer")}/`]);
    expect((await listed(logged)).map(({ path }) => path)).toEqual(["tokenizer/vocab.txt", "weights.bin"]);
  });

  test("two files of one place are refused, both named", async () => {
    const one = folder.write("one/same.txt", "1");
    const two = folder.write("two/same.txt", "2");
    const { code, message } = await failure(put([one, two]));
    expect(code).toBe("invalid");
    expect(message).toContain(one);
    expect(message).toContain(two);
  });

  test("a folder without files is refused", async () => {
    mkdirSync(join(folder.path, "a/b"), { recursive: true });
    expect(await failure(put([folder.path]))).toMatchObject({ code: "invalid" });
  });

  test("5,000 small files go in a few requests", async () => {
    for (let index = 0; index < 5000; index++) folder.write(`${index % 50}/${index}.txt`, `file ${index}`);
    const before = server.requests.length;
    const { logged, sent } = await put([folder.path], { name: "many" });
    expect(logged).toMatchObject({ files: 5000, size: sent });
    expect(server.requests.length - before).toBeLessThan(10);
    const again = server.received();
    expect(await put([folder.path], { name: "many" })).toMatchObject({ sent: 0, logged: { is_new: false } });
    // Digests, and the list of files.
    expect(server.received() - again).toBeLessThan(MiB);
  });
});

describe("what is refused, by name", () => {
  const refuses = async (name: string, why: RegExp) => {
    folder.write("fine.txt", "fine");
    const before = server.requests.length;
    const { code, message } = await failure(put([folder.path]));
    expect(code).toBe("invalid");
    expect(message).toContain(name);
    expect(message).toMatch(why);
    expect(server.requests.length).toBe(before);
  };

  test("symbolic links, in a folder and by themselves", async () => {
    symlinkSync("/etc/passwd", join(folder.path, "link.txt"));
    await refuses("link.txt", /symbolic link/);
    expect(await failure(put([join(folder.path, "link.txt")]))).toMatchObject({ code: "invalid" });
  });

  test("links to folders, which are not walked", async () => {
    symlinkSync("/etc", join(folder.path, "etc"));
    await refuses("etc", /symbolic link/);
  });

  test("FIFOs, without waiting for a writer", async () => {
    spawnSync("mkfifo", [join(folder.path, "pipe")]);
    await refuses("pipe", /FIFO/);
  });

  test("sockets", async () => {
    const socket = createServer().listen(join(folder.path, "sock"));
    await new Promise((resolve) => socket.on("listening", resolve));
    await refuses("sock", /socket/);
    socket.close();
  });

  test("devices", async () => {
    expect(await failure(put(["/dev/null"]))).toMatchObject({
      code: "invalid",
      message: expect.stringContaining("/dev/null is a device"),
    });
  });

  test.each([
    ["a\u202etxt.exe", "202e"],
    ["line\nbreak", "line\\nbreak"],
    ["back\\slash", "slash"],
  ])("a name like %j, which nothing shown may act upon", async (name, shown) => {
    folder.write(name, "x");
    const { code, message } = await failure(put([folder.path]));
    expect(code).toBe("invalid");
    expect(message).toContain(shown);
    expect(message).not.toMatch(/[\n\u202e]/);
  });

  test.skipIf(process.platform === "darwin")("a name that is no UTF-8", async () => {
    writeFileSync(Buffer.concat([Buffer.from(`${folder.path}/`), Buffer.from([0x61, 0xff])]), "x");
    await refuses("aÿ", /no UTF-8/);
  });

  test("what is not there, and names that the collector would not take, before anything is read", async () => {
    const before = server.requests.length;
    expect(await failure(put([join(folder.path, "none")]))).toMatchObject({ code: "not-found" });
    const file = folder.write("a", "a");
    for (const name of ["a/b", "..", "", "x".repeat(1000), "nul\0", "\u202e"])
      expect(await failure(put([file], { name }))).toMatchObject({ code: "invalid" });
    expect(server.requests.length).toBe(before);
  });
});

describe("what is there is not sent again", () => {
  test("the same file sends less than 1 MB, and is the same version", async () => {
    const file = folder.write("big.bin", bytesOf(100 * MiB, 3));
    expect(await put([file], { name: "big" })).toMatchObject({ sent: 100 * MiB, logged: { is_new: true } });
    const before = server.received();
    expect(await put([file], { name: "big" })).toMatchObject({
      sent: 0,
      logged: { is_new: false, version: "v1" },
    });
    expect(server.received() - before).toBeLessThan(MiB);
  });

  test("of a file of which little changed, the chunks that changed are sent", async () => {
    const bytes = bytesOf(5 * CHUNK_BYTES + 99, 4);
    const file = folder.write("checkpoint.pt", bytes);
    await put([file], { name: "checkpoint" });
    bytes[2 * CHUNK_BYTES + 17]! ^= 1;
    writeFileSync(file, bytes);
    expect(await put([file], { name: "checkpoint" })).toMatchObject({
      sent: CHUNK_BYTES,
      logged: { version: "v2" },
    });
  });

  test("two files with the same bytes are sent once", async () => {
    const bytes = bytesOf(3 * MiB, 5);
    for (const name of ["a", "b/c", "d"]) folder.write(name, bytes);
    folder.write("e", "small");
    folder.write("f", "small");
    const { logged, sent } = await put([folder.path], { name: "twins" });
    expect(sent).toBe(3 * MiB + 5);
    expect(logged).toMatchObject({ files: 5, size: 9 * MiB + 10 });
  });
});

describe("a file that changes while it is read", () => {
  let seed = 100;
  /** Other bytes each time: chunks that are known are not sent. */
  const source = () => folder.write("growing.bin", bytesOf(40 * MiB, seed++));

  test("is named where it grows while it is hashed", async () => {
    const file = source();
    let hasGrown = false;
    const { code, message } = await failure(
      put([file], {
        onProgress: ({ read }) => {
          if (hasGrown || read < 8 * MiB) return;
          hasGrown = true;
          appendFileSync(file, "more");
        },
      }),
    );
    expect(code).toBe("busy");
    expect(message).toBe(`${file} changed while it was read.`);
  });

  test("is named where it shrinks", async () => {
    const file = source();
    let hasShrunk = false;
    const onProgress = ({ read }: { read: number }) => {
      if (!hasShrunk && read >= 8 * MiB) truncateSync(file, MiB);
      hasShrunk ||= read >= 8 * MiB;
    };
    expect(await failure(put([file], { onProgress }))).toMatchObject({
      code: "busy",
      message: `${file} changed while it was read.`,
    });
  });

  test("is named where it is written to while it is sent, and no version is logged", async () => {
    const file = source();
    const bytes = readFileSync(file);
    server.intercept(({ method, url }) => {
      if (method !== "PUT" || !url.endsWith("/chunks/1")) return undefined;
      bytes[39 * MiB] = 1 ^ bytes[39 * MiB]!;
      writeFileSync(file, bytes);
      utimesSync(file, 1, 1);
      return undefined;
    });
    expect(await failure(put([file], { name: "torn" }))).toMatchObject({
      code: "busy",
      message: `${file} changed while it was read.`,
    });
    expect((await server.at.json("/api/v1/artifacts?name=torn")).artifacts).toEqual([]);
  });

  test("is sent as it was opened where another takes its name, as whoever writes with care does", async () => {
    const file = source();
    const digest = filesIn(folder.path)["growing.bin"];
    let isReplaced = false;
    const { logged } = await put([file], {
      name: "replaced",
      onProgress: ({ read }) => {
        if (isReplaced || read < 8 * MiB) return;
        isReplaced = true;
        writeFileSync(`${file}.new`, "other");
        renameSync(`${file}.new`, file);
      },
    });
    expect((await listed(logged))[0]!.sha256).toBe(digest!);
  });

  test("is found out where a link takes its place before it is opened", async () => {
    folder.write("a.bin", bytesOf(20 * MiB, 8));
    const file = folder.write("b.bin", bytesOf(20 * MiB, 9));
    let isReplaced = false;
    const onProgress = () => {
      if (isReplaced) return;
      isReplaced = true;
      renameSync(file, `${file}.old`);
      symlinkSync("/etc/hostname", file);
    };
    expect(await failure(put([folder.path], { onProgress }))).toMatchObject({
      code: "invalid",
      message: expect.stringContaining("b.bin is a symbolic link"),
    });
  });

  test("is no different from bytes that are damaged on their way: neither is kept", async () => {
    const file = source();
    server.intercept((request) => {
      if (request.method !== "PUT" || !request.url.endsWith("/chunks/2")) return undefined;
      return request.arrayBuffer().then((body) => {
        const bytes = new Uint8Array(body);
        bytes[5]! ^= 1;
        return server.at.app.request(request.url, {
          method: "PUT",
          headers: request.headers,
          body: bytes,
        });
      });
    });
    expect(await failure(put([file], { name: "damaged" }))).toMatchObject({ code: "busy" });
    expect((await server.at.json("/api/v1/artifacts?name=damaged")).artifacts).toEqual([]);
  });
});

describe("a collector that goes away", () => {
  test("and comes back half-way: only what it had not got is sent, and the version is whole", async () => {
    const bytes = bytesOf(12 * CHUNK_BYTES + 5, 10);
    const file = folder.write("model.pt", bytes);
    let restart: Promise<void> | undefined;
    const waits: string[] = [];
    const { logged, sent } = await put([file], {
      name: "interrupted",
      onProgress: (progress) => {
        if (!restart && progress.sent >= 6 * CHUNK_BYTES) restart = server.restart();
      },
      onWaiting: (error) => waits.push(error?.code ?? "again"),
    });
    await restart;
    expect(waits.slice(0, 1)).toEqual(["unreachable"]);
    expect(waits.at(-1)).toBe("again");
    // What was under way when it went is sent twice.
    expect(sent).toBeLessThanOrEqual(bytes.length + 4 * CHUNK_BYTES);
    expect((await listed(logged))[0]!.sha256).toBe(
      new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
    );
  });

  test("a client that is killed goes on where it broke off", async () => {
    const bytes = bytesOf(10 * CHUNK_BYTES, 11);
    const file = folder.write("model.pt", bytes);
    const stop = new AbortController();
    const first = await failure(
      put([file], {
        name: "killed",
        signal: stop.signal,
        onProgress: ({ sent }) => {
          if (sent >= 5 * CHUNK_BYTES) stop.abort(new Error("killed"));
        },
      }),
    );
    expect(first.message).toBe("killed");
    const { sent } = await put([file], { name: "killed" });
    expect(sent).toBeLessThanOrEqual(5 * CHUNK_BYTES);
  });

  test("busy answers are waited out, for as long as they ask", async () => {
    const file = folder.write("a", "patience");
    const times: number[] = [];
    server.intercept(({ url }) => {
      if (!url.endsWith("/blobs/missing")) return undefined;
      times.push(performance.now());
      if (times.length > 2) return undefined;
      return new Response(JSON.stringify({ type: "urn:binnacle:busy", detail: "Busy." }), {
        status: 503,
        headers: { "retry-after": "1" },
      });
    });
    await put([file]);
    expect(times).toHaveLength(3);
    for (const at of [1, 2]) expect(times[at]! - times[at - 1]!).toBeGreaterThanOrEqual(990);
  });

  test("for good is an error after the patience that was asked for, and refusals at once", async () => {
    const file = folder.write("a", "nobody");
    const nobody = () => ({ url: "http://127.0.0.1:9", token: undefined });
    expect(await failure(put([file], { connection: nobody, patienceMs: 500 }))).toMatchObject({
      code: "unreachable",
    });
    const stranger = () => ({ url: server.url, token: "bnc_read_no" });
    expect(await failure(put([file], { connection: stranger }))).toMatchObject({ code: "unauthorized" });
    const reader = () => ({ url: server.url, token: server.at.trust.tokens.read });
    expect(await failure(put([file], { connection: reader }))).toMatchObject({ code: "forbidden" });
  });

  test("a full disk is waited for: the upload goes on when there is room", async () => {
    const file = folder.write("a", bytesOf(3 * CHUNK_BYTES, 12));
    let refusals = 0;
    server.intercept(({ method }) => {
      if (method !== "PUT" || refusals >= 3) return undefined;
      refusals++;
      return new Response(JSON.stringify({ type: "urn:binnacle:disk-full", detail: "Full." }), {
        status: 507,
      });
    });
    const waits: (string | undefined)[] = [];
    const { sent } = await put([file], { name: "full", onWaiting: (error) => waits.push(error?.code) });
    expect(sent).toBe(3 * CHUNK_BYTES);
    expect(waits[0]).toBe("disk-full");
  });
});

test("a run's own token brings files to its run, and to no other", async () => {
  const file = folder.write("a", "of a run");
  for (const id of ["run-a", "run-b"]) await server.at.json("/api/v1/runs", { body: { id, name: id } });
  const connection = () => ({ url: server.url, token: server.at.trust.tokens.ofRun("run-a") });
  const { logged } = await put([file], { connection, run: "run-a", name: "own" });
  expect(logged.produced_by).toEqual(["run-a"]);
  expect(await failure(put([file], { connection, run: "run-b", name: "own" }))).toMatchObject({
    code: "forbidden",
  });
  const { version } = await findVersion(server.connection(), logged, "latest");
  expect(version).toBe("v1");
});

test("a list that no request has room for is refused before anything is read", async () => {
  const found = Array.from({ length: 100_000 }, (_, n) => ({
    path: `${"folder/".repeat(40)}${n}`,
    source: "/nowhere",
    size: 1,
  }));
  const head: ArtifactHead = { kind: "artifact", name: "long", type: "general" };
  server.requests.length = 0;
  const refused = await putFiles(head, found, { connection: server.connection }).catch((error) => error);
  expect(refused).toMatchObject({ code: "too-large", message: expect.stringContaining("100000 files") });
  expect(server.requests).toEqual([]);
});
