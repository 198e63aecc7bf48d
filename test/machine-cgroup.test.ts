// runs alone
import { afterAll, expect, test } from "bun:test";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createMachine } from "../src/machine/machine.ts";
import { ratesOf } from "../src/machine/rates.ts";
import { layOutText, recorder } from "./helpers/machine.ts";

const MiB = 2 ** 20;
const name = `binnacle-test-${process.pid}`;
const mount = "/sys/fs/cgroup";
const children: ChildProcess[] = [];
const folders: string[] = [];
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

/** Two nested groups: the outer has the limits. undefined where this machine lets us make none. */
function makeGroups(limits: { quota: number; memory: number }): string[] | undefined {
  const isV1 = existsSync(join(mount, "memory/memory.limit_in_bytes"));
  const roots = isV1 ? ["cpu", "cpuacct", "memory"].map((controller) => join(mount, controller)) : [mount];
  try {
    if (!isV1) {
      const has = readFileSync(join(mount, "cgroup.subtree_control"), "utf8").split(/\s+/);
      if (!has.includes("memory") || !has.includes("cpu")) return undefined;
    }
    for (const root of roots) {
      const outer = join(root, name);
      mkdirSync(outer);
      folders.push(outer);
      if (!isV1) writeFileSync(join(outer, "cgroup.subtree_control"), "+memory +cpu");
      mkdirSync(join(outer, "inner"));
      folders.push(join(outer, "inner"));
    }
    const outer = (controller: string) => join(mount, isV1 ? controller : "", name);
    if (isV1) {
      writeFileSync(join(outer("cpu"), "cpu.cfs_period_us"), "100000");
      writeFileSync(join(outer("cpu"), "cpu.cfs_quota_us"), String(limits.quota * 100_000));
      writeFileSync(join(outer("memory"), "memory.limit_in_bytes"), String(limits.memory));
    } else {
      writeFileSync(join(outer(""), "cpu.max"), `${limits.quota * 100_000} 100000`);
      writeFileSync(join(outer(""), "memory.max"), String(limits.memory));
    }
    return roots.map((root) => join(root, name, "inner"));
  } catch {
    return undefined;
  }
}

const limits = { quota: 0.5, memory: 64 * MiB };
const groups = process.platform === "linux" ? makeGroups(limits) : undefined;
if (groups === undefined)
  console.error("*** SKIPPED: limits of a real control group: needs one that may be made in /sys/fs/cgroup.");

/** A shell that joins the groups and then does this. */
function inGroups(script: string): ChildProcess {
  const joins = groups!.map((group) => `echo $$ > ${group}/cgroup.procs`);
  const child = spawn("sh", ["-c", [...joins, "echo ready", script].join("\n")], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  children.push(child);
  return child;
}

test.skipIf(groups === undefined)(
  "a real group's limits, use, throttling and kills, though the limits are its parent's",
  async () => {
    const spinning = inGroups("while :; do :; done");
    await once(spinning.stdout!, "data");
    const machine = createMachine({ pid: spinning.pid! });
    try {
      const before = machine.read()!;
      expect(before.failed).toEqual({});
      expect(before.cgroup).toMatchObject({ cpuLimit: limits.quota, memoryLimit: limits.memory });
      await Bun.sleep(2000);
      const between = machine.read()!;
      const { cgroup } = ratesOf(before, between);
      // Half a processor is all it gets, where it gets that much among others.
      expect(cgroup!["cpu.cores"]).toBeGreaterThan(0.1);
      expect(cgroup!["cpu.cores"]).toBeLessThan(0.6);
      expect(cgroup!["cpu.utilization"]).toBeCloseTo(cgroup!["cpu.cores"]! / limits.quota, 1);
      expect(cgroup!["cpu.throttled"]).toBeGreaterThan(0.1);
      expect(cgroup!["memory.total"]).toBe(limits.memory);

      // Twice as much as it may have: tail keeps a line in memory until it ends.
      const greedy = inGroups(`head -c ${2 * limits.memory} /dev/zero | tail`);
      await once(greedy, "exit");
      const after = machine.read()!;
      expect(after.cgroup!.oomKills).toBe((before.cgroup!.oomKills ?? 0) + 1);
      expect(ratesOf(between, after).oomKills).toBeGreaterThanOrEqual(1);
    } finally {
      machine.close();
    }
  },
);

test.skipIf(groups === undefined)(
  "record.sh writes down the limits of the groups above its own",
  async () => {
    const recording = inGroups(`exec sh '${recorder}' recorded 'In a group of its own.'`);
    let text = "";
    recording.stdout!.on("data", (chunk) => (text += chunk));
    await once(recording, "close");
    const root = layOutText("recorded", text);
    const machine = createMachine({ root });
    try {
      const { cgroup, failed } = machine.read()!;
      expect(failed).toEqual({});
      expect(cgroup).toMatchObject({ cpuLimit: limits.quota, memoryLimit: limits.memory });
      expect(cgroup!.memoryUsed).toBeGreaterThan(0);
      expect(cgroup!.memoryUsed).toBeLessThan(limits.memory);
      expect(cgroup!.cpuSeconds).toBeGreaterThan(0);
    } finally {
      machine.close();
      rmSync(root, { recursive: true });
    }
  },
);
