/** The processes of this machine, as /proc shows them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** USER_HZ of all usual kernels: the unit of times in /proc. */
export const TICKS_PER_SECOND = 100;
/** A process that is none of ours is looked at again after so many scans: its pid may be another's by then. */
const REREAD_AFTER = 30;

export interface Process {
  pid: number;
  parent: number;
  /** Ticks from boot to its start: the same pid with another start is another process. */
  start: number;
  /** Seconds of its own threads. */
  cpu: number;
  /** Seconds of children that have ended and were waited for, and of theirs. */
  childrenCpu: number;
  threads: number;
  /** Bytes. */
  rss: number;
  /** It has ended and nobody has waited for it yet. */
  ended: boolean;
}

/** /proc/<pid>/stat. The program's name stands in parentheses and may hold anything, parentheses too. */
export function parseProcess(pid: number, stat: string, pageBytes: number): Process | undefined {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ", 22);
  if (fields.length < 22) return undefined;
  const number = (index: number) => Number(fields[index]);
  return {
    pid,
    parent: number(1),
    start: number(19),
    cpu: (number(11) + number(12)) / TICKS_PER_SECOND,
    childrenCpu: (number(13) + number(14)) / TICKS_PER_SECOND,
    threads: number(17),
    rss: number(21) * pageBytes,
    ended: fields[0] === "Z" || fields[0] === "X",
  };
}

export interface ProcessTable {
  /** All there are now. Those for which `isFollowed`, and new ones, as they are now; others as they were a while ago. */
  scan(isFollowed: (pid: number) => boolean): ReadonlyMap<number, Process>;
  read(pid: number): Process | undefined;
  /** Ticks since boot. */
  now(): number;
  /** A file of a process; undefined where it can't be read. */
  text(pid: number, file: string): string | undefined;
}

/** A host has thousands of processes, a run a few: one look reads the names of all and the figures of few. */
export function createProcessTable(root = "/proc"): ProcessTable {
  const pageBytes = readPageBytes(root);
  let known = new Map<number, Process>();
  let age = 0;

  function text(pid: number | "self", file: string): string | undefined {
    try {
      return readFileSync(join(root, String(pid), file), "latin1");
    } catch {
      return undefined;
    }
  }

  function read(pid: number): Process | undefined {
    const stat = text(pid, "stat");
    return stat === undefined ? undefined : parseProcess(pid, stat, pageBytes);
  }

  return {
    read,
    text,
    now: () => Math.floor(Number.parseFloat(readFileSync(join(root, "uptime"), "latin1")) * TICKS_PER_SECOND),
    scan(isFollowed) {
      const isStale = age++ % REREAD_AFTER === 0;
      const found = new Map<number, Process>();
      for (const name of readdirSync(root)) {
        const pid = Number(name);
        if (!Number.isInteger(pid)) continue;
        const old = known.get(pid);
        const process = old && !isStale && !isFollowed(pid) ? old : read(pid);
        if (process) found.set(pid, process);
      }
      return (known = found);
    },
  };
}

/** From the auxiliary vector of this process: pairs of 64-bit words, 6 is the page's size. */
function readPageBytes(root: string): number {
  try {
    const vector = readFileSync(join(root, "self", "auxv"));
    for (let at = 0; at + 16 <= vector.length; at += 16)
      if (vector.readBigUInt64LE(at) === 6n) return Number(vector.readBigUInt64LE(at + 8));
  } catch {
    // Most machines have pages of that size.
  }
  return 4096;
}

/** "A=1\0B=2\0": the value of a variable. */
export function variableOf(environ: string, name: string): string | undefined {
  const at = environ.startsWith(`${name}=`) ? 0 : environ.indexOf(`\0${name}=`) + 1;
  if (at === 0 && !environ.startsWith(`${name}=`)) return undefined;
  const from = at + name.length + 1;
  const end = environ.indexOf("\0", from);
  return environ.slice(from, end < 0 ? undefined : end);
}

/** /proc/<pid>/io: bytes that really went to and came from a disk; undefined where it can't be read. */
export function parseIo(text: string): { read: number; written: number } | undefined {
  const read = /^read_bytes: (\d+)$/m.exec(text)?.[1];
  const written = /^write_bytes: (\d+)$/m.exec(text)?.[1];
  return read === undefined || written === undefined
    ? undefined
    : { read: Number(read), written: Number(written) };
}
