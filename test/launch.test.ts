import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startServer, type TestServer } from "./helpers/cli.ts";
import { isAlive, killLaunches, launchOn, readLines, readRun, startLaunch, until } from "./helpers/launch.ts";

setDefaultTimeout(60_000);

let server: TestServer;
let folder: string;

beforeAll(async () => {
  server = await startServer();
  folder = mkdtempSync(join(tmpdir(), "binnacle-launch-"));
});

afterAll(async () => {
  killLaunches();
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const main = join(import.meta.dirname, "../src/cli/main.ts");
/** Prints the status of a request for the list of runs; a bare machine has no curl. */
const askForRuns = [
  "import os, urllib.request, urllib.error",
  `request = urllib.request.Request(os.environ["BINNACLE_URL"] + "/api/v1/runs")`,
  `request.add_header("Authorization", "Bearer " + os.environ["BINNACLE_TOKEN"])`,
  "try: print(urllib.request.urlopen(request).status)",
  "except urllib.error.HTTPError as error: print(error.code)",
].join("\n");
const sh = (script: string) => ["--", "bash", "-c", script];
const launchSh = (script: string, options = {}) => launchOn(server, sh(script), options);

describe("how it ends", () => {
  const cases: [script: string, code: number, status: string, reason: string | null][] = [
    ["exit 0", 0, "FINISHED", null],
    ["exit 3", 3, "FAILED", "exit code 3"],
    ["kill -KILL $$", 137, "FAILED", "killed by SIGKILL (out of memory?)"],
    ["kill -SEGV $$", 139, "FAILED", "killed by SIGSEGV"],
    ["kill -TERM $$", 143, "KILLED", "killed by SIGTERM"],
    ["bash -c 'kill -KILL $$'; exit $?", 137, "FAILED", "exit code 137 (SIGKILL (out of memory?))"],
  ];
  for (const [script, code, status, reason] of cases)
    test(`${script}: exit code ${code}, ${status}`, async () => {
      const ended = await launchSh(script);
      expect(ended.code).toBe(code);
      expect(ended.run).toMatchObject({ status, reason, exit_code: code });
      expect(ended.run.finished).not.toBeNull();
    });

  test("a program that is not there: 127", async () => {
    const { code, run, stderr } = await launchOn(server, ["--", "no-such-program-here"]);
    expect(code).toBe(127);
    expect(run).toMatchObject({
      status: "FAILED",
      reason: "no-such-program-here: command not found",
      exit_code: 127,
    });
    expect(stderr).toContain("no-such-program-here: command not found");
  });

  test("a file that is no program: 126", async () => {
    const file = join(folder, "plain.txt");
    writeFileSync(file, "text");
    chmodSync(file, 0o644);
    const { code, run } = await launchOn(server, ["--", file]);
    expect(code).toBe(126);
    expect(run.status).toBe("FAILED");
  });

  test("the command line itself is wrong: 2, and nothing runs", async () => {
    for (const args of [
      [],
      ["--"],
      ["python3", "train.py"],
      ["--no-such-flag", "--", "true"],
      ["--run-id", "../x", "--", "true"],
    ]) {
      const { code, stderr } = await startLaunch(args, { dataDir: server.dataDir }).ended;
      expect([args, code]).toEqual([args, 2]);
      expect(stderr).toMatch(/^binnacle: .*launch/);
    }
  });

  test("a token that is refused: 125, said at once, and nothing runs", async () => {
    const mark = join(folder, "ran");
    const env = { BINNACLE_URL: server.url, BINNACLE_TOKEN: "wrong" };
    const { code, stderr } = await startLaunch(sh(`touch ${mark}`), { dataDir: server.dataDir, env }).ended;
    expect(code).toBe(125);
    expect(stderr).toMatch(/^binnacle: .*token/m);
    expect(await Bun.file(mark).exists()).toBe(false);
  });
});

describe("what it says and keeps", () => {
  test("the run's id and link come first, without any secret", async () => {
    const { stderr, id } = await launchSh("echo program >&2");
    expect(stderr.split("\n")[0]).toBe(
      `binnacle: run ${id} (${(await readRun(server, id)).name}) · ${server.url}/runs/${id}`,
    );
    expect(id).toMatch(/^[1-9]\d{14}$/);
    expect(stderr).not.toMatch(/bnc_|code=/);
  });

  test("name, project, tags, command and the machine", async () => {
    const { run } = await launchOn(server, [
      "-n",
      "my name",
      "-p",
      "digits",
      "--tag",
      "a",
      "--tag",
      "b c",
      ...sh("echo 'x y'"),
    ]);
    expect(run).toMatchObject({
      name: "my name",
      project: "digits",
      tags: ["a", "b c"],
      command: `bash -c 'echo '\\''x y'\\'''`,
      device: expect.any(String),
    });
    expect(run.writers).toMatchObject([{ role: "launch", rank: 0, live: false }]);
  });

  test("output passes through, byte by byte", async () => {
    const { stdout, stderr } = await launchSh(String.raw`printf 'a\r\n\xff\x00b\e[1mc'; printf 'err\n' >&2`);
    expect(stdout).toEqual(Buffer.from("a\r\n\xff\x00b\x1b[1mc", "latin1"));
    expect(stderr).toEndWith("err\n");
  });

  test("lines are kept with stream, time and level; what has no end at the end too", async () => {
    const before = Date.now();
    const { lines } = await launchSh("echo out; echo 'ERROR: bad' >&2; sleep 0.1; printf partial");
    expect(lines.map(({ stream, level, text }) => [stream, level, text]).sort()).toEqual([
      ["stderr", "ERROR", "ERROR: bad"],
      ["stdout", null, "out"],
      ["stdout", null, "partial"],
    ]);
    for (const { time } of lines) expect(time).toBeWithin(before, Date.now() + 1);
    expect(lines.at(-1)!.time - lines[0]!.time).toBeGreaterThan(50);
  });

  test("bytes that are no UTF-8 survive, colours too, empty lines too", async () => {
    const { lines } = await launchSh(String.raw`printf 'gr\xfc\xdfe\n\n\e[31mred\e[0m\n\xf0\x9f\x98\x80\n'`);
    expect(lines.map((line) => line.text)).toEqual(["gr\udcfc\udcdfe", "", "\u001b[31mred\u001b[0m", "😀"]);
  });

  test("a progress bar becomes one line, and is shown live before it is one", async () => {
    const gate = join(folder, "gate");
    const launch = startLaunch(
      sh(
        `for i in $(seq 1 500); do printf '\\r%s%%' $i; done; while [ ! -e ${gate} ]; do sleep 0.05; done; printf '\\rdone\\n'`,
      ),
      { dataDir: server.dataDir },
    );
    const id = await launch.id;
    const open = await until(async () => {
      const page = await server.api(`/api/v1/runs/${id}/logs`);
      return page.open.stdout === "500%" && page;
    });
    expect(open.total).toBe(0);
    writeFileSync(gate, "");
    await launch.ended;
    expect((await readLines(server, id)).map((line) => line.text)).toEqual(["done"]);
    expect((await server.api(`/api/v1/runs/${id}/logs`)).open.stdout).toBeNull();
  });

  test("lines can be read while the program runs", async () => {
    const launch = startLaunch(sh("echo first; read line"), { dataDir: server.dataDir, stdin: "pipe" });
    const id = await launch.id;
    await until(async () => (await readLines(server, id)).length === 1);
    expect((await readRun(server, id)).status).toBe("RUNNING");
    // Its input is ours.
    launch.child.stdin!.end("x\n");
    expect((await launch.ended).code).toBe(0);
  });

  test("the program's environment: whom to report to, by a token for this run alone", async () => {
    const { lines, id } = await launchSh(
      `env | grep -E '^(BINNACLE_|PYTHON)' | sort; python3 -c '${askForRuns}'`,
      { env: { PYTHONPATH: "/mine" } },
    );
    const env = Object.fromEntries(
      lines.slice(0, -1).map(({ text }) => text.split(/=(.*)/s).slice(0, 2)),
    ) as Record<string, string>;
    expect(env["BINNACLE_URL"]).toBe(server.url);
    expect([env["BINNACLE_RUN_ID"], env["BINNACLE_LAUNCH"]]).toEqual([id, id]);
    expect(env["BINNACLE_SPOOL"]).toBe(join(server.dataDir, "spool"));
    expect(env["BINNACLE_TOKEN"]).toStartWith(`bnc_run_${id}_`);
    expect(env["PYTHONPATH"]).toMatch(/^\/.+:\/mine$/);
    expect(env["PYTHONUNBUFFERED"]).toBe("1");
    expect(lines.at(-1)!.text).toBe("403");
  });

  test("a launch inside a launched program makes a run of its own", async () => {
    const { code, lines, id } = await launchSh(
      `'${process.execPath}' '${main}' launch -n inner -- echo from inside`,
    );
    expect(code).toBe(0);
    const inner = /binnacle: run (\d+) \(inner\)/.exec(lines.map((line) => line.text).join("\n"))![1]!;
    expect(inner).not.toBe(id);
    expect((await readLines(server, inner)).map((line) => line.text)).toEqual(["from inside"]);
  });

  test("PYTHONUNBUFFERED stays as it was set", async () => {
    const { lines } = await launchSh('echo "[$PYTHONUNBUFFERED]"', { env: { PYTHONUNBUFFERED: "" } });
    expect(lines[0]!.text).toBe("[]");
  });

  test("the same id again goes on with the run", async () => {
    const first = await launchSh("echo one; exit 1");
    const second = await launchOn(server, ["--run-id", first.id, ...sh("echo two")]);
    expect(second.id).toBe(first.id);
    expect(second.lines.map(({ line, text }) => [line, text])).toEqual([
      [1, "one"],
      [2, "two"],
    ]);
    expect(second.run.status).toBe("FINISHED");
  });

  test("100,000 lines arrive all, once, in order", async () => {
    const { lines } = await launchSh("seq 1 100000");
    expect(lines.length).toBe(100_000);
    expect(lines.every(({ text }, index) => text === String(index + 1))).toBe(true);
  });
});

describe("signals", () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    test(`${signal} reaches the whole group, and the run is KILLED`, async () => {
      const launch = startLaunch(sh("sleep 100 & echo pid $!; wait"), { dataDir: server.dataDir });
      const id = await launch.id;
      const pid = Number((await launch.says(/pid (\d+)/))[1]);
      launch.child.kill(signal);
      const { code } = await launch.ended;
      const number = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 }[signal];
      // A background child of a script ignores SIGINT: it is ended because it outlives the run.
      expect(code).toBe(128 + number);
      expect(await readRun(server, id)).toMatchObject({ status: "KILLED", reason: `killed by ${signal}` });
      expect(isAlive(pid)).toBe(false);
    });

  test("a program that takes the signal and ends in good order has FINISHED", async () => {
    const launch = startLaunch(
      sh("trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.05; done"),
      {
        dataDir: server.dataDir,
      },
    );
    await launch.says(/^ready$/m);
    launch.child.kill("SIGTERM");
    const { code, stdout } = await launch.ended;
    expect(code).toBe(0);
    expect(stdout.toString()).toContain("saving");
    expect((await readRun(server, await launch.id)).status).toBe("FINISHED");
  });

  test("messages to the program pass through and end nothing", async () => {
    const launch = startLaunch(
      sh("trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.05; done"),
      {
        dataDir: server.dataDir,
      },
    );
    await launch.says(/^ready$/m);
    launch.child.kill("SIGUSR1");
    expect((await launch.ended).code).toBe(5);
    expect((await readRun(server, await launch.id)).status).toBe("FAILED");
  });

  test("a terminal that is closed: the program hears SIGHUP, its last words are kept", async () => {
    const program = "trap 'echo last words; exit 9' HUP; echo ready; while :; do sleep 0.05; done";
    const terminal = Bun.spawn(
      [
        "python3",
        join(import.meta.dirname, "helpers/closed_terminal.py"),
        process.execPath,
        main,
        "launch",
        "-n",
        "hangup",
        ...sh(program),
      ],
      { env: { ...process.env, BINNACLE_DATA: server.dataDir }, stdout: "pipe" },
    );
    expect(await new Response(terminal.stdout).text()).toBe("9\n");
    const { runs } = await server.api("/api/v1/runs?search=hangup");
    expect(runs[0]).toMatchObject({ status: "KILLED", exit_code: 9 });
    expect((await readLines(server, runs[0].id)).at(-1)!.text).toBe("last words");
  });

  test("what the program leaves behind with its output open is ended with it", async () => {
    const { code, lines, run } = await launchSh(
      "(trap '' TERM; while :; do echo still here; sleep 0.2; done) & echo pid $!",
    );
    expect(code).toBe(0);
    expect(run.status).toBe("FINISHED");
    expect(isAlive(Number(/pid (\d+)/.exec(lines.map((line) => line.text).join("\n"))![1]))).toBe(false);
  });

  test("launch killed by SIGKILL: the run is FAILED with a reason within seconds", async () => {
    const launch = startLaunch(sh("echo ready; sleep 100"), { dataDir: server.dataDir });
    const id = await launch.id;
    await launch.says(/^ready$/m);
    await until(async () => (await readRun(server, id)).writers[0]?.live);
    launch.child.kill("SIGKILL");
    const started = performance.now();
    const run = await until(async () => {
      const now = await readRun(server, id);
      return now.status !== "RUNNING" && now;
    }, 20_000);
    expect(run.status).toBe("FAILED");
    expect(run.reason).toBeString();
    expect(performance.now() - started).toBeLessThan(15_000);
  });
});

describe("stop", () => {
  test("ends the whole group in good order: KILLED with the reason", async () => {
    const launch = startLaunch(
      sh(
        "sleep 100 & echo pid $!; trap 'echo cleaning up; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
      ),
      { dataDir: server.dataDir },
    );
    const id = await launch.id;
    const pid = Number((await launch.says(/pid (\d+)/))[1]);
    await launch.says(/^ready$/m);
    await until(async () => (await readRun(server, id)).writers[0]?.live);
    await server.api(`/api/v1/runs/${id}/stop`, { reason: "enough" });
    const { stdout } = await launch.ended;
    expect(stdout.toString()).toContain("cleaning up");
    expect(await readRun(server, id)).toMatchObject({ status: "KILLED", reason: "enough" });
    expect(isAlive(pid)).toBe(false);
  });

  test("with force, and what ignores SIGTERM, is killed", async () => {
    const launch = startLaunch(
      sh("trap '' TERM; (trap '' TERM; sleep 100) & echo pid $!; echo ready; while :; do sleep 0.05; done"),
      {
        dataDir: server.dataDir,
      },
    );
    const id = await launch.id;
    const pid = Number((await launch.says(/pid (\d+)/))[1]);
    await launch.says(/^ready$/m);
    await until(async () => (await readRun(server, id)).writers[0]?.live);
    await server.api(`/api/v1/runs/${id}/stop`, { force: true });
    expect((await launch.ended).code).toBe(137);
    expect((await readRun(server, id)).status).toBe("KILLED");
    expect(isAlive(pid)).toBe(false);
  });
});
