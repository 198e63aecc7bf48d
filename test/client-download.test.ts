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
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { downloadVersion, type DownloadOptions } from "../src/client/typescript/download.ts";
import { putPaths } from "../src/client/typescript/put.ts";
import { bytesOf, filesIn, makeFolder, serveFiles, type FilesServer, type Folder } from "./helpers/files.ts";

setDefaultTimeout(60_000);

const MiB = 1024 * 1024;
const SIZE = 24 * MiB + 77;
let server: FilesServer;
let source: Folder;
let target: Folder;
let version: { id: number; version: string };

beforeAll(async () => {
  server = await serveFiles();
  source = makeFolder();
  source.write("model.bin", bytesOf(SIZE));
  source.write("sub/a.txt", "a");
  source.write("sub/b.txt", "a");
  source.write("empty", "");
  version = (
    await putPaths({ kind: "model", name: "digits", type: "model" }, [source.path], {
      connection: server.connection,
    })
  ).logged;
});
afterAll(async () => {
  source.remove();
  await server.close();
});
beforeEach(() => {
  target = makeFolder();
});
afterEach(() => {
  server.intercept(undefined);
  target.remove();
});

const get = (options: Partial<DownloadOptions> = {}, folder = join(target.path, "out")) =>
  downloadVersion(version, folder, { connection: server.connection, ...options });
const failure = (promise: Promise<unknown>): Promise<{ code: string; message: string }> =>
  promise.then(
    () => ({ code: "none", message: "it went well" }),
    (error) => error,
  );
const parts = (folder = join(target.path, "out")) =>
  readdirSync(folder).filter((name) => name.endsWith(".part"));

describe("what is there already", () => {
  test("is not asked for again, and is left alone where it differs", async () => {
    expect(await get()).toMatchObject({ files: 4, received: SIZE + 1, unchanged: 0 });
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(source.path));
    expect(await get()).toMatchObject({ received: 0, unchanged: 4 });

    target.write("out/sub/a.txt", "mine");
    target.write("out/other.txt", "also mine");
    const { code, message } = await failure(get());
    expect(code).toBe("conflict");
    expect(message).toContain("sub/a.txt");
    expect(readFileSync(join(target.path, "out/sub/a.txt"), "utf8")).toBe("mine");

    expect(await get({ force: true })).toMatchObject({ received: 1, unchanged: 3 });
    expect(readFileSync(join(target.path, "out/sub/a.txt"), "utf8")).toBe("a");
    expect(readFileSync(join(target.path, "out/other.txt"), "utf8")).toBe("also mine");
  });

  test("decides before anything is written", async () => {
    target.write("out/sub/a.txt", "mine");
    expect(await failure(get())).toMatchObject({ code: "conflict" });
    expect(readdirSync(join(target.path, "out"))).toEqual(["sub"]);
  });

  test("a file where the folder should be", async () => {
    target.write("out", "a file");
    expect(await failure(get())).toMatchObject({ code: "conflict" });
    expect(readFileSync(join(target.path, "out"), "utf8")).toBe("a file");
  });
});

describe("an interrupted download", () => {
  /** Between client and collector: breaks each connection after so many bytes of the answer. */
  async function breaking(after: number): Promise<{ url: string; connections: () => number; close(): void }> {
    let connections = 0;
    const sockets = new Set<Socket>();
    const proxy: Server = createServer((client) => {
      connections++;
      let passed = 0;
      const upstream = connect(Number(new URL(server.url).port), "127.0.0.1");
      for (const socket of [client, upstream]) {
        sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => {
          client.destroy();
          upstream.destroy();
        });
      }
      client.pipe(upstream);
      upstream.on("data", (bytes: Buffer) => {
        passed += bytes.length;
        client.write(bytes);
        if (passed > after) client.destroySoon();
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    const { port } = proxy.address() as { port: number };
    return {
      url: `http://127.0.0.1:${port}`,
      connections: () => connections,
      close() {
        for (const socket of sockets) socket.destroy();
        proxy.close();
      },
    };
  }

  test("goes on by range, as often as the connection breaks", async () => {
    const proxy = await breaking(5 * MiB);
    const ranges: string[] = [];
    server.intercept(({ headers }) => {
      if (headers.has("range")) ranges.push(headers.get("range")!);
      return undefined;
    });
    const result = await get({ connection: () => ({ ...server.connection(), url: proxy.url }) });
    proxy.close();
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(source.path));
    expect(ranges.length).toBeGreaterThanOrEqual(3);
    expect(result.received).toBe(SIZE + 1);
  });

  test("of small files asks for those again that did not come", async () => {
    const many = makeFolder();
    for (let i = 0; i < 300; i++) many.write(`d${i % 7}/${i}`, bytesOf(2000 + i, i + 1));
    const { logged } = await putPaths({ kind: "artifact", name: "many", type: "general" }, [many.path], {
      connection: server.connection,
    });
    const proxy = await breaking(200_000);
    server.requests.length = 0;
    const { received } = await downloadVersion(logged, join(target.path, "out"), {
      connection: () => ({ ...server.connection(), url: proxy.url }),
    });
    proxy.close();
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(many.path));
    expect(received).toBe(300 * 2000 + (299 * 300) / 2);
    const packs = server.requests.filter((request) => request.endsWith("/pack"));
    // What a connection that breaks had brought last may be lost with it.
    expect(packs.length).toBeGreaterThanOrEqual(3);
    expect(packs.length).toBeLessThan(100);
    many.remove();
  });

  test("that was stopped goes on with the next call", async () => {
    const stop = new AbortController();
    const stopped = await failure(
      get({
        signal: stop.signal,
        onProgress: ({ received }) => {
          if (received > 10 * MiB) stop.abort(new Error("stopped"));
        },
      }),
    );
    expect(stopped.message).toBe("stopped");
    expect(parts()).toHaveLength(1);
    expect(existsSync(join(target.path, "out/model.bin"))).toBe(false);
    const { received } = await get();
    expect(received).toBeLessThan(SIZE - 10 * MiB + 10);
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(source.path));
    expect(parts()).toEqual([]);
  });

  test("whose first half was damaged on disk is fetched as a whole", async () => {
    const stop = new AbortController();
    await failure(
      get({
        signal: stop.signal,
        onProgress: ({ received }) => {
          if (received > 10 * MiB) stop.abort(new Error("stopped"));
        },
      }),
    );
    const part = join(target.path, "out", parts()[0]!);
    const bytes = readFileSync(part);
    bytes[17]! ^= 1;
    writeFileSync(part, bytes);
    await get();
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(source.path));
  });

  test("survives a restart of the collector", async () => {
    let restart: Promise<void> | undefined;
    await get({
      onProgress: ({ received }) => {
        if (!restart && received > 6 * MiB) restart = server.restart();
      },
    });
    await restart;
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(source.path));
  });
});

describe("a collector that lies", () => {
  const digest = new Bun.CryptoHasher("sha256").update("x").digest("hex");
  const list = (files: object[]) =>
    server.intercept(({ url }) => {
      if (url.includes("/files?")) return Response.json({ files, next: null });
      return url.includes("/file?") ? new Response("x") : undefined;
    });
  const file = (path: string) => ({ path, size: 1, sha256: digest });

  test.each([
    ["../x", "../x"],
    ["../../x", "../../x"],
    ["/etc/x", "/etc/x"],
    ["a/../../x", "a/../../x"],
    ["a/./x", "a/./x"],
    ["..", ".."],
    [".", "."],
    ["nothing", ""],
    ["a//b", "a//b"],
    ["backslashes", "a\\..\\x"],
    ["NUL", "nul\0x"],
    ["bidi", "a\u202eb"],
    ["300 characters", "x".repeat(300)],
    ["600 folders", `${"a/".repeat(600)}x`],
  ])("about the place of a file, %s, writes nothing anywhere", async (_, path) => {
    list([file("fine.txt"), file(path)]);
    const { code, message } = await failure(get());
    expect(code).toBe("internal");
    expect(message).toContain("may not be written");
    expect(readdirSync(target.path)).toEqual([]);
  });

  test.each([
    [["a", "a"], "names a place twice"],
    [["a", "a/b"], "has a file as a folder"],
    [["a/b/c", "a/b"], "has a folder as a file"],
  ])("whose list is no folder's, %j, writes nothing", async (paths) => {
    list(paths.map(file));
    expect(await failure(get())).toMatchObject({ code: "internal" });
    expect(readdirSync(target.path)).toEqual([]);
  });

  test.each([
    { path: "a", size: -1, sha256: digest },
    { path: "a", size: 1, sha256: "../../x" },
    { path: 7, size: 1, sha256: digest },
    { path: "a" },
  ])("with %j for a file writes nothing", async (listed) => {
    list([listed]);
    expect(await failure(get())).toMatchObject({ code: "internal" });
    expect(readdirSync(target.path)).toEqual([]);
  });

  test("about the bytes: what does not fit its digest never gets its name", async () => {
    server.intercept(({ url }) =>
      url.includes("/file?path=model.bin") ? new Response(bytesOf(SIZE, 2)) : undefined,
    );
    expect(await failure(get())).toMatchObject({
      code: "internal",
      message: expect.stringContaining("model.bin came with bytes that do not fit its digest"),
    });
    expect(existsSync(join(target.path, "out/model.bin"))).toBe(false);
  });

  test("about the size, with bytes without end, is not listened to for long", async () => {
    let sent = 0;
    server.intercept(({ url }) => {
      if (!url.includes("/file?path=model")) return undefined;
      const pull = (controller: ReadableStreamDefaultController) => {
        sent += MiB;
        controller.enqueue(new Uint8Array(MiB));
      };
      return new Response(new ReadableStream({ pull }));
    });
    expect(await failure(get())).toMatchObject({
      code: "internal",
      message: expect.stringContaining("more bytes"),
    });
    expect(sent).toBeLessThan(100 * MiB);
  });

  describe("in a pack of small files", () => {
    const a = new Bun.CryptoHasher("sha256").update("a").digest("hex");
    const frame = (sha256: string, length: number, bytes: string) => {
      const head = Buffer.concat([Buffer.from(sha256, "hex"), Buffer.alloc(4)]);
      head.writeUInt32LE(length, 32);
      return Buffer.concat([head, Buffer.from(bytes)]);
    };

    test.each([
      ["other bytes", frame(a, 1, "b"), "do not fit its digest"],
      ["fewer bytes", frame(a, 0, ""), "do not fit its digest"],
      ["more bytes", frame(a, 4_000_000_000, "a"), "more bytes"],
      ["a file that was not asked for", frame("0".repeat(64), 1, "a"), "nobody asked for"],
      ["a file twice", Buffer.concat([frame(a, 1, "a"), frame(a, 1, "a")]), "nobody asked for"],
    ])("with %s, writes nothing of it", async (_, answer, message) => {
      server.intercept(({ url }) => (url.endsWith("/pack") ? new Response(answer) : undefined));
      expect(await failure(get())).toMatchObject({
        code: "internal",
        message: expect.stringContaining(message),
      });
      for (const [path, digest] of Object.entries(filesIn(join(target.path, "out"))))
        if (!path.endsWith(".part")) expect(digest).toBe(filesIn(source.path)[path]!);
    });
  });

  test("that answers a range with the whole is understood", async () => {
    await failure(get({ signal: abortedAfter(10 * MiB) }));
    server.intercept((request) => {
      if (!request.headers.has("range")) return undefined;
      const headers = new Headers(request.headers);
      headers.delete("range");
      return server.at.app.request(request.url, { headers });
    });
    await get();
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(source.path));
  });

  function abortedAfter(bytes: number): AbortSignal {
    const stop = new AbortController();
    const size = () => {
      const found = existsSync(join(target.path, "out")) ? parts()[0] : undefined;
      return found ? Bun.file(join(target.path, "out", found)).size : 0;
    };
    const timer = setInterval(() => {
      if (size() < bytes) return;
      clearInterval(timer);
      stop.abort(new Error("stopped"));
    }, 1);
    return stop.signal;
  }
});

describe("links in the folder", () => {
  test("are not followed where a folder should be", async () => {
    const outside = join(target.path, "outside");
    mkdirSync(join(target.path, "out"));
    mkdirSync(outside);
    symlinkSync(outside, join(target.path, "out/sub"));
    for (const force of [false, true])
      expect(await failure(get({ force }))).toMatchObject({
        code: "conflict",
        message: expect.stringContaining("sub"),
      });
    expect(readdirSync(outside)).toEqual([]);
  });

  test("are replaced, not written through, where a file should be", async () => {
    const outside = target.write("outside.txt", "precious");
    mkdirSync(join(target.path, "out/sub"), { recursive: true });
    symlinkSync(outside, join(target.path, "out/sub/a.txt"));
    expect(await failure(get())).toMatchObject({ code: "conflict" });
    await get({ force: true });
    expect(readFileSync(outside, "utf8")).toBe("precious");
    expect(() => readlinkSync(join(target.path, "out/sub/a.txt"))).toThrow();
    expect(filesIn(join(target.path, "out"))).toEqual(filesIn(source.path));
  });

  test("are not followed in the place of what an earlier try has left", async () => {
    await failure(
      get({
        onProgress: ({ received }) => {
          if (received > 5 * MiB) throw new Error("stopped");
        },
      }),
    );
    const part = join(target.path, "out", parts()[0]!);
    const outside = target.write("outside.bin", "precious");
    rmSync(part);
    symlinkSync(outside, part);
    expect(await failure(get())).toMatchObject({ code: "invalid" });
    expect(readFileSync(outside, "utf8")).toBe("precious");
  });
});

test("a version that is deleted meanwhile is an error, and leaves no file that is not whole", async () => {
  const { logged } = await putPaths(
    { kind: "artifact", name: "short-lived", type: "general" },
    [source.path],
    {
      connection: server.connection,
    },
  );
  let deleted: Promise<unknown> | undefined;
  const folder = join(target.path, "out");
  const result = await failure(
    downloadVersion(logged, folder, {
      connection: server.connection,
      onProgress: () => {
        deleted ??= server.at.request(`/api/v1/artifacts/${logged.id}`, { method: "DELETE" });
      },
    }),
  );
  await deleted;
  // What was being read then is read to its end; what was not begun is not there any more.
  expect(["none", "not-found", "gone"]).toContain(result.code);
  const whole = filesIn(source.path);
  for (const [name, digest] of Object.entries(filesIn(folder)))
    if (!name.endsWith(".part")) expect(digest).toBe(whole[name]!);
});
