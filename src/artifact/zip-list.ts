import { Reader, ZipReader } from "@zip.js/zip.js";
import type { Blobs } from "../blob/blobs.ts";
import { CONTROL_OR_BIDI } from "./schema.ts";

/** Of a list of files: whoever has longer ones downloads them. */
const MAX_LIST_BYTES = 4 * 1024 * 1024;
const MAX_SHOWN = 2000;
const EACH_CONTROL_OR_BIDI = new RegExp(CONTROL_OR_BIDI, "gu");

/** Only what is asked for is read: of a zip its end, where its list stands. */
class BlobReader extends Reader<string> {
  readonly #blobs: Blobs;
  readonly #sha256: string;
  override size: number;

  constructor(blobs: Blobs, sha256: string, size: number) {
    super(sha256);
    this.#blobs = blobs;
    this.#sha256 = sha256;
    this.size = size;
  }

  override async readUint8Array(at: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (length > MAX_LIST_BYTES) throw new Error("The list of files is too long.");
    const stream = this.#blobs.read(this.#sha256, at, Math.min(at + length, this.size));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
}

export const isZip = (head: Uint8Array): boolean =>
  head[0] === 0x50 && head[1] === 0x4b && (head[2] === 3 || head[2] === 5) && head[3] === head[2]! + 1;

/** The files in a zip, a line each: bytes and name. Undefined where it is none that can be read. */
export async function listZip(
  blobs: Blobs,
  sha256: string,
  size: number,
): Promise<{ text: string; isWhole: boolean } | undefined> {
  const zip = new ZipReader(new BlobReader(blobs, sha256, size));
  const lines: string[] = [];
  try {
    for await (const { filename, uncompressedSize, directory } of zip.getEntriesGenerator()) {
      if (directory) continue;
      if (lines.length === MAX_SHOWN) return { text: lines.join("\n"), isWhole: false };
      lines.push(
        `${uncompressedSize.toLocaleString("en").padStart(15)}  ${filename.replace(EACH_CONTROL_OR_BIDI, "�")}`,
      );
    }
    return { text: lines.join("\n"), isWhole: true };
  } catch {
    // Cut short, or a zip by its first bytes alone.
    return undefined;
  } finally {
    await zip.close();
  }
}
