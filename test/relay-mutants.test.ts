/** Each guarantee that nothing is lost and nothing comes twice is turned off, and a test must tell. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { Mutant } from "./helpers/mutants.ts";

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
  ["the local cursor is trusted", "relay-kill", "a platform that is set back"],
];
/** By kills at random moments alone: they take a minute each. */
const foundByKills: Mutant[] = [
  "the platform's cursor is committed before the entries",
  "the platform's cursor is committed after the entries",
  "a client is answered before COMMIT",
];
if (LONG) {
  found.push(["files are not looked for again", "relay-kill", "a platform that is set back"]);
  for (const mutant of foundByKills) found.push([mutant, "relay-kill", "kills of either side"]);
}

test.each(found)(
  "%s: found by %s, %s",
  (mutant, file, name) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [
        "test",
        "--preload",
        "./test/helpers/mutate.ts",
        "--timeout=30000",
        `./test/${file}.test.ts`,
        "--test-name-pattern",
        name,
      ],
      {
        cwd: join(import.meta.dirname, ".."),
        env: { ...process.env, MUTANT: mutant, KILLS: "30" },
        encoding: "utf8",
      },
    );
    const output = stdout + stderr;
    expect(output).toMatch(/^MUTATED /m);
    // For no other reason than what it expects.
    expect(output).not.toMatch(/MUTANT: |SyntaxError|Could not resolve/);
    expect(output).toMatch(new RegExp(`^\\(fail\\) .*${name}`, "m"));
    expect(status).toBe(1);
  },
  300_000,
);
