/** Mounted file systems: /proc/self/mountinfo and statfs, seldom asked. */
import { statfs, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { readKernelText } from "./kernel-file.ts";
import type { FileSystem } from "./reading.ts";

export interface Mount {
  /** major:minor; the same for every mount of one file system. */
  number: string;
  /** Folder of the file system that is mounted; "/" but for bind mounts. */
  folder: string;
  mount: string;
  type: string;
  device: string;
  readOnly: boolean;
}

interface StatFs {
  bsize: number;
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
}

/** Nothing is kept in these. */
const pseudo = new Set(
  (
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc " +
    "pstore ramfs resctrl rootfs rpc_pipefs securityfs selinuxfs squashfs erofs iso9660 udf sysfs tracefs fuse.lxcfs " +
    "fuse.portal fuse.gvfsd-fuse fuse.snapfuse"
  ).split(" "),
);
/** Answered by this machine alone. All others, also those nobody has heard of, may ask a server, which may not answer. */
const local = new Set(
  "ext2 ext3 ext4 xfs btrfs zfs bcachefs f2fs jfs reiserfs vfat msdos exfat ntfs3 hfsplus tmpfs overlay aufs".split(
    " ",
  ),
);
const isRemote = ({ type }: Mount) => !local.has(type);
/** What an engine mounts for its containers, hundreds of them, and what the system keeps for itself. */
const notForPeople = /^\/((run|sys|proc|var\/lib\/(docker|containers|kubelet|containerd))(\/|$)|dev$)/;

export function parseMounts(text: string): Mount[] {
  const mountByPath = new Map<string, Mount>();
  for (const line of text.split("\n")) {
    // 36 35 98:0 /folder /mount rw,noatime master:1 - ext4 /dev/sda1 rw
    const [before, after] = line.split(" - ", 2);
    const [, , number, folder, mount, options] = (before ?? "").split(" ");
    const [type, device] = (after ?? "").split(" ");
    if (!/^\d+:\d+$/.test(number ?? "") || !folder || !mount || !type) continue;
    const path = unescape(mount);
    // Of two at one place the later covers the earlier.
    mountByPath.delete(path);
    mountByPath.set(path, {
      number: number!,
      folder: unescape(folder),
      mount: path,
      type,
      device: unescape(device ?? ""),
      readOnly: options?.split(",").includes("ro") ?? false,
    });
  }
  return [...mountByPath.values()].filter(isStorage);
}

/** Blanks, tabs, newlines and backslashes are written in octal. */
const unescape = (word: string) =>
  word.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

function isStorage({ type, mount, readOnly }: Mount): boolean {
  if (pseudo.has(type) || notForPeople.test(mount)) return false;
  // Nothing can be put into it, and what it shows is no disk.
  if (type === "tmpfs" && readOnly) return false;
  // A container's own layers; of all others the engine's host shows what is below them.
  if (type === "overlay" || type === "aufs") return mount === "/";
  return true;
}

/** The mounts that stand for their file system: of each the one that shows most of it. */
export function countedMounts(mounts: readonly Mount[]): ReadonlySet<Mount> {
  const bestByNumber = new Map<string, Mount>();
  const rank = ({ folder, mount }: Mount) => folder.length * 10_000 + mount.length;
  for (const mount of mounts) {
    const best = bestByNumber.get(mount.number);
    if (best === undefined || rank(mount) < rank(best)) bestByNumber.set(mount.number, mount);
  }
  return new Set(bestByNumber.values());
}

/** How long file systems go without being asked again, ms. */
const REFRESH_MS = 30_000;
/** After this long without an answer a server counts as not answering, ms. */
const PATIENCE_MS = 5000;

type Ask = (path: string) => Promise<StatFs>;

export class FileSystems {
  readonly #root: string;
  readonly #ask: Ask;
  #askedAt = -Infinity;
  #text: string | undefined;
  #mounts: Mount[] = [];
  #counted: ReadonlySet<Mount> = new Set();
  readonly #found = new Map<Mount, FileSystem>();
  /** Remote ones, to be asked one after the other. */
  #queue: Mount[] = [];
  #asking: { mount: Mount; since: number } | undefined;

  constructor(root = "/", ask: Ask = promisify(statfs)) {
    this.#root = root;
    this.#ask = ask;
  }

  /** Those that answered, and which does not. */
  read(now: number): { found: FileSystem[]; problem?: string } | undefined {
    if (now - this.#askedAt >= REFRESH_MS) {
      if (!this.#refresh()) return undefined;
      this.#askedAt = now;
      this.#next(now);
    }
    const silent = this.#asking !== undefined && now - this.#asking.since > PATIENCE_MS;
    if (!silent) return { found: [...this.#found.values()] };
    // Only one is asked at a time: a thread that hangs in one must not be joined by others.
    const { mount } = this.#asking!;
    const unheard = new Set([mount, ...this.#queue]);
    return {
      found: [...this.#found].filter(([mount]) => !unheard.has(mount)).map(([, found]) => found),
      problem: `${mount.mount} (${mount.device}) does not answer${this.#queue.length > 0 ? `, and ${this.#queue.map((other) => other.mount).join(", ")} can't be asked meanwhile` : ""}`,
    };
  }

  #refresh(): boolean {
    const text = readKernelText(join(this.#root, "proc/self/mountinfo"));
    if (text === undefined) return false;
    if (text !== this.#text) {
      this.#text = text;
      // Libraries and host files that an engine binds into a container are files, each with a line of its own.
      this.#mounts = parseMounts(text).filter((mount) => isRemote(mount) || this.#isFolder(mount));
      this.#counted = countedMounts(this.#mounts);
      this.#found.clear();
    }
    this.#queue = this.#mounts.filter((mount) => isRemote(mount) && mount !== this.#asking?.mount);
    for (const mount of this.#mounts)
      if (!isRemote(mount))
        this.#keep(
          mount,
          attempt(() => statfsSync(this.#path(mount))),
        );
    return true;
  }

  #path = ({ mount }: Mount) => join(this.#root, mount);
  #isFolder = (mount: Mount) => attempt(() => statSync(this.#path(mount)).isDirectory()) ?? false;

  #next(now: number): void {
    if (this.#asking !== undefined) return;
    const mount = this.#queue.shift();
    if (mount === undefined) return;
    this.#asking = { mount, since: now };
    const done = (answer: StatFs | undefined) => {
      this.#asking = undefined;
      this.#keep(mount, answer);
      this.#next(performance.now());
    };
    this.#ask(this.#path(mount)).then(done, () => done(undefined));
  }

  #keep(mount: Mount, stat: StatFs | undefined): void {
    // Unmounted meanwhile, or of no size, as those that only look like file systems.
    if (stat === undefined || stat.blocks === 0 || !this.#mounts.includes(mount)) {
      this.#found.delete(mount);
      return;
    }
    this.#found.set(mount, {
      device: mount.device,
      mount: mount.mount,
      type: mount.type,
      size: stat.blocks * stat.bsize,
      free: stat.bfree * stat.bsize,
      available: stat.bavail * stat.bsize,
      files: stat.files,
      filesFree: stat.ffree,
      readOnly: mount.readOnly,
      counted: this.#counted.has(mount),
    });
  }
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    // Not ours to enter, or gone.
    return undefined;
  }
}
