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
  (name) => ({ name, word: Buffer.from(`\n${name} `) }),
);

/** Looked for instead of walked over: none of these is the first line. */
export function parseVmstat(bytes: Buffer): Map<string, number> {
  const valueByName = new Map<string, number>();
  for (const { name, word } of fieldsOfVmstat) {
    const at = bytes.indexOf(word);
    const value = at < 0 ? undefined : new Fields(bytes, at + word.length).number();
    if (value !== undefined) valueByName.set(name, value);
  }
  return valueByName;
}
