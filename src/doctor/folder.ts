import { statfsSync, statSync, type Stats } from "node:fs";
import { join } from "node:path";
import type { Check } from "./schema.ts";

/** statfs(2)'s magic numbers. */
const networkFileSystems: Record<number, string> = {
  0x6969: "NFS",
  0x517b: "SMB",
  0xff534d42: "CIFS",
  0xfe534d42: "SMB2",
  0x5346414f: "AFS",
  0x00c36400: "Ceph",
  0x0bd00bd0: "Lustre",
  0x47504653: "GPFS",
  0x19830326: "BeeGFS",
};

/** What kind of network file system a folder lies on; undefined: none. */
export const networkFileSystemOf = (folder: string): string | undefined =>
  networkFileSystems[statfsSync(folder).type];

/** Who may read and change what is stored. `user`: who ought to own it. */
export function checkFolder(dataDir: string, user = process.getuid?.()): Check {
  const at = (status: Check["status"], text: string, advice: string | null): Check => ({
    name: "folder",
    status,
    text,
    advice,
  });
  const folder = look(dataDir);
  if (!folder) return at("problem", `There is no ${dataDir}.`, "Name the data folder with --data DIR.");
  const paths = [dataDir, ...["binnacle.db", "token"].map((name) => join(dataDir, name))];
  for (const path of paths) {
    const stats = look(path);
    if (!stats) continue;
    if (user !== undefined && stats.uid !== user)
      return at(
        "problem",
        `${path} belongs to user ${stats.uid}, not to ${user}.`,
        `Run the collector as its owner, or hand it over: chown -R ${user} ${quoted(dataDir)}`,
      );
    if ((stats.mode & 0o077) === 0) continue;
    const mode = (stats.mode & 0o777).toString(8);
    return at(
      "problem",
      `${path} is open to others (mode ${mode}).`,
      `chmod ${stats.isDirectory() ? 700 : 600} ${quoted(path)}` +
        (path.endsWith("token") ? ", then `binnacle token --rotate`: somebody may have read it." : ""),
    );
  }
  const network = networkFileSystemOf(dataDir);
  if (network !== undefined)
    return at(
      "warning",
      `${dataDir} is on ${network}, where locks and fsync can't be relied on.`,
      "Move it to a local disk.",
    );
  return at("ok", `${dataDir} is its owner's alone.`, null);
}

/** Room below which a training's checkpoints would soon be refused. */
const LITTLE_BYTES = 1024 ** 3;
const LITTLE_SHARE = 0.02;

/** Free room of the disk; `more` is said beside it. */
export function checkDisk(dataDir: string, more = ""): Check {
  const { bavail, bsize, blocks } = statfsSync(dataDir);
  const [free, total] = [bavail * bsize, blocks * bsize];
  const isLittle = free < LITTLE_BYTES || free < LITTLE_SHARE * total;
  return {
    name: "disk",
    status: isLittle ? "warning" : "ok",
    text: `${gigabytes(free)} of ${gigabytes(total)} are free${more}.`,
    advice: isLittle ? "Free some space, or delete runs and versions that nobody needs." : null,
  };
}

export const gigabytes = (bytes: number): string =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;

/** For a shell, where it needs that. */
const quoted = (path: string) => (/^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`);

const look = (path: string): Stats | undefined => statSync(path, { throwIfNoEntry: false });
