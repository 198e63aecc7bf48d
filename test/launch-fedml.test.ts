import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTokens } from "../src/token.ts";
import { clientEnvironment, pythonOf } from "./fedml-client/install.mjs";
import { binaryPath, remove } from "./helpers/binary.ts";
import { available, clients } from "./helpers/fedml-client.ts";
import { runCli } from "./helpers/cli.ts";
import { createSink, DEAD_URL, python, startCompiled, type TestServer } from "./helpers/python.ts";

setDefaultTimeout(60_000);

let server: TestServer;
let home: string;

beforeAll(async () => {
  server = await startCompiled();
  home = mkdtempSync(join(tmpdir(), "binnacle-fedml-home-"));
}, 180_000);

afterAll(async () => {
  await server.remove();
  remove(home);
});

async function launch(words: string | string[], env: Record<string, string | undefined> = {}) {
  const command = typeof words === "string" ? ["bash", "-c", words] : words;
  const child = Bun.spawn([binaryPath(), "launch", "--", ...command], {
    env: { PATH: process.env["PATH"], HOME: home, BINNACLE_DATA: server.dataDir, ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect(await child.exited).toBe(0);
  const vars = Object.fromEntries(out.split("\n").map((line) => line.split(/=(.*)/s).slice(0, 2)));
  return { vars: vars as Record<string, string>, run: /run (\d+)/.exec(err)![1]!, err };
}

test("a launched program's FedML client has the collector for its platform, for its run alone", async () => {
  const { vars } = await launch("env | grep ^FEDML_");
  expect(vars).toMatchObject({
    FEDML_ENV_VERSION: "local",
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT: "80",
    FEDML_USING_MLOPS: "true",
  });
  const run = vars["FEDML_CURRENT_RUN_ID"]!;
  expect(vars["FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST"]).toContain(`/fedml/${run}-`);
  const response = await fetch(
    `http://${vars["FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST"]}/fedmlOpsServer/configs/fetch`,
    {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ config_name: ["mqtt_config", "ml_ops_config"], device_send_time: 1 }),
    },
  );
  expect(await response.json()).toMatchObject({
    code: "SUCCESS",
    data: { mqtt_config: { BROKER_HOST: "127.0.0.1" } },
  });
});

test.skipIf(!available).each(clients)(
  "FedML's own client $version, launched, tracks here",
  async ({ folder, version }) => {
    const example = join(import.meta.dirname, "fedml-client/example.py");
    const { run } = await launch([pythonOf(folder), example], clientEnvironment(folder, version, home));
    const points = await server.points(run, "acc", "time");
    expect(points.map(([, value]) => value)).toEqual([0.1, 0.11, 0.2, 0.3, 0.31, 0.32, 0.34]);
    expect(await server.run(run)).toMatchObject({ status: "FINISHED", exit_code: 0 });
  },
);

test("who has said already where it is to go is not overruled", async () => {
  const { vars } = await launch("env | grep ^FEDML_", { FEDML_ENV_VERSION: "release" });
  expect(vars["FEDML_ENV_VERSION"]).toBe("release");
  expect(vars["FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST"]).toBeUndefined();
});

test("which edge a program is stays what its launcher, or its rank, says", async () => {
  const { vars } = await launch("env | grep ^FEDML_", { FEDML_CURRENT_EDGE_ID: "7" });
  expect(vars["FEDML_CURRENT_EDGE_ID"]).toBe("7");
  const script = "import fedml; fedml.mlops.event('epoch', True); fedml.mlops.event('epoch', False)";
  const { run } = await launch(["python3", "-c", script], { RANK: "3", BINNACLE_FEDML: "native" });
  const { spans } = await server.get(`/api/v1/runs/${run}/spans`);
  expect(spans).toMatchObject([{ name: "epoch", edge: "rank 3" }]);
});

test("what a script prints is kept once: by launch, whatever its token is, else by log_print_init", async () => {
  const { write, ofRun } = createTokens(server.token);
  const script = "import fedml\nfedml.mlops.log_print_init()\nprint('one')\nprint('two')";
  const textsOf = async (run: string) =>
    (await server.get(`/api/v1/runs/${run}/logs`)).lines
      .map(({ text }: { text: string }) => text)
      .filter((text: string) => !text.startsWith("binnacle:"));
  const env = { BINNACLE_FEDML: "native", BINNACLE_URL: server.url };
  const { run } = await launch(["python3", "-c", script], { ...env, BINNACLE_TOKEN: write });
  expect(await textsOf(run)).toEqual(["one", "two"]);
  await python(script, { env: { ...env, BINNACLE_RUN_ID: "alone", BINNACLE_TOKEN: ofRun("alone") } });
  expect(await textsOf("alone")).toEqual(["one", "two"]);
});

test("of what a collector answers only FedML's variables reach a program or a shell, as mere text", async () => {
  const evil = `x'; touch ${home}/ran; '$(touch ${home}/ran)`;
  const told: Record<string, unknown> = { FEDML_ENV_VERSION: evil, FEDML_USING_MLOPS: 1 };
  Object.assign(told, {
    LD_PRELOAD: "/evil.so",
    PATH: "/evil",
    "A;touch ran": "x",
    FEDML_CURRENT_EDGE_ID: "1",
  });
  const sink = createSink();
  sink.answer = (method, path) =>
    path.endsWith("/fedml")
      ? Response.json({ env: told })
      : method === "GET"
        ? Response.json({ id: "1", name: "n" })
        : undefined;
  try {
    const { vars } = await launch("env", { BINNACLE_URL: sink.url });
    expect(vars).toMatchObject({ FEDML_ENV_VERSION: evil, PATH: process.env["PATH"]! });
    for (const name of ["LD_PRELOAD", "A;touch ran", "FEDML_USING_MLOPS", "FEDML_CURRENT_EDGE_ID"])
      expect([name, vars[name]]).toEqual([name, undefined]);
    const { stdout } = await runCli(["fedml", "env", "-rid", "1"], { env: { BINNACLE_URL: sink.url } });
    const shell = Bun.spawnSync(["sh", "-c", `eval "$1"; env`, "sh", stdout], { env: {}, cwd: home });
    expect(shell.stdout.toString().split("\n")).toContain(`FEDML_ENV_VERSION=${evil}`);
    expect(shell.stdout.toString()).not.toContain("evil.so");
    expect(existsSync(join(home, "ran"))).toBe(false);
  } finally {
    sink.stop();
  }
});

test("an inner launch whose collector gives no address has none, least of all the outer run's", async () => {
  const { vars: outer } = await launch("env | grep ^FEDML_");
  const inner = async (url: string) => {
    const { vars, err } = await launch("env | grep ^FEDML_", { ...outer, BINNACLE_URL: url });
    expect(Object.keys(vars).filter((name) => name !== "")).toEqual(["FEDML_CURRENT_RUN_ID"]);
    return err;
  };
  expect(await inner(DEAD_URL)).toContain("no collector takes it yet");
  const sink = createSink();
  try {
    const answer = (code: string, status: number) => {
      const problem = { type: `urn:binnacle:${code}`, detail: `It is ${code}.` };
      sink.answer = (_, path) => (path.endsWith("/fedml") ? Response.json(problem, { status }) : undefined);
    };
    answer("busy", 503);
    expect(await inner(sink.url)).toContain("It is busy.");
    answer("not-found", 404);
    expect(await inner(sink.url)).not.toContain("It is not-found.");
  } finally {
    sink.stop();
  }
});

test("a file of the client's that would send it elsewhere is told", async () => {
  mkdirSync(join(home, ".fedml/global_services"), { recursive: true });
  writeFileSync(join(home, ".fedml/global_services/.env"), "FEDML_ENV_VERSION='release'\n");
  const { err } = await launch("true");
  expect(err).toContain("FEDML_ENV_VERSION=release");
  expect(err).toContain("PYTHON_DOTENV_DISABLED=1");
});
