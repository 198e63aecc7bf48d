import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(30_000);

let server: TestServer;
let run: string;

const id = "483920175526711";
const twin = "483920175526999";

beforeAll(async () => {
  server = await startServer();
  await server.api("/api/v1/runs", { id: twin, name: "twin", project: "other" });
  await server.api("/api/v1/runs", { id, name: "first", project: "digits", config: { lr: 0.1 } });
  run = id;
  const client = "test";
  await server.api(`/api/v1/runs/${run}/records`, {
    client,
    seq: 1,
    items: [
      { step: 3, time: 1000, metrics: { loss: 0.5, epoch: 1 }, x: "epoch" },
      { step: 1, time: 2000, metrics: { loss: "NaN" } },
      { step: 2, time: 3000, metrics: { loss: "Infinity", epoch: 2 }, x: "epoch" },
      { step: 2, time: 4000, metrics: { loss: "-Infinity", note: "text" } },
    ],
  });
  await server.api(`/api/v1/runs/${run}/records`, {
    client: "other",
    rank: 1,
    seq: 1,
    items: [{ step: 0, time: 500, metrics: { loss: 9 } }],
  });
  await server.api(`/api/v1/runs/${run}/logs`, {
    client,
    seq: 2,
    items: [
      { time: 1000, text: "one" },
      { time: 2000, stream: "stderr", level: "WARNING", text: "two" },
      { time: 3000, level: "ERROR", text: "three \u001b[31mred\u001b[0m \udcff\udcfe" },
    ],
  });
});

afterAll(() => server.close());

describe("metrics --json", () => {
  const cases: { args: string[]; x: string; points: unknown[] }[] = [
    {
      args: [],
      x: "step",
      points: [
        [3, 0.5],
        [1, "NaN"],
        [2, "Infinity"],
        [2, "-Infinity"],
      ],
    },
    {
      args: ["--x", "time"],
      x: "time",
      points: [
        [1000, 0.5],
        [2000, "NaN"],
        [3000, "Infinity"],
        [4000, "-Infinity"],
      ],
    },
    {
      args: ["--x", "epoch"],
      x: "epoch",
      points: [
        [1, 0.5],
        [2, "Infinity"],
      ],
    },
    { args: ["--rank", "1"], x: "step", points: [[0, 9]] },
  ];
  for (const { args, x, points } of cases)
    test(`${args.join(" ") || "without more"} prints every point in the order of arrival`, async () => {
      expect(await server.json("metrics", "-rid", run, "loss", ...args, "--json")).toEqual({
        run,
        metric: "loss",
        x,
        points,
      });
    });

  test("--points prints at most so many", async () => {
    const { points, ...rest } = await server.json("metrics", "-rid", run, "loss", "--points", "2", "--json");
    expect(rest).toEqual({ run, metric: "loss", x: "step" });
    expect(points.length).toBeWithin(1, 3);
  });

  test("without a key lists each metric", async () => {
    const metrics = await server.json("metrics", "-rid", run, "--json");
    expect(metrics).toEqual([
      { name: "loss", count: 4, last: "-Infinity", min: "-Infinity", max: "Infinity" },
      { name: "epoch", count: 2, last: 2, min: 1, max: 2 },
      { name: "note", count: 1, last: "text", min: null, max: null },
    ]);
  });

  test("values that are text are listed, as there is nothing to draw", async () => {
    const { stdout } = await server.cli("metrics", "-rid", run, "note");
    expect(stdout).toBe("note: 1 point over step\nSTEP  VALUE\n2     text\n");
  });

  test("a metric that was never logged is not found", async () => {
    expect(await server.cli("metrics", "-rid", run, "accuracy", "--json")).toMatchObject({
      code: 3,
      stdout: "",
    });
  });
});

describe("run list", () => {
  const fields = [
    "id",
    "name",
    "project",
    "status",
    "reason",
    "created",
    "started",
    "finished",
    "device",
    "exit_code",
    "source",
    "deleted_at_source",
  ];

  test("--json is an array, newest first, with the documented fields", async () => {
    const runs = await server.json("run", "list", "--json");
    expect(runs.map((each: { id: string }) => each.id)).toEqual([id, twin]);
    for (const each of runs) expect(Object.keys(each)).toEqual(fields);
    expect(runs[0]).toMatchObject({ name: "first", project: "digits", status: "RUNNING", finished: null });
    expect(runs[0].created).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  });

  test("filters combine, and none left is an empty array", async () => {
    expect(await server.json("run", "list", "--project", "digits", "--json")).toHaveLength(1);
    expect(await server.json("run", "list", "-n", "1", "--json")).toHaveLength(1);
    expect(await server.json("run", "list", "--search", "twi", "--status", "running", "--json")).toHaveLength(
      1,
    );
    expect(await server.json("run", "list", "--status", "FAILED", "--json")).toEqual([]);
  });
});

describe("a run's id", () => {
  for (const [spelling, args] of Object.entries({
    "-rid ID": ["-rid", id],
    "--rid ID": ["--rid", id],
    "--run-id ID": ["--run-id", id],
    "--run_id=ID": [`--run_id=${id}`],
    "-rid=ID": [`-rid=${id}`],
    "a prefix": ["-rid", id.slice(0, -2)],
    "an argument": [id],
  }))
    test(`may be given as ${spelling}`, async () => {
      expect(await server.json("run", "status", ...args, "--json")).toMatchObject({
        id,
        config: { lr: 0.1 },
      });
    });

  test("that is ambiguous lists the candidates and exits with 2", async () => {
    const { code, stderr } = await server.cli("run", "status", "-rid", "4839");
    expect(code).toBe(2);
    expect(stderr).toContain(`${id} (first)`);
    expect(stderr).toContain(`${twin} (twin)`);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });
});

describe("run logs", () => {
  const logs = async (...args: string[]) => (await server.cli("run", "logs", "-rid", run, ...args)).stdout;

  test("prints every line, with bytes that are no UTF-8 as they were", async () => {
    const { bytes } = await server.cli("run", "logs", "-rid", run);
    const expected = Buffer.concat([
      Buffer.from("one\ntwo\nthree \u001b[31mred\u001b[0m "),
      Buffer.from([255, 254, 10]),
    ]);
    expect(bytes).toEqual(expected);
  });

  test("filters", async () => {
    expect(await logs("-n", "1")).toStartWith("three");
    expect(await logs("-n", "0")).toBe("");
    expect(await logs("-n", "2", "--stream", "stdout")).toStartWith("one\nthree");
    expect(await logs("--level", "warning")).toStartWith("two\nthree");
    expect(await logs("--grep", "^t.o$")).toBe("two\n");
    expect(await logs("--grep", "(?i)^T.O$")).toBe("two\n");
    expect(await logs("--since", "1970-01-01T00:00:02Z", "--level", "info", "-n", "5")).toStartWith(
      "two\nthree",
    );
    expect(await logs("--since", "10m")).toBe("");
  });

  test("a page is whole, however long its lines are", async () => {
    const long = await server.api("/api/v1/runs", { project: "other" });
    for (let seq = 1; seq <= 3; seq++)
      await server.api(`/api/v1/runs/${long.id}/logs`, {
        client: "c",
        seq,
        items: Array.from({ length: 4 }, () => ({ text: "x".repeat(1_000_000) })),
      });
    const page = ["--page-size", "11", "--page-num", "1"];
    const printed = await server.cli("run", "logs", "-rid", long.id, ...page);
    expect(printed.bytes.length).toBe(11_000_011);
  });

  test("--json prints one object a line", async () => {
    const lines = (await logs("--json", "-n", "2")).trim().split("\n");
    expect(JSON.parse(lines[0]!)).toEqual({
      line: 2,
      time: 2000,
      stream: "stderr",
      level: "WARNING",
      rank: 0,
      text: "two",
    });
  });
});

describe("run logs -f", () => {
  test("follows to the end of the run, over a restart of the collector, with nothing lost and nothing twice", async () => {
    const own = await startServer();
    let current = own;
    const { id: followed } = await own.api("/api/v1/runs", { name: "followed" });
    const line = (seq: number) => ({ client: "c", seq, items: [{ text: `line ${seq}` }] });
    await own.api(`/api/v1/runs/${followed}/logs`, line(1));

    const seen = new Map<string, () => void>();
    const until = (text: string) => new Promise<void>((resolve) => seen.set(text, resolve));
    let output = "";
    const arrived = [1, 2, 3].map((seq) => until(`line ${seq}\n`));
    const following = runCli(["run", "logs", "-rid", followed, "-f"], {
      env: { BINNACLE_DATA: own.dataDir },
      onStdout(text) {
        output += text;
        for (const [awaited, resolve] of seen) if (output.includes(awaited)) resolve();
      },
    });
    await arrived[0];
    await current.api(`/api/v1/runs/${followed}/logs`, line(2));
    await arrived[1];
    await current.kill("SIGKILL");
    // On another port: a follower must look for it again.
    current = await startServer({ dataDir: own.dataDir });
    expect(current.url).not.toBe(own.url);
    await current.api(`/api/v1/runs/${followed}/logs`, line(3));
    await arrived[2];
    await current.api(`/api/v1/runs/${followed}/logs`, line(4));
    await current.api(`/api/v1/runs/${followed}/finish`, { status: "FINISHED" });
    expect(await following).toMatchObject({ code: 0, stdout: "line 1\nline 2\nline 3\nline 4\n" });

    const again = await runCli(["run", "logs", "-rid", followed, "-f"], {
      env: { BINNACLE_DATA: own.dataDir },
    });
    expect(again.stdout).toBe("line 1\nline 2\nline 3\nline 4\n");
    await current.close();
  }, 20_000);

  test("with a filter follows what matches only", async () => {
    const { id: followed } = await server.api("/api/v1/runs", { name: "filtered" });
    await server.api(`/api/v1/runs/${followed}/logs`, { client: "c", seq: 1, items: [{ text: "a 1" }] });
    const following = runCli(["run", "logs", "-rid", followed, "-f", "--grep", "^a"], {
      env: { BINNACLE_DATA: server.dataDir },
      onStdout(text) {
        if (!text.includes("a 1")) return;
        void (async () => {
          await server.api(`/api/v1/runs/${followed}/logs`, {
            client: "c",
            seq: 2,
            items: [{ text: "b 2" }, { text: "a 3" }],
          });
          await server.api(`/api/v1/runs/${followed}/finish`, {});
        })();
      },
    });
    expect((await following).stdout).toBe("a 1\na 3\n");
    await server.cli("run", "delete", followed);
  });
});

describe("a run is steered", () => {
  test("set, stop, delete", async () => {
    const { id: own } = await server.api("/api/v1/runs", { name: "steered" });
    const set = [
      "--name",
      "renamed",
      "-c",
      "lr=0.5",
      "-c",
      "tag=a b",
      "-c",
      "big=1234567890123456789",
      "-c",
      "ids=[12345678901234567890123, 7]",
      "--tag",
      "x",
    ];
    expect(await server.cli("run", "set", "-rid", own, ...set)).toMatchObject({ code: 0 });
    expect(await server.json("run", "status", own, "--json")).toMatchObject({
      name: "renamed",
      tags: ["x"],
      config: { lr: 0.5, tag: "a b", big: "1234567890123456789", ids: ["12345678901234567890123", 7] },
    });
    expect(await server.cli("run", "delete", own)).toMatchObject({ code: 5 });
    expect(await server.cli("run", "stop", "-rid", own)).toMatchObject({
      code: 0,
      stdout: `Run ${own} is stopped.\n`,
    });
    expect((await server.json("run", "status", own, "--json")).status).toBe("KILLED");
    const { id: other } = await server.api("/api/v1/runs", { name: "other" });
    const stopped = await server.json("run", "stop", "-rid", other, "--json");
    expect(stopped).toMatchObject({ id: other, status: "KILLED" });
    const listed = await server.json("run", "list", "--search", other, "--json");
    expect(stopped).toEqual(listed[0]);
    const deleted = await server.cli("run", "delete", own, other, "999", "--json");
    expect(deleted.code).toBe(3);
    expect(JSON.parse(deleted.stdout)).toEqual([
      { id: own, name: "renamed" },
      { id: other, name: "other" },
    ]);
    expect(await server.cli("run", "delete", own, "--json")).toMatchObject({ code: 3, stdout: "" });
    expect(await server.cli("run", "status", own)).toMatchObject({ code: 3 });
  });
});

test("sync leaves its files where what answers is no collector, whatever it answers", async () => {
  const page = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("<html></html>") });
  const dir = mkdtempSync(join(tmpdir(), "binnacle-sync-"));
  const file = join(dir, "1-c.ndjson");
  const body = { client: "c", seq: 1, items: [] };
  writeFileSync(file, `${JSON.stringify({ v: 1, path: "/api/v1/runs/1/records", body })}\n`);
  const { code } = await server.cli("sync", dir, "--url", `http://127.0.0.1:${page.port}`);
  expect([code, existsSync(file)]).toEqual([4, true]);
  rmSync(dir, { recursive: true });
  await page.stop(true);
});

describe("exit codes", () => {
  const cases: { args: string[]; code: number; says: string }[] = [
    { args: ["run", "status", "-rid", "999"], code: 3, says: "run list" },
    { args: ["run", "status", "-rid", "../etc"], code: 3, says: "is no run id" },
    { args: ["run", "status"], code: 2, says: "-rid" },
    { args: ["run", "status", "--nonsense"], code: 2, says: "--nonsense" },
    { args: ["run", "list", "one"], code: 2, says: "'one'" },
    { args: ["run", "nonsense"], code: 2, says: "run --help" },
    { args: ["nonsense"], code: 2, says: "binnacle --help" },
    { args: ["constructor"], code: 2, says: "no command" },
    { args: ["metrics", "-rid", id, "loss", "--points", "many"], code: 2, says: "binnacle metrics --help" },
    { args: ["metrics", "-rid", id, "loss", "--x", "nope"], code: 3, says: "It has: loss, epoch" },
    { args: ["run", "logs", "-rid", id, "--grep", "("], code: 2, says: "cannot be searched" },
    { args: ["run", "logs", "-rid", id, "--level", "LOUD"], code: 2, says: "--level" },
    { args: ["run", "logs", "-rid", id, "--since", "yesterday"], code: 2, says: "binnacle run logs --help" },
    { args: ["run", "list", "--limit", "0"], code: 2, says: "binnacle run list --help" },
    { args: ["run", "set", "-rid", id, "--name", ""], code: 2, says: "name: must not be empty" },
    { args: ["launch", "--name", "", "--", "true"], code: 2, says: "--name must not be empty." },
    { args: ["run", "list", "--status", "BUSY"], code: 2, says: "BUSY" },
    { args: ["run", "set", "-rid", id], code: 2, says: "nothing to set" },
    { args: ["run", "list", "--url", "http://127.0.0.1:9"], code: 4, says: "binnacle start" },
    { args: ["run", "list", "--url", "nonsense"], code: 2, says: "not a URL" },
    { args: ["run", "delete", "-rid", id], code: 5, says: "" },
    { args: ["sync", "/nonexistent/spool"], code: 3, says: ".ndjson" },
    { args: ["completion", "cmd"], code: 2, says: "bash" },
  ];
  for (const { args, code, says } of cases)
    test(`${args.join(" ")} → ${code}, in one line that says what to do`, async () => {
      const result = await server.cli(...args);
      expect({ code: result.code, stdout: result.stdout }).toEqual({ code, stdout: "" });
      expect(result.stderr.trim().split("\n")).toHaveLength(1);
      expect(result.stderr).toContain(says);
    });

  test("a certificate that is not there is named by its flag, with what to do", async () => {
    const dataDir = mkdtempSync(join(tmpdir(), "binnacle-tls-"));
    const tls = ["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"];
    expect(await runCli(["start", "--data", dataDir, "--port", "0", ...tls])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("/nowhere.pem, does not exist. Give --tls-cert"),
    });
    rmSync(dataDir, { recursive: true });
  });

  test("a wrong token is refused with 5", async () => {
    const env = { BINNACLE_DATA: server.dataDir, BINNACLE_TOKEN: "nonsense" };
    expect(await runCli(["run", "list"], { env })).toMatchObject({ code: 5 });
  });
});

describe("the collector is found", () => {
  const list = (args: string[], env: Record<string, string> = {}) =>
    runCli(["run", "list", "--json", ...args], { env });
  const none = mkdtempSync(join(tmpdir(), "binnacle-none-"));
  afterAll(() => rmSync(none, { recursive: true }));

  test("by $BINNACLE_DATA, --data before and behind the command, --url with $BINNACLE_TOKEN, $BINNACLE_URL", async () => {
    const token = (await server.cli("token", "--scope", "read")).stdout.trim();
    const elsewhere = { BINNACLE_DATA: none, BINNACLE_TOKEN: token };
    const ids = (await server.json("run", "list", "--json")).map((run: { id: string }) => run.id);
    const results = await Promise.all([
      list([], { BINNACLE_DATA: server.dataDir }),
      list(["--data", server.dataDir], { BINNACLE_DATA: none }),
      runCli(["--data", server.dataDir, "run", "list", "--json"]),
      list(["--url", server.url], elsewhere),
      list([], { ...elsewhere, BINNACLE_URL: `${server.url}/` }),
      list(["--data", server.dataDir], { BINNACLE_URL: "http://127.0.0.1:9" }),
    ]);
    for (const { code, stdout, stderr } of results) {
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(JSON.parse(stdout).map((run: { id: string }) => run.id)).toEqual(ids);
    }
  });

  test("by --data and --url that stand before any command, also where none is asked", async () => {
    for (const command of [
      ["version"],
      ["completion", "bash"],
      ["python"],
      ["token"],
      ["metrics", "-rid", id],
    ]) {
      const { code, stderr } = await runCli(["--data", server.dataDir, ...command]);
      expect({ command, code, stderr }).toEqual({ command, code: 0, stderr: "" });
    }
  });

  test("on loopback even where a proxy is set", async () => {
    const env = {
      BINNACLE_DATA: server.dataDir,
      HTTP_PROXY: "http://127.0.0.1:9",
      http_proxy: "http://127.0.0.1:9",
    };
    expect(await list([], env)).toMatchObject({ code: 0 });
  });

  test("whose token stays on this machine", async () => {
    const asked: (string | null)[] = [];
    const stranger = Bun.serve({
      port: 0,
      hostname: "0.0.0.0",
      fetch(request) {
        asked.push(request.headers.get("authorization"));
        return new Response("", { status: 404 });
      },
    });
    const { networkInterfaces } = await import("node:os");
    const address = Object.values(networkInterfaces())
      .flat()
      .find((each) => each?.family === "IPv4" && !each.internal)?.address;
    // A machine without any network has no stranger to tell the token to.
    if (address) {
      const { code, stderr } = await list(["--url", `http://${address}:${stranger.port}`], {
        BINNACLE_DATA: server.dataDir,
      });
      expect({ code, asked }).toEqual({ code: 4, asked: [null] });
      expect(stderr).toContain("is no collector");
    }
    await stranger.stop();
  });
});

test("token derives tokens that reach as far as they say", async () => {
  const status = async (token: string, path: string, method = "GET", body?: unknown) => {
    const response = await fetch(server.url + path, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return response.status;
  };
  const [read, write, own] = await Promise.all(
    [
      ["--scope", "read"],
      ["--scope", "write"],
      ["-rid", id.slice(0, -1)],
    ].map(async (args) => (await server.json("token", ...args, "--json")).token as string),
  );
  expect(await status(read!, "/api/v1/runs")).toBe(200);
  expect(await status(read!, `/api/v1/runs/${id}`, "DELETE")).toBe(403);
  expect(await status(write!, `/api/v1/runs/${id}`, "PATCH", { notes: "x" })).toBe(200);
  expect(await status(own!, `/api/v1/runs/${id}`, "PATCH", { notes: "y" })).toBe(200);
  expect(await status(own!, `/api/v1/runs/${twin}`, "PATCH", { notes: "y" })).toBe(403);
});

test("token --rotate ends every token so far", async () => {
  const own = await startServer();
  const before = (await own.cli("token")).stdout;
  const after = (await own.cli("token", "--rotate")).stdout;
  expect(after).not.toBe(before);
  expect(after).toBe((await own.cli("token")).stdout);
  expect(await own.cli("run", "list")).toMatchObject({ code: 0 });
  const env = { BINNACLE_DATA: own.dataDir, BINNACLE_TOKEN: before.trim() };
  expect(await runCli(["run", "list"], { env })).toMatchObject({ code: 5 });
  await own.close();
});

test("open prints a link that signs in once", async () => {
  const { url } = await server.json("open", "--json");
  const sign = () => fetch(url, { redirect: "manual" });
  expect((await sign()).status).toBe(303);
  expect((await sign()).status).toBe(401);
});

test("a reader that goes away early is no error", async () => {
  const { id: long } = await server.api("/api/v1/runs", { name: "long" });
  const items = Array.from({ length: 20_000 }, (_, index) => ({ text: `${index} ${"x".repeat(200)}` }));
  await server.api(`/api/v1/runs/${long}/logs`, { client: "c", seq: 1, items });
  const shell = `"${process.execPath}" "${join(import.meta.dirname, "../src/cli/main.ts")}" run logs -rid ${long} | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const { stdout, stderr } = await runCli(["-c", shell], {
    program: ["bash"],
    env: { BINNACLE_DATA: server.dataDir },
  });
  expect(stdout.split("\n").slice(1)).toEqual(["0", ""]);
  expect(stderr).toBe("");
  const whole = await server.cli("run", "logs", "-rid", long);
  expect(whole.stderr).toBe("");
  expect(whole.stdout.split("\n")).toEqual([...items.map(({ text }) => text), ""]);
  await server.cli("run", "delete", long, "--force");
});

test.skipIf(!existsSync("/dev/full"))("output that can't be written is a failure", async () => {
  const shell = `"${process.execPath}" "${join(import.meta.dirname, "../src/cli/main.ts")}" run list --json > /dev/full`;
  const { code, stderr } = await runCli(["-c", shell], {
    program: ["bash"],
    env: { BINNACLE_DATA: server.dataDir },
  });
  expect(code).toBe(1);
  expect(stderr).toContain("no space left");
});

describe("through a link named fedml", () => {
  const dir = mkdtempSync(join(tmpdir(), "binnacle-link-"));
  const link = join(dir, "fedml");
  symlinkSync(process.execPath, link);
  afterAll(() => rmSync(dir, { recursive: true }));
  const main = join(import.meta.dirname, "../src/cli/main.ts");
  const fedml = (...args: string[]) =>
    runCli([main, ...args], { program: [link], env: { BINNACLE_DATA: server.dataDir } });

  test("run list prints FedML's table", async () => {
    const { stdout, code } = await fedml(
      "run",
      "list",
      "-k",
      "key",
      "-v",
      "release",
      "-pf",
      "falcon",
      "-rid",
      id,
    );
    expect(code).toBe(0);
    const lines = stdout.split("\n");
    expect(lines[0]).toBe("Found the following matched runs.");
    expect(lines[2]).toContain("| Run Name |      Run ID     |  Status |");
    expect(lines[4]).toContain(`|  first   | ${id} | RUNNING |`);
  });

  test("run logs prints the summary and the lines", async () => {
    const { stdout } = await fedml("run", "logs", "-rid", id, "-v", "release");
    expect(stdout).toContain("Logs summary info is as follows.");
    expect(stdout).toContain("Total Log Lines");
    expect(stdout).toContain("All logs is as follows.\none\ntwo\nthree");
    const paged = await fedml("run", "logs", "-rid", id, "-pn", "2", "-ps", "1", "-a", "False");
    expect(paged.stdout).toEndWith("All logs is as follows.\ntwo\n");
    const all = await fedml("run", "logs", "-rid", id, "-a", "True");
    expect(all.stdout).toContain("one\ntwo\n");
  });

  test("launch prints where to find the run, and the program's output", async () => {
    const job = join(dir, "job.yaml");
    writeFileSync(job, "job: echo from the job\njob_name: from-file\n");
    const { stdout, stderr, code } = await fedml("launch", job, "-k", "key", "-v", "release");
    expect({ code, stdout }).toEqual({ code: 0, stdout: "from the job\n" });
    expect(stderr).toContain("Run Track Command (CLI)");
    const [launched] = await server.json("run", "list", "--search", "from-file", "--json");
    expect(stderr).toContain(`fedml run logs -rid ${launched.id}`);
    await server.cli("run", "delete", launched.id);
  });

  test("status, stop, version", async () => {
    expect((await fedml("run", "status", "-r", "first")).stdout).toContain(id);
    const { id: own } = await server.api("/api/v1/runs", { name: "own" });
    expect((await fedml("run", "stop", "-rid", own, "-k", "x")).stdout).toBe(
      `Run ${own} is stopped successfully.\n`,
    );
    expect((await fedml("run", "stop", "-rid", "999")).code).toBe(3);
    expect((await fedml("version")).stdout).toStartWith("fedml version: ");
    await server.cli("run", "delete", own);
  });
});

describe("sync", () => {
  const client = "0123456789abcdef";
  const line = (seq: number, items: unknown[]) =>
    `${JSON.stringify({ v: 1, path: "/api/v1/runs/77/records", body: { client, seq, items } })}\n`;
  const create = `${JSON.stringify({ v: 1, path: "/api/v1/runs", body: { id: "77", writer: { client } } })}\n`;
  const good = (value: number) => [{ step: value, metrics: { a: value } }];

  test("sends what can be sent, moves aside what is refused, leaves out a torn line and what others write", async () => {
    const spool = mkdtempSync(join(tmpdir(), "binnacle-sync-"));
    const file = join(spool, `77-${client}.ndjson`);
    const bad = [{ step: "x", metrics: {} }];
    // Batch 3 was lost in memory, batch 2 is one that no collector takes.
    writeFileSync(
      file,
      `${create}${line(1, good(1))}${line(2, bad)}${line(4, good(4))}${line(5, good(5))}{"v":1,"pa`,
    );
    const busy = join(spool, "78-busy.ndjson");
    writeFileSync(busy, create);
    writeFileSync(`${busy}.lock`, String(process.pid));

    const { code, stdout } = await server.cli("sync", spool, "--json");
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject([
      { file, outcome: "partly", sent: 4, refused: 1 },
      { file: busy, outcome: "busy", sent: 0 },
    ]);
    const { points } = await server.json("metrics", "-rid", "77", "a", "--json");
    expect(points).toEqual([
      [1, 1],
      [4, 4],
      [5, 5],
    ]);
    expect(await Bun.file(`${file}.refused`).text()).toBe(line(2, bad));
    expect(await Bun.file(file).exists()).toBe(false);
    expect(await Bun.file(busy).exists()).toBe(true);
    await server.cli("run", "delete", "77", "--force");
    rmSync(spool, { recursive: true });
  });

  test("keeps everything while no collector answers, and says so with 4", async () => {
    const spool = mkdtempSync(join(tmpdir(), "binnacle-sync-"));
    const file = join(spool, `77-${client}.ndjson`);
    writeFileSync(file, create);
    const { code } = await server.cli("sync", spool, "--url", "http://127.0.0.1:9");
    expect(code).toBe(4);
    expect(await Bun.file(file).text()).toBe(create);
    rmSync(spool, { recursive: true });
  });
});

test("stop ends the collector, whose folder is free then", async () => {
  const own = await startServer();
  expect(await own.cli("stop")).toMatchObject({ code: 0, stdout: "The collector is stopped.\n" });
  expect(() => process.kill(own.pid, 0)).toThrow();
  expect(await own.cli("stop", "--url", own.url)).toMatchObject({ code: 4 });
  const next = await startServer({ dataDir: own.dataDir });
  expect(await next.json("stop", "--json")).toEqual({ url: next.url, pid: next.pid });
  await next.close();
});
