import { createHash } from "node:crypto";
import { MAX_PACK_FILES, type ArtifactFile } from "../../artifact/schema.ts";
import { MAX_PACK_BYTES, PACK_HEADER_BYTES, PACK_TYPE } from "../../blob/schema.ts";
import { CollectorError } from "../../error.ts";
import { versionPath } from "./artifacts.ts";
import { answerTo, isBroken, notTheirs, tooMuch, type Fetching } from "./download-file.ts";

/** Small files that come in one answer, by their digest: what has the same bytes comes once. */
type Pack = Map<string, ArtifactFile[]>;

export function packsOf(files: readonly ArtifactFile[]): Pack[] {
  const packs: Pack[] = [];
  let pack: Pack = new Map();
  let bytes = 0;
  const packByDigest = new Map<string, ArtifactFile[]>();
  for (const file of files) {
    const same = packByDigest.get(file.sha256);
    if (same) {
      same.push(file);
      continue;
    }
    const size = PACK_HEADER_BYTES + file.size;
    if (packs.length === 0 || pack.size === MAX_PACK_FILES || bytes + size > MAX_PACK_BYTES) {
      packs.push((pack = new Map()));
      bytes = 0;
    }
    const those = [file];
    pack.set(file.sha256, those);
    packByDigest.set(file.sha256, those);
    bytes += size;
  }
  return packs;
}

/** Hands over each file's bytes, found to be what its digest says, in as many requests as it takes. */
export async function fetchPack(
  pack: Pack,
  fetching: Fetching,
  onFile: (file: ArtifactFile, bytes: Uint8Array) => void,
): Promise<void> {
  const left = new Map(pack);
  while (left.size > 0)
    await fetching.retry(async () => {
      const before = left.size;
      try {
        for await (const { sha256, bytes } of filesFrom(left, fetching)) {
          const files = left.get(sha256)!;
          fetching.progress.received += bytes.length;
          for (const file of files) {
            onFile(file, bytes);
            fetching.onBytes(bytes.length);
          }
          left.delete(sha256);
        }
      } catch (error) {
        // What came is in its place: the next request asks for the others.
        if (!isBroken(error) || left.size === before) throw error;
      }
      if (left.size === before)
        throw new CollectorError("unreachable", "The collector sent less than it should.");
    });
}

async function* filesFrom(
  left: Pack,
  fetching: Fetching,
): AsyncGenerator<{ sha256: string; bytes: Uint8Array }> {
  const body = { paths: [...left.values()].map(([file]) => file!.path) };
  const headers = { accept: PACK_TYPE };
  const path = versionPath(fetching.version, "/pack");
  let rest: Uint8Array = new Uint8Array();
  for await (const piece of answerTo(path, { body, headers }, fetching)) {
    const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let at = 0;
    while (bytes.length - at >= PACK_HEADER_BYTES) {
      const sha256 = Buffer.from(bytes.buffer, bytes.byteOffset + at, 32).toString("hex");
      const length = new DataView(bytes.buffer, bytes.byteOffset + at + 32, 4).getUint32(0, true);
      const file = left.get(sha256)?.[0];
      if (!file) throw new CollectorError("internal", "The collector sends files that nobody asked for.");
      if (length > file.size) throw tooMuch(file);
      const end = at + PACK_HEADER_BYTES + length;
      if (end > bytes.length) break;
      const content = bytes.subarray(at + PACK_HEADER_BYTES, end);
      const isTheirs = length === file.size && createHash("sha256").update(content).digest("hex") === sha256;
      if (!isTheirs) throw notTheirs(file);
      yield { sha256, bytes: content };
      at = end;
    }
    rest = bytes.subarray(at);
  }
}
