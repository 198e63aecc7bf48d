import { readlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { RunDevice } from "../device/schema.ts";
import { cgroupNameOf } from "../run/machine.ts";
import { roundReading } from "../sample/reading.ts";
import { createOwnership, type Claim } from "./ownership.ts";
import {
  createProcessTable,
  parseIo,
  TICKS_PER_SECOND,
  variableOf,
  type Process,
  type ProcessTable,
} from "./process-tree.ts";
import { findJobCgroup, findOwnCgroup, type RunCgroup } from "./run-cgroup.ts";
import { createTally, type Counted } from "./tally.ts";
import type { GpuEnvironment } from "./visible-gpus.ts";
import { createWriterSearch, type Root, type WriterProcess } from "./writer-process.ts";

/** What one look found of a run's processes. */
export interface RunLook {
  /** Readings, rounded; empty where none of its processes is there. */
  values: Record<string, number>;
  /** Seconds of processor time since it was attached. */
  cpuSeconds: number;
  attribution: RunDevice["attribution"];
  pids: ReadonlySet<number>;
  /** What its processes' environments say of GPUs, each once. */
  environments: readonly GpuEnvironment[];
  /** When the first of its processes that are there started, ms since the epoch. */
  earliest: number | null;
  /** Processes of its own control group that were killed for memory since the last look. */
  oomKills: number;
}

export interface Attribution {
  /**
   * The writers of a live run; those that are processes of this machine own their trees. `since`: ms since the epoch; what their
   * processes used before it is not the run's, but for what `launch` starts, where it is not `restored`. False where none is here.
   */
  attach(
    run: string,
    writers: readonly WriterProcess[],
    options: { since: number; restored: boolean },
  ): boolean;
  /** Looks at every run that is attached. One pass over /proc serves all. */
  look(): Map<string, RunLook>;
  /** Looks a last time. */
  detach(run: string): RunLook | undefined;
  isEmpty(): boolean;
}

interface Tracked {
  run: string;
  rootByClient: Map<string, Root>;
  /** Its processes by pid, with their start: one that loses its parent stays the run's. */
  members: Map<number, number>;
  cpuSeconds: number;
  cpu: ReturnType<typeof createTally>;
  read: ReturnType<typeof createTally>;
  written: ReturnType<typeof createTally>;
  cgroup: { files: RunCgroup; counted: number; oomKills: number } | undefined;
  cgroupTries: number;
  environments: Map<number, { start: number; looks: number; environment: GpuEnvironment }>;
  lastLook: number | undefined;
  pss: { value: number; at: number } | undefined;
  pssDue: number;
}

interface Options {
  /** The collector: what descends from it is no run's, though `launch` may have started it. */
  self?: number;
  table?: ProcessTable;
  /** ms on a clock that nobody sets. */
  monotonic?: () => number;
  now?: () => number;
}

const PSS_EVERY_MS = 30_000;
/** Walking the pages of large processes takes so long that it is done seldom. */
const PSS_SLOW_MS = 250;
const CGROUP_TRIES = 10;

/** What the processes of each run use. */
export function createAttribution({
  self = process.pid,
  table = createProcessTable(),
  monotonic = () => performance.now(),
  now = Date.now,
}: Options = {}): Attribution {
  const resolve = createWriterSearch(table, now);
  const ownership = createOwnership({ self, table, monotonic });
  const ownMounts = link("self", "ns/mnt");
  const trackedByRun = new Map<string, Tracked>();

  function attach(
    run: string,
    writers: readonly WriterProcess[],
    { since, restored }: { since: number; restored: boolean },
  ): boolean {
    const old = trackedByRun.get(run);
    const roots = new Map<string, Root>();
    for (const writer of writers) {
      const root = old?.rootByClient.get(writer.client) ?? resolve(writer, since);
      if (root) roots.set(writer.client, root);
    }
    if (roots.size === 0) return false;
    if (old) {
      // A writer that is done may go on as a process, with something else.
      for (const [client, { pid }] of old.rootByClient) if (!roots.has(client)) old.members.delete(pid);
      old.rootByClient = roots;
      ownership.doubt();
      return true;
    }
    // All that `launch` starts is the run's from its first instruction, however late we come to know of it.
    const launched = [...roots.values()].filter(({ role }) => role === "launch").map(({ start }) => start);
    const from = restored || launched.length === 0 ? table.now() : Math.min(...launched);
    const tracked: Tracked = {
      run,
      rootByClient: roots,
      members: new Map(),
      cpuSeconds: 0,
      cpu: createTally(from),
      read: createTally(from),
      written: createTally(from),
      cgroup: undefined,
      cgroupTries: 0,
      environments: new Map(),
      lastLook: undefined,
      pss: undefined,
      pssDue: monotonic() + 3000,
    };
    trackedByRun.set(run, tracked);
    ownership.doubt();
    // One that is there already counts from where it stands.
    findCgroup(tracked, true);
    lookAt([tracked]);
    return true;
  }

  function findCgroup(tracked: Tracked, isFirst: boolean): void {
    if (tracked.cgroup || tracked.cgroupTries++ > CGROUP_TRIES) return;
    for (const { pid, role } of tracked.rootByClient.values()) {
      const own = findOwnCgroup(tracked.run, pid);
      const files = own ?? (role === "client" ? findJobCgroup(pid) : undefined);
      if (!files || isShared(files, tracked)) continue;
      const used = files.cpuSeconds();
      if (used === undefined) continue;
      const counted = isFirst || !own ? used : Math.min(used, tracked.cpuSeconds);
      tracked.cgroup = { files, counted, oomKills: files.oomKills() ?? 0 };
      return;
    }
  }

  /** With the collector, or with another run. */
  function isShared({ folder, pids }: RunCgroup, { run }: Tracked): boolean {
    const inside = pids();
    if (inside.has(self)) return true;
    for (const other of trackedByRun.values()) {
      if (other.run === run) continue;
      if (other.cgroup?.files.folder === folder) return true;
      for (const { pid } of other.rootByClient.values())
        if (inside.has(pid) && !folder.endsWith(`/${cgroupNameOf(run)}`)) return true;
    }
    return false;
  }

  function look(): Map<string, RunLook> {
    return lookAt([...trackedByRun.values()]);
  }

  function lookAt(wanted: Tracked[]): Map<string, RunLook> {
    const followed = new Set<number>();
    for (const { members, rootByClient } of trackedByRun.values()) {
      for (const pid of members.keys()) followed.add(pid);
      for (const { pid } of rootByClient.values()) followed.add(pid);
    }
    const processes = table.scan((pid) => followed.has(pid));
    const claims = new Map<Tracked, Claim>();
    for (const tracked of trackedByRun.values()) {
      findCgroup(tracked, false);
      const { run, rootByClient, members, cgroup } = tracked;
      claims.set(tracked, {
        run,
        roots: [...rootByClient.values()],
        members,
        inCgroup: cgroup?.files.pids(),
      });
    }
    const owners = ownership.ownersOf(processes, [...claims.values()]);
    const looks = new Map<string, RunLook>();
    for (const tracked of wanted)
      looks.set(tracked.run, account(tracked, processes, owners, claims.get(tracked)?.inCgroup));
    return looks;
  }

  function account(
    tracked: Tracked,
    processes: ReadonlyMap<number, Process>,
    owners: ReadonlyMap<number, ReadonlySet<string>>,
    inCgroup: ReadonlySet<number> | undefined,
  ): RunLook {
    const { run, rootByClient } = tracked;
    const cpu = new Map<number, Counted>();
    const read = new Map<number, Counted>();
    const written = new Map<number, Counted>();
    const launches = new Map<number, Counted>();
    const pids = new Set<number>();
    let rss = 0;
    let threads = 0;
    let living = 0;
    let isIoKnown = true;
    let earliest = Infinity;

    for (const { pid, start, role } of rootByClient.values()) {
      const found = processes.get(pid);
      if (role !== "launch" || found?.start !== start || owners.get(pid)?.has(run)) continue;
      const counts = inCgroup ? "none" : "waited";
      launches.set(pid, { start, parent: 0, own: 0, waited: found.childrenCpu, counts });
    }
    for (const [pid, runs] of owners) {
      const found = processes.get(pid)!;
      if (!runs.has(run)) continue;
      const { start, parent } = found;
      pids.add(pid);
      cpu.set(pid, {
        start,
        parent,
        own: found.cpu,
        waited: found.childrenCpu,
        counts: inCgroup?.has(pid) ? "none" : "all",
      });
      if (found.ended) continue;
      living++;
      rss += found.rss;
      threads += found.threads;
      earliest = Math.min(earliest, start);
      const io = parseIo(table.text(pid, "io") ?? "");
      if (io) {
        read.set(pid, { start, parent, own: 0, waited: io.read, counts: "all" });
        written.set(pid, { start, parent, own: 0, waited: io.written, counts: "all" });
      } else isIoKnown = false;
    }
    tracked.members = new Map([...cpu].map(([pid, { start }]) => [pid, start]));

    const usedBefore = tracked.cpuSeconds;
    tracked.cpuSeconds += tracked.cpu.grow(new Map([...launches, ...cpu]));
    const { cgroup } = tracked;
    let oomKills = 0;
    if (cgroup) {
      const used = cgroup.files.cpuSeconds() ?? cgroup.counted;
      tracked.cpuSeconds += Math.max(0, used - cgroup.counted);
      cgroup.counted = Math.max(cgroup.counted, used);
      const kills = cgroup.files.oomKills() ?? cgroup.oomKills;
      oomKills = Math.max(0, kills - cgroup.oomKills);
      cgroup.oomKills = kills;
    }
    const bytesRead = tracked.read.grow(read);
    const bytesWritten = tracked.written.grow(written);
    const time = monotonic();
    const seconds = tracked.lastLook === undefined ? 0 : (time - tracked.lastLook) / 1000;
    tracked.lastLook = time;

    const values: Record<string, number> = {};
    const put = (name: string, value: number) => (values[name] = roundReading(name, value));
    if (living > 0) {
      if (seconds > 0.01) {
        put("run.cpu", (tracked.cpuSeconds - usedBefore) / seconds);
        if (isIoKnown) {
          put("run.disk.read", bytesRead / seconds);
          put("run.disk.write", bytesWritten / seconds);
        }
      }
      put("run.memory.rss", rss);
      put("run.threads", threads);
      put("run.processes", living);
      if (time >= tracked.pssDue) void readPss(tracked, [...pids], time);
      if (tracked.pss && time - tracked.pss.at < 2 * PSS_EVERY_MS) put("run.memory.pss", tracked.pss.value);
    }
    return {
      values,
      cpuSeconds: tracked.cpuSeconds,
      attribution: attributionOf(tracked, pids),
      pids,
      environments: environmentsOf(tracked, processes, pids),
      earliest: earliest === Infinity ? null : now() - ((table.now() - earliest) / TICKS_PER_SECOND) * 1000,
      oomKills,
    };
  }

  /** By the best sign there is. */
  function attributionOf({ cgroup, run }: Tracked, pids: ReadonlySet<number>): RunDevice["attribution"] {
    if (cgroup) return "cgroup";
    if (pids.size === 0) return null;
    const roots = trackedByRun.get(run)?.rootByClient.values() ?? [];
    const isRooted = [...roots].some(({ pid, role }) => role === "launch" || pids.has(pid));
    return isRooted ? "descendants" : "environment";
  }

  function environmentsOf(
    tracked: Tracked,
    processes: ReadonlyMap<number, Process>,
    pids: ReadonlySet<number>,
  ): GpuEnvironment[] {
    const all = new Map<string, GpuEnvironment>();
    for (const pid of tracked.environments.keys()) if (!pids.has(pid)) tracked.environments.delete(pid);
    for (const pid of pids) {
      const { start, ended } = processes.get(pid)!;
      if (ended) continue;
      let known = tracked.environments.get(pid);
      // At first it may be between fork and exec, with its parent's.
      if (known?.start !== start || known.looks < 3) {
        const looks = known?.start === start ? known.looks + 1 : 1;
        tracked.environments.set(pid, (known = { start, looks, environment: readEnvironment(pid) }));
      }
      all.set(JSON.stringify(known.environment), known.environment);
    }
    return [...all.values()];
  }

  function readEnvironment(pid: number): GpuEnvironment {
    const environ = table.text(pid, "environ") ?? "";
    const mounts = link(pid, "ns/mnt");
    return {
      cuda: variableOf(environ, "CUDA_VISIBLE_DEVICES"),
      order: variableOf(environ, "CUDA_DEVICE_ORDER"),
      container: variableOf(environ, "NVIDIA_VISIBLE_DEVICES"),
      elsewhere: mounts !== undefined && ownMounts !== undefined && mounts !== ownMounts,
    };
  }

  /** Off the event loop: the kernel walks every page of the process. */
  async function readPss(tracked: Tracked, pids: number[], at: number): Promise<void> {
    tracked.pssDue = Infinity;
    let sum = 0;
    let isWhole = true;
    const began = monotonic();
    for (const pid of pids)
      try {
        const text = await readFile(`/proc/${pid}/smaps_rollup`, "latin1");
        sum += Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
      } catch (error) {
        // Gone is gone; what may not be read would be missing.
        if ((error as NodeJS.ErrnoException).code === "EACCES") isWhole = false;
      }
    const took = monotonic() - began;
    tracked.pssDue = at + (took > PSS_SLOW_MS ? 10 * PSS_EVERY_MS : PSS_EVERY_MS);
    tracked.pss = isWhole && sum > 0 ? { value: sum, at: monotonic() } : undefined;
  }

  return {
    attach,
    look,
    detach(run) {
      const tracked = trackedByRun.get(run);
      if (!tracked) return undefined;
      const last = lookAt([tracked]).get(run);
      trackedByRun.delete(run);
      if (trackedByRun.size === 0) ownership.forget();
      return last;
    },
    isEmpty: () => trackedByRun.size === 0,
  };
}

function link(pid: number | "self", name: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/${name}`);
  } catch {
    return undefined;
  }
}
