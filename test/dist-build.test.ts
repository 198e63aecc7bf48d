import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { assertKnownLoader } from "../src/build/koffi.ts";
import { bindOnFirstOpen } from "../src/build/libsql.ts";
import { compressAddon } from "../src/build/pack-addon.ts";
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

describe("koffi's loader in the binary", () => {
  const read = (file: string) => readFileSync(join(root, "node_modules/koffi/src/koffi", file), "utf8");

  test("is the known one", () => {
    expect(() => assertKnownLoader(read)).not.toThrow();
  });

  test.each(["index.js", "src/static.js"])("fails the build if %s differs by one character", (changed) => {
    expect(() => assertKnownLoader((file) => read(file) + (file === changed ? " " : ""))).toThrow(
      `${changed} is not the one the build knows`,
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

const koffiAddons: Record<string, [name: string, addon: string]> = {
  "linux-x64": ["@koromix/koffi-linux-x64", "linux_x64/koffi.node"],
  "linux-arm64": ["@koromix/koffi-linux-arm64", "linux_arm64/koffi.node"],
  "linux-x64-musl": ["@koromix/koffi-linux-x64", "musl_x64/koffi.node"],
  "linux-arm64-musl": ["@koromix/koffi-linux-arm64", "musl_arm64/koffi.node"],
  "darwin-x64": ["@koromix/koffi-darwin-x64", "darwin_x64/koffi.node"],
  "darwin-arm64": ["@koromix/koffi-darwin-arm64", "darwin_arm64/koffi.node"],
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

/** As `whole.includes(part)`, which takes fifteen times as long for a part of some MB. */
function holds(whole: Buffer, part: Buffer): boolean {
  const middle = part.length >> 1;
  const needle = part.subarray(middle, middle + 256);
  for (let at = whole.indexOf(needle); at >= 0; at = whole.indexOf(needle, at + 1))
    if (at >= middle && whole.subarray(at - middle, at - middle + part.length).equals(part)) return true;
  return false;
}

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

  test("puts each platform's own addons inside, and no other", async () => {
    const libsql = Object.entries(addonPackages).map(([target, name]) => ({
      target,
      name,
      file: "index.node",
    }));
    const koffi = Object.entries(koffiAddons).map(([target, [name, file]]) => ({ target, name, file }));
    for (const addons of [libsql, koffi]) {
      const parts = await Promise.all(
        addons.map(async ({ target, name, file }) => ({
          target,
          bytes: Buffer.from(compressAddon(readFileSync(join(await packageFolder(name), file)))),
        })),
      );
      for (const target of Object.keys(kinds)) {
        const binary = readFileSync(join(folder, `binnacle-${target}`));
        const inside = parts.filter(({ bytes }) => holds(binary, bytes)).map((part) => part.target);
        expect(inside).toEqual([target]);
      }
    }
  }, 60_000);

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

  test.skipIf(skipArm)(
    "calls a library of that platform through the addon",
    () => {
      const addons = temporaryFolder();
      const { stdout } = Bun.spawnSync(
        [arm.emulator!, "-L", arm.libraries, join(folder, "binnacle-linux-arm64"), "gpu-reader"],
        // Some library of its own: it has none of the functions, and says so when asked.
        {
          env: { BINNACLE_ADDONS: addons, BINNACLE_NVML: join(arm.libraries, "lib/libm.so.6") },
          stdin: "ignore",
        },
      );
      remove(addons);
      expect(stdout.toString()).toContain("FUNCTION_NOT_FOUND");
    },
    60_000,
  );
});
