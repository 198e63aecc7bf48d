/** Where NVIDIA's library lies on this machine, and which versions of it and of the driver there are. */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, isAbsolute } from "node:path";

const NAME = "libnvidia-ml.so.1";

/** Folders in which distributions, containers and cloud machines keep it. */
const folders = (arch: string) => [
  arch === "arm64" ? "/usr/lib/aarch64-linux-gnu" : "/usr/lib/x86_64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
  // Google's Kubernetes machines, WSL 2, NixOS, NVIDIA's operator.
  "/usr/local/nvidia/lib64",
  "/usr/lib/wsl/lib",
  "/run/opengl-driver/lib",
  `/run/nvidia/driver/usr/lib/${arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`,
];

export interface LibraryPlaces {
  /** Said by a person; nothing else is tried then. */
  path?: string | undefined;
  cache?: string;
  arch?: string;
  exists?: (path: string) => boolean;
}

/**
 * Absolute paths to try, best first. Never a bare name: what the dynamic loader finds for one may be a file that somebody has
 * put where it looks, on a machine without a driver.
 */
export function libraryCandidates({
  path,
  cache = "/etc/ld.so.cache",
  arch = process.arch,
  exists = existsSync,
}: LibraryPlaces = {}): string[] {
  if (path !== undefined) return isAbsolute(path) && exists(path) ? [path] : [];
  const all = [...pathsInCache(cache), ...folders(arch).map((folder) => `${folder}/${NAME}`)];
  return [...new Set(all)].filter((candidate) => exists(candidate));
}

/** The dynamic loader's list of libraries holds their paths as plain text. */
function pathsInCache(cache: string): string[] {
  let text: string;
  try {
    text = readFileSync(cache, "latin1");
  } catch {
    return [];
  }
  return text.match(/\/[^\0]*\/libnvidia-ml\.so\.1(?=\0)/g) ?? [];
}

/** The file that is really mapped, which a link or the loader may have chosen in the place of `path`. */
export function mappedPath(path: string, maps = "/proc/self/maps"): string {
  try {
    const name = basename(realpathSync(path));
    const mapped = readFileSync(maps, "utf8")
      .split("\n")
      .map((line) => line.slice(line.indexOf("/")))
      .find((file) => file.startsWith("/") && basename(file) === name);
    return mapped ?? path;
  } catch {
    return path;
  }
}

export interface DriverVersions {
  /** Of the kernel module that is loaded. */
  module: string | null;
  /** Of the library, as its file is named. */
  library: string | null;
}

/** For when the two disagree, so that neither says it: an upgrade has changed one under the other. */
export function driverVersions(path?: string, proc = "/proc/driver/nvidia/version"): DriverVersions {
  return {
    module: firstMatch(() => readFileSync(proc, "utf8"), /Module\b.*?\s(\d+\.\d+(?:\.\d+)*)\s/),
    library: firstMatch(() => (path === undefined ? "" : realpathSync(path)), /\.so\.(\d+\.\d+(?:\.\d+)*)$/),
  };
}

function firstMatch(read: () => string, pattern: RegExp): string | null {
  try {
    return pattern.exec(read())?.[1] ?? null;
  } catch {
    return null;
  }
}
