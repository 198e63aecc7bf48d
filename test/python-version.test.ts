/** Python 3.8 is what the client promises to run on, also where the tests find no such interpreter. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pythonFolder } from "./helpers/python.ts";

const checker = join(import.meta.dirname, "helpers/python_38.py");

function check(...files: string[]) {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["python3", checker, ...files]);
  return { code: exitCode, found: stdout.toString(), err: stderr.toString() };
}

test("the client has nothing that Python 3.8 would not run", () => {
  const files = [...new Bun.Glob("**/*.py").scanSync({ cwd: pythonFolder, absolute: true })];
  expect(files.length).toBeGreaterThan(20);
  expect(check(...files)).toEqual({ code: 0, found: "", err: "" });
});

const LATER = [
  "match x:\n    case 1: pass",
  "with (open('a') as a, open('b') as b): pass",
  "try: pass\nexcept* ValueError: pass",
  "def f[T](x: T): pass",
  "'ab'.removeprefix('a')",
  "import tomllib",
  "from functools import cache",
  "import hashlib\nhashlib.file_digest(f, 'sha256')",
  "def f(x: list[int]): pass",
  "zip(a, b, strict=True)",
  "ExceptionGroup('a', [])",
];

test("what came later would be found", () => {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  const files = LATER.map((code, index) => {
    const file = join(folder, `later${index}.py`);
    writeFileSync(file, `${code}\n`);
    return file;
  });
  const { code, found, err } = check(...files);
  rmSync(folder, { recursive: true });
  expect({ code, err }).toEqual({ code: 1, err: "" });
  expect(LATER.filter((_, index) => !found.includes(files[index]!))).toEqual([]);
});
