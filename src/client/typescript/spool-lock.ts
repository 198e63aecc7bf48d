import { linkSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { isProcessAlive, readBootId } from "../../run/machine.ts";

/** A process on another machine that shares the folder cannot be asked: its lock counts for so long. */
const FOREIGN_MS = 24 * 3600_000;

/** Locks this process holds. A pid alone would not do: in a container every process is "still running" as pid 1. */
const held = new Set<string>();

/** Takes `<file>.lock` unless a living process has it. Python's client writes the same file: `pid host boot`. */
export function lockSpool(file: string): boolean {
  if (held.has(file)) return false;
  const lock = `${file}.lock`;
  if (!createLock(lock)) {
    const text = readLock(lock);
    if (isHeld(lock, text) || !removeStale(lock, text) || !createLock(lock)) return false;
  }
  held.add(file);
  return true;
}

export function unlockSpool(file: string): void {
  if (held.delete(file)) rmSync(`${file}.lock`, { force: true });
}

function createLock(lock: string): boolean {
  try {
    writeFileSync(lock, `${process.pid} ${hostname()} ${readBootId() ?? ""}`, { flag: "wx", mode: 0o600 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function isHeld(lock: string, text: string): boolean {
  const [pid = "", host, boot = ""] = text.split(" ");
  if (!/^[1-9]\d*$/.test(pid)) return false;
  // An older client wrote the pid alone.
  if (host !== undefined && host !== hostname())
    return Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0) < FOREIGN_MS;
  const ownBoot = readBootId() ?? "";
  if (boot !== "" && ownBoot !== "" && boot !== ownBoot) return false;
  return Number(pid) !== process.pid && isProcessAlive(Number(pid));
}

/** By renaming, so that of two that find the same stale lock only one removes it, and a fresh one is put back. */
function removeStale(lock: string, text: string): boolean {
  const aside = `${lock}.${process.pid}`;
  try {
    renameSync(lock, aside);
    if (readLock(aside) !== text) {
      linkSync(aside, lock);
      return false;
    }
    return true;
  } catch {
    return false;
  } finally {
    rmSync(aside, { force: true });
  }
}

function readLock(lock: string): string {
  try {
    return readFileSync(lock, "utf8").trim();
  } catch {
    return "";
  }
}
