/** Each guarantee that nothing is lost and nothing comes twice is turned off, and a test must tell. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { mutants, type Mutant } from "./helpers/mutants.ts";
import { noStrace } from "./helpers/strace.ts";

const LONG = process.env.LONG !== undefined;

/** Which test of which file is red with it. */
const found: [mutant: Mutant, file: string, name: string][] = [
  ["no AUTOINCREMENT", "store-libsql", "a seq is never used again"],
  [
    "the platform's cursor is committed before the entries",
    "source-atomic",
    "where an entry can't be stored the cursor does not count it either",
  ],
  [
    "the platform's cursor is committed after the entries",
    "source-atomic",
    "entries and the cursor that counts them are written in one transaction",
  ],
  ["a client is answered before COMMIT", "answer-commit", "a client's answer comes after COMMIT"],
  ["a platform answers before COMMIT", "answer-commit", "a platform's answer comes after COMMIT"],
  ["the local cursor is trusted", "relay-kill", "a platform that is set back"],
];
/**
 * By kills at random moments: they take two minutes each. (A cursor that is written after the entries is not among them: what comes again
 * is then known by its numbers.)
 */
const foundByKills: Mutant[] = [
  "the platform's cursor is committed before the entries",
  "a client is answered before COMMIT",
];
if (LONG) {
  found.push(["files are not looked for again", "relay-kill", "a platform that is set back"]);
  if (!noStrace)
    found.push(["what found no room counts as stored", "relay-faults", "an fsync, a write or a rename"]);
  for (const mutant of foundByKills) found.push([mutant, "relay-kill", "kills of either side"]);
}

function run(file: string, name: string, env: Record<string, string> = {}) {
  const preload = env["MUTANT"] === undefined ? [] : ["--preload", "./test/helpers/mutate.ts"];
  const words = ["--timeout=30000", `./test/${file}.test.ts`, "--test-name-pattern", name];
  return spawnSync(process.execPath, ["test", ...preload, ...words], {
    cwd: join(import.meta.dirname, ".."),
    env: { ...process.env, KILLS: "60", FAULT_MINUTES: "4", ...env },
    encoding: "utf8",
  });
}

test("what a mutant changes is in its file: those that only the long tests run get stale unseen", () => {
  const missing = Object.entries<readonly { file: string; from: string }[]>(mutants).flatMap(
    ([name, changes]) =>
      changes
        .filter(
          ({ file, from }) => !readFileSync(join(import.meta.dirname, "../src", file), "utf8").includes(from),
        )
        .map(({ file }) => `${name}: ${file}`),
  );
  expect(missing).toEqual([]);
});

test.each(found.filter(([, file]) => file !== "relay-kill" && file !== "relay-faults"))(
  "%s: without it %s, %s, is green",
  (_, file, name) => {
    const { status, stderr } = run(file, name);
    expect(status, stderr).toBe(0);
  },
  60_000,
);

test.each(found)(
  "%s: found by %s, %s",
  (mutant, file, name) => {
    const { status, stdout, stderr } = run(file, name, { MUTANT: mutant });
    const output = stdout + stderr;
    expect(output).toMatch(/^MUTATED /m);
    // For no other reason than what it expects.
    expect(output).not.toMatch(/MUTANT: |SyntaxError|Could not resolve/);
    expect(output).toMatch(new RegExp(`^\\(fail\\) .*${name}`, "m"));
    expect(status).toBe(1);
  },
  600_000,
);
