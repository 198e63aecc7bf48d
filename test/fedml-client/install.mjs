/**
 * Puts the unmodified FedML client, two versions of it, and what it needs to track into a folder below node_modules, once.
 * Nothing of the machine's Python is touched. Prints the folder; says on stderr why where that can't be done, and exits 1.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const parent = join(here, "../../node_modules/.fedml");
export const versions = ["0.8.30", "0.9.6"];

/** What a process of the client gets beside a collector's variables. */
export function clientEnvironment(folder, version, home) {
  const here = fileURLToPath(new URL("python", import.meta.url));
  return {
    PATH: process.env.PATH,
    HOME: home,
    PYTHONPATH: [here, join(folder, version), join(folder, "packages")].join(delimiter),
    PYTHONUNBUFFERED: "1",
    PYTHONWARNINGS: "ignore",
  };
}

export const pythonOf = (folder) => join(folder, "python/bin/python3");

/** The pins hold for Python 3.10 and later; the client has not been run on anything newer than 3.13. */
export function findPython() {
  const installed = (minor) => {
    const folder = join(homedir(), ".pyenv/versions");
    const { stdout } = spawnSync("ls", [folder], { encoding: "utf8" });
    return (stdout ?? "")
      .split("\n")
      .filter((name) => name.startsWith(`3.${minor}.`))
      .map((name) => join(folder, name, "bin/python3"));
  };
  const check = "import pip, sys; print('%d.%d' % sys.version_info[:2])";
  for (const python of ["python3", ...[11, 12, 10, 13].flatMap(installed)]) {
    const { status, stdout } = spawnSync(python, ["-c", check], { encoding: "utf8" });
    if (status === 0 && /^3\.1[0-3]$/.test(stdout.trim())) return { python, version: stdout.trim() };
  }
  return undefined;
}

const requirements = ["requirements.txt", ...versions.map((version) => `requirements-${version}.txt`)];

export function folderFor(pythonVersion) {
  const hash = createHash("sha256").update(`${pythonVersion} ${process.platform} ${process.arch}`);
  for (const name of requirements) hash.update(readFileSync(join(here, name)));
  return join(parent, hash.digest("hex").slice(0, 16));
}

function pip(python, args) {
  const options = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
  // A mirror that does not answer is given up soon: the tests are skipped then, not late.
  const patience = ["--retries=1", "--timeout=15"];
  const child = spawn(
    python,
    ["-m", "pip", "install", ...options, ...patience, "--no-deps", "--require-hashes", ...args],
    { stdio: ["ignore", 2, "pipe"] },
  );
  let said = "";
  child.stderr.on("data", (chunk) => (said += chunk));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve() : reject(new Error(said.trim()))));
  });
}

async function install() {
  const found = findPython();
  if (found === undefined) throw new Error("no Python 3.10 to 3.13 with pip");
  const folder = folderFor(found.version);
  if (existsSync(folder)) return folder;
  mkdirSync(parent, { recursive: true });
  const fresh = mkdtempSync(join(parent, "new-"));
  try {
    const installed = await Promise.allSettled(
      requirements.map((name) =>
        pip(found.python, [
          "--only-binary=:all:",
          // paho-mqtt 1 comes as source only.
          ...(name.includes("0.8.30") ? ["--no-binary=paho-mqtt"] : []),
          "--target",
          join(fresh, /-([\d.]+)\.txt$/.exec(name)?.[1] ?? "packages"),
          "-r",
          join(here, name),
        ]),
      ),
    );
    const failed = installed.find(({ status }) => status === "rejected");
    if (failed) throw failed.reason;
    // Packages of the machine's Python stay out of it: they would win over the empty modules.
    const venv = spawnSync(found.python, ["-m", "venv", "--without-pip", join(fresh, "python")]);
    if (venv.status !== 0) throw new Error(String(venv.stderr));
    renameSync(fresh, folder);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    // Another test file was quicker.
    if (!existsSync(folder)) throw error;
  }
  return folder;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  try {
    console.log(await install());
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
