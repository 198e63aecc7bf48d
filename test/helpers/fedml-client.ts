import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clientEnvironment, findPython, folderFor, pythonOf, versions } from "../fedml-client/install.mjs";
import { loudly, offline } from "./binary.ts";

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
