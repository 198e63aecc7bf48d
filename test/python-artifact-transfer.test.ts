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
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCollectorProxy, type CollectorProxy } from "./helpers/collector-proxy.ts";
import {
  DEAD_URL,
  python,
  runPython,
  startPython,
  startServer,
  type PythonOptions,
  type TestServer,
} from "./helpers/python.ts";

// Many processes, perhaps on a busy machine.
setDefaultTimeout(120_000);

const MIB = 1024 * 1024;
const main = join(import.meta.dirname, "../src/cli/main.ts");

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.remove());

let folder: string;
let spool: string;
let proxy: CollectorProxy;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  spool = join(folder, "spool");
  proxy = createCollectorProxy(() => server.url);
});
afterEach(() => {
  proxy.stop();
  rmSync(folder, { recursive: true, force: true });
});

const inSpool = () => (existsSync(spool) ? readdirSync(spool).sort() : []);
const orders = () => inSpool().filter((name) => name.endsWith(".upload"));

/** For scripts that talk to the collector through the proxy. */
const through = (more: Record<string, string> = {}): PythonOptions => ({
  env: { ...server.env, BINNACLE_URL: proxy.url, BINNACLE_SPOOL: spool, ...more },
});

const inFolder = (script: string) =>
  `import binnacle, os, sys, time\nos.chdir(${JSON.stringify(folder)})\n${script}`;

function big(name: string, mebibytes: number): string {
  const path = join(folder, name);
  for (let done = 0; done < mebibytes; done += 8)
    appendFileSync(path, randomBytes(Math.min(8, mebibytes - done) * MIB));
  return path;
}

async function versions(kind: string, name: string): Promise<Record<string, unknown>[]> {
  const { artifacts } = await server.get(`/api/v1/artifacts?kind=${kind}&name=${name}`);
  if (artifacts.length === 0) return [];
  return (await server.get(`/api/v1/artifacts/${artifacts[0].id}/versions`)).versions;
}

/** `binnacle sync`, past the proxy. */
async function sync(...words: string[]) {
  const child = Bun.spawn([process.execPath, main, "sync", spool, "--json", ...words], {
    env: { ...process.env, BINNACLE_DATA: server.dataDir, BINNACLE_URL: proxy.url },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  return { code, err, results: JSON.parse(out) as any[] };
}

test("a thousand small files and 40 MB arrive; the same again sends not one byte of them", async () => {
  const bytes = 40 * MIB;
  big("big", 40);
  mkdirSync(join(folder, "many/deep"), { recursive: true });
  let small = 0;
  for (let i = 0; i < 1000; i++) {
    writeFileSync(join(folder, `many/deep/${i}`), `file ${i}`);
    small += `file ${i}`.length;
  }
  const script = inFolder(`
for name, path in (("forty", "big"), ("thousand", "many")):
    began = time.perf_counter(); print(binnacle.log_model(name, path).wait(60), time.perf_counter() - began)
`);
  const times = (await python(script, through())).trim().split("\n");
  process.stderr.write(`40 MB and 1,000 files from Python: ${times.join(", ")} s\n`);
  expect(times.map((line) => line.split(" ")[0])).toEqual(["v1", "v1"]);
  // Each of a pack has 36 bytes before it.
  expect(proxy.bytes).toBe(bytes + small + 36_000);
  expect((await versions("model", "thousand"))[0]).toMatchObject({ files: 1000, size: small });

  proxy.bytes = 0;
  expect(
    (await python(script, through()))
      .trim()
      .split("\n")
      .map((line) => line.split(" ")[0]),
  ).toEqual(["v1", "v1"]);
  expect(proxy.bytes).toBe(0);
  expect(proxy.requests.filter((request) => /chunks|pack/.test(request))).toHaveLength(5 + 1);
  expect(inSpool()).toEqual([]);
});

test("small files come in packs that cost the collector little memory", async () => {
  mkdirSync(join(folder, "many"));
  for (let i = 0; i < 80; i++) writeFileSync(join(folder, `many/${i}`), randomBytes(60_000));
  const before: number[] = [];
  proxy.hold = (_method, path) => {
    if (path.endsWith("/pack")) before.push(proxy.bytes);
    return undefined;
  };
  await python(inFolder(`binnacle.log_model("packs", "many").wait(60)`), through());
  const sizes = before.map((bytes, index) => (before[index + 1] ?? proxy.bytes) - bytes);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(80 * 60_036);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(2 * MIB);
  expect(sizes).toHaveLength(3);
});

describe("a collector that is away", () => {
  test("when something is logged gets it when it is back", async () => {
    big("file", 20);
    let isAway = true;
    proxy.hold = async () => (isAway ? new Response("", { status: 502 }) : undefined);
    const child = startPython(
      inFolder(`upload = binnacle.log_model("later", "file")\nprint("logged")\nprint(upload.wait(60))`),
      through(),
    );
    await child.printed("logged");
    await Bun.sleep(500);
    isAway = false;
    const { out, code } = await child.ended;
    expect({ out, code }).toEqual({ out: "logged\nv1\n", code: 0 });
    expect(inSpool()).toEqual([]);
  });

  const logTwo = () =>
    inFolder(`
began = time.time()
binnacle.log_artifact("kept", "a", metadata={"é": float("inf")}, aliases="best").name
binnacle.log_artifact("kept", ["b", "folder"], type="source code")
binnacle.finish()
print(time.time() - began)
`);
  async function logWhileAway(id: string): Promise<string> {
    big("a", 9);
    writeFileSync(join(folder, "b"), "small");
    mkdirSync(join(folder, "folder/é"), { recursive: true });
    writeFileSync(join(folder, "folder/é/c"), "");
    const { code, out, err } = await runPython(logTwo(), {
      env: { BINNACLE_SPOOL: spool, BINNACLE_URL: DEAD_URL, BINNACLE_RUN_ID: id },
    });
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(Number(out)).toBeLessThan(8);
    expect(err).toContain("not sent yet: artifact 'kept', artifact 'kept'. `binnacle sync` sends it");
    expect(orders()).toHaveLength(2);
    return id;
  }
  const kept = [
    { version: "v2", type: "source code", files: 2, aliases: ["latest"] },
    { version: "v1", type: "general", files: 1, metadata: { é: "Infinity" }, aliases: ["best"] },
  ];

  test("for good: the next process of the folder sends it", async () => {
    const id = await logWhileAway("away-next");
    const script = inFolder(`
run = binnacle.init()
for _ in range(200):
    if not os.listdir("spool"): break
    time.sleep(0.1)
`);
    await python(script, through());
    expect(inSpool()).toEqual([]);
    expect(await versions("artifact", "kept")).toMatchObject(
      kept.map((each) => ({ ...each, produced_by: [id] })),
    );
    expect(await server.run(id)).toMatchObject({ status: "FINISHED" });
  });

  test("for good: sync sends it, in the order of the calls, as one would who had never heard of the run", async () => {
    const id = await logWhileAway("away-sync");
    // All but the orders is lost.
    for (const name of inSpool()) if (name.endsWith(".ndjson")) rmSync(join(spool, name));
    const { code, results } = await sync();
    expect(results.map(({ outcome, error, upload }) => [outcome, error, upload?.name])).toEqual([
      ["sent", null, "kept"],
      ["sent", null, "kept"],
    ]);
    expect(code).toBe(0);
    const [second, first] = await versions("artifact", "kept");
    expect([second, first]).toMatchObject([{ files: 2 }, { files: 1 }]);
    expect(first!["produced_by"]).toContain(id);
    expect(inSpool()).toEqual([]);
  });

  test.each(["sync", "the next process"])(
    "for good: %s refuses what has changed since, by name",
    async (who) => {
      await logWhileAway(`away-changed-${who.length}`);
      appendFileSync(join(folder, "a"), "more");
      writeFileSync(join(folder, "b"), "other");
      const before = (await versions("artifact", "kept")).length;
      if (who === "sync") {
        const { code, results } = await sync();
        expect(results.slice(1).map(({ outcome, error }) => [outcome, error])).toEqual([
          ["partly", `${folder}/a has changed since it was logged.`],
          ["partly", `${folder}/b has changed since it was logged.`],
        ]);
        expect(code).toBe(1);
      } else {
        const { err } = await runPython(
          inFolder(
            `binnacle.init()\nfor _ in range(100):\n    if not any(n.endswith(".upload") for n in os.listdir("spool")): break\n    time.sleep(0.1)`,
          ),
          through(),
        );
        expect(err).toContain(`'${folder}/a' has changed since it was logged`);
        expect(err).toContain(`'${folder}/b' has changed since it was logged`);
      }
      expect(inSpool().filter((name) => name.endsWith(".upload.refused"))).toHaveLength(2);
      expect(await versions("artifact", "kept")).toHaveLength(before);
    },
  );
});

describe("a client that is killed half-way", () => {
  const SIZE = 64;
  /** Ends after a few chunks; returns how many bytes were taken. */
  async function killHalfWay(id: string): Promise<number> {
    big("huge", SIZE);
    let chunks = 0;
    const reached = Promise.withResolvers<void>();
    proxy.hold = async (method) => {
      if (method !== "PUT" || ++chunks <= 3) return undefined;
      reached.resolve();
      await child.ended;
      return new Response("", { status: 502 });
    };
    const child = startPython(
      inFolder(`binnacle.log_model("killed", "huge"); time.sleep(100)`),
      through({ BINNACLE_RUN_ID: id }),
    );
    await reached.promise;
    child.process.kill("SIGKILL");
    await child.ended;
    expect(proxy.bytes).toBe(3 * 8 * MIB);
    expect(orders()).toHaveLength(1);
    proxy.hold = undefined;
    proxy.bytes = 0;
    return 3 * 8 * MIB;
  }

  test("has its upload finished by sync, which sends only what is missing", async () => {
    const taken = await killHalfWay("killed-sync");
    const { code, results } = await sync();
    const result = results.find(({ file }) => file.endsWith(".upload"));
    expect(result).toMatchObject({
      outcome: "sent",
      upload: { kind: "model", name: "killed", version: "v1", bytes: SIZE * MIB - taken },
    });
    expect(code).toBe(0);
    expect(proxy.bytes).toBe(SIZE * MIB - taken);
    expect(inSpool()).toEqual([]);
    expect((await versions("model", "killed"))[0]).toMatchObject({ produced_by: ["killed-sync"] });
  });

  test("has its upload finished by a second process, which sends only what is missing", async () => {
    const taken = await killHalfWay("killed-second");
    await python(
      inFolder(`
binnacle.init()
for _ in range(300):
    if not os.listdir("spool"): break
    time.sleep(0.1)
`),
      through(),
    );
    expect(proxy.bytes).toBe(SIZE * MIB - taken);
    expect(inSpool()).toEqual([]);
    expect((await versions("model", "killed"))[0]).toMatchObject({ produced_by: ["killed-second"] });
  });
});

describe("the end of a script", () => {
  const timed = (script: string) => inFolder(`began = time.time()\n${script}`);

  test("waits for uploads", async () => {
    big("file", 16);
    proxy.hold = async (method) => {
      if (method === "PUT") await Bun.sleep(300);
      return undefined;
    };
    await python(timed(`binnacle.log_model("at-the-end", "file")`), through());
    expect(await versions("model", "at-the-end")).toHaveLength(1);
    expect(inSpool()).toEqual([]);
  });

  test("waits no longer than it says; the rest is for sync", async () => {
    big("file", 64);
    proxy.hold = async (method) => {
      if (method === "PUT") await Bun.sleep(1000);
      return undefined;
    };
    const script = timed(`
from binnacle import _run, _uploads
_run.UPLOAD_WITHIN, _uploads.TELL_AFTER = 2.5, 1.0
binnacle.log_model("too-long", "file"); time.sleep(1)
began = time.time(); binnacle.finish(); print(time.time() - began)
`);
    const { out, err, code } = await runPython(script, through());
    expect(code).toBe(0);
    expect(Number(out)).toBeGreaterThan(2.4);
    expect(Number(out)).toBeLessThan(5);
    expect(err).toMatch(/sending files: .* of 67.1 MB so far\. At most 2 seconds; Ctrl-C leaves the rest/);
    expect(err).toContain("not sent yet: model 'too-long'");
    expect(orders()).toHaveLength(1);
    proxy.hold = undefined;
    const { results } = await sync();
    expect(results).toMatchObject([{ outcome: "sent" }]);
  });

  test("does not wait for a collector that hangs, nor after SIGTERM", async () => {
    big("file", 16);
    proxy.hold = (method) => (method === "PUT" ? new Promise(() => {}) : undefined);
    const hung = await runPython(
      timed(`
from binnacle import _uploads
_uploads.STALLED_AFTER = 2.0
binnacle.log_model("hung", "file"); time.sleep(1)
began = time.time(); binnacle.finish(); print(time.time() - began)
`),
      through(),
    );
    expect(Number(hung.out)).toBeLessThan(5);
    expect(orders()).toHaveLength(1);

    const child = startPython(
      timed(`binnacle.log_model("hung", "file"); time.sleep(1); print("ready"); time.sleep(100)`),
      through(),
    );
    await child.printed("ready");
    const began = performance.now();
    child.process.kill("SIGTERM");
    const { signal } = await child.ended;
    expect(signal).toBe("SIGTERM");
    expect(performance.now() - began).toBeLessThan(7000);
    expect(orders().length).toBeGreaterThan(0);
  });

  test("waits for a collector that is merely busy, and not after Ctrl-C", async () => {
    big("file", 16);
    let isBusy = true;
    proxy.hold = async (method) =>
      method === "PUT" && isBusy ? Response.json({ type: "urn:binnacle:busy" }, { status: 503 }) : undefined;
    const script = timed(`binnacle.log_model("busy-then-not", "file"); time.sleep(1); print("ended")`);
    const patient = startPython(script, through());
    await patient.printed("ended");
    await Bun.sleep(1500);
    isBusy = false;
    expect(await patient.ended).toMatchObject({ code: 0 });
    expect(await versions("model", "busy-then-not")).toHaveLength(1);

    isBusy = true;
    big("file", 16);
    const child = startPython(script, through());
    await child.printed("ended");
    await Bun.sleep(500);
    const began = performance.now();
    child.process.kill("SIGINT");
    const { err } = await child.ended;
    expect(performance.now() - began).toBeLessThan(3000);
    expect(err).toContain("not sent yet: model 'busy-then-not'");
    expect(orders()).toHaveLength(1);
    isBusy = false;
    expect((await sync()).results).toMatchObject([{ outcome: "sent", upload: { version: "v2" } }]);
  });

  test("notes what is logged in the very last moment, when no thread begins any more", async () => {
    writeFileSync(join(folder, "file"), "x");
    await python(
      inFolder(
        `import atexit\nrun = binnacle.init(run_id="last-moment")\natexit.register(lambda: run.log_model("last-moment", "file"))`,
      ),
      through(),
    );
    if (orders().length > 0) await sync();
    expect(await versions("model", "last-moment")).toHaveLength(1);
  });
});

test("launch sends what its program could not", async () => {
  big("file", 16);
  let isKilled = false;
  proxy.hold = async (method) =>
    method === "PUT" && !isKilled ? new Response("", { status: 503 }) : undefined;
  const script = inFolder(
    `import signal\nbinnacle.log_model("launched", "file"); time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)`,
  );
  const child = Bun.spawn(
    [process.execPath, main, "launch", "-rid", "launched", "--", "python3", "-c", script],
    {
      env: { ...process.env, ...through().env },
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const err = new Response(child.stderr).text();
  await Bun.sleep(4000);
  isKilled = true;
  await child.exited;
  expect(await err).not.toContain("stays");
  expect(await versions("model", "launched")).toMatchObject([{ produced_by: ["launched"] }]);
  expect(inSpool()).toEqual([]);
});
