import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { python } from "../generated.ts";
import { VERSION } from "../version.ts";

/** The modules binnacle and fedml, text by path. */
export const pythonFiles: Readonly<Record<string, string>> = python;

const digest = createHash("sha256").update(JSON.stringify(pythonFiles)).digest("hex").slice(0, 12);

/**
 * Lays the Python modules down below the data folder and returns what belongs on PYTHONPATH. Another version has another
 * folder: a script that runs may import from the old one at any time.
 */
export function unpackPython(dataDir: string): string {
  const folder = join(dataDir, "python", `${VERSION}-${digest}`);
  if (isComplete(folder)) return folder;
  const fresh = `${folder}.${process.pid}.tmp`;
  for (const [path, text] of Object.entries(pythonFiles)) {
    const file = join(fresh, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, text);
  }
  try {
    renameSync(fresh, folder);
  } catch (error) {
    // Another process was quicker, or a damaged folder is in the way, which no rename replaces.
    if (!isComplete(folder)) {
      const damaged = `${folder}.${process.pid}.old`;
      try {
        renameSync(folder, damaged);
      } catch {
        throw error;
      }
      renameSync(fresh, folder);
      rmSync(damaged, { recursive: true, force: true });
    }
    rmSync(fresh, { recursive: true, force: true });
  }
  return folder;
}

function isComplete(folder: string): boolean {
  try {
    return Object.entries(pythonFiles).every(
      ([path, text]) => readFileSync(join(folder, path), "utf8") === text,
    );
  } catch {
    return false;
  }
}
