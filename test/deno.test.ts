import { afterAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { postAndRead, readBack, remove, startBinary, temporaryFolder } from "./helpers/binary.ts";

const root = join(import.meta.dirname, "..");
/** The program itself: `.bin/deno` is a Node wrapper that keeps signals to itself. */
const [deno] = [...new Bun.Glob("node_modules/@deno/*/deno").scanSync({ cwd: root, absolute: true })];
const dataDir = temporaryFolder();
const cwd = temporaryFolder();
afterAll(() => remove(dataDir, cwd));

// Its module cache must not depend on who runs the tests.
const env = { HOME: cwd, DENO_DIR: join(cwd, "deno"), DENO_NO_UPDATE_CHECK: "1" };
const program = [deno!, "run", "-A", "--node-modules-dir=manual", join(root, "src/cli/main.ts")];
const start = () => startBinary({ dataDir, cwd, env, program });

test("the same source serves on Deno: a metric is kept, over a restart too", async () => {
  const first = await start();
  try {
    const health = await fetch(`${first.url}/healthz`);
    expect(await health.json()).toMatchObject({ status: "ok" });
    expect(await postAndRead(first, "100000000000003", [1, 0.5, 0.25])).toEqual([1, 0.5, 0.25]);
    expect((await first.request("/api/v1/openapi.json")).status).toBe(200);
    // It samples there, too.
    for (let values; values === undefined; await Bun.sleep(100)) {
      const { devices } = (await (await first.request("/api/v1/devices")).json()) as {
        devices: { latest: Record<string, { values: Record<string, number> }> }[];
      };
      values = devices[0]?.latest[""]?.values["memory.used"];
    }
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

test("the same source keeps files on Deno, sends and fetches them, and looks whether they are sound", async () => {
  const collector = await start();
  const run = async (...args: string[]) => {
    const child = Bun.spawn([...program, ...args, "--json"], {
      cwd,
      env: { ...env, PATH: "/usr/bin:/bin", BINNACLE_DATA: dataDir },
      stderr: "pipe",
    });
    const [out, err] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    expect({ args, code: await child.exited, err }).toEqual({ args, code: 0, err: "" });
    return JSON.parse(out);
  };
  try {
    const bytes = randomBytes(20_000_000);
    writeFileSync(join(cwd, "weights.bin"), bytes);
    writeFileSync(join(cwd, "small.json"), "{}");
    expect(await run("model", "put", "digits", "weights.bin", "small.json")).toMatchObject({
      version: "v1",
      sent: 20_000_002,
    });
    await run("model", "get", "digits", "-o", "fetched");
    expect(readFileSync(join(cwd, "fetched/weights.bin")).equals(bytes)).toBe(true);
    const { checks, damaged } = await run("doctor");
    expect(damaged).toEqual([]);
    for (const name of ["database", "files"])
      expect(checks).toContainEqual(expect.objectContaining({ name, status: "ok" }));
  } finally {
    expect(await collector.stop()).toBe(0);
  }
  expect(collector.output()).not.toContain("worker");
}, 60_000);

test.skipIf(process.platform !== "linux")(
  "the same source reads the machine on Deno",
  async () => {
    const source = (name: string) => JSON.stringify(join(root, "src/machine", name));
    const script = `
    import { createMachine } from ${source("machine.ts")};
    import { ratesOf } from ${source("rates.ts")};
    const machine = createMachine();
    const before = machine.read();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const after = machine.read();
    const { failed } = after;
    console.log(JSON.stringify({ failed, cores: after.cpu.byCore.size, ...ratesOf(before, after) }));
  `;
    const child = Bun.spawn([deno!, "run", "-A", "--node-modules-dir=manual", "--ext=ts", "-"], {
      stdin: new Blob([script]),
      cwd: root,
      env: { ...process.env, ...env },
      stderr: "inherit",
    });
    const { failed, cores, machine } = JSON.parse(await new Response(child.stdout).text());
    expect(failed).toEqual({});
    expect(cores).toBe(cpus().length);
    expect(machine["memory.total"]).toBe(totalmem());
    expect(machine["cpu.utilization"]).toBeGreaterThanOrEqual(0);
    expect(machine).toHaveProperty(["filesystem.used@/"]);
  },
  60_000,
);
