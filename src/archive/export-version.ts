import { listFiles } from "../artifact/find.ts";
import type { ArtifactVersion } from "../artifact/schema.ts";
import { onTheirWay } from "../blob/blobs.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { damagedFile, writeFile } from "./export-files.ts";
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
function requireBytes({ connection }: Collector, of: ArtifactVersion): void {
  const { id } = of;
  const version = numberOf(of);
  const damaged = connection
    .prepare(
      `SELECT f.path, f.sha256 FROM artifact_file AS f JOIN blob_damage ON blob_damage.sha256 = f.sha256
         WHERE f.artifact = ? AND f.version = ? ORDER BY f.path LIMIT 1`,
    )
    .get(id, version) as { path: string; sha256: string } | undefined;
  if (damaged) throw damagedFile({ ...of, version }, damaged);
  const found = connection
    .prepare(
      `SELECT 1 FROM artifact_file AS f JOIN blob ON blob.sha256 = f.sha256
         WHERE f.artifact = ? AND f.version = ? AND blob.pending = 1 LIMIT 1`,
    )
    .get(id, version);
  if (found !== undefined) throw onTheirWay();
}

const numberOf = ({ version }: ArtifactVersion): number => Number(version.slice(1));

async function writeFiles(collector: Collector, of: ArtifactVersion, out: ArchiveWriter): Promise<void> {
  const { id, kind, name, version, files: total } = of;
  const number = numberOf(of);
  let count = 0;
  for (let after = ""; ;) {
    const files = await listFiles(collector, id, number, { after, limit: PAGE });
    for (const file of files) {
      const entry = `${name}-${version}/${file.path}`;
      await writeFile(collector.blobs, out, entry, { kind, name, version: number }, file);
    }
    count += files.length;
    if (files.length < PAGE) break;
    after = files.at(-1)!.path;
  }
  // Deleted in the middle it has no more files, and what came would pass for all of it.
  if (count !== total)
    throw new CollectorError("gone", `${version} of ${name} was deleted while it was downloaded.`);
  await out.close();
}
