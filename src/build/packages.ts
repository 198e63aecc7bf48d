import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const cache = join(root, "node_modules/.cache/packages");

const folders = new Map<string, Promise<string>>();

/** Where the locked version of a package lies, fetched if it is one for another platform. */
export function packageFolder(name: string): Promise<string> {
  let folder = folders.get(name);
  // Two builds that want the same one at once fetch it once.
  if (folder === undefined) folders.set(name, (folder = findOrFetch(name)));
  return folder;
}

async function findOrFetch(name: string): Promise<string> {
  const { version, integrity } = locked(name);
  const installed = join(root, "node_modules", name);
  if (existsSync(join(installed, "package.json")) && !isEmptied(installed)) return installed;
  const folder = join(cache, `${name.replace("/", "-")}-${version}`);
  if (existsSync(folder)) return folder;

  mkdirSync(cache, { recursive: true });
  const temporary = mkdtempSync(join(cache, "fetch-"));
  try {
    console.error(`  getting ${name}@${version}`);
    await execute("npm", ["pack", "--silent", "--pack-destination", temporary, `${name}@${version}`]);
    const tarball = join(temporary, readdirSync(temporary)[0] ?? "");
    const digest = `sha512-${createHash("sha512").update(readFileSync(tarball)).digest("base64")}`;
    if (digest !== integrity)
      throw new Error(`${name}@${version} from the registry is not the one bun.lock names`);
    await execute("tar", ["-xzf", tarball, "-C", temporary]);
    renameSync(join(temporary, "package"), folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return folder;
}

/** The `bun` package's install script moves the program out of the platform's own package. */
const isEmptied = (folder: string) =>
  existsSync(join(folder, "bin")) && readdirSync(join(folder, "bin")).length === 0;

function locked(name: string): { version: string; integrity: string } {
  const lock = readFileSync(join(root, "bun.lock"), "utf8");
  const escaped = name.replace("/", "\\/");
  const line = new RegExp(`"${escaped}": \\["${escaped}@([^"]+)".*"(sha512-[^"]+)"\\]`).exec(lock);
  if (line?.[1] === undefined || line[2] === undefined) throw new Error(`bun.lock does not name ${name}`);
  return { version: line[1], integrity: line[2] };
}

async function execute(command: string, args: string[]): Promise<void> {
  const child = Bun.spawn([command, ...args], { stdout: "ignore", stderr: "pipe" });
  const [exitCode, stderr] = await Promise.all([child.exited, new Response(child.stderr).text()]);
  if (exitCode !== 0) throw new Error(`${command} ${args.join(" ")}: ${stderr}`);
}
