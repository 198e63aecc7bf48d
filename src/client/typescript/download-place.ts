import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  rmSync,
  writeSync,
  type Stats,
} from "node:fs";
import { join } from "node:path";
import type { ArtifactFile } from "../../artifact/schema.ts";
import { CollectorError } from "../../error.ts";
import { fileError, quoted } from "./walk.ts";

/** The folder that is written to, as it is really called. */
export function makeRoot(folder: string): string {
  try {
    mkdirSync(folder, { recursive: true });
    return realpathSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") throw inTheWay(folder);
    throw fileError(folder, error);
  }
}

export const inTheWay = (path: string) =>
  new CollectorError("conflict", `${quoted(path)} is in the way: it is no folder.`, {
    hint: "Name another folder with -o DIR.",
  });

/** Where a file goes, its folders made on the way. A link among them could lead anywhere: it is not followed. */
export function placeOf(root: string, path: string, known: Set<string>): string {
  const parts = path.split("/");
  let folder = root;
  for (const part of parts.slice(0, -1)) {
    folder = join(folder, part);
    if (known.has(folder)) continue;
    const stats = lookAt(folder);
    if (!stats) mkdirSync(folder);
    else if (!stats.isDirectory()) throw inTheWay(folder);
    known.add(folder);
  }
  return join(folder, parts.at(-1)!);
}

/** undefined where nothing lies there, or cannot: its folder is not there, or is no folder. */
export function lookAt(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw fileError(path, error);
  }
}

/** It may have come since we looked. */
export function requireFree(target: string, path: string, force: boolean): void {
  if (force || !lookAt(target)) return;
  throw new CollectorError("conflict", `${quoted(path)} has come into being meanwhile.`, {
    hint: "Call again, or replace it with --force.",
  });
}

/** Beside its target, under a name that the next try finds again. */
export function partOf(target: string, { path, sha256 }: ArtifactFile): string {
  const name = createHash("sha256").update(`${sha256} ${path}`).digest("hex").slice(0, 24);
  return join(target, "..", `.binnacle-${name}.part`);
}

const NEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** A small file's bytes, whatever an earlier try has left of it. What the system says goes on as it is: no collector's word. */
export function writePart(part: string, bytes: Uint8Array): void {
  const fd = openNew(part);
  let done = 0;
  try {
    while (done < bytes.length) done += writeSync(fd, bytes, done);
  } finally {
    closeSync(fd);
    if (done < bytes.length) rmSync(part, { force: true });
  }
}

function openNew(part: string): number {
  try {
    return openSync(part, NEW, 0o666);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  if (!lookAt(part)?.isFile()) throw inTheWay(part);
  rmSync(part, { force: true });
  return openSync(part, NEW, 0o666);
}
