/** Control groups of version 1: each controller has a hierarchy of its own. */
import { join } from "node:path";
import {
  field,
  flat,
  least,
  limitOf,
  present,
  seconds,
  single,
  tightest,
  workingSet,
  type Found,
  type Reader,
  type ReadText,
} from "./cgroup-group.ts";
import { countList } from "./cgroup-path.ts";
import { Fields, KernelFile } from "./kernel-file.ts";

export function findV1(groupsOf: (controller: string) => string[], text: ReadText): Found | undefined {
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

const TOTAL_INACTIVE_FILE = Buffer.from("total_inactive_file ");

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
