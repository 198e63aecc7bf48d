/** /proc/stat: processor time since boot, of all and of each core, and what the kernel counts. */
import { Fields, type KernelFile } from "./kernel-file.ts";
import type { CpuTimes, MachineReading } from "./reading.ts";

export type ProcessorReading = Required<Pick<MachineReading, "cpu" | "kernel">>;

export function readProcessor(stat: KernelFile): ProcessorReading | undefined {
  const bytes = stat.read();
  return bytes && parseProcessor(bytes);
}

/** USER_HZ: what /proc counts in, on every usual build. */
const TICKS = 100;

const ascii = (word: string) => Buffer.from(word, "latin1");
const CPU = ascii("cpu");
const COUNTERS = [
  ["intr ", "interrupts"],
  ["ctxt ", "contextSwitches"],
  ["btime ", "bootTime"],
  ["processes ", "forks"],
  ["procs_running ", "running"],
  ["procs_blocked ", "blocked"],
] as const;
const counters = COUNTERS.map(([word, field]) => ({ word: ascii(word), field }));

export function parseProcessor(bytes: Buffer): ProcessorReading {
  const fields = new Fields(bytes);
  const byCore = new Map<number, CpuTimes>();
  let total: CpuTimes | undefined;
  const kernel = { contextSwitches: 0, interrupts: 0, forks: 0, bootTime: 0, running: 0, blocked: 0 };
  for (; !fields.isEnd; fields.nextLine()) {
    if (fields.has(CPU)) {
      // "cpu  1 2 …" are all, "cpu7 1 2 …" is one.
      if (fields.has(BLANKS)) total = times(fields);
      else byCore.set(fields.number() ?? -1, times(fields));
      continue;
    }
    // Of the long lists behind `intr` and `softirq` only the sum is looked at.
    for (const { word, field } of counters) {
      if (!fields.has(word)) continue;
      kernel[field] = fields.number() ?? 0;
      break;
    }
  }
  if (total === undefined) throw new Error("/proc/stat has no line of all processors");
  return { cpu: { total, byCore }, kernel };
}

const BLANKS = ascii(" ");

/** Columns that an old kernel lacks are 0: there is no such time on it. */
function times(fields: Fields): CpuTimes {
  const next = () => (fields.number() ?? 0) / TICKS;
  return {
    user: next(),
    nice: next(),
    system: next(),
    idle: next(),
    iowait: next(),
    irq: next(),
    softirq: next(),
    steal: next(),
    guest: next(),
    guestNice: next(),
  };
}
