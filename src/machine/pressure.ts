/** /proc/pressure, and the same files of a control group: for how long tasks waited for what they lacked. */
import { join } from "node:path";
import { KernelFile } from "./kernel-file.ts";
import type { Pressure } from "./reading.ts";

export interface PressureFiles {
  cpu: KernelFile;
  memory: KernelFile;
  io: KernelFile;
}

export const machinePressure = (root = "/"): PressureFiles => ({
  cpu: new KernelFile(join(root, "proc/pressure/cpu"), { isOneRecord: true }),
  memory: new KernelFile(join(root, "proc/pressure/memory"), { isOneRecord: true }),
  io: new KernelFile(join(root, "proc/pressure/io"), { isOneRecord: true }),
});

export const groupPressure = (cpuGroup: string, group: string): PressureFiles => ({
  cpu: new KernelFile(join(cpuGroup, "cpu.pressure"), { isOneRecord: true }),
  memory: new KernelFile(join(group, "memory.pressure"), { isOneRecord: true }),
  io: new KernelFile(join(group, "io.pressure"), { isOneRecord: true }),
});

/** undefined where the kernel keeps no account of it (no CONFIG_PSI, or psi=0). */
export function readPressure(files: PressureFiles): Pressure | undefined {
  const cpu = parse(files.cpu);
  const memory = parse(files.memory);
  const io = parse(files.io);
  if (cpu === undefined && memory === undefined && io === undefined) return undefined;
  return {
    // "full" means nothing for the processor of a whole machine, and is always 0 there.
    ...(cpu && { cpu: { some: cpu.some } }),
    ...(memory && { memory }),
    ...(io && { io }),
  };
}

function parse(file: KernelFile) {
  const bytes = file.read();
  return bytes && parsePressure(bytes);
}

const NAMES = { some: Buffer.from("some "), full: Buffer.from("full ") };
const TOTAL = Buffer.from("total=");

export function parsePressure(bytes: Buffer): { some: number; full: number } {
  return { some: total(bytes, NAMES.some), full: total(bytes, NAMES.full) };
}

/** Seconds behind total= of the line with this name. */
function total(bytes: Buffer, name: Buffer): number {
  const line = bytes.indexOf(name);
  const at = line < 0 ? -1 : bytes.indexOf(TOTAL, line);
  if (at < 0) return 0;
  let value = 0;
  for (let i = at + TOTAL.length; bytes[i]! >= 48 && bytes[i]! <= 57; i += 1)
    value = value * 10 + bytes[i]! - 48;
  return value / 1e6;
}
