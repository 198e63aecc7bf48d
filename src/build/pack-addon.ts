import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface PackedAddon {
  /** Of the addon as it is loaded. */
  sha256: string;
  /** Where it lies, compressed. */
  packed: string;
}

/**
 * Compresses an addon for the binary. What a program carries is mapped into its memory, and stays there once it was read: unpacked,
 * libSQL's alone was 9 MB of what the collector seems to need.
 */
export function packAddon(name: string, path: string, folder: string): PackedAddon {
  const bytes = readFileSync(path);
  const packed = join(folder, `${name}.node.zst`);
  writeFileSync(packed, compressAddon(bytes));
  return { sha256: createHash("sha256").update(bytes).digest("hex"), packed };
}

/** Level 19 is a tenth smaller and takes nine seconds for libSQL's. */
export const compressAddon = (bytes: Uint8Array): Uint8Array => Bun.zstdCompressSync(bytes, { level: 9 });
