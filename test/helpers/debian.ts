import { existsSync } from "node:fs";
import { join } from "node:path";

/** Where .ci/tools.mjs unpacks what is not installed. */
export const unpacked = join(import.meta.dirname, "../../node_modules/.debian/usr/bin");

/** A program of Debian's: installed, or unpacked by .ci/tools.mjs; undefined where there is none. */
export function debianProgram(name: string): string | undefined {
  const installed = Bun.which(name);
  if (installed !== null) return installed;
  const path = join(unpacked, name);
  return existsSync(path) ? path : undefined;
}
