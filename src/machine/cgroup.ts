/**
 * The control group we live in, of version 2 or 1: what it may use and what it uses. The limit that holds is the least
 * one on the path to the root, and what is set against it is the use of the group that has it: siblings fill it, too.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { Fields, KernelFile, parseFlat, readKernelText } from "./kernel-file.ts";
import { groupPressure, readPressure } from "./pressure.ts";
import type { Cgroup } from "./reading.ts";

/** What is told of the machine around the group. */
export interface Around {
  /** Bytes of memory. */
  memory: number | undefined;
  cores: number | undefined;
  /** Whether a disk's I/O counts, by major:minor: what stands on others is counted at both. */
  isCounted(number: string): boolean;
}

export interface CgroupSource {
  read(around: Around): Cgroup;
  close(): void;
}

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

const least = (values: (number | undefined)[]): number | undefined => {
  const known = values.filter((value): value is number => value !== undefined && Number.isFinite(value));
  return known.length > 0 ? Math.min(...known) : undefined;
};

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

interface Found {
  container: boolean;
  memoryLimit: number | undefined;
  /** Cores by quota. */
  quota: number | undefined;
  cpuset: number | undefined;
  /** `limited`: which of the limits are below the machine, so that their groups' use is what counts. */
  open(limited: { memory: boolean; quota: boolean }, root: string): Reader;
}

interface Reader {
  files: KernelFile[];
  read(around: Around): Omit<Cgroup, "version" | "container">;
}

type ReadText = (path: string) => string | undefined;

/** The group with the least value; of equals the outermost, which is full first. */
function tightest(groups: readonly string[], limitOf: (group: string) => number | undefined) {
  let found: { group: string; limit: number } | undefined;
  for (const group of groups) {
    const limit = limitOf(group);
    if (limit !== undefined && Number.isFinite(limit) && (found === undefined || limit <= found.limit))
      found = { group, limit };
  }
  return found;
}

/** "max" and "-1" are none. */
const limitOf = (text: string | undefined) =>
  text === undefined || text === "max" || text.startsWith("-") ? undefined : Number(text);

function findV2(groups: readonly string[], text: ReadText): Found | undefined {
  const leaf = groups[0];
  const outermost = groups.at(-1);
  if (leaf === undefined || outermost === undefined) return undefined;
  const memory = tightest(groups, (group) => limitOf(text(join(group, "memory.max"))));
  const quota = tightest(groups, (group) => {
    const [max, period] = (text(join(group, "cpu.max")) ?? "max").split(" ");
    return max === "max" ? undefined : Number(max) / Number(period ?? 100_000);
  });
  // A group without the controller has the set of the nearest one that has it.
  const set = groups.map((group) => text(join(group, "cpuset.cpus.effective"))).find((list) => list);
  // The machine's own root is no group that could be limited, and has no type.
  const container = text(join(outermost, "cgroup.type")) !== undefined;
  return {
    container,
    memoryLimit: memory?.limit,
    quota: quota?.limit,
    cpuset: set === undefined ? undefined : countList(set),
    open(limited, root) {
      const ours = container ? outermost : leaf;
      const cpuGroup = (limited.quota ? quota?.group : undefined) ?? (limited.memory ? memory!.group : ours);
      const memoryGroup = limited.memory ? memory!.group : cpuGroup;
      return openV2(join(root, cpuGroup), join(root, memoryGroup));
    },
  };
}

function openV2(cpuGroup: string, memoryGroup: string): Reader {
  const open = (folder: string, name: string) => new KernelFile(join(folder, name), { isOneRecord: true });
  const cpu = open(cpuGroup, "cpu.stat");
  const current = open(memoryGroup, "memory.current");
  const stat = open(memoryGroup, "memory.stat");
  const events = open(memoryGroup, "memory.events");
  const io = open(memoryGroup, "io.stat");
  const pressure = groupPressure(cpuGroup, memoryGroup);
  return {
    files: [cpu, current, stat, events, io, ...Object.values(pressure)],
    read({ isCounted }) {
      const cpuStat = flat(cpu);
      const memoryUsed = single(current);
      const inactive = field(stat, INACTIVE_FILE);
      const transferred = diskUse(io, isCounted);
      return present({
        cpuSeconds: seconds(cpuStat?.get("usage_usec"), 1e6),
        periods: cpuStat?.get("nr_periods"),
        throttledPeriods: cpuStat?.get("nr_throttled"),
        throttledSeconds: seconds(cpuStat?.get("throttled_usec"), 1e6),
        memoryUsed,
        memoryWorkingSet: workingSet(memoryUsed, inactive),
        oomKills: flat(events)?.get("oom_kill"),
        ...transferred,
        pressure: readPressure(pressure),
      });
    },
  };
}

function findV1(groupsOf: (controller: string) => string[], text: ReadText): Found | undefined {
  const memoryGroups = groupsOf("memory");
  const cpuGroups = groupsOf("cpu");
  const accountGroups = groupsOf("cpuacct");
  const setGroups = groupsOf("cpuset");
  const ioGroups = groupsOf("blkio");
  if ([memoryGroups, cpuGroups, accountGroups, setGroups].every((groups) => groups.length === 0))
    return undefined;
  const memory = tightest(memoryGroups, (group) => limitOf(text(join(group, "memory.limit_in_bytes"))));
  const statText = memoryGroups[0] === undefined ? undefined : text(join(memoryGroups[0], "memory.stat"));
  // Also of the groups that a container is not shown.
  const hierarchical = limitOf(/^hierarchical_memory_limit (\d+)$/m.exec(statText ?? "")?.[1]);
  const quota = tightest(cpuGroups, (group) => {
    const limit = limitOf(text(join(group, "cpu.cfs_quota_us")));
    const period = limitOf(text(join(group, "cpu.cfs_period_us"))) ?? 100_000;
    return limit === undefined ? undefined : limit / period;
  });
  const set = setGroups
    .map((group) => text(join(group, "cpuset.effective_cpus")) ?? text(join(group, "cpuset.cpus")))
    .find((list) => list);
  // Only a hierarchy's own root has this file.
  const container = [memoryGroups, cpuGroups, accountGroups, setGroups].some(
    (groups) => groups.length > 0 && text(join(groups.at(-1)!, "cgroup.sane_behavior")) === undefined,
  );
  const ours = (groups: readonly string[]) => (container ? groups.at(-1) : groups[0]);
  return {
    container,
    memoryLimit: least([memory?.limit, hierarchical]),
    quota: quota?.limit,
    cpuset: set === undefined ? undefined : countList(set),
    open(limited, root) {
      const quotaGroup = limited.quota ? quota?.group : undefined;
      // The same group among those of another hierarchy, which has a path of its own.
      const depth = quotaGroup === undefined ? undefined : cpuGroups.length - cpuGroups.indexOf(quotaGroup);
      const account =
        depth === undefined ? ours(accountGroups) : accountGroups.at(-Math.min(depth, accountGroups.length));
      const memoryGroup = limited.memory ? (memory?.group ?? ours(memoryGroups)) : ours(memoryGroups);
      return openV1({
        cpu: at(root, quotaGroup ?? ours(cpuGroups)),
        account: at(root, account),
        memory: at(root, memoryGroup),
        io: at(root, ours(ioGroups)),
        // A kill is counted where the process was, and not in the groups above.
        kills: memoryGroups
          .slice(0, memoryGroups.indexOf(memoryGroup ?? "") + 1)
          .map((group) => join(root, group)),
      });
    },
  };
}

const at = (root: string, group: string | undefined) => (group === undefined ? undefined : join(root, group));

function openV1(
  group: Record<"cpu" | "account" | "memory" | "io", string | undefined> & { kills: string[] },
): Reader {
  const open = (folder: string | undefined, name: string) =>
    // What a controller that is not mounted would say is absent like a file.
    new KernelFile(join(folder ?? "/nonexistent", name), { isOneRecord: true });
  const usage = open(group.account, "cpuacct.usage");
  const cpu = open(group.cpu, "cpu.stat");
  const current = open(group.memory, "memory.usage_in_bytes");
  const stat = open(group.memory, "memory.stat");
  const ooms = group.kills.map((folder) => open(folder, "memory.oom_control"));
  const bytesFile = open(group.io, "blkio.throttle.io_service_bytes_recursive");
  const operationsFile = open(group.io, "blkio.throttle.io_serviced_recursive");
  return {
    files: [usage, cpu, current, stat, ...ooms, bytesFile, operationsFile],
    read({ isCounted }) {
      const cpuStat = flat(cpu);
      const memoryUsed = single(current);
      const transferred = blkio(bytesFile, isCounted);
      const operations = blkio(operationsFile, isCounted);
      return present({
        cpuSeconds: seconds(single(usage), 1e9),
        periods: cpuStat?.get("nr_periods"),
        throttledPeriods: cpuStat?.get("nr_throttled"),
        throttledSeconds: seconds(cpuStat?.get("throttled_time"), 1e9),
        memoryUsed,
        memoryWorkingSet: workingSet(memoryUsed, field(stat, TOTAL_INACTIVE_FILE)),
        oomKills: sum(ooms.map((oom) => flat(oom)?.get("oom_kill"))),
        readBytes: transferred?.read,
        writtenBytes: transferred?.write,
        reads: operations?.read,
        writes: operations?.write,
      });
    },
  };
}

/** Of those that are known; undefined where none is. */
function sum(values: (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length > 0 ? known.reduce((total, value) => total + value, 0) : undefined;
}

function flat(file: KernelFile): Map<string, number> | undefined {
  const bytes = file.read();
  return bytes && parseFlat(bytes);
}

function single(file: KernelFile): number | undefined {
  const bytes = file.read();
  return bytes && new Fields(bytes).number();
}

const INACTIVE_FILE = Buffer.from("inactive_file ");
const TOTAL_INACTIVE_FILE = Buffer.from("total_inactive_file ");

/** One of the 50 lines of memory.stat. */
function field(file: KernelFile, name: Buffer): number | undefined {
  const bytes = file.read();
  if (bytes === undefined) return undefined;
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine())
    if (fields.has(name)) return fields.number();
  return undefined;
}

const seconds = (value: number | undefined, unit: number) => (value === undefined ? undefined : value / unit);

const workingSet = (used: number | undefined, inactive: number | undefined) =>
  used === undefined || inactive === undefined ? undefined : Math.max(0, used - inactive);

/** What is not known is absent. */
function present<T extends Record<string, unknown>>(values: T) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

export interface GroupIo {
  readBytes: number;
  writtenBytes: number;
  reads: number;
  writes: number;
}

function diskUse(file: KernelFile, isCounted: (number: string) => boolean): GroupIo | undefined {
  const bytes = file.read();
  return bytes && parseIo(bytes, isCounted);
}

const EQUALS = 61;

/** io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0", a line a disk. */
export function parseIo(bytes: Buffer, isCounted: (number: string) => boolean): GroupIo {
  const sum = { readBytes: 0, writtenBytes: 0, reads: 0, writes: 0 };
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine()) {
    if (!isCounted(fields.word())) continue;
    for (let name = fields.word(EQUALS); name !== ""; name = fields.word(EQUALS)) {
      const value = fields.number() ?? 0;
      if (name === "rbytes") sum.readBytes += value;
      if (name === "wbytes") sum.writtenBytes += value;
      if (name === "rios") sum.reads += value;
      if (name === "wios") sum.writes += value;
    }
  }
  return sum;
}

function blkio(file: KernelFile, isCounted: (number: string) => boolean) {
  const bytes = file.read();
  return bytes && parseBlkio(bytes, isCounted);
}

/** blkio.throttle.*: "8:0 Read 4096" and so on, with a "Total 8192" at the end. */
export function parseBlkio(
  bytes: Buffer,
  isCounted: (number: string) => boolean,
): { read: number; write: number } {
  const sum = { read: 0, write: 0 };
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine()) {
    const number = fields.word();
    if (!number.includes(":") || !isCounted(number)) continue;
    const operation = fields.word();
    if (operation === "Read") sum.read += fields.number() ?? 0;
    if (operation === "Write") sum.write += fields.number() ?? 0;
  }
  return sum;
}
