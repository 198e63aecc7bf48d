import { lstatSync, readdirSync, type Stats } from "node:fs";
import { basename, join, resolve } from "node:path";
import { ArtifactFile, FilePath } from "../../artifact/schema.ts";
import { CollectorError } from "../../error.ts";
import { sayIssue } from "../../issue.ts";

/** A file to be sent. */
export interface FoundFile {
  /** Where it stands in the artifact. */
  path: string;
  /** Where it lies here. */
  source: string;
  /** Bytes, as it was found; reading it tells. */
  size: number;
}

/** Looks at so many names before others have their turn. */
const AT_ONCE = 500;
const MAX_FILES = 100_000;

/**
 * The files that these paths mean, in the order of their places. One folder alone is what lies in it; of several paths each
 * stands under its own name, as `cp` would have it. Hidden files are files. A folder without files leaves no trace: a
 * version is a list of files.
 */
export async function findFiles(paths: readonly string[]): Promise<FoundFile[]> {
  const found: FoundFile[] = [];
  const turn = createTurn();
  for (const file of filesBelow(paths)) {
    if (file) found.push(file);
    await turn();
  }
  return inOrder(found, paths);
}

/** Same, for exit hooks, where nothing asynchronous runs any more. */
export const findFilesNow = (paths: readonly string[]): FoundFile[] =>
  inOrder(
    [...filesBelow(paths)].filter((file) => file !== undefined),
    paths,
  );

/** undefined now and then, where there was much to look at and nothing to tell. */
function* filesBelow(paths: readonly string[]): Generator<FoundFile | undefined> {
  let count = 0;
  for (const path of paths) {
    const isAlone = paths.length === 1 && lookAt(path).isDirectory();
    for (const file of below(path, isAlone ? "" : checkedPath(basename(resolve(path)), path))) {
      if (file && ++count > MAX_FILES)
        throw new CollectorError("too-large", `There are more than ${MAX_FILES} files.`, {
          hint: "Put them into an archive (tar, zip) first.",
        });
      yield file;
    }
  }
}

function* below(source: string, path: string): Generator<FoundFile | undefined> {
  const stats = lookAt(source);
  if (!stats.isDirectory()) {
    requireFile(source, stats);
    if (!ArtifactFile.shape.size.safeParse(stats.size).success)
      throw new CollectorError("too-large", `${quoted(source)} is larger than a file may be (4 TB).`);
    yield { path, source, size: stats.size };
    return;
  }
  yield undefined;
  for (const name of namesIn(source)) {
    const child = join(source, name);
    yield* below(child, checkedPath(path === "" ? name : `${path}/${name}`, child));
  }
}

/** Read as bytes: a name that is no UTF-8 would come back as another. */
function namesIn(folder: string): string[] {
  try {
    const names = readdirSync(folder, { encoding: "buffer" }) as unknown as Uint8Array[];
    return names.map((name) => decodeName(folder, name));
  } catch (error) {
    throw fileError(folder, error);
  }
}

/** Refuses what is no file, by name: following a link, or reading a pipe or a device, would send what nobody meant. */
export function requireFile(source: string, stats: Stats): void {
  if (stats.isFile()) return;
  const kind = stats.isSymbolicLink()
    ? "a symbolic link"
    : stats.isFIFO()
      ? "a FIFO"
      : stats.isSocket()
        ? "a socket"
        : stats.isDirectory()
          ? "a folder"
          : "a device";
  throw new CollectorError("invalid", `${quoted(source)} is ${kind}; only files and folders are taken.`, {
    hint: stats.isSymbolicLink()
      ? "Name what it points to, or leave it out."
      : "Leave it out, or copy what it holds into a file.",
  });
}

/** Not through a link. */
export function lookAt(path: string): Stats {
  try {
    return lstatSync(path);
  } catch (error) {
    throw fileError(path, error);
  }
}

/** What the system says of a file, as a person should read it. */
export function fileError(path: string, error: unknown): unknown {
  if (error instanceof CollectorError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ENOTDIR")
    return new CollectorError("not-found", `There is no ${quoted(path)}.`, { cause: error });
  if (code === "ELOOP")
    return new CollectorError(
      "invalid",
      `${quoted(path)} is a symbolic link; only files and folders are taken.`,
      {
        cause: error,
      },
    );
  if (code === "ENAMETOOLONG")
    return new CollectorError("invalid", `${quoted(path.slice(0, 100))}… is too long for a path here.`, {
      cause: error,
    });
  if (code === "ENOSPC" || code === "EDQUOT")
    return new CollectorError("disk-full", `There is no room for ${quoted(path)}.`, {
      hint: "Make room and call again: what is here already is not sent again.",
      cause: error,
    });
  if (code === "EACCES" || code === "EPERM")
    return new CollectorError("internal", `${quoted(path)} is not ours to read or write (${code}).`, {
      hint: "See its permissions.",
      cause: error,
    });
  return new CollectorError("internal", `${quoted(path)}: ${message}`, { cause: error });
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeName(folder: string, bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new CollectorError(
      "invalid",
      `The name ${quoted(Buffer.from(bytes).toString("latin1"))} in ${quoted(folder)} is no UTF-8.`,
      { hint: "Rename it." },
    );
  }
}

function checkedPath(path: string, source: string): string {
  const parsed = FilePath.safeParse(path);
  if (parsed.success) return path;
  throw new CollectorError("invalid", `${quoted(source)}: the name ${sayIssue(parsed.error.issues[0]!)}.`, {
    hint: "Rename it.",
  });
}

/** What a name holds must not act on a terminal. */
export const quoted = (path: string) =>
  /^[\x21-\x7e]+$/.test(path)
    ? path
    : JSON.stringify(path).replace(
        /[\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
        (c) => `\\u${c.codePointAt(0)!.toString(16).padStart(4, "0")}`,
      );

/** By their places, as bytes compare: the same folder is the same list on every machine. */
function inOrder(found: FoundFile[], paths: readonly string[]): FoundFile[] {
  if (found.length === 0)
    throw new CollectorError("invalid", `There are no files in ${paths.map(quoted).join(", ")}.`, {
      hint: "A model or an artifact has at least one file.",
    });
  const keyed = found.map((file) => ({ file, key: Buffer.from(file.path) }));
  keyed.sort((a, b) => Buffer.compare(a.key, b.key));
  for (const [index, { file }] of keyed.entries()) {
    const before = keyed[index - 1]?.file;
    if (before?.path === file.path)
      throw new CollectorError(
        "invalid",
        `${quoted(before.source)} and ${quoted(file.source)} would both be ${quoted(file.path)}.`,
        { hint: "Rename one, or name the folder that holds both." },
      );
  }
  return keyed.map(({ file }) => file);
}

/** Lets others have their turn now and then. */
export function createTurn(atOnce = AT_ONCE): () => Promise<void> | undefined {
  let left = atOnce;
  return () => {
    if (--left > 0) return undefined;
    left = atOnce;
    return new Promise((resolve) => setImmediate(resolve));
  };
}
