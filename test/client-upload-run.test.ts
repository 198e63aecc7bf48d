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
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRun, type InitOptions, type Run } from "../src/client/typescript/run.ts";
import { cleanEnv, runCli } from "./helpers/cli.ts";
import { bytesOf, filesIn, makeFolder, serveFiles, type FilesServer, type Folder } from "./helpers/files.ts";

// A process a script, on a machine that may be busy.
setDefaultTimeout(60_000);

const MiB = 1024 * 1024;
let server: FilesServer;
let folder: Folder;
let spool: Folder;

beforeAll(async () => {
  server = await serveFiles();
});
afterAll(() => server.close());
beforeEach(() => {
  folder = makeFolder();
  spool = makeFolder();
});
afterEach(() => {
  server.intercept(undefined);
  folder.remove();
  spool.remove();
});

const envOf = () => ({
  BINNACLE_URL: server.url,
  BINNACLE_TOKEN: server.at.trust.tokens.write,
  BINNACLE_SPOOL: spool.path,
  BINNACLE_DATA: join(spool.path, "none"),
});
const begin = (options: InitOptions = {}): Run => createRun({ quiet: true, ...options }, envOf());
const filesOf = (run: string) => server.at.json(`/api/v1/runs/${run}/artifacts`);
const orders = () => readdirSync(spool.path).filter((name) => name.endsWith(".upload"));
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error("it went well"),
    (error) => error,
  );

test("models and artifacts are sent in the order of the calls, and finish waits for them", async () => {
  const run = begin();
  const bytes = bytesOf(30 * MiB);
  const file = folder.write("model.pt", bytes);
  folder.write("sub/.hidden", "x");
  const promises = [run.logModel("net", file, { aliases: ["best"], metadata: { step: 1 } })];
  promises.push(run.logArtifact("all", folder.path, { type: "dataset", description: "all of it" }));
  run.log({ loss: 1 });
  expect(await run.finish()).toMatchObject({ delivered: true });
  const { outputs } = await filesOf(run.id);
  expect(outputs).toMatchObject([
    {
      kind: "model",
      name: "net",
      type: "model",
      version: "v1",
      aliases: ["latest", "best"],
      metadata: { step: 1 },
    },
    {
      kind: "artifact",
      name: "all",
      type: "dataset",
      files: 2,
      size: 30 * MiB + 1,
      description: "all of it",
    },
  ]);
  for (const promise of promises) expect((await promise).is_new).toBe(true);
  expect(readdirSync(spool.path)).toEqual([]);
  expect((await server.at.json(`/api/v1/runs/${run.id}`)).status).toBe("FINISHED");
});

test("no call waits for the network, and records go on while files are sent", async () => {
  const run = begin();
  await run.created;
  const file = folder.write("model.pt", bytesOf(100 * MiB, 2));
  let longest = 0;
  const promise = run.logModel("heavy", file);
  let isDone = false;
  void promise.then(() => (isDone = true));
  let steps = 0;
  while (!isDone) {
    const before = performance.now();
    run.log({ step: steps++ });
    longest = Math.max(longest, performance.now() - before);
    await Bun.sleep(5);
  }
  expect(longest).toBeLessThan(100);
  await run.finish();
  expect((await server.at.json(`/api/v1/runs/${run.id}`)).last_step).toBe(steps - 1);
});

test("useArtifact fetches what another run logged, and both runs say so", async () => {
  const first = begin();
  folder.write("in/data.bin", bytesOf(9 * MiB, 3));
  folder.write("in/labels.txt", "labels");
  await first.logArtifact("digits", join(folder.path, "in"), { aliases: ["größe"] });
  await first.finish();
  const second = begin();
  const to = join(folder.path, "out");
  expect(await second.useArtifact("digits", { version: "größe", to })).toBe(to);
  expect(filesIn(to)).toEqual(filesIn(join(folder.path, "in")));
  expect(await failure(second.useArtifact("nothing"))).toMatchObject({ code: "not-found" });
  expect(await failure(second.useArtifact("digits", { kind: "model" }))).toMatchObject({ code: "not-found" });
  await second.finish();
  const { inputs } = await filesOf(second.id);
  expect(inputs).toMatchObject([
    { name: "digits", version: "v1", produced_by: [first.id], used_by: [second.id] },
  ]);
});

test("wrong arguments throw on the line that has them", async () => {
  const run = begin();
  const file = folder.write("a", "a");
  symlinkSync(file, join(folder.path, "link"));
  expect(() => run.logModel("m", join(folder.path, "none"))).toThrow("There is no");
  expect(() => run.logModel("m", join(folder.path, "link"))).toThrow("symbolic link");
  expect(() => run.logModel("a/b", file)).toThrow("slashes");
  expect(() => run.logModel("m", file, { aliases: ["latest"] })).toThrow("The alias latest");
  await run.finish();
  expect(() => run.logModel("m", file)).toThrow("finished");
});

test("a file that is being written is read again when that is done", async () => {
  const run = begin();
  const bytes = bytesOf(20 * MiB, 4);
  const file = folder.write("late.bin", bytes);
  let writes = 0;
  server.intercept(({ url }) => {
    if (!url.endsWith("/upload") || writes++ > 0) return undefined;
    bytes[7] = 99;
    writeFileSync(file, bytes);
    return undefined;
  });
  const { digest } = await run.logModel("late", file);
  await run.finish();
  expect(digest).toBeString();
  const { outputs } = await filesOf(run.id);
  const { files } = await server.at.json(`/api/v1/artifacts/${outputs[0].id}/versions/v1/files`);
  expect(files[0].sha256).toBe(filesIn(folder.path)["late.bin"]);
});

test("what can't be kept is told once, and the run goes on", async () => {
  const run = begin();
  folder.write("sub/a", "a");
  symlinkSync("/etc", join(folder.path, "sub/link"));
  const failed = failure(run.logArtifact("linked", join(folder.path, "sub")));
  run.logArtifact("fine", join(folder.path, "sub/a"));
  expect(await run.finish()).toMatchObject({ delivered: true });
  expect((await failed).message).toContain("symbolic link");
  expect((await filesOf(run.id)).outputs).toMatchObject([{ name: "fine" }]);
  expect(orders()).toEqual([]);
});

test("what a token may not do is left to one that may", async () => {
  const run = begin();
  const file = folder.write("a", "left");
  const forbidden = { type: "urn:binnacle:forbidden", detail: "Not with this token." };
  server.intercept(({ url }) =>
    url.endsWith("/artifacts") ? Response.json(forbidden, { status: 403 }) : undefined,
  );
  expect(await failure(run.logModel("left", file))).toMatchObject({ code: "forbidden" });
  await run.finish();
  expect(orders()).toHaveLength(1);
  expect(existsSync(join(spool.path, `${orders()[0]}.lock`))).toBe(false);
});

describe("without a collector", () => {
  test("finish waits a moment, and leaves an order in the spool folder", async () => {
    const run = begin();
    await run.created;
    await server.stopListening();
    const file = folder.write("model.pt", "model");
    run.logModel("later", file, { aliases: ["best"] });
    const begun = performance.now();
    expect(await run.finish()).toMatchObject({ delivered: false });
    expect(performance.now() - begun).toBeLessThan(5_000);
    await server.restart();
    const [order] = orders();
    const [head, ...files] = readFileSync(join(spool.path, order!), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(head).toMatchObject({
      v: 1,
      path: `/api/v1/runs/${run.id}/artifacts`,
      body: { kind: "model", name: "later", aliases: ["best"] },
      create: { id: run.id },
    });
    expect(files).toEqual([
      { path: "model.pt", source: file, size: 5, mtime: expect.stringMatching(/^\d{19}$/) },
    ]);
    expect(existsSync(join(spool.path, `${order}.lock`))).toBe(false);

    const { code, stdout } = await runCli(["sync", "--json"], {
      env: { ...envOf(), BINNACLE_TOKEN: server.at.trust.tokens.admin },
    });
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining('"sent"') });
    expect((await filesOf(run.id)).outputs).toMatchObject([{ name: "later", aliases: ["latest", "best"] }]);
    expect(readdirSync(spool.path)).toEqual([]);
  });

  test("one that comes back gets it, while the run goes on", async () => {
    const run = begin();
    await run.created;
    await server.stopListening();
    const logged = run.logModel("back", folder.write("model.pt", "back"));
    await Bun.sleep(500);
    await server.restart();
    expect(await logged).toMatchObject({ version: "v1" });
    await run.finish();
    expect(orders()).toEqual([]);
  });

  test("a run that was killed waits for no upload", async () => {
    const run = begin();
    await run.created;
    server.intercept(({ url }) => (url.includes("/blobs/") ? new Promise<never>(() => {}) : undefined));
    run.logModel("hung", folder.write("model.pt", "hung"));
    await Bun.sleep(200);
    const begun = performance.now();
    await run.finish({ status: "KILLED" });
    expect(performance.now() - begun).toBeLessThan(3_000);
    expect(orders()).toHaveLength(1);
  });
});

describe.each(["bun", "node", "deno"] as const)("a script on %s", (runtime) => {
  const root = join(import.meta.dirname, "..");
  const script = join(import.meta.dirname, "fixtures/client-files.mjs");
  const source = join(root, "src/client/typescript/index.ts");
  const bundle = makeFolder();
  const client = runtime === "node" ? join(bundle.path, "index.js") : source;
  const command = {
    bun: [process.execPath, script],
    node: ["node", script],
    deno: [join(root, "node_modules/.bin/deno"), "run", "-A", script],
  }[runtime];

  beforeAll(() => {
    if (runtime !== "node") return;
    const built = spawnSync(process.execPath, [join(root, "src/build/client.ts"), bundle.path], {
      encoding: "utf8",
    });
    expect(built.stderr).toBe("");
  }, 60_000);
  afterAll(() => bundle.remove());

  async function runScript(end: string): Promise<{ code: number; stderr: string }> {
    const child = spawn(command[0]!, command.slice(1), {
      env: {
        ...cleanEnv(envOf()),
        NO_PROXY: "127.0.0.1,localhost",
        CLIENT: client,
        FOLDER: folder.path,
        NAME: runtime,
        END: end,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
    const code = await new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? -1)));
    return { code, stderr };
  }

  test("logs a model and uses it, and ends when all is sent", async () => {
    folder.write("model/big.bin", bytesOf(20 * MiB, 30));
    folder.write("model/small.txt", "small");
    const { code, stderr } = await runScript("end");
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringMatching(/^binnacle: run .*\n$/) });
    expect(filesIn(join(folder.path, "back"))).toEqual(filesIn(join(folder.path, "model")));
    const { outputs, inputs } = await filesOf(`end-${runtime}`);
    expect(outputs.map(({ name }: { name: string }) => name)).toEqual([`of-${runtime}`, `more-${runtime}`]);
    expect(inputs).toHaveLength(1);
    expect(orders()).toEqual([]);
    expect((await server.at.json(`/api/v1/runs/end-${runtime}`)).status).toBe("FINISHED");
  });

  test("that exits right behind the call leaves an order", async () => {
    folder.write("model/model.pt", "exit");
    const { code, stderr } = await runScript("exit");
    expect(code).toBe(3);
    expect(stderr).toContain("not with the collector yet: model exit. `binnacle sync` sends the rest.");
    expect(orders()).toHaveLength(1);
    expect((await server.at.json(`/api/v1/runs/exit-${runtime}`)).exit_code).toBe(3);
  });
});
