import { afterAll, describe, expect, test } from "bun:test";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { createAttribution } from "../src/machine/attribution.ts";
import { findJobCgroup } from "../src/machine/run-cgroup.ts";
import type { WriterProcess } from "../src/machine/writer-process.ts";
import { findCgroupFolder, readBootId, readProcessStart } from "../src/run/machine.ts";
import { loudly } from "./helpers/binary.ts";

/** Some tenths of a second of processor time. */
const SPIN = "for ((i = 0; i < 150000; i++)); do :; done";
const folders: string[] = [];
const children: ChildProcess[] = [];
afterAll(async () => {
  for (const child of children) {
    const gone = child.exitCode !== null || child.signalCode !== null ? undefined : once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }
  for (const folder of folders.reverse())
    // What was killed may take a moment to leave.
    for (let attempt = 0; attempt < 50 && existsSync(folder); attempt += 1)
      try {
        rmdirSync(folder);
      } catch {
        await Bun.sleep(20);
      }
});

/** A slice with a container's group, one inside that, and one that is no job's; undefined where this machine lets us make none. */
function makeGroups() {
  const mount = /^\S+ \S+ \S+ \/ (\S+) .* - cgroup2 /m.exec(
    readFileSync("/proc/self/mountinfo", "utf8"),
  )?.[1];
  if (mount === undefined) return undefined;
  const slice = join(mount, `binnacle-test-${process.pid}.slice`);
  const scope = join(slice, `docker-${"0f".repeat(32)}.scope`);
  const groups = { scope, inner: join(scope, "init"), other: join(slice, "session-3.scope") };
  try {
    for (const folder of [slice, scope, groups.inner, groups.other]) {
      mkdirSync(folder);
      folders.push(folder);
    }
    return groups;
  } catch {
    return undefined;
  }
}

/** A shell of bash that joins the group, says so, and then does this. */
async function startIn(group: string, script: string): Promise<ChildProcess & { pid: number }> {
  const joins = `echo $$ > ${group}/cgroup.procs && echo ready`;
  const child = spawn("bash", ["--norc", "-c", `${joins}\n${script}`], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { PATH: process.env["PATH"] } as unknown as NodeJS.ProcessEnv,
  });
  children.push(child);
  await once(child.stdout!, "data");
  return child as ChildProcess & { pid: number };
}

const writer = (pid: number): WriterProcess => ({
  client: `c${pid}`,
  role: "client",
  pid,
  boot: readBootId()!,
  start: readProcessStart(pid) ?? null,
  device: hostname(),
});
const fresh = () => ({ since: Date.now(), restored: false });

const groups = process.platform === "linux" ? makeGroups() : undefined;
const noGroups =
  groups === undefined &&
  loudly("a run in a real container's control group: needs one of version 2 that may be made, as root may");

describe.skipIf(noGroups)("a job's real control group", () => {
  test("is found from the group inside it that a process is in, with all that is in it", async () => {
    const { scope, inner, other } = groups!;
    const outer = await startIn(scope, `${SPIN}; read`);
    const within = await startIn(inner, `${SPIN}; echo spun; read`);
    await once(within.stdout!, "data");
    const elsewhere = await startIn(other, "read");
    expect(findCgroupFolder(within.pid)).toBe(inner);
    const found = findJobCgroup(within.pid)!;
    expect(found.folder).toBe(scope);
    expect([...found.pids()].sort()).toEqual([outer.pid, within.pid].sort());
    expect(found.cpuSeconds()).toBeGreaterThan(0.05);
    expect(findJobCgroup(elsewhere.pid)).toBeUndefined();
    for (const child of [outer, within, elsewhere]) {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    }
    expect(findJobCgroup(within.pid)).toBeUndefined();
  });

  test("is the run's whose writer is in it: those that do not descend from it, and what came and went between two looks", async () => {
    const { scope, inner } = groups!;
    const program = await startIn(inner, "read");
    const beside = await startIn(scope, "read");
    const attribution = createAttribution({ self: -1 });
    expect(attribution.attach("1", [writer(program.pid)], fresh())).toBe(true);
    const before = attribution.look().get("1")!;
    expect(before.attribution).toBe("cgroup");
    expect([...before.pids].sort()).toEqual([program.pid, beside.pid].sort());

    const brief = await startIn(scope, SPIN);
    if (brief.exitCode === null) await once(brief, "exit");
    const after = attribution.look().get("1")!;
    expect([...after.pids].sort()).toEqual([program.pid, beside.pid].sort());
    expect(after.cpuSeconds - before.cpuSeconds).toBeGreaterThan(0.05);

    // Another run in the same group: it can't be told whose its use is.
    expect(attribution.attach("2", [writer(beside.pid)], fresh())).toBe(true);
    const second = attribution.look().get("2")!;
    expect(second.attribution).toBe("descendants");
    expect([...second.pids]).toEqual([beside.pid]);
  });
});
