import { listFiles } from "../artifact/find.ts";
import type { ArtifactVersion } from "../artifact/schema.ts";
import { onTheirWay } from "../blob/blobs.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { createArchiveWriter, type ArchiveWriter } from "./zip-write.ts";

const PAGE = 1000;

/** The files of a version as one zip, in a folder of its name, made while it is read. */
export function exportVersion(collector: Collector, version: ArtifactVersion): ReadableStream<Uint8Array> {
  requireBytes(collector, version);
  const aborted = new AbortController();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(
    {},
    { highWaterMark: 4 },
    { highWaterMark: 4 },
  );
  // Of the same version the same zip, whenever it is asked for.
  const out = createArchiveWriter(writable, new Date(version.created), aborted.signal);
  void writeFiles(collector, version, out).catch(async (error: unknown) => {
    aborted.abort(error);
    await writable.abort(error).catch(() => {});
  });
  return readable;
}

/** Before the answer begins: a zip that lacks files would be none. */
function requireBytes({ connection }: Collector, { id, version }: ArtifactVersion): void {
  const found = connection
    .prepare(
      `SELECT 1 FROM artifact_file AS f JOIN blob ON blob.sha256 = f.sha256
         WHERE f.artifact = ? AND f.version = ? AND blob.pending = 1 LIMIT 1`,
    )
    .get(id, Number(version.slice(1)));
  if (found !== undefined) throw onTheirWay();
}

async function writeFiles(
  collector: Collector,
  { id, name, version, files: total }: ArtifactVersion,
  out: ArchiveWriter,
): Promise<void> {
  let count = 0;
  for (let after = ""; ;) {
    const files = await listFiles(collector, id, Number(version.slice(1)), { after, limit: PAGE });
    for (const { path, sha256 } of files)
      await out.add(`${name}-${version}/${path}`, collector.blobs.read(sha256), { sha256 });
    count += files.length;
    if (files.length < PAGE) break;
    after = files.at(-1)!.path;
  }
  // Deleted in the middle it has no more files, and what came would pass for all of it.
  if (count !== total)
    throw new CollectorError("gone", `${version} of ${name} was deleted while it was downloaded.`);
  await out.close();
}
