/** What both versions of control groups are read with. */
import { Fields, parseFlat, type KernelFile } from "./kernel-file.ts";
import type { Cgroup } from "./reading.ts";

/** What is told of the machine around the group. */
export interface Around {
  /** Bytes of memory. */
  memory: number | undefined;
  cores: number | undefined;
  /** Whether a disk's I/O counts, by major:minor: what stands on others is counted at both. */
  isCounted(number: string): boolean;
}

export interface Found {
  container: boolean;
  memoryLimit: number | undefined;
  /** Cores by quota. */
  quota: number | undefined;
  cpuset: number | undefined;
  /** `limited`: which of the limits are below the machine, so that their groups' use is what counts. */
  open(limited: { memory: boolean; quota: boolean }, root: string): Reader;
}

export interface Reader {
  files: KernelFile[];
  read(around: Around): Omit<Cgroup, "version" | "container">;
}

export type ReadText = (path: string) => string | undefined;

export const least = (values: (number | undefined)[]): number | undefined => {
  const known = values.filter((value): value is number => value !== undefined && Number.isFinite(value));
  return known.length > 0 ? Math.min(...known) : undefined;
};

/** The group with the least value; of equals the outermost, which is full first. */
export function tightest(groups: readonly string[], limitOf: (group: string) => number | undefined) {
  let found: { group: string; limit: number } | undefined;
  for (const group of groups) {
    const limit = limitOf(group);
    if (limit !== undefined && Number.isFinite(limit) && (found === undefined || limit <= found.limit))
      found = { group, limit };
  }
  return found;
}

/** "max" and "-1" are none. */
export const limitOf = (text: string | undefined) =>
  text === undefined || text === "max" || text.startsWith("-") ? undefined : Number(text);

export function flat(file: KernelFile): Map<string, number> | undefined {
  const bytes = file.read();
  return bytes && parseFlat(bytes);
}

export function single(file: KernelFile): number | undefined {
  const bytes = file.read();
  return bytes && new Fields(bytes).number();
}

/** One of the 50 lines of memory.stat. */
export function field(file: KernelFile, name: Buffer): number | undefined {
  const bytes = file.read();
  if (bytes === undefined) return undefined;
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine())
    if (fields.has(name)) return fields.number();
  return undefined;
}

export const seconds = (value: number | undefined, unit: number) =>
  value === undefined ? undefined : value / unit;

export const workingSet = (used: number | undefined, inactive: number | undefined) =>
  used === undefined || inactive === undefined ? undefined : Math.max(0, used - inactive);

/** What is not known is absent. */
export function present<T extends Record<string, unknown>>(values: T) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
