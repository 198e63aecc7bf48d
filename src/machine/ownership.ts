import { variableOf, type Process, type ProcessTable } from "./process-tree.ts";
import type { Root } from "./writer-process.ts";

/** What makes processes a run's. */
export interface Claim {
  run: string;
  roots: Iterable<Root>;
  /** Those it had, by pid, with their start: one that loses its parent stays the run's. */
  members: ReadonlyMap<number, number>;
  /** Those in a control group that is the run's alone. */
  inCgroup: ReadonlySet<number> | undefined;
}

export interface Ownership {
  /** By pid the runs that a process belongs to; who belongs to none is not among them. */
  ownersOf(
    processes: ReadonlyMap<number, Process>,
    claims: readonly Claim[],
  ): Map<number, ReadonlySet<string>>;
  /** Somebody new came: who descends from nobody is worked out again. */
  doubt(): void;
  /** No run is left. */
  forget(): void;
}

interface Options {
  /** What descends from it is no run's, though `launch` may have started it. */
  self: number;
  table: ProcessTable;
  monotonic: () => number;
}

/** Variables that name a run to its program and all that descends from it. */
const MARKERS = ["BINNACLE_RUN_ID", "FEDML_CURRENT_RUN_ID"];
const MARK_EVERY_MS = 10_000;

/**
 * Whose a process is: by the control group that `launch` made or a job's own, else by descent from a writer, else by a variable in
 * its environment. What a nested launch starts belongs to the nested run alone.
 */
export function createOwnership({ self, table, monotonic }: Options): Ownership {
  /** By pid the run that a process's environment names, where it names one. */
  let markByPid = new Map<number, { start: number; run: string | undefined }>();
  let marksDue = 0;
  /** Processes that descend from nobody, until somebody new comes: most of a host's, and not worked out every second. */
  let strangers = new WeakSet<Process>();

  function ownersOf(
    processes: ReadonlyMap<number, Process>,
    claims: readonly Claim[],
  ): Map<number, ReadonlySet<string>> {
    if (claims.length > 0) readMarks(processes);
    const claimed = new Set(claims.map(({ run }) => run));
    const launched = new Map<number, Set<string>>();
    /** Whatever it descends from. */
    const named = new Map<number, Set<string>>();
    /** Where it descends from nobody any more. */
    const kept = new Map<number, Set<string>>();
    const add = (to: Map<number, Set<string>>, pid: number, run: string) =>
      to.set(pid, (to.get(pid) ?? new Set()).add(run));
    for (const { run, roots, members, inCgroup } of claims) {
      for (const { pid, start, role } of roots)
        if (processes.get(pid)?.start === start) add(role === "launch" ? launched : named, pid, run);
      for (const [pid, start] of members) if (processes.get(pid)?.start === start) add(kept, pid, run);
      // `launch` is in it while it starts the program.
      for (const pid of inCgroup ?? []) if (!launched.get(pid)?.has(run)) add(named, pid, run);
    }
    for (const [pid, { run }] of markByPid) if (run !== undefined && claimed.has(run)) add(named, pid, run);

    const owners = new Map<number, ReadonlySet<string>>();
    const passedOn = (pid: number): ReadonlySet<string> => launched.get(pid) ?? ownersOfOne(pid);
    function ownersOfOne(pid: number): ReadonlySet<string> {
      const known = owners.get(pid);
      if (known) return known;
      const found = processes.get(pid);
      if (!found || strangers.has(found)) return NOBODY;
      owners.set(pid, NOBODY);
      if (pid === self || descendsFromSelf(found, processes)) return NOBODY;
      const inherited = found.parent === 0 ? NOBODY : passedOn(found.parent);
      const own = named.get(pid) ?? (inherited.size === 0 ? kept.get(pid) : undefined);
      const all = own ? (inherited.size === 0 ? own : new Set([...own, ...inherited])) : inherited;
      owners.set(pid, all);
      return all;
    }
    for (const pid of named.keys()) strangers.delete(processes.get(pid)!);
    for (const pid of processes.keys()) ownersOfOne(pid);
    for (const [pid, runs] of owners)
      if (runs.size === 0) {
        if (!launched.has(pid)) strangers.add(processes.get(pid)!);
        owners.delete(pid);
      }
    return owners;
  }

  function descendsFromSelf({ parent }: Process, processes: ReadonlyMap<number, Process>): boolean {
    for (let pid = parent, depth = 0; pid > 1 && depth < 64; depth++) {
      if (pid === self) return true;
      pid = processes.get(pid)?.parent ?? 0;
    }
    return false;
  }

  function readMarks(processes: ReadonlyMap<number, Process>): void {
    if (monotonic() < marksDue) return;
    marksDue = monotonic() + MARK_EVERY_MS;
    const marks: typeof markByPid = new Map();
    for (const [pid, { start, rss }] of processes) {
      // Threads of the kernel have neither memory nor environment.
      if (rss === 0 || pid === self) continue;
      const known = markByPid.get(pid);
      if (known?.start === start) {
        marks.set(pid, known);
        continue;
      }
      const environ = table.text(pid, "environ") ?? "";
      const named = MARKERS.map((name) => variableOf(environ, name)).find((run) => run !== undefined);
      marks.set(pid, { start, run: named });
    }
    markByPid = marks;
    strangers = new WeakSet();
  }

  return {
    ownersOf,
    doubt: () => void (strangers = new WeakSet()),
    forget: () => void (markByPid = new Map()),
  };
}

const NOBODY: ReadonlySet<string> = new Set();
