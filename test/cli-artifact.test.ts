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
import { existsSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { createProgress, progressLine } from "../src/cli/progress.ts";
import { cleanEnv, runCli, startServer, type TestServer } from "./helpers/cli.ts";
import { bytesOf, filesIn, makeFolder, type Folder } from "./helpers/files.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(60_000);

const MiB = 1024 * 1024;
const main = join(import.meta.dirname, "../src/cli/main.ts");
let server: TestServer;
let folder: Folder;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.close());
beforeEach(() => {
  folder = makeFolder();
});
afterEach(() => folder.remove());

const cli = (args: string[], env: Record<string, string> = {}) =>
  runCli(args, { env: { BINNACLE_DATA: server.dataDir, ...env }, cwd: folder.path });
const json = async (...args: string[]) => {
  const { stdout, stderr, code } = await cli([...args, "--json"]);
  expect({ stderr, code }).toEqual({ stderr: expect.any(String), code: 0 });
  return JSON.parse(stdout);
};
/** What a command shows on a terminal of its own. */
async function onTerminal(argv: string[], size: [number, number]): Promise<{ output: string; code: number }> {
  const child = spawn("python3", [join(import.meta.dirname, "helpers/terminal.py")], {
    env: cleanEnv({ BINNACLE_DATA: server.dataDir, LANG: "C.UTF-8", LC_ALL: "C.UTF-8", TERM: "xterm" }),
    cwd: folder.path,
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.end(`${JSON.stringify({ argv, size, steps: [] })}\n`);
  let text = "";
  for await (const chunk of child.stdout) text += chunk;
  return JSON.parse(text.trim().split("\n").at(-1)!);
}
const createRun = (id: string) => server.api("/api/v1/runs", { id, name: `run ${id}` });

/** Fields that docs/cli-json.md names in a section's table. */
function documented(section: string): string[] {
  const text = readFileSync(join(import.meta.dirname, "../docs/cli-json.md"), "utf8");
  const found = text.split(`## \`binnacle ${section}\`\n`)[1]!.split("\n## ")[0]!;
  return [...found.matchAll(/^\| (`.*?) \|/gm)]
    .flatMap(([, cell]) => [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!))
    .sort();
}

describe.each(["model", "artifact"])("%s", (kind) => {
  test("put, list, get, alias, rm: one way through all of them", async () => {
    folder.write("in/weights.bin", bytesOf(9 * MiB, kind.length));
    folder.write("in/sub/config.json", "{}");
    expect((await cli([kind, "list"])).stdout).toStartWith(`No ${kind}s.`);

    const facts = ["-m", "accuracy=0.98", "-m", "note=text", "-m", '{"nested":{"id":12345678901234567890}}'];
    const about = ["--alias", "best", "-a", "paper", "--description", "the first"];
    const first = await cli([kind, "put", "digits", "in", ...about, ...facts]);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toStartWith(`${kind} digits:v1 is kept: 2 files, 9.0 MiB; sent `);
    expect((await cli([kind, "put", "digits", "in"])).stdout).toBe(
      `${kind} digits:v1 has these files already: 2 files, 9.0 MiB; nothing had to be sent.\n`,
    );
    // Bytes that the other word has not kept already.
    const text = JSON.stringify({ of: kind });
    folder.write("in/sub/config.json", text);
    const second = await json(kind, "put", "digits", "in", "--type", "dataset");
    expect(second).toMatchObject({
      kind,
      version: "v2",
      is_new: true,
      sent: text.length,
      type: "dataset",
      files: 2,
    });

    const [listed, ...others] = await json(kind, "list");
    expect(others).toEqual([]);
    expect(Object.keys(listed).sort()).toEqual(documented("model list --json"));
    expect(listed).toMatchObject({
      name: "digits",
      versions: 2,
      latest: { version: "v2", aliases: ["latest"] },
    });
    const versions = await json(kind, "list", "digits");
    expect(Object.keys(versions[0]).sort()).toEqual(documented("model list NAME --json"));
    expect(versions.map(({ version }: { version: string }) => version)).toEqual(["v2", "v1"]);
    expect(versions[1]).toMatchObject({
      aliases: ["best", "paper"],
      description: "the first",
      metadata: { accuracy: 0.98, note: "text", nested: { id: "12345678901234567890" } },
    });
    const table = (await cli([kind, "list", "digits"])).stdout.split("\n");
    expect(table[0]).toMatch(/^VERSION +ALIASES +FILES +SIZE +DIGEST +CREATED +RUN +USED BY$/);
    expect(table[2]).toMatch(/^v1 +best paper +2 +9\.0 MiB +[0-9a-f]{12} /);

    const got = await cli([kind, "get", "digits:best", "-o", "out"]);
    expect(got).toMatchObject({ code: 0, stdout: "out\n" });
    expect(readFileSync(join(folder.path, "out/sub/config.json"), "utf8")).toBe("{}");
    const again = await json(kind, "get", "digits:v2");
    expect(Object.keys(again).sort()).toEqual(documented("model get NAME --json"));
    expect(again).toMatchObject({ folder: "./digits-v2", received: 9 * MiB + text.length, unchanged: 0 });
    expect(filesIn(join(folder.path, "digits-v2"))).toEqual(filesIn(join(folder.path, "in")));

    expect(await cli([kind, "get", "digits", "-o", "out"])).toMatchObject({ code: 5, stdout: "" });
    expect(readFileSync(join(folder.path, "out/sub/config.json"), "utf8")).toBe("{}");
    expect(await json(kind, "get", "digits", "-o", "out", "--force")).toMatchObject({
      received: text.length,
      unchanged: 1,
    });

    expect(await json(kind, "alias", "digits", "best")).toMatchObject({
      version: "v2",
      aliases: ["latest", "best"],
    });
    expect(await cli([kind, "alias", "digits:v1", "best", "--remove"])).toMatchObject({ code: 5 });
    expect(await json(kind, "alias", "digits", "best", "--remove")).toMatchObject({ aliases: ["latest"] });
    expect(await cli([kind, "alias", "digits", "best", "--remove"])).toMatchObject({ code: 3 });
    expect(await cli([kind, "alias", "digits", "v7"])).toMatchObject({ code: 2 });
    expect((await cli([kind, "alias", "digits:v1", "größe"])).stdout).toBe(
      "digits:v1 is now größe, paper.\n",
    );
    expect(await json(kind, "get", "digits:größe", "-o", "größe")).toMatchObject({ version: "v1" });
    expect(await json(kind, "alias", "digits:größe", "最佳")).toMatchObject({
      aliases: ["größe", "paper", "最佳"],
    });
    expect(await json(kind, "alias", "digits:最佳", "größe", "--remove")).toMatchObject({
      aliases: ["paper", "最佳"],
    });
    expect(await json(kind, "alias", "digits", "最佳", "--remove")).toMatchObject({ aliases: ["paper"] });

    expect(await cli([kind, "rm", "digits:v1"])).toMatchObject({ code: 5 });
    expect(await json(kind, "rm", "digits:v1", "--force")).toEqual({ kind, name: "digits", version: "v1" });
    // Nothing refers to what is left.
    expect((await cli([kind, "rm", "digits"])).stdout).toBe(`${kind} digits is deleted with its version.\n`);
    expect(await cli([kind, "get", "digits"])).toMatchObject({ code: 3 });
    expect(await json(kind, "list")).toEqual([]);
  });

  test("of a run: what it logs and uses", async () => {
    await createRun(`${kind}-1`);
    await createRun(`${kind}-2`);
    folder.write("a.txt", `of ${kind}`);
    expect(await json(kind, "put", "lineage", "a.txt", "-rid", `${kind}-1`)).toMatchObject({
      produced_by: [`${kind}-1`],
    });
    await json(kind, "get", "lineage", "-rid", `${kind}-2`);
    const rows = await json(kind, "list", "-rid", `${kind}-1`);
    expect(rows).toMatchObject([{ role: "output", name: "lineage", used_by: [`${kind}-2`], origin: {} }]);
    expect(Object.keys(rows[0]).sort()).toEqual(
      [...documented("model list NAME --json"), "origin", "role", "time"].sort(),
    );
    expect(await json(kind, "list", "-rid", `${kind}-2`)).toMatchObject([{ role: "input", version: "v1" }]);
    expect((await cli([kind, "list", "-rid", `${kind}-2`])).stdout).toMatch(/\nused +lineage +v1 /);
    expect(await cli([kind, "rm", "lineage:v1"])).toMatchObject({
      code: 5,
      stderr: `binnacle: v1 of lineage is used by run ${kind}-2. Delete it all the same with --force (?force=true).\n`,
    });
    expect(await cli([kind, "rm", "lineage"])).toMatchObject({
      code: 5,
      stderr: `binnacle: lineage has one version: 2 runs logged or used it. Delete all of it with --force (?force=true), or one version by its number.\n`,
    });
    expect(await cli([kind, "rm", "lineage", "--force"])).toMatchObject({ code: 0 });
  });
});

test("in a launched program the run's own token keeps and fetches, for that run", async () => {
  folder.write("a.txt", "launched");
  const script = `const { spawnSync } = require("node:child_process");
    for (const args of [["put", "own", "a.txt", "-a", "最佳"], ["get", "own:最佳", "-o", "back"]])
      console.log(spawnSync(process.execPath, [${JSON.stringify(main)}, "model", ...args], { encoding: "utf8" }).stdout);`;
  const { code, stderr, stdout } = await cli(["launch", "--", process.execPath, "-e", script]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toContain("model own:v1 is kept");
  expect(readFileSync(join(folder.path, "back/a.txt"), "utf8")).toBe("launched");
  const [version] = await json("model", "list", "own");
  expect(version.produced_by).toHaveLength(1);
  expect(version.used_by).toEqual(version.produced_by);
});

test("a long name is cut in the middle on a terminal, and whole where a program reads", async () => {
  folder.write("a.txt", "long");
  const long = `${"generated-from-all-hyperparameters-".repeat(5)}seed-17`;
  await json("artifact", "put", long, "a.txt");
  await json("artifact", "put", "最佳模型", "a.txt");
  expect((await cli(["artifact", "list"])).stdout).toContain(long);
  const argv = [process.execPath, main, "artifact", "list"];
  const { output, code } = await onTerminal(argv, [24, 120]);
  expect(code).toBe(0);
  expect(output).not.toContain(long);
  const lines = output.trimEnd().split("\r\n");
  const row = lines.find((line) => line.startsWith("generated-from"))!;
  expect(row).toMatch(/^generated-from-all-h…[a-z-]+-seed-17  general  v1 /);
  expect(row.indexOf("general ")).toBe(42);
  // Wide characters take two columns.
  expect(lines.find((line) => line.startsWith("最佳模型"))).toMatch(/^最佳模型 {34}general  v1 /);
  for (const name of [long, "最佳模型"]) await json("artifact", "rm", name);
});

test("a name that begins with a dash stands behind --", async () => {
  folder.write("a.txt", "dash");
  expect(await cli(["model", "put", "--json", "--", "-x", "a.txt"])).toMatchObject({ code: 0 });
  // As the dashboard has it.
  expect(await cli(["model", "get", "--", "-x:v1"])).toMatchObject({ code: 0, stdout: "./-x-v1\n" });
  expect(await cli(["model", "get", "-x:v1"])).toMatchObject({ code: 2 });
  expect(await cli(["model", "rm", "--", "-x", "-y"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("Unexpected argument '-y'"),
  });
  expect(await cli(["model", "rm", "--", "-x"])).toMatchObject({ code: 0 });
});

test("names may have colons; the likelier reading comes first", async () => {
  folder.write("a.txt", "colons");
  await json("artifact", "put", "data:raw", "a.txt", "--alias", "x");
  expect(await json("artifact", "get", "data:raw", "-o", "1")).toMatchObject({
    name: "data:raw",
    version: "v1",
  });
  expect(await json("artifact", "get", "data:raw:x", "-o", "2")).toMatchObject({ name: "data:raw" });
  expect(await cli(["artifact", "put", "data:v3", "a.txt"])).toMatchObject({ code: 2 });
});

test("what is wrong is said in one line, with its exit code", async () => {
  folder.write("a.txt", "a");
  symlinkSync("a.txt", join(folder.path, "link"));
  spawnSync("mkfifo", [join(folder.path, "pipe")]);
  mkdirSync(join(folder.path, "empty"));
  const cases: [args: string[], code: number, says: string][] = [
    [["put"], 2, "by its name"],
    [["put", "x"], 2, "which files"],
    [["put", "x", "none"], 3, "There is no none."],
    [["put", "x", "link"], 2, "link is a symbolic link"],
    [["put", "x", "pipe"], 2, "pipe is a FIFO"],
    [["put", "x", "empty"], 2, "no files"],
    [["put", "a/b", "a.txt"], 2, "must not contain slashes"],
    [["put", "..", "a.txt"], 2, "more than dots"],
    [["put", "x".repeat(1000), "a.txt"], 2, "The name must have at most 250 characters."],
    [["put", "x", "a.txt", "-m", "nothing"], 2, "--metadata wants"],
    [["put", "x", "a.txt", "-m", "{]"], 2, "--metadata wants"],
    [["put", "x", "a.txt", "-m", "__proto__=1"], 2, "a key __proto__: choose another name"],
    [["put", "x", "a.txt", "-m", '{"__proto__": 1}'], 2, "a key __proto__"],
    [["put", "x", "a.txt", "-m", 'nested=[{"__proto__": 1}]'], 2, "a key __proto__"],
    [["put", "x", "a.txt", "--alias", "latest"], 2, "always the newest"],
    [["put", "x", "a.txt", "-rid", "nope"], 3, "nope"],
    [["get"], 2, "by its name"],
    [["get", "nope"], 3, "no model called nope"],
    [["get", "nope", "extra"], 2, "Unexpected argument"],
    [["alias", "nope"], 2, "which alias"],
    [["alias", "nope", "best"], 3, "no model called nope"],
    [["rm", "nope"], 3, "no model called nope"],
    [["list", "nope"], 3, "no model called nope"],
    [["list", "a", "--search", "b"], 2, "one of them"],
    [["list", ""], 2, "by its name"],
    [["get", "x".repeat(1000)], 3, `no model called "${"x".repeat(100)}…"`],
    [["get", "two\nlines"], 3, 'no model called "two\\nlines".'],
    [["get", ".."], 3, 'no model called "..".'],
    [["get", "nope", "-o", ""], 2, "-o wants a folder"],
    [["put", "x", "f".repeat(300)], 2, "too long"],
    [
      ["put", "x", "a.txt", ...Array.from({ length: 101 }, (_, n) => `--alias=a${n}`)],
      2,
      "The aliases must have at most 100 entries.",
    ],
    [["put", "x", "a.txt", "--alias", "a b"], 2, 'The alias "a b" must be letters'],
    [["put", "x", "a.txt", "-t", "t".repeat(101)], 2, "The type must have at most 100 characters."],
  ];
  for (const [args, code, says] of cases) {
    const result = await cli(["model", ...args]);
    expect({ args, code: result.code, stdout: result.stdout }).toEqual({ args, code, stdout: "" });
    expect(result.stderr).toContain(says);
    expect(result.stderr.trimEnd().split("\n")).toHaveLength(1);
  }
});

test("where no collector answers, or it does not let us in, nothing is read", async () => {
  folder.write("a.bin", bytesOf(MiB));
  const away = { BINNACLE_URL: "http://127.0.0.1:9", BINNACLE_DATA: folder.path };
  for (const args of [["list"], ["put", "x", "a.bin"], ["get", "x"], ["rm", "x"], ["alias", "x", "y"]])
    expect(await cli(["model", ...args], away)).toMatchObject({ code: 4, stdout: "" });
  const stranger = { BINNACLE_TOKEN: "bnc_write_no" };
  for (const args of [["list"], ["put", "x", "a.bin"], ["get", "x"]])
    expect(await cli(["model", ...args], stranger)).toMatchObject({ code: 5 });
});

test("a collector that is killed half-way and started again gets the rest, and what it got is not sent twice", async () => {
  const dataDir = makeFolder();
  const bytes = bytesOf(200 * MiB, 77);
  folder.write("big.bin", bytes);
  let own = await startServer({ dataDir: dataDir.path });
  const port = Number(new URL(own.url).port);
  const chunks = `${dataDir.path}/blobs/incoming`;
  let isDone = false;
  const put = runCli(["model", "put", "big", "big.bin", "--json"], {
    env: { BINNACLE_DATA: dataDir.path },
    cwd: folder.path,
  }).finally(() => (isDone = true));
  const arrived = () => Number(spawnSync("du", ["-sm", chunks], { encoding: "utf8" }).stdout.split("\t")[0]);
  while (!isDone && !(existsSync(chunks) && arrived() >= 50)) await Bun.sleep(10);
  await own.kill("SIGKILL");
  own = await startServer({ dataDir: dataDir.path, port });
  const { code, stdout, stderr } = await put;
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining("Trying again") });
  const { sent } = JSON.parse(stdout);
  expect(sent).toBeLessThan(bytes.length + 5 * 8 * MiB);
  const back = await runCli(["model", "get", "big", "-o", "back", "--json"], {
    env: { BINNACLE_DATA: dataDir.path },
    cwd: folder.path,
  });
  expect(back.code).toBe(0);
  expect(filesIn(join(folder.path, "back"))).toEqual({ "big.bin": filesIn(folder.path)["big.bin"]! });
  await own.close();
  dataDir.remove();
}, 120_000);

describe("progress", () => {
  const transfer = { verb: "Sending", done: 1.2 * 1024 ** 3, total: 5 * 1024 ** 3 };

  test("is a bar with rate and time left", () => {
    expect(progressLine(transfer, 312 * MiB, true)).toBe(
      "Sending  ━━━━━───────────────  24 %  1.2/5.0 GiB  312 MiB/s  12 s left",
    );
    expect(progressLine({ ...transfer, done: 0 }, undefined, false)).toBe(
      "Sending  ....................   0 %  0.0/5.0 GiB  -",
    );
  });

  test("is not full before it is", () => {
    expect(progressLine({ ...transfer, done: transfer.total - 1 }, 1, true)).toContain(" 99 %");
    expect(progressLine({ ...transfer, done: transfer.total }, 1, true)).toContain("100 %");
  });

  test("fits its terminal, tells the rate of the last seconds, and leaves nothing behind", () => {
    let written: string[] = [];
    let time = 0;
    const stream = { isTTY: true, columns: 60, write: (text: string) => written.push(text) };
    const progress = createProgress({ stream, program: "binnacle", unicode: true, now: () => time });
    for (; time <= 20_000; time += 100)
      progress.show({ verb: "Sending", done: time < 10_000 ? 0 : (time - 10_000) * 1000, total: 100 * MiB });
    for (const text of written) expect(text.replace("\r\u001b[K", "").length).toBeLessThan(60);
    expect(written.at(-1)).toContain("977 KiB/s");
    written = [];
    progress.close();
    expect(written).toEqual(["\r\u001b[K"]);
  });

  test("is shown on a terminal only", async () => {
    folder.write("a.bin", bytesOf(30 * MiB, 5));
    const piped = await cli(["model", "put", "piped", "a.bin"]);
    expect(piped.stderr).toBe("");
    folder.write("a.bin", bytesOf(200 * MiB, 6));
    const argv = [process.execPath, main, "model", "put", "shown", "a.bin"];
    const { output, code } = await onTerminal(argv, [24, 100]);
    expect(code).toBe(0);
    expect(output).toMatch(/\r\u001b\[K(Reading|Sending)  [━─]{20} +\d+ %  \d+(\.\d)?\/200 MiB  /);
    expect(output).toMatch(/MiB\/s +\d+ s left/);
    // The line is taken away before the answer.
    expect(output.split("\r\u001b[K").at(-1)).toMatch(
      /^model shown:v1 is kept: 1 file, 200 MiB; sent 200 MiB in /,
    );
  });
});

test("the name that a collector gives is no path to write to", async () => {
  const evil = Bun.serve({
    port: 0,
    fetch(request) {
      const version = { id: 1, kind: "model", name: "../../evil", version: "v1", aliases: [], files: 1 };
      const { pathname } = new URL(request.url);
      if (pathname.endsWith("/files"))
        return Response.json({ files: [{ path: "../x", size: 1, sha256: "0".repeat(64) }], next: null });
      if (pathname.includes("/versions/")) return Response.json(version);
      return Response.json({ artifacts: [{ ...version, latest: version, versions: 1 }], next: null });
    },
  });
  const env = { BINNACLE_URL: `http://127.0.0.1:${evil.port}` };
  const before = filesIn(folder.path);
  for (const args of [
    ["get", "x"],
    ["get", "x", "-o", "out"],
  ]) {
    const { code, stdout, stderr } = await cli(["model", ...args], env);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("../");
  }
  expect(filesIn(folder.path)).toEqual(before);
  expect(existsSync(join(folder.path, "out"))).toBe(false);
  await evil.stop(true);
});
