/**
 * `npm test`: set-up, checks, then every test file in a process of its own, some at a time. One process for all
 * would end in libSQL's finalizers (oven-sh/bun #41655), and a crash must cost its own file only.
 * A file that says `// runs alone` measures time, so nothing runs beside it.
 * `--long` asks for the full counts of kills and seeds, `--offline` leaves out what needs a network; other words
 * select files by name.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { ensureTools } from "./tools.mjs";
import { ensureBinary, root, say, setup, SetupError } from "./setup.mjs";

const words = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const long = process.argv.includes("--long");
const offline = process.argv.includes("--offline");
/** Half of what a test file does is wait, so two keep a processor busy. No more than four: a container may see more processors than it has. */
const LANES = Math.min(4, 2 * availableParallelism());
/**
 * They take longest, so they begin first: at the end all others would wait for them. Those that wait stand between
 * those that compute.
 */
const longest = [
  "relay-simulation",
  "kill",
  "relay-kill",
  "relay-kill-binary",
  "run-network",
  "browser-hardware",
  "python-offline",
  "relay-faults",
  "kill-files",
  "api-server",
  "archive-large",
  "gpu-reader",
  "python-artifact-transfer",
  "browser-devices",
  "launch-collector",
  "relay-mutants",
  "dist-build",
].map((name) => `${name}.test.ts`);
/** What a plain `npm test` may take: who has to wait longer runs it less often. */
const LIMIT_S = Number(process.env.TEST_LIMIT_S ?? 600);
const count = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
const took = [];
const running = new Set();
// Test files run in groups of their own, which a terminal's Ctrl-C does not reach.
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => {
    for (const kill of running) kill();
    process.exit(130);
  });

/** Runs to the end or to the limit; what it printed is shown only if it failed. */
function execute(command, args, { env, limit }) {
  return new Promise((resolve) => {
    const began = Date.now();
    const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    const output = [];
    child.stdout.on("data", (chunk) => output.push(chunk));
    child.stderr.on("data", (chunk) => output.push(chunk));
    let late = false;
    // The whole group: a test's servers go with it, also those it forgot.
    const kill = () => {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // All of it has ended.
      }
    };
    running.add(kill);
    const timer = setTimeout(() => {
      late = true;
      kill();
    }, limit);
    const end = (status) => {
      clearTimeout(timer);
      if (child.pid !== undefined) kill();
      running.delete(kill);
      resolve({
        status: late ? `no end after ${limit / 1000} s` : status,
        output: Buffer.concat(output).toString(),
        seconds: (Date.now() - began) / 1000,
      });
    };
    child.on("error", (error) => end(String(error)));
    // "exit", not "close": a server that a test left behind holds the pipes open.
    child.on("exit", (code, signal) => setTimeout(end, 50, code ?? signal));
  });
}

function report(name, { status, output, seconds }, { passed, failed, skipped, skippedNames = [] }) {
  // A process that ends badly without a failing test has crashed, and counts as one failure.
  const broken = failed > 0 || status !== 0;
  count.passed += passed;
  count.failed += broken ? Math.max(1, failed) : 0;
  count.skipped += skipped;
  took.push({ name, seconds });
  const parts = [`${passed} passed`];
  if (failed > 0) parts.push(`${failed} failed`);
  if (skipped > 0) parts.push(`${skipped} skipped`);
  if (failed === 0 && broken) parts.push(`ended with ${status}`);
  say(`${broken ? "✗" : "✓"} ${name}: ${parts.join(", ")} (${seconds.toFixed(1)} s)`);
  // Why, where the test says so, and which.
  for (const [line] of output.matchAll(/^\*\*\* SKIPPED.*$/gm)) say(`  ${line}`);
  for (const skippedName of skippedNames) say(`  skipped: ${skippedName}`);
  if (!broken) return;
  failures.push(name);
  say(output.trimEnd());
}

/** A check of `verify` counts as one test. */
async function check(bun, script, env) {
  const result = await execute(bun, ["run", script], { env, limit: 120_000 });
  report(
    script,
    result,
    result.status === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 },
  );
}

/** Counts from bun's own report, not from its prose. */
function counts(file) {
  if (!existsSync(file)) return { passed: 0, failed: 0, skipped: 0 };
  const report = readFileSync(file, "utf8");
  const head = /<testsuites ([^>]*)>/.exec(report)?.[1] ?? "";
  const attribute = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  const failed = attribute("failures") + attribute("errors");
  const passed = attribute("tests") - failed - attribute("skipped");
  // The hooks of a skipped group stand there as tests without a name.
  const skippedNames = [...report.matchAll(/<testcase name="([^"]*)"[^>]*>\s*<skipped/g)]
    .map(([, name]) => name.replaceAll("&quot;", '"').replaceAll("&apos;", "'").replaceAll("&amp;", "&"))
    .filter((name) => name !== "(unnamed)");
  return { passed, failed, skipped: skippedNames.length, skippedNames };
}

const rank = (name) => (longest.includes(name) ? longest.indexOf(name) : longest.length);

async function testFile(bun, name, env, folder) {
  const outfile = join(folder, `${name}.xml`);
  // A folder of its own for temporary files, removed with what the test forgot there.
  const temporary = mkdtempSync(join(folder, "tmp-"));
  // Bun's five seconds a test are few where files share the cores with whatever else this machine does.
  const args = [
    "test",
    `./test/${name}`,
    "--timeout=30000",
    "--reporter=junit",
    `--reporter-outfile=${outfile}`,
  ];
  const result = await execute(bun, args, {
    env: { ...env, TMPDIR: temporary },
    limit: long ? 3_600_000 : 300_000,
  });
  report(name, result, counts(outfile));
  rmSync(temporary, { recursive: true, force: true });
}

/** What needs no network, while the tools are downloaded. */
async function checkAndBuild(bun, env) {
  spawnSync(bun, ["run", "generate"], { cwd: root, env, stdio: "inherit" });
  if (words.length === 0)
    for (const script of ["format:check", "lint", "typecheck"]) await check(bun, script, env);
  // Without a binary the tests that need none still have something to say.
  await ensureBinary(bun).catch((error) => fail("build", error));
}

async function main() {
  const bun = await setup();
  const env = {
    ...process.env,
    PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env.PATH ?? ""}`,
    ...(long ? { LONG: "1", KILLS: "200", RUNS: "500" } : {}),
    ...(offline ? { OFFLINE: "1" } : {}),
  };
  // Whoever runs the tests may be using binnacle: their collector must not receive ours.
  for (const name of Object.keys(env)) if (name.startsWith("BINNACLE_")) delete env[name];

  const [chromium] = await Promise.all([ensureTools({ install: !offline }), checkAndBuild(bun, env)]);
  if (chromium !== undefined) env.CHROMIUM = chromium;

  const folder = mkdtempSync(join(tmpdir(), "binnacle-test-"));
  const files = readdirSync(join(root, "test"))
    .filter(
      (name) =>
        name.endsWith(".test.ts") && (words.length === 0 || words.some((word) => name.includes(word))),
    )
    .sort();
  if (files.length === 0) throw new SetupError(`No test file is named like ${words.join(" ")}.`);
  const alone = files.filter((name) =>
    /^\/\/ runs alone/m.test(readFileSync(join(root, "test", name), "utf8")),
  );
  const queue = files.filter((name) => !alone.includes(name)).sort((a, b) => rank(a) - rank(b));
  const work = async () => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift())
      await testFile(bun, name, env, folder);
  };
  await Promise.all(Array.from({ length: LANES }, work));
  for (const name of alone) await testFile(bun, name, env, folder);
  rmSync(folder, { recursive: true, force: true });
}

function fail(name, error) {
  count.failed += 1;
  failures.push(name);
  say(error instanceof SetupError ? error.message : String(error?.stack ?? error));
}

await main().catch((error) => fail("set-up", error));

const total = process.uptime();
const slowest = took.sort((a, b) => b.seconds - a.seconds).slice(0, 5);
say(`\nslowest: ${slowest.map(({ name, seconds }) => `${name} ${seconds.toFixed(0)} s`).join(", ")}`);
say(`took ${Math.floor(total / 60)} min ${Math.floor(total % 60)} s`);
if (total > LIMIT_S && !long && words.length === 0)
  say(`*** TOO LONG: a plain \`npm test\` is to end within ${LIMIT_S} s ***`);
if (count.skipped > 0) say(`${count.skipped} skipped: see SKIPPED above for what they need`);
if (failures.length > 0) say(`failed: ${failures.toSorted().join(", ")}`);
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exitCode = count.failed > 0 ? 1 : 0;
