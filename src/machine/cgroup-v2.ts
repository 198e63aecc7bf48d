/** Control groups of version 2. */
import { join } from "node:path";
import {
  field,
  flat,
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
import { groupPressure, readPressure } from "./pressure.ts";

export function findV2(groups: readonly string[], text: ReadText): Found | undefined {
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

const INACTIVE_FILE = Buffer.from("inactive_file ");

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
