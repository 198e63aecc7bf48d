import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clientEnvironment, pythonOf } from "./fedml-client/install.mjs";
import { remove } from "./helpers/binary.ts";
import { available, clients } from "./helpers/fedml-client.ts";
import { startServer, type TestServer } from "./helpers/python.ts";

setDefaultTimeout(60_000);

let server: TestServer;
let home: string;

beforeAll(async () => {
  server = await startServer();
  home = mkdtempSync(join(tmpdir(), "binnacle-fedml-home-"));
});

afterAll(async () => {
  await server.remove();
  remove(home);
});

const main = join(import.meta.dirname, "../src/cli/main.ts");

async function launch(words: string | string[], env: Record<string, string | undefined> = {}) {
  const command = typeof words === "string" ? ["bash", "-c", words] : words;
  const child = Bun.spawn([process.execPath, main, "launch", "--", ...command], {
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
    FEDML_CURRENT_EDGE_ID: "1",
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

test("a file of the client's that would send it elsewhere is told", async () => {
  mkdirSync(join(home, ".fedml/global_services"), { recursive: true });
  writeFileSync(join(home, ".fedml/global_services/.env"), "FEDML_ENV_VERSION='release'\n");
  const { err } = await launch("true");
  expect(err).toContain("FEDML_ENV_VERSION=release");
  expect(err).toContain("PYTHON_DOTENV_DISABLED=1");
});
