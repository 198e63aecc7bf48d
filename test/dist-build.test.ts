import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { bindOnFirstOpen } from "../src/build/libsql.ts";
import { packageFolder } from "../src/build/packages.ts";
import { loudly, offline, postAndRead, remove, startBinary, temporaryFolder } from "./helpers/binary.ts";

const root = join(import.meta.dirname, "..");
const loader = readFileSync(join(root, "node_modules/libsql/index.js"), "utf8");

describe("libSQL's loader in the binary", () => {
  test("asks for the addon when a database is opened, not when the module is loaded", () => {
    const text = bindOnFirstOpen(loader);
    expect(text).not.toContain("@neon-rs/load");
    expect(text).not.toContain("requireNative");
    expect(text).toContain("constructor(path, opts) {\n    bindNative(path);");
  });

  test("fails the build if it is not the known one, even by one character", () => {
    expect(() => bindOnFirstOpen(`${loader}\n`)).toThrow("src/build/libsql.ts");
    expect(() => bindOnFirstOpen(loader.replace("@libsql/${target}", "@libsql/x-${target}"))).toThrow(
      "KNOWN_LOADER",
    );
  });
});

const addonPackages: Record<string, string> = {
  "linux-x64": "@libsql/linux-x64-gnu",
  "linux-arm64": "@libsql/linux-arm64-gnu",
  "linux-x64-musl": "@libsql/linux-x64-musl",
  "linux-arm64-musl": "@libsql/linux-arm64-musl",
  "darwin-x64": "@libsql/darwin-x64",
  "darwin-arm64": "@libsql/darwin-arm64",
};

/** Where an executable says what it is for. */
const kinds: Record<string, (head: Buffer) => boolean> = {
  "linux-x64": (head) => isElf(head, 62) && head.includes("ld-linux-x86-64.so.2"),
  "linux-arm64": (head) => isElf(head, 183) && head.includes("ld-linux-aarch64.so.1"),
  "linux-x64-musl": (head) => isElf(head, 62) && head.includes("ld-musl-x86_64.so.1"),
  "linux-arm64-musl": (head) => isElf(head, 183) && head.includes("ld-musl-aarch64.so.1"),
  "darwin-x64": (head) => isMachO(head, 0x01000007),
  "darwin-arm64": (head) => isMachO(head, 0x0100000c),
};
const isElf = (head: Buffer, machine: number) =>
  head.readUInt32BE(0) === 0x7f454c46 && head.readUInt16LE(18) === machine;
const isMachO = (head: Buffer, cpu: number) =>
  head.readUInt32LE(0) === 0xfeedfacf && head.readUInt32LE(4) === cpu;

const skip =
  (offline || (process.env["LONG"] === undefined && process.env["CI"] === undefined)) &&
  loudly("the builds for five other platforms (200 MB of downloads) run in CI and in `npm run test:long`");

describe.skipIf(skip)("bun run build --all", () => {
  const folder = temporaryFolder();
  afterAll(() => remove(folder));

  test("builds for every platform", () => {
    const { exitCode, stderr } = Bun.spawnSync(
      [process.execPath, "run", "build", "--all", "--into", folder],
      {
        cwd: root,
      },
    );
    expect({ exitCode, stderr: exitCode === 0 ? "" : stderr.toString() }).toEqual({
      exitCode: 0,
      stderr: "",
    });
    for (const [target, matches] of Object.entries(kinds)) {
      const file = openSync(join(folder, `binnacle-${target}`), "r");
      const head = Buffer.alloc(4096);
      readSync(file, head, 0, head.length, 0);
      closeSync(file);
      expect({ target, matches: matches(head) }).toEqual({ target, matches: true });
    }
  }, 600_000);

  test("puts each platform's own addon inside, and no other", async () => {
    const addons = await Promise.all(
      Object.entries(addonPackages).map(async ([target, name]) => ({
        target,
        // Code from its middle, which no two of them share.
        bytes: readFileSync(join(await packageFolder(name), "index.node")).subarray(2_000_000, 2_004_096),
      })),
    );
    for (const target of Object.keys(kinds)) {
      const binary = readFileSync(join(folder, `binnacle-${target}`));
      const inside = addons.filter(({ bytes }) => binary.includes(bytes)).map((addon) => addon.target);
      expect(inside).toEqual([target]);
    }
  });

  const arm = { libraries: "/usr/aarch64-linux-gnu", emulator: Bun.which("qemu-aarch64") };
  const skipArm =
    (arm.emulator === null || !existsSync(arm.libraries)) &&
    loudly(
      "the arm64 build is not run: no emulator (Debian: apt install qemu-user libc6-arm64-cross libgcc-s1-arm64-cross)",
    );

  test.skipIf(skipArm)(
    "builds an arm64 binary that runs, addon and all",
    async () => {
      const dataDir = temporaryFolder();
      const collector = await startBinary({
        dataDir,
        program: [arm.emulator!, "-L", arm.libraries, join(folder, "binnacle-linux-arm64")],
      });
      expect(await postAndRead(collector, "100000000000004", [2, 1])).toEqual([2, 1]);
      expect(await collector.stop()).toBe(0);
      remove(dataDir);
    },
    120_000,
  );
});
