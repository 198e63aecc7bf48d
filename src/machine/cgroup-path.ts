/** Where in the hierarchies of control groups a process is, and what lies above it. */
import { dirname, join } from "node:path";

/** Paths by controller; version 2 is the controller "". */
export function parsePaths(text: string): Map<string, string> {
  const pathByController = new Map<string, string>();
  for (const line of text.split("\n")) {
    // 4:memory:/docker/0123, and a path may hold colons.
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    for (const controller of controllers.split(",")) pathByController.set(controller, path);
  }
  return pathByController;
}

interface Hierarchy {
  /** What of the hierarchy the mount shows; "/" but where an engine shows a container only its own part. */
  folder: string;
  mount: string;
}

/** Where each controller's groups are; version 2 is "". */
export function parseHierarchies(mountinfo: string): Map<string, Hierarchy> {
  const hierarchyByController = new Map<string, Hierarchy>();
  for (const line of mountinfo.split("\n")) {
    const [before, after] = line.split(" - ", 2);
    const [, , , folder, mount] = (before ?? "").split(" ");
    const [type, , options] = (after ?? "").split(" ");
    if (folder === undefined || mount === undefined) continue;
    if (type === "cgroup2") hierarchyByController.set("", { folder, mount });
    if (type === "cgroup")
      for (const option of options?.split(",") ?? []) hierarchyByController.set(option, { folder, mount });
  }
  return hierarchyByController;
}

/** The group and those above it, as far as the mount shows them. */
export function groupsToRoot({ folder, mount }: Hierarchy, path: string): string[] {
  const inside =
    folder === "/"
      ? path
      : path === folder || path.startsWith(`${folder}/`)
        ? path.slice(folder.length)
        : "/";
  const groups: string[] = [];
  // A group outside our namespace is "/../…": the mount's own root is the nearest we can see.
  for (let at = inside.startsWith("/..") ? "/" : inside || "/"; ; at = dirname(at)) {
    groups.push(at === "/" ? mount : join(mount, at));
    if (at === "/") return groups;
  }
}

/** Numbers of "0-3,8,10-11". */
export function countList(list: string): number {
  let count = 0;
  for (const range of list.trim().split(",")) {
    const [from, to = from] = range.split("-").map(Number);
    if (range !== "" && Number.isInteger(from) && Number.isInteger(to)) count += to! - from! + 1;
  }
  return count;
}
