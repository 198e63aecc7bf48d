import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { commands } from "../src/cli/main.ts";
import {
  binaryPath,
  loudly,
  remove,
  startBinary,
  temporaryFolder,
  type RunningBinary,
} from "./helpers/binary.ts";

const root = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/data/README.md"].concat(
  readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
);

const noCurl = Bun.which("curl") === null && loudly("the tour's curl commands: this machine has no curl");
const ACC = [0.1, 0.11, 0.2, 0.3, 0.31, 0.32, 0.34];

describe("the tour", () => {
  const tour = /^## A five-minute tour$([\s\S]*?)^## /m.exec(read("README.md"))![1]!;
  const blocks = [...tour.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block!);
  const dataDir = temporaryFolder();
  let collector: RunningBinary;

  beforeAll(async () => {
    binaryPath();
    collector = await startBinary({ dataDir, cwd: root });
  }, 180_000);
  afterAll(async () => {
    await collector.stop();
    remove(dataDir);
  });

  test("works as it is written, command by command", async () => {
    const [first, ...rest] = blocks;
    // What `npm start` does on a fresh checkout is a test of its own; here it has just started, on another port.
    expect(first).toBe("npm start\n");
    let script = rest.join("\n").replaceAll("http://127.0.0.1:7070", collector.url);
    expect(script).toContain(collector.url);
    if (noCurl) script = script.replaceAll(/^curl .*$/gm, "");
    const shell = Bun.spawn(
      ["bash", "-euo", "pipefail", "-c", `trap 'echo "at: $BASH_COMMAND" >&2' ERR\n${script}`],
      {
        cwd: root,
        env: { PATH: process.env["PATH"]!, HOME: dataDir, BINNACLE_DATA: dataDir },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      },
    );
    const [out, err, exit] = await Promise.all([
      new Response(shell.stdout).text(),
      new Response(shell.stderr).text(),
      shell.exited,
    ]);
    expect({ exit, err: exit === 0 ? "" : err }).toEqual({ exit: 0, err: "" });

    // The documented example: the seven records of acc, in the order they were logged.
    const printed = /\{[^{}]*"metric": *"acc"[^{}]*\}/.exec(out)![0];
    expect(JSON.parse(printed).points.map(([, y]: [number, number]) => y)).toEqual(ACC);
    expect(out).toContain("by hand");
    if (!noCurl) expect(out).toContain('"status":"ok"');
    expect(await collector.process.exited).toBe(0);
  }, 120_000);
});

describe("the documents", () => {
  for (const page of pages)
    test(`${page} cites only files that exist`, () => {
      const text = read(page);
      const links = [...text.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)]
        .map(([, link]) => link!)
        .filter((link) => !/^[a-z]+:/.test(link))
        .map((link) => resolve(root, dirname(page), link));
      const cited = [...text.matchAll(/`((?:src|test|migrations|examples|docs|\.ci)\/[^`\s<>…*{}]*)`/g)].map(
        ([, path]) => join(root, path!),
      );
      for (const path of [...links, ...cited])
        expect({ path, exists: existsSync(path) }).toEqual({ path, exists: true });
    });

  test("name only commands that exist", () => {
    const names = Object.keys(commands);
    // `binnacle model` speaks of all commands that begin so.
    const isKnown = (words: string, first: string) =>
      names.includes(words) || names.includes(first) || names.some((name) => name.startsWith(`${words} `));
    for (const page of pages)
      for (const [, words] of read(page).matchAll(
        /(?:\.\/dist\/binnacle|`binnacle) ([a-z]+(?: [a-z]+(?:-[a-z]+)*)?)/g,
      )) {
        const [first] = words!.split(" ");
        expect({ page, words, known: isKnown(words!, first!) }).toEqual({
          page,
          words,
          known: true,
        });
      }
  });

  test("name every flag of start, and every variable", () => {
    const readme = read("README.md");
    const { stdout } = Bun.spawnSync([binaryPath(), "start", "--help"]);
    for (const [, flag] of stdout.toString().matchAll(/^ +(?:-\w, )?(--[a-z-]+)/gm))
      if (flag !== "--help") expect(readme).toContain(`\`${flag}\``);
  });
});
