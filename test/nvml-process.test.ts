import { afterAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { binaryPath, remove, temporaryFolder } from "./helpers/binary.ts";
import { mockEnvironment, mockLibrary, noCompiler, scenario } from "./helpers/nvml.ts";

const root = join(import.meta.dirname, "..");
const program = join(import.meta.dirname, "helpers/nvml-calls.ts");
const told = scenario("gpus 1", "gpu0 name NVIDIA Test 9000", "gpu0 process 4711 1024 c");
const folder = temporaryFolder();
afterAll(() => {
  told.remove();
  remove(folder);
});

interface Told {
  mappedBefore: boolean;
  mapped: boolean;
  path?: string;
  name?: string;
  codes?: number[];
  grownKiB?: number;
  reason?: string;
}

function ask(command: string[], env: Record<string, string>): Told {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, {
    cwd: folder,
    env: { PATH: "/usr/bin:/bin", HOME: folder, ...env },
  });
  if (exitCode !== 0) throw new Error(stderr.toString());
  return JSON.parse(stdout.toString()) as Told;
}

// An event set has nothing to tell: 10.
const answered = [0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0];

test("nothing but one module imports koffi", () => {
  const importing = [...new Bun.Glob("src/**/*.{ts,tsx}").scanSync({ cwd: root })].filter((file) =>
    /(from|import\(|require\()\s*["']koffi["']/.test(readFileSync(join(root, file), "utf8")),
  );
  expect(importing).toEqual(["src/machine/gpu/koffi.ts"]);
});

test("koffi is not loaded where there is no library", () => {
  const nowhere = join(folder, "libnvidia-ml.so.1");
  expect(ask([process.execPath, program], { BINNACLE_NVML: nowhere })).toMatchObject({
    mappedBefore: false,
    mapped: false,
    reason: expect.stringContaining(nowhere),
  });
});

describe.skipIf(noCompiler)("a process that reads GPUs", () => {
  test("loads koffi when it opens the library", () => {
    expect(ask([process.execPath, program], mockEnvironment(told))).toMatchObject({
      mappedBefore: false,
      mapped: true,
      path: mockLibrary(),
      name: "NVIDIA Test 9000",
      codes: answered,
    });
  });

  test("runs on Deno as on Bun", () => {
    const [deno] = [...new Bun.Glob("node_modules/@deno/*/deno").scanSync({ cwd: root, absolute: true })];
    const env = { ...mockEnvironment(told), DENO_DIR: join(folder, "deno"), DENO_NO_UPDATE_CHECK: "1" };
    expect(ask([deno!, "run", "-A", "--node-modules-dir=manual", program], env)).toMatchObject({
      mapped: true,
      name: "NVIDIA Test 9000",
      codes: answered,
    });
  }, 60_000);

  // A record lost at each call would be 16 MB at the least, of a million calls.
  const calls = process.env["LONG"] === undefined ? 100_000 : 1_000_000;
  test(`does not grow over ${calls} calls`, () => {
    const { grownKiB, codes } = ask([process.execPath, program, String(calls)], mockEnvironment(told));
    expect(codes).toEqual(answered);
    expect(grownKiB).toBeLessThan(10 * 1024);
  }, 120_000);
});

describe.skipIf(noCompiler)("the binary", () => {
  /** What the reader says first about its GPUs; it ends with its standard input. */
  function inventory(env: Record<string, string>): Record<string, any> {
    const { stdout } = Bun.spawnSync([binaryPath(), "gpu-reader"], { stdin: "ignore", env });
    const messages = stdout
      .toString()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    return messages.find(({ kind }) => kind !== "beat");
  }

  test("calls the library through the addon it carries, laid down where it is told", () => {
    const addons = join(folder, "addons");
    expect(inventory({ ...mockEnvironment(told), BINNACLE_ADDONS: addons })).toMatchObject({
      kind: "inventory",
      gpus: [{ name: "NVIDIA Test 9000" }],
    });
    expect(readdirSync(addons)).toEqual([expect.stringMatching(/^koffi-[0-9a-f]{16}\.node$/)]);
  }, 60_000);

  test("says what is missing when nobody told it where", () => {
    expect(inventory(mockEnvironment(told))).toMatchObject({
      kind: "status",
      reader: {
        reason: "Nobody said where native addons are kept.",
        advice: expect.stringContaining("BINNACLE_ADDONS"),
      },
    });
  }, 60_000);
});
