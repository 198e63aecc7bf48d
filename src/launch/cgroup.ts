import { mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { cgroupNameOf, findCgroupFolder } from "../run/machine.ts";

/** A control group of the program's own: whatever it starts stays in it, and what has ended is still counted. */
export interface OwnCgroup {
  /** We are in it, and so is what we start now; then we go back. */
  leave(): Promise<void>;
  /** Takes it away once nothing is left in it. */
  remove(): void;
}

const none: OwnCgroup = { leave: async () => {}, remove: () => {} };

/** So long after it was made an empty one belongs to a launch that was killed, ms. */
const ORPHAN_MS = 60_000;

/** Units whose tree systemd leaves to who runs in them: a user's own manager, and containers. In others it alone makes groups. */
const delegated = /\/user@\d+\.service\/|\/(docker-|libpod-|cri-containerd-|crio-)[0-9a-f]{64}\.scope(\/|$)/;
const ofSystemd = /\.(slice|scope|service)(\/|$)/;

/**
 * Enters a control group made for the run, where ours lets us: in a container that has its own tree, under a user's systemd, or as root
 * where no systemd rules. No controller is switched on, as a group with processes may not: time and membership are counted without.
 * Where anything of it fails the program simply starts as it would have. It takes the kernel some 10 ms, and us none of them.
 */
export async function enterOwnCgroup(run: string, current = findCgroupFolder("self")): Promise<OwnCgroup> {
  if (current === undefined) return none;
  if (process.getuid?.() === 0 && ofSystemd.test(current) && !delegated.test(current)) return none;
  // A launch inside a launched program: beside the outer run's, not in it.
  const parent = basename(current).startsWith(cgroupNameOf("")) ? dirname(current) : current;
  const folder = join(parent, cgroupNameOf(run));
  try {
    mkdirSync(folder);
  } catch (error) {
    // Another launch of the same run has made it.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") return none;
  }
  const remove = () => {
    try {
      rmdirSync(folder);
    } catch {
      // Somebody is left in it.
    }
  };
  try {
    await writeFile(join(folder, "cgroup.procs"), "0");
  } catch {
    remove();
    return none;
  }
  return {
    async leave() {
      try {
        await writeFile(join(current, "cgroup.procs"), "0");
      } catch {
        // Then our own time counts as the run's, too.
      }
      removeOrphans(parent);
    },
    remove,
  };
}

function removeOrphans(parent: string): void {
  try {
    for (const name of readdirSync(parent)) {
      if (!name.startsWith(cgroupNameOf(""))) continue;
      const folder = join(parent, name);
      // The kernel refuses where a process is left.
      if (Date.now() - statSync(folder).mtimeMs > ORPHAN_MS)
        try {
          rmdirSync(folder);
        } catch {
          continue;
        }
    }
  } catch {
    // Another launch was quicker.
  }
}
