/**
 * What some tests need beside the packages: a Chromium, Prometheus and others to compare with, and in CI buildah. Installed
 * where that takes no password.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { root, say, step, SetupError } from "./setup.mjs";

/** Without windows it takes half the processor time. */
const SHELL = "chromium-headless-shell";
const names = [SHELL, "chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/** A package mirror that hangs must not take the tests' ten minutes. */
const LIMIT_MS = 180_000;

function onPath(...wanted) {
  for (const folder of (process.env.PATH ?? "").split(delimiter))
    for (const name of wanted) if (existsSync(join(folder, name))) return join(folder, name);
  return undefined;
}

/** Ubuntu's `chromium-browser` is a script that asks for a snap, so being there is not enough. */
const answers = (path) => spawnSync(path, ["--version"], { timeout: 20_000 }).status === 0;

function findChromium() {
  const { chromium } = createRequire(import.meta.url)(join(root, "node_modules/playwright-core"));
  const candidates = [process.env.CHROMIUM, ...names.map((name) => onPath(name)), chromium.executablePath()];
  return candidates.find((path) => path !== undefined && existsSync(path) && answers(path));
}

async function attempt(label, command, args, env = {}, options = {}) {
  try {
    await step(label, command, args, { env: { ...process.env, ...env }, timeout: LIMIT_MS, ...options });
    return true;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`  ${error.message}`);
    return false;
  }
}

/** Apart: where a distribution lacks one, it may have the other. */
async function install(groups) {
  const quiet = { DEBIAN_FRONTEND: "noninteractive" };
  const options = ["-y", "-qq", "--no-install-recommends"];
  await attempt("Updating Debian's list of packages", "apt-get", ["update", "-qq"], quiet);
  for (const packages of groups)
    await attempt(
      `Installing ${packages.join(", ")}`,
      "apt-get",
      ["install", ...options, ...packages],
      quiet,
    );
}

/** Programs of Debian's that tests compare with or break things with, and the packages that have what they need. */
const debian = {
  promtool: ["prometheus"],
  prometheus: ["prometheus"],
  "prometheus-node-exporter": ["prometheus-node-exporter"],
  iostat: ["sysstat"],
  strace: ["strace", "libunwind8"],
};
const unpacked = join(root, "node_modules/.debian");

/**
 * Unpacked, not installed: that needs no root, and starts no service on a machine that is somebody's. What is missing
 * afterwards the tests say that need it.
 */
async function unpackDebian() {
  const missing = Object.keys(debian).filter(
    (name) => onPath(name) === undefined && !existsSync(join(unpacked, "usr/bin", name)),
  );
  if (missing.length === 0 || onPath("apt-get") === undefined || onPath("dpkg-deb") === undefined) return;
  const packages = [...new Set(missing.flatMap((name) => debian[name]))];
  mkdirSync(unpacked, { recursive: true });
  const folder = mkdtempSync(join(unpacked, "deb-"));
  const quiet = { DEBIAN_FRONTEND: "noninteractive" };
  const download = (label) =>
    attempt(label, "apt-get", ["download", "-qq", ...packages], quiet, { cwd: folder });
  const label = `Getting ${packages.join(", ")} from Debian (25 MB at the most)`;
  // An image without lists of packages has to be given some first, and only root may.
  if (!(await download(label)) && process.getuid?.() === 0) {
    await attempt("Updating Debian's list of packages", "apt-get", ["update", "-qq"], quiet);
    await download(label);
  }
  for (const name of readdirSync(folder))
    if (name.endsWith(".deb"))
      await attempt(`Unpacking ${name}`, "dpkg-deb", ["-x", join(folder, name), unpacked]);
  rmSync(folder, { recursive: true, force: true });
}

const python = join(root, "node_modules/.python");

/** Of PyPI's: reads Parquet in the place of those who will; its scalars are logged as they are. numpy's newest for Python 3.10. */
const pypi = { duckdb: "duckdb==2.0.0", numpy: "numpy==2.2.6" };

/** Into a folder of its own: nothing of the machine's Python is touched. One after the other, as one may be without the other. */
async function installPython() {
  if (onPath("python3") === undefined) return;
  const options = [
    "--quiet",
    "--disable-pip-version-check",
    "--root-user-action=ignore",
    "--only-binary=:all:",
  ];
  for (const [name, wanted] of Object.entries(pypi)) {
    if (existsSync(join(python, name))) continue;
    const args = ["-m", "pip", "install", ...options, "--target", python, wanted];
    await attempt(`Installing ${wanted} from PyPI (20 MB)`, "python3", args);
  }
}

/** Two versions of it, which track to the binary. Where that fails the tests say why, and are skipped. */
const installFedml = () =>
  attempt("Installing the FedML client from PyPI (25 MB)", process.execPath, [
    join(root, "test/fedml-client/install.mjs"),
  ]);

/** Path of a Chromium, or undefined after saying loudly what will be missing. */
export async function ensureTools({ install: mayInstall }) {
  if (!mayInstall) return findChromium() ?? missing();
  await Promise.all([unpackDebian(), installPython(), installFedml()]);
  const wanted = [];
  if (findChromium() === undefined || (process.env.CI && onPath(SHELL) === undefined))
    wanted.push([SHELL, "fonts-dejavu-core"]);
  if (process.env.CI && onPath("buildah") === undefined) wanted.push(["buildah"]);
  const canInstall = process.getuid?.() === 0 && onPath("apt-get") !== undefined;
  if (wanted.length > 0 && canInstall) await install(wanted);
  if (findChromium() === undefined)
    await attempt("Downloading Chromium (about 100 MB)", process.execPath, [
      join(root, "node_modules/playwright-core/cli.js"),
      "install",
      SHELL,
    ]);

  return findChromium() ?? missing();
}

function missing() {
  say("┌────────────────────────────────────────────────────────────────────────────────────────────┐");
  say("│ NO CHROMIUM: browser tests will be SKIPPED. Debian: apt install chromium-headless-shell    │");
  say("│ or name it: CHROMIUM=/path/to/chromium npm test                                            │");
  say("└────────────────────────────────────────────────────────────────────────────────────────────┘");
  return undefined;
}
