import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "bun:test";
import { importRun } from "../src/client/typescript/archive.ts";

test("a FIFO in an archive's place is refused, and not waited for", async () => {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-archive-"));
  try {
    const path = join(folder, "run.zip");
    execFileSync("mkfifo", [path]);
    // Nobody listens there: it never comes to that.
    const nobody = { url: "http://127.0.0.1:1", token: "" };
    await expect(importRun(nobody, path)).rejects.toThrow(`${path} is no file.`);
    await expect(importRun(nobody, folder)).rejects.toThrow(`${folder} is no file.`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
