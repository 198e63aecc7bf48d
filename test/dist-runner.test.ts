import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { remove, temporaryFolder } from "./helpers/binary.ts";

const root = join(import.meta.dirname, "..");

/** A small project around the real .ci/: `npm test` has to say what these files do, no more and no less. */
const files: Record<string, string> = {
  "passes.test.ts": `test("a", () => {}); test("b", () => {}); test.skip("c", () => {});`,
  "fails.test.ts": `test("d", () => {}); test("e", () => { throw new Error("as it should"); });`,
  "crashes.test.ts": `test("f", () => {}); test("g", () => process.kill(process.pid, "SIGKILL"));`,
  "crashes-late.test.ts": `test("h", () => {}); afterAll(() => process.kill(process.pid, "SIGKILL"));`,
  "throws.test.ts": `throw new Error("before any test");`,
  "alone.test.ts": `// runs alone: to see that such files run at all\ntest("i", () => {});`,
};

const project = temporaryFolder("binnacle runner ");
afterAll(() => remove(project));

beforeAll(() => {
  cpSync(join(root, ".ci"), join(project, ".ci"), { recursive: true });
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const scripts = {
    generate: "true",
    build: "mkdir -p dist && touch dist/binnacle",
    lint: "true",
    typecheck: "false",
  };
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({ ...manifest, scripts: { ...manifest.scripts, ...scripts, "format:check": "true" } }),
  );
  for (const name of ["bun.lock", "tsconfig.json"]) cpSync(join(root, name), join(project, name));
  for (const name of ["src", "migrations", "test", "node_modules"]) mkdirSync(join(project, name));
  for (const name of [".bin", "playwright-core", "bun"])
    symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name));
  // What the set-up leaves behind once the dependencies are there.
  const installed = createHash("sha256").update(`${process.platform} ${process.arch}`);
  for (const name of ["package.json", "bun.lock"])
    installed.update(`\0${name}\0`).update(readFileSync(join(project, name)));
  writeFileSync(join(project, "node_modules/.installed"), installed.digest("hex"));
  for (const [name, text] of Object.entries(files))
    writeFileSync(join(project, "test", name), `import { afterAll, test } from "bun:test";\n${text}\n`);
});

const lastLine = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trimEnd().split("\n").at(-1);

test("npm test counts what passed and failed; a check or a process that breaks is a failure", () => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(["npm", "test", "--", "--offline"], {
    cwd: project,
    env: { ...process.env, TEST_LIMIT_S: "0.1" },
  });
  // Checks: format, lint. Tests: a, b, d, i; f and h went down with their processes.
  expect(lastLine(stdout)).toBe("6 passed, 5 failed");
  expect(stderr.toString()).toContain(
    "failed: crashes-late.test.ts, crashes.test.ts, fails.test.ts, throws.test.ts, typecheck",
  );
  expect(stderr.toString()).toContain("1 skipped");
  expect(stderr.toString()).toContain("as it should");
  expect(stderr.toString()).toMatch(/^took \d+ min \d+ s$/m);
  expect(stderr.toString()).toContain("*** TOO LONG");
  expect(exitCode).not.toBe(0);
});

test(".ci/run closes with the count, red and green", () => {
  const red = Bun.spawnSync([join(project, ".ci/run"), "--offline", "passes", "fails"], { cwd: "/" });
  expect(lastLine(red.stdout)).toBe("3 passed, 1 failed");
  expect(red.exitCode).toBe(1);
  const green = Bun.spawnSync([join(project, ".ci/run"), "--offline", "passes", "alone"], { cwd: "/" });
  expect(lastLine(green.stdout)).toBe("3 passed, 0 failed");
  expect(green.exitCode).toBe(0);
  expect(`${green.stdout}${green.stderr}`).toMatch(/^took \d+ min \d+ s$/m);
  expect(`${green.stdout}${green.stderr}`).not.toContain("TOO LONG");
});

test("a set-up that breaks is red, too", () => {
  const none = Bun.spawnSync([join(project, ".ci/run"), "--offline", "no-such-file"], { cwd: "/" });
  expect(lastLine(none.stdout)).toBe("0 passed, 1 failed");
  expect(none.exitCode).toBe(1);
});
