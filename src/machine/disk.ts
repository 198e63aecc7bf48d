/** /proc/diskstats, and which of its lines count for the machine's total: told by the topology in /sys, for names mislead. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Fields, readKernelText, type KernelFile } from "./kernel-file.ts";
import type { Disk } from "./reading.ts";

/**
 * whole: I/O ends here. hidden: one path to an NVMe that has several, whose head stands for all of them. other: counted
 * elsewhere. none: of no interest, as node_exporter has it: memory, files as disks, partitions.
 */
export type DiskKind = "whole" | "hidden" | "other" | "none";

export function readDisks(diskstats: KernelFile, topology: DiskTopology): Disk[] | undefined {
  const bytes = diskstats.read();
  return bytes && parseDisks(bytes, (name) => topology.kindOf(name));
}

/** What each disk is, looked up when its name is first met. */
export class DiskTopology {
  readonly #sys: string;
  readonly #hasSys: boolean;
  readonly #kindByName = new Map<string, DiskKind>();

  constructor(root = "/") {
    this.#sys = join(root, "sys/block");
    this.#hasSys = existsSync(this.#sys);
  }

  /** Disks come and go, and stacks are built on them while we look. */
  forget(): void {
    this.#kindByName.clear();
  }

  kindOf(name: string): DiskKind {
    const known = this.#kindByName.get(name);
    if (known !== undefined) return known;
    const kind = this.#hasSys ? this.#look(name) : kindByName(name);
    this.#kindByName.set(name, kind);
    return kind;
  }

  #look(name: string): DiskKind {
    if (notDisk.test(name)) return "none";
    // "cciss/c0d0" is a folder "cciss!c0d0"; partitions have none here.
    const folder = join(this.#sys, name.replaceAll("/", "!"));
    if (!existsSync(folder)) return "none";
    // A network block device that nobody has connected; there are 16 as soon as there is one.
    if (readKernelText(join(folder, "size")) === "0") return "none";
    if (notStorage.test(name)) return "other";
    if (readKernelText(join(folder, "hidden")) === "1") return "hidden";
    return hasEntries(join(folder, "slaves")) ? "other" : "whole";
  }
}

const notDisk = /^(loop|ram|zram|fd)\d/;
/** DVDs, and ZFS's volumes, whose disks are counted. */
const notStorage = /^(sr|zd)\d/;

/** Where /sys is kept from us. */
function kindByName(name: string): DiskKind {
  if (notDisk.test(name) || /^((h|s|v|xv)d[a-z]+|(nvme\d+n|mmcblk)\d+p)\d+$/.test(name)) return "none";
  return notStorage.test(name) || /^((dm-|md)\d+|nvme\d+c\d+n\d+)/.test(name) ? "other" : "whole";
}

function hasEntries(folder: string): boolean {
  try {
    return readdirSync(folder).length > 0;
  } catch {
    return false;
  }
}

const SECTOR = 512;
const MS = 1000;

export function parseDisks(bytes: Buffer, kindOf: (name: string) => DiskKind): Disk[] {
  const disks: Disk[] = [];
  const hidden: Disk[] = [];
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine()) {
    const next = () => fields.number() ?? 0;
    const major = fields.number();
    const minor = next();
    const name = fields.word();
    if (major === undefined || name === "") continue;
    const kind = kindOf(name);
    if (kind === "none") continue;
    const disk: Disk = {
      name,
      major,
      minor,
      reads: next(),
      readsMerged: next(),
      readBytes: next() * SECTOR,
      readSeconds: next() / MS,
      writes: next(),
      writesMerged: next(),
      writtenBytes: next() * SECTOR,
      writeSeconds: next() / MS,
      inFlight: next(),
      ioSeconds: next() / MS,
      ioWeightedSeconds: next() / MS,
      counted: kind === "whole",
    };
    // Four columns since Linux 4.18, two more since 5.5.
    const discards = fields.number();
    if (discards !== undefined) {
      disk.discards = discards;
      disk.discardsMerged = next();
      disk.discardedBytes = next() * SECTOR;
      disk.discardSeconds = next() / MS;
    }
    const flushes = fields.number();
    if (flushes !== undefined) {
      disk.flushes = flushes;
      disk.flushSeconds = next() / MS;
    }
    disks.push(disk);
    if (kind === "hidden") hidden.push(disk);
  }
  for (const path of hidden) countPath(path, disks);
  return disks;
}

/** Before Linux 6.4 the head of an NVMe with several paths counts nothing; its paths do. */
function countPath(path: Disk, disks: Disk[]): void {
  const head = disks.find(({ name }) => name === path.name.replace(/^(nvme\d+)c\d+(n\d+)$/, "$1$2"));
  path.counted = head === undefined || (head.reads === 0 && head.writes === 0);
}
