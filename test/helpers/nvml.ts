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
  const code = readFileSync(source, "utf8");
  return builtOnce([code, ...hide.toSorted()], "libnvidia-ml.so.1", (library) => {
    const object = builtOnce([code], "mock_nvml.o", (object) =>
      gcc("-std=gnu11", "-O1", "-Wall", "-Wextra", "-fPIC", "-c", "-o", object, source),
    );
    // A name in `local` is no symbol of the library at all.
    const symbols = `${library}.symbols`;
    writeFileSync(symbols, `{ global: nvml*; local: ${[...hide, "*"].join("; ")}; };`);
    gcc("-shared", "-Wl,-soname,libnvidia-ml.so.1", `-Wl,--version-script=${symbols}`, "-o", library, object);
  });
}

/** Path of a file made of `sources`, kept beside the modules; test files that run at once don't see it half made. */
function builtOnce(sources: string[], name: string, make: (path: string) => void): string {
  const folder = join(cache, createHash("sha256").update(sources.join("\0")).digest("hex").slice(0, 16));
  if (existsSync(join(folder, name))) return join(folder, name);
  mkdirSync(cache, { recursive: true });
  const temporary = mkdtempSync(join(cache, ".build-"));
  try {
    make(join(temporary, name));
    mkdirSync(folder, { recursive: true });
    renameSync(join(temporary, name), join(folder, name));
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return join(folder, name);
}

function gcc(...args: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["gcc", ...args]);
  if (exitCode !== 0) throw new Error(stderr.toString());
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
