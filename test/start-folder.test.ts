/** A data folder on a network file system, as the kernel would tell of it: none can be mounted here, but statfs can be made to say so. */
import { afterEach, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { loudly } from "./helpers/binary.ts";
import { cleanEnv } from "./helpers/cli.ts";
import { makeDataDir } from "./helpers/store.ts";
import { noStrace, strace } from "./helpers/strace.ts";

/** The first bytes of what statfs answers, struct statfs's f_type, are those of this magic number. */
const onFileSystem = (magic: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(magic);
  const inject = `inject=statfs:poke_exit=@arg2=${bytes.toString("hex")}`;
  return strace("-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=statfs", "-e", inject);
};

const runs = ([program, ...args]: string[]) => spawnSync(program!, args).status === 0;
const skip =
  noStrace ||
  (!runs([...onFileSystem(0x6969), "true"]) && loudly("no network file system: strace is older than 5.11"));

const root = join(import.meta.dirname, "..");
const folders: string[] = [];
afterEach(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true, force: true })));

const makeFolder = () => {
  const folder = makeDataDir();
  folders.push(folder);
  return folder;
};

function start(magic: number, dataDir: string, ...more: string[]) {
  const flags = ["--data", dataDir, "--port", "0", "--no-hardware", "--fedml", "off", ...more];
  const line = [...onFileSystem(magic), process.execPath, join(root, "src/cli/main.ts"), "start", ...flags];
  return spawn(line[0]!, line.slice(1), { stdio: ["ignore", "pipe", "pipe"], env: cleanEnv() });
}

test.skipIf(skip).each([
  ["NFS", 0x6969],
  ["SMB2", 0xfe534d42],
])("a data folder on %s is refused, with the flag that overrides", async (name, magic) => {
  const dataDir = makeFolder();
  const child = start(magic, dataDir);
  let stderr = "";
  child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
  const [code] = await once(child, "close");
  expect(stderr).toContain(`The data folder ${dataDir} is on ${name}.`);
  expect(stderr).toContain("--allow-network-fs");
  expect(code).toBe(5);
  expect(existsSync(join(dataDir, "binnacle.db"))).toBe(false);
});

test.skipIf(skip)("--allow-network-fs starts there all the same", async () => {
  const child = start(0x6969, makeFolder(), "--allow-network-fs");
  const exited = once(child, "exit");
  const [output] = (await Promise.race([once(child.stdout, "data"), exited])) as [unknown];
  expect(String(output)).toContain("listens on");
  child.kill("SIGKILL");
  await exited;
});

test.skipIf(skip)("doctor warns of it", () => {
  const script = `
    import { checkFolder } from ${JSON.stringify(join(root, "src/doctor/folder.ts"))};
    console.log(JSON.stringify(checkFolder(process.argv[1])));`;
  const look = (through: string[]) => {
    const [program, ...args] = [...through, process.execPath, "-e", script, dataDir];
    return JSON.parse(spawnSync(program!, args, { encoding: "utf8" }).stdout);
  };
  const dataDir = makeFolder();
  expect(look([])).toMatchObject({ status: "ok" });
  expect(look(onFileSystem(0x6969))).toMatchObject({
    status: "warning",
    text: `${dataDir} is on NFS, where locks and fsync can't be relied on.`,
  });
});
