import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loudly, startBinary, temporaryFolder } from "./helpers/binary.ts";
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(60_000);

let from: TestServer;
let to: TestServer;
let folder: string;

beforeAll(async () => {
  from = await startServer();
  to = await startServer();
  folder = mkdtempSync(join(tmpdir(), "binnacle-cli-archive-"));
  await from.api("/api/v1/runs", { id: "4831", name: "digits", config: { lr: 0.1 } });
  const items = Array.from({ length: 50_000 }, (_, i) => ({
    time: 1.7e12 + i,
    metrics: { loss: i % 1000 === 0 ? "NaN" : 1 / (i + 1), "acc/val": i, ...(i < 3 ? { note: "text" } : {}) },
  }));
  for (let at = 0, seq = 1; at < items.length; at += 10_000, seq++)
    await from.api("/api/v1/runs/4831/records", { client: "w", seq, items: items.slice(at, at + 10_000) });
  await from.api("/api/v1/runs/4831/logs", { client: "w", seq: 6, items: [{ text: "hello \udcff" }] });
  await from.api("/api/v1/runs/4831/finish", {});
});
afterAll(async () => {
  await from.close();
  await to.close();
  rmSync(folder, { recursive: true, force: true });
});

const cli = (server: TestServer, ...args: string[]) =>
  runCli(args, { env: { BINNACLE_DATA: server.dataDir }, cwd: folder });

function documented(section: string): string[] {
  const text = readFileSync(join(import.meta.dirname, "../docs/cli-json.md"), "utf8");
  const found = text.split(`## \`binnacle ${section}\`\n`)[1]!.split("\n## ")[0]!;
  return [...found.matchAll(/^\| (`.*?) \|/gm)]
    .flatMap(([, cell]) => [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!))
    .sort();
}

test("a run goes into a file, and from it into another collector", async () => {
  const exported = await cli(from, "run", "export", "-rid", "483", "-o", "out.zip", "--json");
  expect(exported).toMatchObject({ code: 0, stderr: "" });
  const told = JSON.parse(exported.stdout);
  expect(told).toEqual({ run: "4831", file: "out.zip", bytes: readFileSync(join(folder, "out.zip")).length });
  expect(Object.keys(told).sort()).toEqual(documented("run export -rid ID --json"));
  expect(readdirSync(folder)).toEqual(["out.zip"]);

  const imported = await cli(to, "run", "import", "out.zip", "--json");
  expect(imported).toMatchObject({ code: 0, stderr: "" });
  const brought = JSON.parse(imported.stdout);
  expect(brought).toMatchObject({ run: "4831", status: "FINISHED", points: 100_000, texts: 3, lines: 1 });
  expect(Object.keys(brought).sort()).toEqual(documented("run import FILE.zip --json"));
  const logs = await cli(to, "run", "logs", "-rid", "4831");
  expect(logs.bytes).toEqual(Buffer.from("hello \xff\n", "latin1"));

  const again = await cli(to, "run", "import", "out.zip");
  expect(again).toMatchObject({ code: 5, stdout: "" });
  expect(again.stderr).toContain("is here already, with all that is in it. There is nothing to do");
  const beside = await cli(to, "run", "import", "out.zip", "--new-id");
  expect(beside.code).toBe(0);
  expect(beside.stdout).toMatch(/^\d{15}\n$/);
  expect(beside.stderr).toStartWith("100003 values, 1 lines, 0 readings, 0 events");
});

test("a file that is there is kept; what fails leaves none", async () => {
  writeFileSync(join(folder, "mine.zip"), "mine");
  const kept = await cli(from, "run", "export", "-rid", "4831", "-o", "mine.zip");
  expect(kept).toMatchObject({ code: 5, stdout: "" });
  expect(kept.stderr).toContain("--force");
  expect(readFileSync(join(folder, "mine.zip"), "utf8")).toBe("mine");
  expect((await cli(from, "run", "export", "-rid", "4831", "-o", "mine.zip", "--force")).code).toBe(0);
  expect((await cli(to, "run", "import", "mine.zip", "--new-id")).code).toBe(0);
  mkdirSync(join(folder, "a-folder"));
  expect((await cli(from, "run", "export", "-rid", "4831", "-o", "a-folder", "--force")).code).toBe(5);
  expect((await cli(from, "run", "export", "-rid", "4831", "-o", "none/x.zip")).code).toBe(3);
  expect((await cli(from, "run", "export", "-rid", "9")).code).toBe(3);
  expect((await cli(from, "run", "export")).code).toBe(2);
  expect(readdirSync(folder).sort()).toEqual(["a-folder", "mine.zip", "out.zip"]);
});

test("what is no archive is said so", async () => {
  writeFileSync(join(folder, "text.zip"), "no zip at all");
  const text = await cli(to, "run", "import", "text.zip");
  expect(text).toMatchObject({ code: 2, stdout: "" });
  expect(text.stderr).toContain("Nothing was imported.");
  expect((await cli(to, "run", "import", "not-there.zip")).code).toBe(3);
  expect((await cli(to, "run", "import", "a-folder")).code).not.toBe(0);
  expect((await cli(to, "run", "import")).code).toBe(2);
});

const python = join(import.meta.dirname, "../node_modules/.python");
const noDuckdb =
  !existsSync(join(python, "duckdb")) &&
  loudly("no DuckDB to read Parquet with; `npm test` installs it where pip and PyPI are");

test.skipIf(noDuckdb)("DuckDB reads the Parquet and the CSV, and finds the same in both", () => {
  const script = `
import duckdb, zipfile, json, math
zipfile.ZipFile("out.zip").extractall("unpacked")
q = lambda sql: duckdb.sql(sql).fetchall()
print(json.dumps({
  "columns": [[c[0], c[1]] for c in q("DESCRIBE SELECT * FROM 'unpacked/metrics/points.parquet'")],
  "metrics": q("SELECT metric, count(*), max(step), count(*) FILTER (isnan(value)) FROM 'unpacked/metrics/points.parquet' GROUP BY metric ORDER BY metric"),
  "differ": q("SELECT count(*) FROM 'unpacked/metrics/points.parquet' p JOIN read_csv('unpacked/metrics/points.csv') c USING (ordinal, metric) WHERE p.value IS DISTINCT FROM c.value::DOUBLE OR p.step <> c.step OR p.time <> c.time"),
  "joined": q("SELECT count(*) FROM 'unpacked/metrics/points.parquet' p JOIN read_csv('unpacked/metrics/points.csv') c USING (ordinal, metric)"),
  "exact": q("SELECT value FROM 'unpacked/metrics/points.parquet' WHERE metric = 'loss' AND step = 12344"),
  "samples": q("SELECT count(*) FROM 'unpacked/hardware/samples.parquet'"),
}))`;
  const { stdout, stderr, status } = spawnSync("python3", ["-c", script], {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, PYTHONPATH: python },
  });
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  expect(JSON.parse(stdout)).toEqual({
    columns: [
      ["ordinal", "BIGINT"],
      ["rank", "INTEGER"],
      ["step", "DOUBLE"],
      ["time", "DOUBLE"],
      ["metric", "VARCHAR"],
      ["value", "DOUBLE"],
    ],
    metrics: [
      ["acc/val", 50_000, 49_999, 0],
      ["loss", 50_000, 49_999, 50],
    ],
    differ: [[0]],
    joined: [[100_000]],
    exact: [[1 / 12_345]],
    samples: [[0]],
  });
});

test("Python's own zipfile finds nothing wrong with it", () => {
  const script = `import zipfile; z = zipfile.ZipFile("out.zip"); assert z.testzip() is None; print(len(z.namelist()))`;
  const { stdout, stderr } = spawnSync("python3", ["-c", script], { cwd: folder, encoding: "utf8" });
  expect({ stdout, stderr }).toEqual({ stdout: "12\n", stderr: "" });
});

/** The program itself: `.bin/deno` is a Node wrapper that keeps signals to itself. */
const [deno] = [
  ...new Bun.Glob("node_modules/@deno/*/deno").scanSync({
    cwd: join(import.meta.dirname, ".."),
    absolute: true,
  }),
];

test("a collector on Deno reads what one on Bun wrote, and the other way round", async () => {
  const dataDir = temporaryFolder();
  const cwd = temporaryFolder();
  const main = join(import.meta.dirname, "../src/cli/main.ts");
  const running = await startBinary({
    dataDir,
    cwd,
    env: { HOME: cwd, DENO_DIR: join(cwd, "deno"), DENO_NO_UPDATE_CHECK: "1" },
    program: [deno!, "run", "-A", "--node-modules-dir=manual", main],
  });
  try {
    const env = { BINNACLE_DATA: dataDir };
    expect(await runCli(["run", "import", "out.zip"], { env, cwd: folder })).toMatchObject({ code: 0 });
    const answer = async (path: string) => (await running.request(path)).text();
    const points = "/api/v1/runs/4831/points?key=loss";
    expect(JSON.parse(await answer(points))).toEqual(await from.api(points));
    const back = await runCli(["run", "export", "-rid", "4831", "-o", "deno.zip"], { env, cwd: folder });
    expect(back).toMatchObject({ code: 0 });
    const imported = await cli(to, "run", "import", "deno.zip", "--new-id", "--json");
    expect(JSON.parse(imported.stdout)).toMatchObject({ points: 100_000, texts: 3, lines: 1 });
  } finally {
    expect(await running.stop()).toBe(0);
    rmSync(dataDir, { recursive: true, force: true });
    rmSync(cwd, { recursive: true, force: true });
  }
});
