import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, actionOf, codeName } from "../src/machine/gpu/codes.ts";
import { driverVersions, libraryCandidates, mappedPath } from "../src/machine/gpu/library.ts";
import { openNvml } from "../src/machine/gpu/nvml.ts";
import { valueOf } from "../src/machine/gpu/field-values.ts";

describe("a return code", () => {
  test.each([
    [0, "SUCCESS", "none"],
    [1, "UNINITIALIZED", "initialise"],
    [2, "INVALID_ARGUMENT", "permanent"],
    [3, "NOT_SUPPORTED", "permanent"],
    [4, "NO_PERMISSION", "denied"],
    [6, "NOT_FOUND", "empty"],
    [7, "INSUFFICIENT_SIZE", "grow"],
    [9, "DRIVER_NOT_LOADED", "driver"],
    [10, "TIMEOUT", "empty"],
    [13, "FUNCTION_NOT_FOUND", "permanent"],
    [15, "GPU_IS_LOST", "lost"],
    [16, "RESET_REQUIRED", "lost"],
    [17, "OPERATING_SYSTEM", "transient"],
    [18, "LIB_RM_VERSION_MISMATCH", "mismatch"],
    [20, "MEMORY", "transient"],
    [25, "ARGUMENT_VERSION_MISMATCH", "version"],
    [999, "UNKNOWN", "transient"],
  ] as const)("%d is %s: %s", (code, name, action) => {
    expect(codeName(code)).toBe(name);
    expect(actionOf(code)).toBe(action);
  });

  test("that nobody knows yet is a number, and may pass", () => {
    expect([codeName(77), actionOf(77)]).toEqual(["code 77", "transient"]);
  });

  test("has a number of its own", () => {
    expect(new Set(Object.values(Code)).size).toBe(Object.keys(Code).length);
  });
});

describe("the library", () => {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-library-"));
  const file = (path: string, content: string) => {
    writeFileSync(join(folder, path), content);
    return join(folder, path);
  };
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

  test("is looked for where the loader's list says, then where distributions keep it, by absolute paths only", () => {
    const cache = file(
      "ld.so.cache",
      "ld.so-1.7.0\0glibc-ld.so.cache1.1\0libnvidia-ml.so.1\0/opt/nv/libnvidia-ml.so.1\0" +
        "libnvidia-ml.so\0/opt/nv/libnvidia-ml.so\0libm.so.6\0/usr/lib/libm.so.6\0",
    );
    const found = libraryCandidates({ cache, arch: "x64", exists: () => true });
    expect(found).toEqual([
      "/opt/nv/libnvidia-ml.so.1",
      "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
      "/usr/lib64/libnvidia-ml.so.1",
      "/usr/lib/libnvidia-ml.so.1",
      "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
      "/usr/lib/wsl/lib/libnvidia-ml.so.1",
      "/run/opengl-driver/lib/libnvidia-ml.so.1",
      "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    ]);
    const arm = libraryCandidates({ cache: join(folder, "none"), arch: "arm64", exists: () => true });
    expect(arm[0]).toBe("/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1");
    expect(arm.at(-1)).toBe("/run/nvidia/driver/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1");
  });

  test("that somebody named is the only one tried, and never by a relative name", () => {
    expect(libraryCandidates({ path: "/some/lib.so", exists: () => true })).toEqual(["/some/lib.so"]);
    expect(libraryCandidates({ path: "/some/lib.so", exists: () => false })).toEqual([]);
    expect(libraryCandidates({ path: "libnvidia-ml.so.1", exists: () => true })).toEqual([]);
  });

  test("that is not there, or is none, is a reason and no exception", async () => {
    expect(await openNvml({ path: join(folder, "nowhere.so") })).toEqual({
      nvml: undefined,
      found: false,
      reason: `There is no NVIDIA library at ${join(folder, "nowhere.so")}; BINNACLE_NVML takes an absolute path.`,
      advice: null,
    });
    const text = file("libtext.so", "no library");
    const opened = await openNvml({ path: text });
    expect(opened).toMatchObject({
      nvml: undefined,
      found: true,
      advice: expect.stringContaining("install"),
    });
    expect(opened.reason).toStartWith(`Can't load ${text}: `);
  });

  test("and the kernel module tell their versions without being loaded", () => {
    const closed = file(
      "version",
      "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n",
    );
    const open = file(
      "version-open",
      "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (dvs-builder@U22)  Wed Aug 27 2025\n",
    );
    mkdirSync(join(folder, "lib"));
    const real = file("lib/libnvidia-ml.so.550.90.07", "");
    const link = join(folder, "lib/libnvidia-ml.so.1");
    symlinkSync(real, link);
    expect(driverVersions(link, closed)).toEqual({ module: "550.54.15", library: "550.90.07" });
    expect(driverVersions(real, open)).toEqual({ module: "580.82.07", library: "550.90.07" });
    expect(driverVersions(join(folder, "none"), join(folder, "none"))).toEqual({
      module: null,
      library: null,
    });
  });

  test("is told by the file that is mapped, not by the link", () => {
    const maps = file(
      "maps",
      `7f00-7f01 r--p 00000000 fe:01 12 /usr/lib/libc.so.6\n7f02-7f03 r-xp 00000000 fe:01 13                 ${folder}/lib/libnvidia-ml.so.550.90.07\n`,
    );
    expect(mappedPath(join(folder, "lib/libnvidia-ml.so.1"), maps)).toBe(
      join(folder, "lib/libnvidia-ml.so.550.90.07"),
    );
    expect(mappedPath(join(folder, "none"), maps)).toBe(join(folder, "none"));
  });
});

describe("a field's value", () => {
  const view = new DataView(new ArrayBuffer(8));

  test.each([
    [0, "f64", () => view.setFloat64(0, 12.5, true), 12.5],
    [1, "u32", () => view.setUint32(0, 4_000_000_000, true), 4_000_000_000],
    [2, "unsigned long", () => view.setBigUint64(0, 1n << 40n, true), 2 ** 40],
    [3, "u64", () => view.setBigUint64(0, 1n << 52n, true), 2 ** 52],
    [4, "i64", () => view.setBigInt64(0, -7n, true), -7],
    [5, "i32", () => view.setInt32(0, -7, true), -7],
    [6, "u16", () => view.setUint16(0, 65_000, true), 65_000],
  ] as const)("of type %d is read as %s", (type, _name, write, expected) => {
    // What is beside a short value is somebody else's.
    view.setBigUint64(0, 0xa5a5a5a5a5a5a5a5n, true);
    write();
    expect(valueOf(view, 0, type)).toBe(expected);
  });

  test("marked as not available, or of a type nobody knows, is none", () => {
    view.setBigUint64(0, 0xffffffffffffffffn, true);
    expect([1, 3, 7].map((type) => valueOf(view, 0, type))).toEqual([null, null, null]);
  });
});
