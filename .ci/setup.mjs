/**
 * Brings a fresh checkout (git, Node and npm, nothing else) to where it can build and test. Each step looks
 * first at what is there, so a second run is quick. Plain Node, since Bun is one of the things it fetches.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");
export const binary = join(root, "dist/binnacle");
const cache = join(root, "node_modules/.cache");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

export const say = (text) => process.stderr.write(`${text}\n`);

/** A step that could not be done; its message is all the person needs. */
export class SetupError extends Error {}

/**
 * Runs a command and shows that it is alive: its own output on a terminal, else a line every ten seconds.
 * The whole output is shown when it fails.
 */
export async function step(label, command, args, options = {}) {
  say(`• ${label}`);
  const live = process.stderr.isTTY === true;
  const child = spawn(command, args, {
    cwd: root,
    env: environment(),
    ...options,
    stdio: ["ignore", live ? 2 : "pipe", live ? 2 : "pipe"],
  });
  const output = [];
  child.stdout?.on("data", (chunk) => output.push(chunk));
  child.stderr?.on("data", (chunk) => output.push(chunk));
  const began = Date.now();
  const clock = setInterval(() => {
    if (!live) say(`  … ${Math.round((Date.now() - began) / 1000)} s`);
  }, 10_000);
  const status = await new Promise((resolve) => {
    child.on("error", (error) => {
      output.push(Buffer.from(String(error)));
      resolve(127);
    });
    child.on("close", (code, signal) => resolve(code ?? signal));
  });
  clearInterval(clock);
  if (status === 0) return;
  process.stderr.write(Buffer.concat(output));
  throw new SetupError(`${label}: failed (${command} ended with ${status})`);
}

function writable(folder) {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** npm and Bun keep their caches under HOME; where that can't be written, they go beside the modules. */
function environment() {
  const env = {
    ...process.env,
    PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env.PATH ?? ""}`,
  };
  if (writable(homedir())) return env;
  // npm hands its own setting, which is under HOME, down to the scripts it runs.
  return { ...env, npm_config_cache: join(cache, "npm"), BUN_INSTALL_CACHE_DIR: join(cache, "bun-install") };
}

/** What `@oven/bun-…` is called for this machine. */
function platformOfBun() {
  const arch = { x64: "x64", arm64: "aarch64" }[process.arch];
  if (arch === undefined || !["linux", "darwin"].includes(process.platform))
    throw new SetupError(
      `binnacle builds on Linux and macOS, x64 and arm64; this is ${process.platform} ${process.arch}.`,
    );
  const musl = process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime;
  return `${process.platform}-${arch}${musl ? "-musl" : ""}`;
}

function answersWith(bun, version) {
  return existsSync(bun) && spawnSync(bun, ["--version"], { encoding: "utf8" }).stdout?.trim() === version;
}

/** The Bun that package.json pins, from the npm registry, its digest held against bun.lock. */
export async function ensureBun() {
  const version = manifest.devDependencies.bun;
  const installed = join(root, "node_modules/.bin/bun");
  if (answersWith(installed, version)) return installed;
  const name = `@oven/bun-${platformOfBun()}`;
  const prefix = join(cache, `bun-${version}`);
  const fetched = join(prefix, "node_modules", name, "bin/bun");
  if (answersWith(fetched, version)) return fetched;
  rmSync(prefix, { recursive: true, force: true });
  mkdirSync(prefix, { recursive: true });
  // The `bun` package is a placeholder that a script fills in; the platform's own package holds the program itself.
  await step(`Getting Bun ${version} (about 40 MB)`, "npm", [
    "install",
    "--prefix",
    prefix,
    "--no-save",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    `${name}@${version}`,
  ]);
  const lock = readFileSync(join(root, "bun.lock"), "utf8");
  const tree = JSON.parse(readFileSync(join(prefix, "node_modules/.package-lock.json"), "utf8"));
  if (!lock.includes(`"${tree.packages[`node_modules/${name}`]?.integrity}"`)) {
    rmSync(prefix, { recursive: true, force: true });
    throw new SetupError(`${name}@${version} from the registry is not the one bun.lock names.`);
  }
  if (!answersWith(fetched, version)) throw new SetupError(`${fetched} does not run on this machine.`);
  return fetched;
}

/** The locked dependencies; skipped while neither the lock nor the manifest has changed. */
export async function ensureDependencies(bun) {
  const stamp = join(root, "node_modules/.installed");
  const wanted = digestOf(["package.json", "bun.lock"]);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  await step("Installing the locked dependencies", bun, ["install", "--frozen-lockfile"]);
  writeFileSync(stamp, wanted);
}

/** Builds dist/binnacle unless it was built from exactly these sources. */
export async function ensureBinary(bun) {
  const stamp = join(root, "dist/.built");
  const sources = digestOf(["src", "migrations", "package.json", "bun.lock", "tsconfig.json"]);
  const built = () => `${sources} ${statSync(binary).mtimeMs}`;
  if (existsSync(stamp) && existsSync(binary) && readFileSync(stamp, "utf8") === built()) return;
  await step("Building dist/binnacle", bun, ["run", "build"]);
  writeFileSync(stamp, built());
}

export async function setup() {
  const bun = await ensureBun();
  await ensureDependencies(bun);
  return bun;
}

function digestOf(paths) {
  const hash = createHash("sha256").update(`${process.platform} ${process.arch}`);
  const visit = (path) => {
    if (path === "src/generated.ts" || path.endsWith("__pycache__")) return;
    const full = join(root, path);
    if (statSync(full).isDirectory()) for (const name of readdirSync(full).sort()) visit(`${path}/${name}`);
    else hash.update(`\0${path}\0`).update(readFileSync(full));
  };
  paths.forEach(visit);
  return hash.digest("hex");
}

/** Called as a program, it leaves an up-to-date dist/binnacle behind. */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await ensureBinary(await setup());
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(error.message);
    process.exitCode = 1;
  }
}
