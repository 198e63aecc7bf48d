import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { postAndRead, readBack, remove, startBinary, temporaryFolder } from "./helpers/binary.ts";

const root = join(import.meta.dirname, "..");
/** The program itself: `.bin/deno` is a Node wrapper that keeps signals to itself. */
const [deno] = [...new Bun.Glob("node_modules/@deno/*/deno").scanSync({ cwd: root, absolute: true })];
const dataDir = temporaryFolder();
const cwd = temporaryFolder();
afterAll(() => remove(dataDir, cwd));

const start = () =>
  startBinary({
    dataDir,
    cwd,
    // Its module cache must not depend on who runs the tests.
    env: { HOME: cwd, DENO_DIR: join(cwd, "deno"), DENO_NO_UPDATE_CHECK: "1" },
    program: [deno!, "run", "-A", "--node-modules-dir=manual", join(root, "src/cli/main.ts")],
  });

test("the same source serves on Deno: a metric is kept, over a restart too", async () => {
  const first = await start();
  try {
    const health = await fetch(`${first.url}/healthz`);
    expect(await health.json()).toMatchObject({ status: "ok" });
    expect(await postAndRead(first, "100000000000003", [1, 0.5, 0.25])).toEqual([1, 0.5, 0.25]);
    expect((await first.request("/api/v1/openapi.json")).status).toBe(200);
    // The pages are JSX, which the two runtimes compile by themselves.
    const page = await first.request("/runs/100000000000003");
    expect(await page.text()).toContain("<!DOCTYPE html>");
    expect(page.status).toBe(200);
  } finally {
    expect(await first.stop()).toBe(0);
  }
  const second = await start();
  try {
    expect(await readBack(second, "100000000000003")).toEqual([1, 0.5, 0.25]);
  } finally {
    expect(await second.stop()).toBe(0);
  }
}, 60_000);
