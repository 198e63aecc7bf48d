import { hostname } from "node:os";
import { readBootId } from "../run/machine.ts";
import type { WriterRole } from "../run/schema.ts";
import { TICKS_PER_SECOND, type ProcessTable } from "./process-tree.ts";

/** A writer as it registered; null where it did not say. */
export interface WriterProcess {
  client: string;
  role: WriterRole;
  pid: number | null;
  boot: string | null;
  start: number | null;
  device: string | null;
}

/** A process that a writer is: it, and what descends from it, is the run's. */
export interface Root {
  pid: number;
  start: number;
  role: WriterRole;
}

/** Which process of this machine a writer is that registered at `since`, ms since the epoch; undefined where it is none. */
export function createWriterSearch(
  table: ProcessTable,
  now: () => number,
): (writer: WriterProcess, since: number) => Root | undefined {
  const boot = readBootId();
  const host = hostname();
  return (writer, since) => {
    const { pid, role } = writer;
    if (pid === null || boot === undefined || writer.boot !== boot) return undefined;
    const found = table.read(pid);
    if (found && !found.ended) {
      const registered = table.now() - ((now() - since) / 1000) * TICKS_PER_SECOND;
      const isIt =
        writer.start === null
          ? writer.device === host && found.start <= registered + TICKS_PER_SECOND
          : found.start === writer.start;
      if (isIt) return { pid, start: found.start, role };
    }
    if (writer.start === null) return undefined;
    // In a container it has another number; its start is the same.
    for (const candidate of table.scan(() => false).values()) {
      if (candidate.start !== writer.start) continue;
      const numbers = /^NSpid:\s*(.+)$/m.exec(table.text(candidate.pid, "status") ?? "")?.[1]?.split(/\s+/);
      if (numbers && numbers.length > 1 && Number(numbers.at(-1)) === pid)
        return { pid: candidate.pid, start: candidate.start, role };
    }
    return undefined;
  };
}
