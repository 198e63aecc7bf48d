import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { cgroupNameOf, findCgroupFolder } from "../run/machine.ts";

/** A control group that holds one run's processes and no others. */
export interface RunCgroup {
  readonly folder: string;
  /** Seconds of processor time, of its processes that have ended too; undefined once it is gone. */
  cpuSeconds(): number | undefined;
  /** Processes killed for memory; undefined where it doesn't say. */
  oomKills(): number | undefined;
  pids(): Set<number>;
}

/** Made for one job by its name: a container of any runtime, a job of Slurm, a scope of `systemd-run`. A login session is not. */
const jobFolder =
  /^(.*\/(?:(?:docker-|libpod-|cri-containerd-|crio-)?[0-9a-f]{64}(?:\.scope)?|job_\d+|run-[\w-]+\.(?:scope|service)))(?:\/|$)/;

/** The job's folder on the way to a process's; undefined where none is. */
export const jobFolderOf = (folder: string): string | undefined => jobFolder.exec(folder)?.[1];

/** Slurm's steps and tasks are folders inside the job's. */
const MAX_DEPTH = 4;

/** The group that `launch` made for the run, found through its process. */
export function findOwnCgroup(run: string, pid: number): RunCgroup | undefined {
  const folder = findCgroupFolder(pid);
  if (folder === undefined) return undefined;
  const name = cgroupNameOf(run);
  // That of `launch`, or of what it launched.
  for (const candidate of [folder, join(folder, name), join(dirname(folder), name)])
    if (basename(candidate) === name && existsSync(join(candidate, "cpu.stat"))) return open(candidate);
  return undefined;
}

/** The job's or container's group that a process is in; undefined where none is its own. */
export function findJobCgroup(pid: number): RunCgroup | undefined {
  const folder = jobFolderOf(findCgroupFolder(pid) ?? "");
  return folder !== undefined && existsSync(join(folder, "cpu.stat")) ? open(folder) : undefined;
}

function open(folder: string): RunCgroup {
  const read = (file: string) => {
    try {
      return readFileSync(join(folder, file), "latin1");
    } catch {
      return "";
    }
  };
  const numberIn = (file: string, key: string) => {
    const text = new RegExp(`^${key} (\\d+)$`, "m").exec(read(file))?.[1];
    return text === undefined ? undefined : Number(text);
  };
  return {
    folder,
    cpuSeconds() {
      const microseconds = numberIn("cpu.stat", "usage_usec");
      return microseconds === undefined ? undefined : microseconds / 1e6;
    },
    oomKills: () => numberIn("memory.events", "oom_kill"),
    pids: () => pidsIn(folder, MAX_DEPTH),
  };
}

function pidsIn(folder: string, depth: number): Set<number> {
  const pids = new Set<number>();
  try {
    for (const line of readFileSync(join(folder, "cgroup.procs"), "latin1").split("\n"))
      if (line !== "") pids.add(Number(line));
    if (depth > 0)
      for (const entry of readdirSync(folder, { withFileTypes: true }))
        if (entry.isDirectory()) for (const pid of pidsIn(join(folder, entry.name), depth - 1)) pids.add(pid);
  } catch {
    // It was removed meanwhile.
  }
  return pids;
}
