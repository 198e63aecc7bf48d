/** /proc/loadavg. */
import type { KernelFile } from "./kernel-file.ts";
import type { MachineReading } from "./reading.ts";

export type Load = NonNullable<MachineReading["load"]>;

export function readLoad(loadavg: KernelFile): Load | undefined {
  const bytes = loadavg.read();
  return bytes && parseLoad(bytes);
}

export function parseLoad(bytes: Buffer): Load {
  const text = bytes.toString("latin1");
  const [one, five, fifteen] = text.split(" ", 3).map(Number);
  if (!Number.isFinite(one) || !Number.isFinite(five) || !Number.isFinite(fifteen))
    throw new Error(`/proc/loadavg reads ${JSON.stringify(text.slice(0, 80))}`);
  return { one: one!, five: five!, fifteen: fifteen! };
}
