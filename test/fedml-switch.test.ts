import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { welcome } from "../src/cli/welcome.ts";
import { readConfig } from "../src/config.ts";
import { startBinary } from "./helpers/binary.ts";
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";

setDefaultTimeout(60_000);

const RUN = "483920175526711";
const home = mkdtempSync(join(tmpdir(), "binnacle-fedml-switch-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

let server: TestServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function start(...args: string[]): Promise<TestServer> {
  return (server = await startServer({ args: ["--no-hardware", ...args] }));
}

const post = ({ url }: TestServer, path: string, headers: Record<string, string> = {}) =>
  fetch(url + path, { method: "POST", body: "{}", headers });

/** Ports that the process listens on. */
function listening(pid: number): number {
  const own = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      } catch {
        return undefined;
      }
    }),
  );
  const sockets = ["tcp", "tcp6"].flatMap((name) =>
    readFileSync(`/proc/${pid}/net/${name}`, "utf8").split("\n").slice(1),
  );
  return sockets.filter((line) => {
    const [, , , state, , , , , , inode] = line.trim().split(/\s+/);
    return state === "0A" && own.has(inode);
  }).length;
}

describe("--fedml off", () => {
  test("nothing is at its addresses, nothing but HTTP listens, and a launched program hears nothing of it", async () => {
    const at = await start("--fedml", "off");
    const headers = { authorization: `Bearer ${(await at.cli("token")).stdout.trim()}` };
    for (const path of ["/fedml/open", `/fedml/${RUN}-0`, ""])
      for (const rest of ["/fedmlOpsServer/configs/fetch", "/fedmlLogsServer/logs/update", "/s3/run/key"])
        expect((await post(at, path + rest, headers)).status, path + rest).toBe(404);
    if (process.platform === "linux") expect(listening(at.pid)).toBe(1);

    const { stdout, stderr, code } = await at.cli(
      "launch",
      "--",
      "bash",
      "-c",
      "env | grep ^FEDML_ | cut -d= -f1; echo done",
    );
    // By this one our own module knows its run; it leads nobody anywhere.
    expect({ stdout, code }).toEqual({ stdout: "FEDML_CURRENT_RUN_ID\ndone\n", code: 0 });
    const run = /run (\d+)/.exec(stderr)![1]!;
    expect(stderr).not.toContain("fedml");
    expect(await at.api(`/api/v1/runs/${run}`)).toMatchObject({ status: "FINISHED", exit_code: 0 });
  });

  test("`fedml env` says why there is nothing to print, and makes no run", async () => {
    const at = await start("--fedml", "off");
    const { stdout, stderr, code } = await at.cli("fedml", "env");
    expect({ stdout, code }).toEqual({ stdout: "", code: 3 });
    expect(stderr).toContain("does not serve FedML's clients");
    expect(stderr).toContain("--fedml off");
    expect((await at.api("/api/v1/runs")).runs).toEqual([]);
  });
});

test("unless it is off, both HTTP and MQTT listen", async () => {
  const at = await start();
  expect((await post(at, `/fedml/${RUN}-0/fedmlOpsServer/configs/fetch`)).status).toBe(401);
  if (process.platform === "linux") expect(listening(at.pid)).toBe(2);
});

describe("--fedml open is for this machine alone", () => {
  for (const host of [
    "0.0.0.0",
    "::",
    "[::]",
    "192.0.2.7",
    "gpu1",
    "localhost.example.org",
    "127.0.0.1.nip.io",
  ])
    test(`not on ${host}, whatever else is said`, () => {
      for (const more of [{ "insecure-http": true }, { "tls-cert": "c.pem", "tls-key": "k.pem" }])
        expect(() => readConfig({ fedml: "open", host, ...more }, {})).toThrow(
          "would let anybody who reaches",
        );
      expect(readConfig({ fedml: "on", host, "insecure-http": true }, {}).fedml).toBe("on");
    });

  for (const host of ["127.0.0.1", "127.9.8.7", "localhost", "::1", "[::1]"])
    test(`on ${host}`, () => expect(readConfig({ fedml: "open", host }, {}).fedml).toBe("open"));

  test("the command ends with what to do instead", async () => {
    const { stderr, code } = await runCli([
      "start",
      "--port",
      "0",
      "--data",
      join(home, "never"),
      "--host",
      "0.0.0.0",
      "--insecure-http",
      "--fedml",
      "open",
    ]);
    expect(code).toBe(2);
    expect(stderr).toContain("--fedml open would let anybody who reaches 0.0.0.0 write");
    expect(stderr).toContain("binnacle fedml env");
  });
});

test("`fedml env` warns of the client's own file that would lead elsewhere, and prints all the same", async () => {
  const { dataDir } = await start();
  const folder = join(home, ".fedml/global_services");
  mkdirSync(folder, { recursive: true });
  const env = (more: Record<string, string> = {}) =>
    runCli(["fedml", "env", "-rid", RUN], { env: { BINNACLE_DATA: dataDir, HOME: home, ...more } });
  writeFileSync(join(folder, ".env"), "FEDML_ENV_VERSION='local'\nOTHER=1\n");
  expect((await env()).stderr).not.toContain("global_services");
  writeFileSync(join(folder, ".env"), "OTHER=1\nFEDML_ENV_VERSION='release'\n");
  const { stdout, stderr, code } = await env();
  expect(code).toBe(0);
  expect(stderr).toContain(`${folder}/.env says FEDML_ENV_VERSION=release`);
  expect(stderr).toContain("Remove that line, or set PYTHON_DOTENV_DISABLED=1");
  expect(stdout).toContain("export FEDML_ENV_VERSION='local'\n");
  expect(stdout).not.toContain("global_services");
  expect((await env({ PYTHON_DOTENV_DISABLED: "1" })).stderr).not.toContain("global_services");
});

describe("what `start` prints first", () => {
  const started = {
    url: "http://127.0.0.1:7070",
    link: "http://127.0.0.1:7070/sign-in?code=1",
    dataDir: "/d",
  };

  test("names the way for FedML's scripts, to the folder that was named", () => {
    const line = (data?: string) => welcome({ ...started, servesFedml: true }, data).split("\n")[2];
    expect(line()).toBe('FedML: eval "$(binnacle fedml env)"');
    expect(line("/srv/binnacle")).toBe('FedML: eval "$(binnacle fedml env --data /srv/binnacle)"');
    expect(line("/a b/it's")).toBe(`FedML: eval "$(binnacle fedml env --data '/a b/it'\\''s')"`);
  });

  test("and nothing where they are not served", () =>
    expect(welcome({ ...started, servesFedml: false }, undefined)).not.toContain("FedML"));

  test("the line does what it says", async () => {
    const dataDir = mkdtempSync(join(home, "it's "));
    const main = join(import.meta.dirname, "../src/cli/main.ts");
    const collector = await startBinary({
      dataDir,
      program: [process.execPath, main],
      args: ["--no-hardware", "--data", dataDir],
    });
    const [, words] = /^FedML: (.+)$/m.exec(collector.output())!;
    const shell = `binnacle() { "${process.execPath}" "${main}" "$@"; }\n${words}\nenv`;
    const { stdout } = await runCli(["-c", shell], { program: ["bash"], env: { HOME: home } });
    await collector.stop();
    expect(stdout).toContain(
      `FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST=${new URL(collector.url).host}/fedml/`,
    );
  });
});
