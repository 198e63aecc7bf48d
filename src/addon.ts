import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { CollectorError } from "./error.ts";
import { zstdDecompress } from "./runtime.ts";

/** A native addon that the binary carries. */
export interface Addon {
  name: string;
  sha256: string;
  /** Where its bytes can be read, compressed by zstd. */
  file: string;
}

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const uid = () => process.getuid?.() ?? 0;

/**
 * Loads an addon from a private folder of the data directory, writing it there first if need be. Bun's own unpacking
 * goes to the temporary folder: that may be mounted noexec, and there anyone may put a file of the expected name.
 */
export function loadAddon(folder: string, addon: Addon): unknown {
  const path = ensureAddon(folder, addon);
  const module = { exports: {} as unknown };
  try {
    process.dlopen(module, path);
  } catch (cause) {
    throw new CollectorError("internal", `Can't load ${path}: ${(cause as Error).message}`, {
      hint: "If that folder's file system is mounted noexec, point --data to another one.",
      cause,
    });
  }
  return module.exports;
}

/** The addon's path in the folder, its content and owner checked. */
export function ensureAddon(folder: string, { name, sha256, file }: Addon): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { uid: owner, mode } = statSync(folder);
  if (owner !== uid())
    throw new CollectorError(
      "forbidden",
      `${folder} belongs to another user, who could swap the code in it.`,
      {
        hint: "Run binnacle as the user who owns the data folder, or point --data to a folder of your own.",
      },
    );
  if ((mode & 0o077) !== 0) chmodSync(folder, 0o700);

  const path = join(folder, `${name}-${sha256.slice(0, 16)}.node`);
  if (holds(path, sha256)) return path;
  const bytes = zstdDecompress(readFileSync(file));
  if (digest(bytes) !== sha256)
    throw new CollectorError("internal", `The ${name} addon inside this binary is damaged.`);
  const temporary = join(folder, `${name}-${process.pid}.tmp`);
  try {
    writeDurably(temporary, bytes);
    renameSync(temporary, path);
  } catch (error) {
    // On a full disk the half of it would only make matters worse.
    rmSync(temporary, { force: true });
    // Two that start at once tidy up after each other; which of them gets the database is decided later.
    if (holds(path, sha256)) return path;
    throw error;
  }
  removeOlder(folder, name, path);
  return path;
}

function writeDurably(path: string, bytes: Uint8Array): void {
  rmSync(path, { force: true });
  const handle = openSync(path, "wx", 0o700);
  try {
    for (let written = 0; written < bytes.length;) written += writeSync(handle, bytes, written);
    // Else a power loss can leave the final name on a file without content.
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** A piece at a time: read at once, it would stay in memory for a while. */
function digestOfFile(path: string): string {
  const hash = createHash("sha256");
  const piece = new Uint8Array(256 * 1024);
  const handle = openSync(path, "r");
  try {
    for (let read = readSync(handle, piece); read > 0; read = readSync(handle, piece))
      hash.update(piece.subarray(0, read));
  } finally {
    closeSync(handle);
  }
  return hash.digest("hex");
}

function holds(path: string, sha256: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return (
    found !== undefined &&
    found.isFile() &&
    found.uid === uid() &&
    (found.mode & 0o022) === 0 &&
    digestOfFile(path) === sha256
  );
}

/**
 * Addons of earlier versions, and what a start that was killed left half written. A process that still uses one keeps
 * it: the name goes, the file stays until then.
 */
function removeOlder(folder: string, name: string, current: string): void {
  for (const entry of readdirSync(folder)) {
    const path = join(folder, entry);
    if (entry.startsWith(`${name}-`) && path !== current) rmSync(path, { force: true });
  }
}
