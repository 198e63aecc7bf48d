/** /proc/meminfo and what of /proc/vmstat somebody looks at. */
import { Fields, type KernelFile } from "./kernel-file.ts";

export function readMemory(meminfo: KernelFile): Map<string, number> | undefined {
  const bytes = meminfo.read();
  return bytes && parseMemory(bytes);
}

export function readVmstat(vmstat: KernelFile): Map<string, number> | undefined {
  const bytes = vmstat.read();
  return bytes && parseVmstat(bytes);
}

const COLON = 58;
const KIB = Buffer.from("kB");

/** Bytes by name; what has no unit, as HugePages_Total, is a count. */
export function parseMemory(bytes: Buffer): Map<string, number> {
  const valueByName = new Map<string, number>();
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine()) {
    const name = fields.word(COLON);
    const value = fields.number();
    if (name === "" || value === undefined) continue;
    fields.skipBlanks();
    valueByName.set(name, fields.has(KIB) ? value * 1024 : value);
  }
  return valueByName;
}

/** Paging, swapping, faults and kills; the other 170 are the kernel developers'. */
const fieldsOfVmstat = ["pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "oom_kill"].map(
  (name) => ({ name, word: Buffer.from(`${name} `) }),
);

export function parseVmstat(bytes: Buffer): Map<string, number> {
  const valueByName = new Map<string, number>();
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine())
    for (const { name, word } of fieldsOfVmstat)
      if (fields.has(word)) {
        valueByName.set(name, fields.number() ?? 0);
        break;
      }
  return valueByName;
}
