import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
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
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";
import { killLaunches, readLines, readRun, startLaunch, until } from "./helpers/launch.ts";

setDefaultTimeout(90_000);

const servers: TestServer[] = [];
const folders: string[] = [];

afterEach(async () => {
  killLaunches();
  for (const server of servers.splice(0)) await server.close();
  for (const folder of folders.splice(0)) {
    await runCli(["stop"], { env: { BINNACLE_DATA: folder } });
    rmSync(folder, { recursive: true, force: true });
  }
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-launch-"));
  folders.push(folder);
  return folder;
}

async function start(dataDir: string, port?: number): Promise<TestServer> {
  const server = await startServer({ dataDir, ...(port !== undefined && { port }) });
  servers.push(server);
  return server;
}

const spoolOf = (dataDir: string) => {
  const folder = join(dataDir, "spool");
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".ndjson")) : [];
};

/** Prints 1, 2, 3 … for as long as the gate is not there. */
const counting = (gate: string) => [
  "--",
  "bash",
  "-c",
  `i=0; while [ ! -e ${gate} ]; do i=$((i+1)); echo $i; [ $((i % 50)) = 0 ] && sleep 0.02; done; echo end $i`,
];

function expectCounted(texts: string[]): void {
  const end = /^end (\d+)$/.exec(texts.at(-1)!);
  expect(end).not.toBeNull();
  expect(texts.slice(0, -1)).toEqual(
    Array.from({ length: Number(end![1]) }, (_, index) => String(index + 1)),
  );
}

test("a collector is started where none answers, outlives the launch, and serves the next one", async () => {
  const dataDir = makeFolder();
  const first = startLaunch(["--", "echo", "one"], { dataDir });
  const { code, stderr } = await first.ended;
  expect(code).toBe(0);
  const [, url] = /started a collector at (\S+)\./.exec(stderr)!;
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect(readFileSync(join(dataDir, "collector.log"), "utf8")).toContain(`listens on ${url}`);
  const second = await startLaunch(["--", "echo", "two"], { dataDir }).ended;
  expect(second.stderr).not.toContain("started a collector");
  const runs = JSON.parse(
    (await runCli(["run", "list", "--json"], { env: { BINNACLE_DATA: dataDir } })).stdout,
  );
  expect(runs.map((run: { status: string }) => run.status)).toEqual(["FINISHED", "FINISHED"]);
});

test("two launches at once start one collector", async () => {
  const dataDir = makeFolder();
  const launches = [1, 2, 3].map(() => startLaunch(["--", "true"], { dataDir }));
  for (const { ended } of launches) expect((await ended).code).toBe(0);
  const runs = JSON.parse(
    (await runCli(["run", "list", "--json"], { env: { BINNACLE_DATA: dataDir } })).stdout,
  );
  expect(runs).toHaveLength(3);
});

test("none is started where one was named: the output waits in the spool", async () => {
  const dataDir = makeFolder();
  const launch = startLaunch(["-n", "offline", "--", "bash", "-c", "echo kept; exit 4"], {
    dataDir,
    env: { BINNACLE_URL: "http://127.0.0.1:9" },
  });
  const id = await launch.id;
  const { code, stdout, stderr } = await launch.ended;
  expect(code).toBe(4);
  expect(stdout.toString()).toBe("kept\n");
  expect(stderr).toContain("binnacle sync");
  expect(existsSync(join(dataDir, "collector.json"))).toBe(false);
  expect(spoolOf(dataDir)).toHaveLength(1);

  // A collector on this folder takes it up by itself.
  const server = await start(dataDir);
  const run = await until(() =>
    readRun(server, id)
      .then((found) => found.finished && found)
      .catch(() => undefined),
  );
  expect(run).toMatchObject({ name: "offline", status: "FAILED", reason: "exit code 4", exit_code: 4 });
  expect((await readLines(server, id)).map((line) => line.text)).toEqual(["kept"]);
  await until(() => spoolOf(dataDir).length === 0);
});

test("a collector that hangs is named by its process, and a command gives up on it after ten seconds", async () => {
  const dataDir = makeFolder();
  const { pid, cli } = await start(dataDir);
  process.kill(pid, "SIGSTOP");
  const launch = startLaunch(["--", "true"], { dataDir });
  const began = performance.now();
  const listed = await cli("run", "list");
  expect(listed).toMatchObject({ code: 4, stderr: expect.stringContaining("does not answer in time") });
  expect(performance.now() - began).toBeLessThan(20_000);
  await launch.says(/no collector takes it yet/);
  process.kill(pid, "SIGCONT");
  const { stderr } = await launch.ended;
  expect(stderr).toMatch(
    new RegExp(`^binnacle: the collector at \\S+ \\(process ${pid}\\) does not answer; [^.]+\\.\\n`),
  );
});

test("why none could be started is said in one sentence", async () => {
  const dataDir = makeFolder();
  mkdirSync(join(dataDir, "binnacle.db"));
  const launch = startLaunch(["--", "true"], { dataDir });
  const [line] = await launch.says(/no collector could be started: .*\n/);
  expect(line).not.toContain("binnacle: The");
  expect(line).not.toMatch(/\.\.\n$/);
});

test("a collector killed and restarted under a launch, several times: nothing is lost, nothing twice", async () => {
  const dataDir = makeFolder();
  let server = await start(dataDir);
  const port = Number(new URL(server.url).port);
  const gate = join(dataDir, "gate");
  const launch = startLaunch(counting(gate), { dataDir });
  const id = await launch.id;
  for (let round = 0; round < 4; round++) {
    const before = (await readLines(server, id)).length;
    await until(async () => (await readLines(server, id)).length > before);
    await server.kill("SIGKILL");
    if (round % 2 === 1) await until(() => spoolOf(dataDir).length > 0);
    server = await start(dataDir, port);
    await until(async () => (await readLines(server, id)).length > before);
  }
  await Bun.write(gate, "");
  expect((await launch.ended).code).toBe(0);
  expectCounted((await readLines(server, id)).map((line) => line.text));
  expect(await readRun(server, id)).toMatchObject({ status: "FINISHED", reason: null });
  expect(spoolOf(dataDir)).toEqual([]);
});

test("a collector that is back at another port is found", async () => {
  const dataDir = makeFolder();
  const first = await start(dataDir);
  const gate = join(dataDir, "gate");
  const launch = startLaunch(counting(gate), { dataDir });
  const id = await launch.id;
  await until(async () => (await readLines(first, id)).length > 0);
  await first.kill("SIGTERM");
  const second = await start(dataDir);
  expect(second.url).not.toBe(first.url);
  await until(async () => (await readRun(second, id)).writers[0]?.live);
  await Bun.write(gate, "");
  expect((await launch.ended).code).toBe(0);
  expectCounted((await readLines(second, id)).map((line) => line.text));
});

test("a collector gone for good: the program goes on, and sync sends what was kept", async () => {
  const dataDir = makeFolder();
  const first = await start(dataDir);
  const gate = join(dataDir, "gate");
  const launch = startLaunch(counting(gate), { dataDir });
  const id = await launch.id;
  await until(async () => (await readLines(first, id)).length > 100);
  await first.kill("SIGKILL");
  await until(() => spoolOf(dataDir).length > 0);
  await Bun.write(gate, "");
  const { code, stderr } = await launch.ended;
  expect(code).toBe(0);
  expect(stderr).toContain("binnacle sync");
  const second = await start(dataDir);
  await second.cli("sync");
  await until(() => spoolOf(dataDir).length === 0);
  const run = await until(() => readRun(second, id).then((found) => found.status === "FINISHED" && found));
  expect(run.exit_code).toBe(0);
  expectCounted((await readLines(second, id)).map((line) => line.text));
});

test("launch killed while the collector is away: what it had in the spool still arrives", async () => {
  const dataDir = makeFolder();
  const first = await start(dataDir);
  const gate = join(dataDir, "gate");
  const launch = startLaunch(counting(gate), { dataDir });
  const id = await launch.id;
  await until(async () => (await readLines(first, id)).length > 0);
  await first.kill("SIGKILL");
  await until(() => spoolOf(dataDir).length > 0);
  launch.child.kill("SIGKILL");
  await launch.ended;
  await Bun.write(gate, "");
  const second = await start(dataDir);
  await until(() => spoolOf(dataDir).length === 0);
  const texts = (await readLines(second, id)).map((line) => line.text);
  expect(texts).toEqual(Array.from({ length: texts.length }, (_, index) => String(index + 1)));
});

test("what the program's own client kept on disk is sent at its end, also to a collector that came back elsewhere", async () => {
  const dataDir = makeFolder();
  const first = await start(dataDir);
  const gate = join(dataDir, "gate");
  const script = `
import binnacle, os, time
binnacle.init()
binnacle.log({"loss": 1})
print("started", flush=True)
while not os.path.exists(${JSON.stringify(gate)}):
    time.sleep(0.02)
binnacle.log({"loss": 2})
`;
  const launch = startLaunch(["--", "python3", "-c", script], { dataDir });
  await launch.says(/started/);
  const id = await launch.id;
  const { port } = new URL(first.url);
  await first.kill("SIGTERM");
  const second = await start(dataDir);
  expect(new URL(second.url).port).not.toBe(port);
  await until(async () =>
    (await readRun(second, id)).writers.some(
      (writer: { role: string; live: boolean }) => writer.role === "launch" && writer.live,
    ),
  );
  writeFileSync(gate, "");
  expect((await launch.ended).code).toBe(0);
  const { stdout } = await runCli(["metrics", "-rid", id, "loss", "--json"], {
    env: { BINNACLE_DATA: dataDir },
  });
  expect(JSON.parse(stdout).points).toEqual([
    [0, 1],
    [1, 2],
  ]);
  expect(spoolOf(dataDir)).toEqual([]);
});
