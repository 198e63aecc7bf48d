import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, cpSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { loudly, offline, remove, varFolder } from "./helpers/binary.ts";

const root = join(import.meta.dirname, "..");
const isRoot = process.getuid?.() === 0;
const nobody = 65534;

// A fresh checkout in a path with a space, for a user without privileges whose home can't be written.
const place = varFolder("binnacle fresh ");
const checkout = join(place, "check out");
const dataDir = join(place, "the data");

const skip = offline && loudly("a fresh checkout installs its dependencies, which needs a network");

beforeAll(() => {
  if (skip) return;
  const { stdout } = Bun.spawnSync(["git", "ls-files", "-co", "--exclude-standard", "-z"], { cwd: root });
  for (const path of stdout.toString().split("\0").filter(Boolean)) {
    mkdirSync(dirname(join(checkout, path)), { recursive: true });
    cpSync(join(root, path), join(checkout, path));
  }
  mkdirSync(dataDir);
  mkdirSync(join(place, "home"), { mode: 0o555 });
  chmodSync(place, 0o755);
  if (isRoot) for (const path of [checkout, dataDir]) giveAway(path);
});
const children: Bun.Subprocess[] = [];
afterAll(async () => {
  for (const child of children) child.kill("SIGTERM");
  await Promise.all(children.map(({ exited }) => exited));
  remove(place);
});

function giveAway(path: string): void {
  chownSync(path, nobody, nobody);
  if (statSync(path).isDirectory()) for (const name of readdirSync(path)) giveAway(join(path, name));
}

interface Started {
  child: Bun.Subprocess;
  url: string;
  output(): string;
}

async function npmStart(): Promise<Started> {
  const wrap = isRoot ? ["setpriv", "--reuid", `${nobody}`, "--regid", `${nobody}`, "--clear-groups"] : [];
  // Only Node and npm on the path: whatever Bun this machine has is not to be used.
  const path = [dirname(Bun.which("node")!), dirname(Bun.which("npm")!), "/usr/bin", "/bin"];
  const child = Bun.spawn([...wrap, "npm", "start", "--", "--port", "0", "--data", dataDir], {
    cwd: checkout,
    env: {
      PATH: path.filter((folder) => !folder.includes("node_modules")).join(":"),
      HOME: join(place, "home"),
      NODE_EXTRA_CA_CERTS: process.env["NODE_EXTRA_CA_CERTS"] ?? "",
    },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  let output = "";
  const link = Promise.withResolvers<string>();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream) {
      output += new TextDecoder().decode(chunk);
      const found = /(http:\/\/127\.0\.0\.1:\d+)\/sign-in\?code=/.exec(output);
      if (found !== null) link.resolve(found[1]!);
    }
  };
  void Promise.all([read(child.stdout), read(child.stderr)]).then(() => link.reject(new Error(output)));
  return { child, url: await link.promise, output: () => output };
}

test.skipIf(skip)(
  "npm start does all the set-up, prints a link, passes flags on and ends at SIGINT",
  async () => {
    const { child, url, output } = await npmStart();
    expect(output()).toContain("Getting Bun");
    expect(output()).toContain("Installing the locked dependencies");
    expect(output()).toContain("Building dist/binnacle");
    expect(output()).toContain(`data in ${dataDir}`);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    // To npm alone: a terminal's Ctrl-C would reach the whole group.
    child.kill("SIGINT");
    await child.exited;
    expect(await fetch(`${url}/healthz`).catch(() => "ended")).toBe("ended");
  },
  240_000,
);

test.skipIf(skip)(
  "a second npm start has nothing to do and is quick",
  async () => {
    const began = performance.now();
    const { child, output } = await npmStart();
    expect(output()).not.toContain("•");
    expect(performance.now() - began).toBeLessThan(15_000);
    child.kill("SIGTERM");
    await child.exited;
  },
  60_000,
);
