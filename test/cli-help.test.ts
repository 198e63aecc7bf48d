import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { commands } from "../src/cli/main.ts";
import { helpText } from "../src/cli/command.ts";
import { runCli } from "./helpers/cli.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(30_000);

test("--help prints every command", async () => {
  expect((await runCli(["--help"])).stdout).toMatchSnapshot();
});

for (const name of Object.keys(commands))
  test(`${name} --help`, async () => {
    const { command } = await commands[name]!.load();
    expect(command.name).toBe(name);
    expect(helpText(command)).toMatchSnapshot();
  });

/** They run until they are ended, or print a script for a shell. */
const WITHOUT_JSON = ["start", "launch", "completion"];

test("every command has --json and a word on what it prints, but those that say why not", async () => {
  const loaded = await Promise.all(Object.values(commands).map(({ load }) => load()));
  const without = loaded.filter(({ command }) => command.flags["json"] === undefined);
  expect(without.map(({ command }) => command.name).toSorted()).toEqual(WITHOUT_JSON.toSorted());
  const docs = await Bun.file(join(import.meta.dirname, "../docs/cli-json.md")).text();
  expect(docs).toContain("`start`, `launch` and `completion` have no `--json`");
  const isSaid = (name: string) =>
    WITHOUT_JSON.includes(name) ||
    new RegExp(`${name.replace(/^artifact /, "model ")}\\b.*--json`).test(docs);
  expect(Object.keys(commands).filter((name) => !isSaid(name))).toEqual([]);
});

test("--help, -h and help say the same of a command", async () => {
  const texts = await Promise.all(
    [
      ["run", "list", "--help"],
      ["run", "list", "-h"],
      ["help", "run", "list"],
    ].map(async (args) => (await runCli(args)).stdout),
  );
  expect(texts[0]).toStartWith("List runs, newest first.\n");
  expect(new Set(texts).size).toBe(1);
});

for (const [shell, check] of [
  ["bash", ["bash", "-n"]],
  ["zsh", ["zsh", "-n"]],
  ["fish", ["fish", "-n"]],
] as const)
  test.skipIf(Bun.which(check[0]) === null)(`the completions for ${shell} are a valid script`, async () => {
    const { stdout } = await runCli(["completion", shell]);
    const file = `${await import("node:os").then((os) => os.tmpdir())}/binnacle-completion-${process.pid}.${shell}`;
    await Bun.write(file, stdout);
    const { code, stderr } = await runCli([...check.slice(1), file], { program: [check[0]] });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    await Bun.file(file).delete();
  });

test.skipIf(Bun.which("bash") === null)("bash completes commands, subcommands and flags", async () => {
  const { stdout: script } = await runCli(["completion", "bash"]);
  const complete = async (...words: string[]) => {
    const set = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _binnacle; echo "\${COMPREPLY[*]}"`;
    return (await runCli(["-c", `${script}\n${set}`], { program: ["bash"] })).stdout.trim();
  };
  expect(await complete("binnacle", "ver")).toBe("version");
  expect(await complete("binnacle", "run", "st")).toBe("status stop");
  expect(await complete("binnacle", "run", "logs", "--fo")).toBe("--follow");
  expect(await complete("binnacle", "metrics", "--po")).toBe("--points");
  expect(await complete("binnacle", "model", "")).toBe("list put get alias rm");
  expect(await complete("binnacle", "artifact", "put", "--me")).toBe("--metadata");
});
