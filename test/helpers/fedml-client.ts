import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createKeys } from "../../src/fedml/keys.ts";
import { createTokens } from "../../src/token.ts";
import { clientEnvironment, findPython, folderFor, pythonOf, versions } from "../fedml-client/install.mjs";
import { loudly, offline } from "./binary.ts";
import { runCli } from "./cli.ts";

const scripts = join(import.meta.dirname, "../fedml-client");

/** The unmodified client of PyPI, in one version. */
export interface FedmlClient {
  version: string;
  folder: string;
}

const installed = await findFolder();
/** Without it the tests are skipped; it was said loudly why. */
export const available = installed !== undefined;
export const clients: FedmlClient[] = versions.map((version) => ({ version, folder: installed ?? "" }));

async function findFolder(): Promise<string | undefined> {
  const found = findPython();
  const folder = found && folderFor(found.version);
  if (folder !== undefined && existsSync(folder)) return folder;
  if (offline) return missing("the FedML client is not installed, and this run needs no network");
  process.stderr.write("Installing the FedML client from PyPI (25 MB) …\n");
  const child = Bun.spawn(["node", join(scripts, "install.mjs")], { stdout: "pipe", stderr: "pipe" });
  const [path, reason] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (path !== "") return path.trim();
  return missing(`no FedML client from PyPI: ${reason.trim().split("\n").at(-1)}`);
}

function missing(reason: string): undefined {
  loudly(reason);
}

export interface FedmlServer {
  url: string;
  token: string;
}

/** What sends a client to this server, for one run. */
export function fedmlEnvironment({ url, token }: FedmlServer, run: string): Record<string, string> {
  const secret = createKeys(() => createTokens(token)).secretOf({ run });
  return {
    FEDML_ENV_VERSION: "local",
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST: `${new URL(url).host}/fedml/${secret}`,
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT: "80",
    FEDML_CURRENT_RUN_ID: run,
    FEDML_CURRENT_EDGE_ID: "1",
    FEDML_CURRENT_VERSION: "local",
    FEDML_USING_MLOPS: "true",
  };
}

/** The same, as a person gets it: what `binnacle fedml env` prints, read by a shell. */
export async function fedmlEnvironmentOfCli(
  { url, token }: FedmlServer,
  run: string,
): Promise<Record<string, string>> {
  const env = { BINNACLE_URL: url, BINNACLE_TOKEN: token };
  const { code, stdout, stderr } = await runCli(["fedml", "env", "-rid", run], { env });
  if (code !== 0) throw new Error(`binnacle fedml env: ${code} ${stderr}`);
  const shell = Bun.spawnSync(["env", "-i", "sh", "-c", `eval "$1" && exec /usr/bin/env`, "sh", stdout]);
  const lines = shell.stdout.toString().split("\n");
  return Object.fromEntries(
    lines
      .filter((line) => line.startsWith("FEDML_"))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}

export interface ScriptOptions {
  args?: string[];
  env: Record<string, string>;
}

export interface ScriptResult {
  out: string;
  err: string;
  /** Its HOME and working folder; gone when the test ends. */
  home: string;
}

/** Runs a script of test/fedml-client with this client, to its end, which must be a good one. */
export async function runScript(
  { version, folder }: FedmlClient,
  script: string,
  { args = [], env }: ScriptOptions,
): Promise<ScriptResult> {
  const home = mkdtempSync(join(tmpdir(), "binnacle-fedml-"));
  const child = Bun.spawn([pythonOf(folder), join(scripts, script), ...args], {
    cwd: home,
    env: { ...clientEnvironment(folder, version, home), ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${script} with fedml ${version}: ${code}\n${out}\n${err}`);
  return { out, err, home };
}

/** The zip that the client has made of an artifact and sent. */
export const zipOf = (home: string, name: string, type: string): string =>
  join(home, ".fedml/fedml-client/artifacts", `${name}_${type}.zip`);

export function removeHomes(): void {
  for (const name of readdirSync(tmpdir()))
    if (name.startsWith("binnacle-fedml-")) rmSync(join(tmpdir(), name), { recursive: true, force: true });
}

/** Asks until it says what is wanted: what a client sends with its last breath is stored after its end. */
export async function eventually<T>(read: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> {
  const end = Date.now() + 15_000;
  for (;;) {
    const value = await read().catch((error: unknown) => error as T);
    if ((!(value instanceof Error) && isDone(value)) || Date.now() > end) return value;
    await Bun.sleep(50);
  }
}
