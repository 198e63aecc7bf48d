/**
 * The control group we live in, of version 2 or 1: what it may use and what it uses. The limit that holds is the least
 * one on the path to the root, and what is set against it is the use of the group that has it: siblings fill it, too.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { least, type Around } from "./cgroup-group.ts";
import { countList, groupsToRoot, parseHierarchies, parsePaths } from "./cgroup-path.ts";
import { findV1 } from "./cgroup-v1.ts";
import { findV2 } from "./cgroup-v2.ts";
import { readKernelText } from "./kernel-file.ts";
import type { Cgroup } from "./reading.ts";

export interface CgroupSource {
  read(around: Around): Cgroup;
  close(): void;
}

/** undefined where nothing limits us below the machine and we are in no container. */
export function findCgroup(
  { root = "/", pid = "self" }: { root?: string; pid?: number | "self" },
  around: Pick<Around, "memory" | "cores">,
): CgroupSource | undefined {
  const text = (path: string) => readKernelText(join(root, path));
  const paths = parsePaths(text(`proc/${pid}/cgroup`) ?? "");
  const hierarchies = parseHierarchies(text(`proc/${pid}/mountinfo`) ?? "");
  const groups = (controller: string) => {
    const path = paths.get(controller);
    const hierarchy = hierarchies.get(controller);
    if (path === undefined || hierarchy === undefined) return [];
    return groupsToRoot(hierarchy, path).filter((group) => existsSync(join(root, group)));
  };
  const allowed = /^Cpus_allowed_list:\s*(.*)$/m.exec(text(`proc/${pid}/status`) ?? "")?.[1];
  const affinity = allowed === undefined ? undefined : countList(allowed);
  // A host can mount version 2 beside version 1, without controllers.
  const version = ["memory", "cpu", "cpuacct", "cpuset"].some((controller) => hierarchies.has(controller))
    ? 1
    : 2;
  const found = version === 1 ? findV1(groups, text) : findV2(groups(""), text);
  if (found === undefined) return undefined;

  const below = (limit: number | undefined, whole: number | undefined) =>
    limit !== undefined && (whole === undefined || limit < whole) ? limit : undefined;
  const memoryLimit = below(found.memoryLimit, around.memory);
  const cpuLimit = below(least([found.quota, found.cpuset, affinity]), around.cores);
  if (memoryLimit === undefined && cpuLimit === undefined && !found.container) return undefined;
  const limits = {
    version,
    container: found.container,
    ...(memoryLimit !== undefined && { memoryLimit }),
    ...(cpuLimit !== undefined && { cpuLimit }),
  } as const;
  const whole = { memory: memoryLimit !== undefined, quota: below(found.quota, around.cores) !== undefined };
  const reader = found.open(whole, root);
  return {
    read: (around) => ({ ...limits, ...reader.read(around) }),
    close: () => {
      for (const file of reader.files) file.close();
    },
  };
}
