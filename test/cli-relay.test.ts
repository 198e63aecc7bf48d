import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Relay } from "../src/relay/schema.ts";
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";
import { makeFolder } from "./helpers/files.ts";
import { until } from "./helpers/relay.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(60_000);

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function server(options: Parameters<typeof startServer>[0] = {}): Promise<TestServer> {
  const at = await startServer({ ...options, args: ["--no-hardware", ...(options.args ?? [])] });
  closers.push(() => at.close());
  return at;
}

const platform = () => server({ args: ["--role", "platform"] });
const tokenOf = async (up: TestServer, name = "lab"): Promise<string> =>
  (await up.api("/api/v1/sources", { name })).token;
const tokenFile = (token: string): string => {
  const folder = makeFolder();
  closers.push(() => folder.remove());
  folder.write("token", `${token}\n`);
  return join(folder.path, "token");
};
const upToDate = (at: TestServer) =>
  until(
    () => at.json("relay", "status", "--json"),
    ({ relays: [relay] }) => relay.state === "idle" && relay.backlog.entries === 0,
  );

/** Fields that docs/cli-json.md names in a section's tables. */
function documented(section: string): string[] {
  const text = readFileSync(join(import.meta.dirname, "../docs/cli-json.md"), "utf8");
  const found = text.split(`## \`binnacle ${section}\`\n`)[1]!.split("\n## ")[0]!;
  return [...found.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!),
  );
}

test("add, status, retry, remove: one way through all of them", async () => {
  const up = await platform();
  const at = await server();
  expect((await at.cli("relay", "status")).stdout).toBe(
    "Nothing is relayed. Add a platform with `binnacle relay add NAME URL`.\n",
  );
  await at.api("/api/v1/runs", { id: "a", name: "first" });
  const file = tokenFile(await tokenOf(up));
  const added = await at.cli("relay", "add", "main", up.url, "--token-file", file);
  expect(added).toMatchObject({ code: 0, stderr: "" });
  expect(added.stdout).toMatch(
    new RegExp(`^main is (sending|up to date|sending what was kept before): ${up.url}\n`),
  );
  const list = await upToDate(at);
  expect(list.relays[0]).toMatchObject({ name: "main", error: null, dead_letters: 0 });
  expect((await up.api("/api/v1/runs")).runs).toMatchObject([{ id: "a", name: "first", source: "lab" }]);
  const shown = (await at.cli("relay", "status")).stdout;
  expect(shown).toMatch(/^NAME +STATE +BEHIND +OLDEST +RATE +ADDRESS\nmain +up to date +0 entries +- /);
  expect((await at.cli("relay", "retry", "main")).stdout).toBe("main is up to date.\n");
  expect((await at.cli("relay", "dead-letters")).stdout).toBe("There are no dead letters.\n");
  expect((await at.cli("relay", "remove", "main")).stdout).toBe("main is removed.\n");
  expect((await at.json("relay", "status", "--json")).relays).toEqual([]);
});

test("what --json prints is what the documentation says", async () => {
  const at = await server();
  const added = JSON.parse((await at.cli("relay", "add", "main", "http://127.0.0.1:1", "--json")).stdout);
  const fields = documented("relay status --json");
  expect(fields.slice(0, 3)).toEqual(["installation", "relays", "drops"]);
  expect(fields.slice(3).sort()).toEqual(Object.keys(Relay.shape).sort());
  expect(Object.keys(added).sort()).toEqual(fields.slice(3).sort());
  const list = await at.json("relay", "status", "--json");
  expect(Object.keys(list).sort()).toEqual(fields.slice(0, 3).sort());
  expect(await at.json("relay", "dead-letters", "--json")).toEqual([]);
  expect(await at.json("relay", "dead-letters", "main", "--discard", "--json")).toEqual({ settled: 0 });
});

test("a token comes from a file, standard input or the environment, and stands in no output", async () => {
  const up = await platform();
  const at = await server();
  const token = await tokenOf(up);
  const main = join(import.meta.dirname, "../src/cli/main.ts");
  const env = { BINNACLE_DATA: at.dataDir };
  const piped = await runCli(
    ["-c", `echo "$SECRET" | "${process.execPath}" "${main}" relay add piped ${up.url} --token-file -`],
    { program: ["bash"], env: { ...env, SECRET: token } },
  );
  expect(piped).toMatchObject({ code: 0, stderr: "" });
  expect((await at.cli("relay", "remove", "piped", "--discard")).code).toBe(0);
  const named = await runCli(["relay", "add", "named", up.url], {
    env: { ...env, BINNACLE_RELAY_TOKEN: token },
  });
  expect(named.stdout).toMatch(/^named is (sending|up to date)/);
  await upToDate(at);
  const outputs = [piped, named, await at.cli("relay", "status", "--json"), await at.cli("relay", "status")];
  for (const { stdout, stderr } of outputs) expect(stdout + stderr).not.toContain(token);
});

test("a refused token is told by the exit code, and the right one given again mends it", async () => {
  const up = await platform();
  const at = await server();
  const refused = await at.cli("relay", "add", "main", up.url, "--token-file", tokenFile("bnc_source_wrong"));
  expect(refused.code).toBe(5);
  expect(refused.stdout).toStartWith(`main is paused: ${up.url}\n`);
  expect(refused.stderr).toMatch(/^binnacle: The last attempt to reach main failed: .* It stays added: once/);
  const file = tokenFile(await tokenOf(up));
  expect(await at.cli("relay", "add", "main", up.url, "--token-file", file)).toMatchObject({
    code: 0,
    stderr: "",
  });
});

test("start --relay adds it, once, and takes a new token", async () => {
  const up = await platform();
  const dataDir = makeFolder();
  closers.push(() => dataDir.remove());
  const start = (token: string) =>
    server({ dataDir: dataDir.path, args: ["--relay", up.url], env: { BINNACLE_RELAY_TOKEN: token } });
  const first = await start("bnc_source_wrong");
  const paused = await until(
    () => first.json("relay", "status", "--json"),
    ({ relays: [relay] }) => relay?.state === "paused",
  );
  expect(paused.relays[0]).toMatchObject({ name: "127.0.0.1", url: up.url, from: "history" });
  await first.kill("SIGTERM");
  const again = await start(await tokenOf(up));
  const { relays } = await upToDate(again);
  expect(relays).toHaveLength(1);
});

test("what is wrong is said with what to do, by exit codes that scripts can tell apart", async () => {
  const at = await server();
  const refused = async (args: string[], code: number, words: string) => {
    const { stderr, ...result } = await at.cli("relay", ...args);
    expect({ stderr, code: result.code }).toEqual({ stderr: expect.stringContaining(words), code });
  };
  await refused(["add", "main"], 2, "Give a name and the platform's address");
  await refused(["add", "main", "https://example.org", "--from", "then"], 2, "--from wants now or history");
  await refused(["add", "main", "http://example.org"], 2, "--insecure-http");
  await refused(["add", "main", "https://u:p@example.org"], 2, "a user or a password");
  await refused(["add", "main", "https://169.254.169.254"], 5, "no platform's");
  await refused(["add", "a b", "https://example.org"], 2, "use letters, digits");
  await refused(["add", "main", "https://example.org", "--token-file", "/no/such/file"], 3, "ENOENT");
  await refused(["add", "main", "https://example.org", "--token-file", tokenFile("  ")], 2, "no token");
  await refused(["add", "main", "https://example.org", "--ca-file", tokenFile("no pem")], 2, "PEM");
  await refused(["remove"], 2, "Say which destination");
  await refused(["remove", "none"], 3, "no destination none");
  await refused(["retry", "none"], 3, "no destination none");
  await refused(["dead-letters", "none"], 3, "no destination none");
  await refused(["dead-letters", "--requeue"], 2, "Say which destination");
  await refused(["dead-letters", "main", "--requeue", "--discard"], 2, "one of them");
  expect((await at.json("relay", "status", "--json")).relays).toEqual([]);
});

test("a destination that nobody answers at is shown with why, and is removed only with --discard", async () => {
  const at = await server();
  const added = await at.cli("relay", "add", "main", "http://127.0.0.1:1");
  expect(added.code).toBe(4);
  expect(added.stdout).toStartWith("main is waiting to try again: http://127.0.0.1:1\nNobody answers at");
  expect(added.stderr).toBe(
    "binnacle: The last attempt to reach main failed: Nobody answers at 127.0.0.1:1 (ECONNREFUSED). " +
      "It stays added and is tried again: see `binnacle relay status`.\n",
  );
  await at.api("/api/v1/runs", { id: "a" });
  const { stdout } = await at.cli("relay", "status");
  expect(stdout).toMatch(/\nmain +waiting to try again +1 entry \(\d+ B\)/);
  expect(stdout).toMatch(/\nmain:\n {2}Nobody answers at 127.0.0.1:1 \(ECONNREFUSED\)\./);
  const refused = await at.cli("relay", "remove", "main");
  expect(refused.code).toBe(5);
  expect(refused.stderr).toContain("main has not got everything yet: 1 entry");
  const moved = await at.cli("relay", "add", "main", "http://127.0.0.1:2");
  expect(moved.code).toBe(5);
  expect(moved.stderr).toContain("There is a destination main already, at http://127.0.0.1:1.");
  expect(moved.stderr).toContain("`binnacle relay remove main --discard`, then add it at its new address");
  expect((await at.cli("relay", "remove", "main", "--discard")).stdout).toBe("main is removed.\n");
  const after = await at.cli("relay", "status", "--json");
  expect(JSON.parse(after.stdout).drops).toMatchObject([{ destination: "main", stream: "a", records: 1 }]);
  await at.cli("relay", "add", "spare", "http://127.0.0.1:1");
  const removed = await at.json("relay", "remove", "spare", "--discard", "--json");
  expect(removed).toEqual({ removed: "spare", history: null });
});
