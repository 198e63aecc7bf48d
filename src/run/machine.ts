import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Identity of this boot of this machine: pids mean nothing beyond it. undefined where the system tells none. */
export function readBootId(): string | undefined {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return undefined;
  }
}

/** EPERM also means that the process is there: it is somebody else's. */
export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ESRCH";
  }
}

/** Ticks from boot to the process's start: its pid is another's one day, both together are not. undefined where it is gone. */
export function readProcessStart(pid: number | "self"): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field is the program's name, in parentheses, and may hold anything.
    const start = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ", 20)[19]);
    return Number.isSafeInteger(start) ? start : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The folder of a process's control group (version 2); undefined where there is none, or where what we see of the tree does not
 * reach it, as from inside a container.
 */
export function findCgroupFolder(pid: number | "self"): string | undefined {
  try {
    const path = /^0::(\/.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[1];
    const [, root, mount] =
      /^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup2 /m.exec(readFileSync("/proc/self/mountinfo", "utf8")) ?? [];
    if (path === undefined || root === undefined || mount === undefined || path.includes("/.."))
      return undefined;
    if (root === "/") return join(mount, path);
    return path === root || path.startsWith(`${root}/`) ? join(mount, path.slice(root.length)) : undefined;
  } catch {
    return undefined;
  }
}

/** The control group that `launch` makes for a run's program, beside or inside its own. */
export const cgroupNameOf = (run: string): string => `binnacle-run-${run}`;
