import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { enterOwnCgroup } from "../src/launch/cgroup.ts";
import { cgroupNameOf, findCgroupFolder } from "../src/run/machine.ts";
import { loudly } from "./helpers/binary.ts";

/** A folder that looks as a control group's does: only what is made where, not what the kernel makes of it. */
const root = mkdtempSync(join(tmpdir(), "cgroup-of-binnacle-"));
afterEach(() => {
  for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true });
});
const make = (...names: string[]) => {
  const folder = join(root, ...names);
  mkdirSync(folder, { recursive: true });
  return folder;
};

describe("a control group for the program", () => {
  test("is made in launch's own", async () => {
    await enterOwnCgroup("1", make("user@1000.service", "app.slice"));
    expect(readdirSync(join(root, "user@1000.service", "app.slice"))).toEqual(["binnacle-run-1"]);
  });

  test("of a launch inside a launched program is made beside the outer one's", async () => {
    await enterOwnCgroup("2", make("binnacle-run-1"));
    expect(readdirSync(root).sort()).toEqual(["binnacle-run-1", "binnacle-run-2"]);
  });

  test("stays alone where there is none, or nobody may", async () => {
    for (const current of [join(root, "missing"), "/proc/self"]) {
      const cgroup = await enterOwnCgroup("1", current);
      await cgroup.leave();
      cgroup.remove();
    }
    expect(readdirSync(root)).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)("is not made by root where systemd alone makes groups", async () => {
    const session = make("user.slice", "user-0.slice", "session-3.scope");
    await enterOwnCgroup("1", session);
    expect(readdirSync(session)).toEqual([]);
    const container = make("system.slice", `docker-${"0f".repeat(32)}.scope`);
    await enterOwnCgroup("1", container);
    expect(readdirSync(container)).toEqual(["binnacle-run-1"]);
  });

  test("that a launch which was killed left behind goes with the next one, if it is empty and old", async () => {
    const [old, fresh, used] = ["old", "fresh", "used"].map((run) => make(cgroupNameOf(run)));
    mkdirSync(join(used!, "inner"));
    const other = make("other");
    const before = new Date(Date.now() - 3_600_000);
    for (const folder of [old!, used!, other]) utimesSync(folder, before, before);
    const cgroup = await enterOwnCgroup("1", root);
    await cgroup.leave();
    expect([old, fresh, used, other].map((folder) => existsSync(folder!))).toEqual([false, true, true, true]);
  });
});

const own = findCgroupFolder("self");
const probe = `
  import { spawnSync } from "node:child_process";
  import { enterOwnCgroup } from "${join(import.meta.dirname, "../src/launch/cgroup.ts")}";
  import { findCgroupFolder } from "${join(import.meta.dirname, "../src/run/machine.ts")}";
  const before = findCgroupFolder("self");
  const cgroup = await enterOwnCgroup("probe${process.pid}");
  const child = spawnSync("cat", ["/proc/self/cgroup"]).stdout.toString();
  await cgroup.leave();
  const after = findCgroupFolder("self");
  cgroup.remove();
  console.log(JSON.stringify({ before, child, after }));
`;

test("the kernel starts the program in it, and launch is back where it was", async () => {
  const result = Bun.spawnSync([process.execPath, "-e", probe]);
  const { before, child, after } = JSON.parse(result.stdout.toString());
  expect(after ?? null).toBe(before ?? null);
  if (own === undefined || !child.includes(`binnacle-run-probe${process.pid}`)) {
    loudly("no program is started in a control group of its own: ours is not to be divided");
    return;
  }
  expect(existsSync(join(own, `binnacle-run-probe${process.pid}`))).toBe(false);
});
