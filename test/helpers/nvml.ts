import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { loudly } from "./binary.ts";

const root = join(import.meta.dirname, "../..");
const source = join(root, "test/fixtures/nvml/mock_nvml.c");
const cache = join(root, "node_modules/.cache/nvml");

/** Compiling the library that stands in for NVIDIA's takes gcc. */
export const noCompiler =
  Bun.which("gcc") === null && loudly("what reads GPUs is not tested: no gcc (Debian: apt install gcc)");

export interface MockOptions {
  /** Symbols that the library really lacks, as old drivers do. */
  hide?: string[];
}

/** Path of a libnvidia-ml.so.1 that says what a scenario tells it to: see test/fixtures/nvml/mock_nvml.c. Built once. */
export function mockLibrary({ hide = [] }: MockOptions = {}): string {
  const variant = createHash("sha256")
    .update(readFileSync(source))
    .update(hide.toSorted().join())
    .digest("hex")
    .slice(0, 16);
  const folder = join(cache, variant);
  const library = join(folder, "libnvidia-ml.so.1");
  if (existsSync(library)) return library;
  mkdirSync(cache, { recursive: true });
  const temporary = mkdtempSync(join(cache, ".build-"));
  try {
    // A name in `local` is no symbol of the library at all.
    const version = join(temporary, "symbols");
    writeFileSync(version, `{ global: nvml*; local: ${[...hide, "*"].join("; ")}; };`);
    const { exitCode, stderr } = Bun.spawnSync([
      "gcc",
      "-std=gnu11",
      "-O1",
      "-Wall",
      "-Wextra",
      "-Werror",
      "-shared",
      "-fPIC",
      "-Wl,-soname,libnvidia-ml.so.1",
      `-Wl,--version-script=${version}`,
      "-o",
      join(temporary, "libnvidia-ml.so.1"),
      source,
    ]);
    if (exitCode !== 0) throw new Error(stderr.toString());
    rmSync(version);
    try {
      renameSync(temporary, folder);
    } catch (error) {
      // Another test file was faster.
      if (!existsSync(library)) throw error;
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return library;
}

export interface Scenario {
  path: string;
  /** Says something else from now on; the library notices within 50 ms. */
  set(...lines: string[]): void;
  remove(): void;
}

/** A scenario file in a folder of its own, for MOCK_SCENARIO. */
export function scenario(...lines: string[]): Scenario {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-nvml-"));
  const path = join(folder, "scenario");
  const set = (...lines: string[]) => {
    // Whole or not at all: it may be read at any time.
    writeFileSync(`${path}.new`, `${lines.join("\n")}\n`);
    renameSync(`${path}.new`, path);
  };
  set(...lines);
  return { path, set, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** What a process needs in its environment to see the GPUs of a scenario. */
export const mockEnvironment = (scenario: Scenario, options?: MockOptions) => ({
  BINNACLE_NVML: mockLibrary(options),
  MOCK_SCENARIO: scenario.path,
});

/**
 * The same for a collector, which hands its reader the library's path and not this one's variables: a copy of the library
 * beside the scenario.
 */
export function collectorEnvironment({ path }: Scenario, options?: MockOptions) {
  const library = join(dirname(path), "libnvidia-ml.so.1");
  copyFileSync(mockLibrary(options), library);
  return { BINNACLE_NVML: library };
}
