import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { openArchive, type Archive, type ArchiveEntry } from "../archive/zip-read.ts";
import { blobPath } from "../blob/path.ts";
import { CollectorError } from "../error.ts";
import { migrations } from "../generated.ts";
import { VERSION } from "../version.ts";
import { addedSince, type AddedSince } from "./destinations.ts";
import {
  BackupDescription,
  backupPaths,
  digestOfPath,
  isBackupPath,
  RESTORED_FILE,
  type KeptDestination,
} from "./schema.ts";

/** Of a database and what goes with it; a token, spools and destinations' secrets stay. */
const REPLACED = ["binnacle.db", "binnacle.db-wal", "binnacle.db-journal", "blobs"];
const MAX_DESCRIPTION_BYTES = 64 * 1024 * 1024;

export interface Restored {
  description: BackupDescription;
  /** Where what was there before lies now; null where nothing was. */
  replaced: string | null;
  /** Destinations that the backup does not have; undefined: what was there can't be read. */
  destinations: AddedSince | undefined;
}

export interface RestoreOptions {
  /** What is there already is moved aside. */
  force?: boolean;
  now?: () => number;
  onProgress?: (done: number, total: number) => void;
}

/**
 * Puts a backup in the place of what a data folder holds, while no collector has it open. All of it is written and checked beside its
 * place first, so that whatever goes wrong before leaves everything as it was.
 */
export async function restore(
  path: string,
  dataDir: string,
  { force = false, now = Date.now, onProgress }: RestoreOptions = {},
): Promise<Restored> {
  const archive = await openBackup(path);
  const staging = join(dataDir, `restoring-${randomBytes(4).toString("hex")}`);
  try {
    const description = await describe(archive);
    requireRoom(dataDir, description.bytes);
    const isTaken = existsSync(join(dataDir, "binnacle.db"));
    if (isTaken && !force)
      throw new CollectorError("conflict", `${dataDir} holds a database already.`, {
        hint: "Name an empty folder with --data DIR, or say --force: what is there is moved aside, not deleted.",
      });
    mkdirSync(staging, { recursive: true, mode: 0o700 });
    await extract(archive, staging, description, onProgress);
    const destinations = isTaken
      ? addedSince(join(dataDir, "binnacle.db"), join(staging, "binnacle.db"))
      : { kept: [], left: [] };
    const replaced = isTaken ? moveAside(dataDir, now()) : null;
    moveIn(staging, dataDir, { created: description.created, destinations: destinations?.kept ?? [] });
    return { description, replaced, destinations };
  } finally {
    await archive.close();
    rmSync(staging, { recursive: true, force: true });
  }
}

async function openBackup(path: string): Promise<Archive> {
  if (!existsSync(path))
    throw new CollectorError("not-found", `There is no ${path}.`, { hint: "Look at the path." });
  try {
    return await openArchive(path, isBackupPath);
  } catch (error) {
    throw noBackup(error);
  }
}

const noBackup = (cause: unknown) =>
  new CollectorError(
    "invalid",
    `That is no whole backup: ${cause instanceof Error ? cause.message : String(cause)}`,
    { hint: "Nothing was changed. Name what `binnacle backup` wrote, or copy it again.", cause },
  );

async function describe({ entries }: Archive): Promise<BackupDescription> {
  const entry = entries.get(backupPaths.description);
  if (!entry || !entries.has(backupPaths.database)) throw noBackup("it has no database, or no description.");
  if (entry.size > MAX_DESCRIPTION_BYTES) throw noBackup("its description is too long.");
  const pieces: Uint8Array[] = [];
  for await (const piece of entry.read(true)) pieces.push(piece);
  let description: BackupDescription;
  try {
    description = BackupDescription.parse(JSON.parse(Buffer.concat(pieces).toString()));
  } catch (error) {
    throw noBackup(error);
  }
  const unknown = description.migrations.find((name, index) => migrations[index]?.name !== name);
  if (unknown !== undefined)
    throw new CollectorError(
      "conflict",
      `The backup was made by binnacle ${description.binnacle}, which is newer than this (${VERSION}).`,
      { hint: "Nothing was changed. Restore it with that binnacle, or a newer one." },
    );
  const files = [...entries.keys()].filter((name) => digestOfPath(name) !== undefined).length;
  if (files !== description.files)
    throw noBackup(`it has ${files} files, and speaks of ${description.files}.`);
  return description;
}

function requireRoom(dataDir: string, bytes: number): void {
  let folder = dataDir;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize >= bytes) return;
  throw new CollectorError("disk-full", `The disk of ${dataDir} has no room for it.`, {
    hint: `Nothing was changed. It needs ${Math.ceil(bytes / 1024 ** 2)} MiB.`,
  });
}

async function extract(
  { entries }: Archive,
  staging: string,
  { database, bytes, missing }: BackupDescription,
  onProgress: RestoreOptions["onProgress"],
): Promise<void> {
  const known = new Set(missing);
  let done = 0;
  const progress = (count: number) => onProgress?.((done += count), bytes);
  for (const [name, entry] of entries) {
    if (name === backupPaths.description) continue;
    const sha256 = digestOfPath(name);
    const target = sha256 === undefined ? join(staging, name) : blobPath(join(staging, "blobs"), sha256);
    mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
    const found = await writeFile(entry, target, progress);
    const expected = sha256 ?? database.sha256;
    if (found !== expected && !known.has(expected)) throw noBackup(`${name} is damaged.`);
  }
  for (const folder of foldersOf(staging)) sync(folder);
}

async function writeFile(
  entry: ArchiveEntry,
  target: string,
  onBytes: (count: number) => void,
): Promise<string> {
  const hash = createHash("sha256");
  const descriptor = openSync(target, "wx", 0o600);
  try {
    for await (const piece of entry.read()) {
      hash.update(piece);
      for (let at = 0; at < piece.length;) at += writeSync(descriptor, piece, at);
      onBytes(piece.length);
    }
    fsyncSync(descriptor);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EDQUOT")
      throw new CollectorError("disk-full", "The disk is full.", {
        hint: "Nothing was changed. Free some space.",
        cause: error,
      });
    throw error;
  } finally {
    closeSync(descriptor);
  }
  return hash.digest("hex");
}

function foldersOf(folder: string): string[] {
  const inner = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...inner.flatMap(({ name }) => foldersOf(join(folder, name))), folder];
}

function moveAside(dataDir: string, now: number): string {
  const folder = join(dataDir, `before-restore-${new Date(now).toISOString().replace(/[:.]/g, "-")}`);
  mkdirSync(folder, { mode: 0o700 });
  for (const name of REPLACED)
    if (existsSync(join(dataDir, name))) renameSync(join(dataDir, name), join(folder, name));
  return folder;
}

/** The mark first and the database last: one that is there without the mark would count on where others have counted since. */
function moveIn(
  staging: string,
  dataDir: string,
  said: { created: string; destinations: KeptDestination[] },
): void {
  const mark = openSync(join(dataDir, RESTORED_FILE), "w", 0o600);
  writeSync(mark, `${JSON.stringify(said)}\n`);
  fsyncSync(mark);
  closeSync(mark);
  // Left by what was there before: its WAL in particular must not be taken for that of another database.
  for (const name of REPLACED) rmSync(join(dataDir, name), { recursive: true, force: true });
  if (existsSync(join(staging, "blobs"))) renameSync(join(staging, "blobs"), join(dataDir, "blobs"));
  sync(dataDir);
  renameSync(join(staging, "binnacle.db"), join(dataDir, "binnacle.db"));
  sync(dataDir);
}

function sync(folder: string): void {
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
