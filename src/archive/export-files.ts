import { asc, eq } from "drizzle-orm";
import { listFiles } from "../artifact/find.ts";
import type { ArtifactFile } from "../artifact/schema.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { artifact as artifactTable, artifactAlias, artifactVersion, runArtifact } from "../store/tables.ts";
import { fileEntry, paths, type ArchivedVersions } from "./schema.ts";
import { quoted } from "./zip-read.ts";
import { jsonOf, type ArchiveWriter } from "./zip-write.ts";

/** The versions that a run logged or used, each once. */
export async function describeVersions(collector: Collector, run: string): Promise<ArchivedVersions> {
  const { db } = collector;
  const rows = await db
    .select({ artifact: artifactTable, version: artifactVersion, use: runArtifact })
    .from(runArtifact)
    .innerJoin(artifactTable, eq(artifactTable.id, runArtifact.artifact))
    .innerJoin(artifactVersion, eq(artifactVersion.artifact, runArtifact.artifact))
    .where(eq(runArtifact.run, run))
    .orderBy(asc(runArtifact.time));
  const versions = new Map<string, ArchivedVersions[number]>();
  for (const { artifact, version, use } of rows) {
    if (version.version !== use.version) continue;
    const key = `${artifact.id} ${version.version}`;
    const { role, time, origin } = use;
    const known = versions.get(key);
    if (known) {
      known.uses.push({ role, time, origin });
      continue;
    }
    const aliases = await db.select().from(artifactAlias).where(eq(artifactAlias.artifact, artifact.id));
    versions.set(key, {
      kind: artifact.kind,
      name: artifact.name,
      type: version.type ?? artifact.type,
      version: version.version,
      about: { description: artifact.description, created: artifact.created, updated: artifact.updated },
      description: version.description,
      metadata: version.metadata,
      aliases: aliases.filter((alias) => alias.version === version.version).map(({ alias }) => alias),
      created: version.created,
      files: await listFiles(collector, artifact.id, version.version, { limit: 1_000_000 }),
      uses: [{ role, time, origin }],
    });
  }
  return [...versions.values()];
}

/**
 * Before the answer begins: an archive that lacks files would be none. Of one that ends in the middle nobody hears why, unless he
 * asks again.
 */
export function requireFiles(collector: Collector, run: string, versions: ArchivedVersions): void {
  requireArrived(collector, run);
  for (const version of versions)
    for (const file of version.files) if (!collector.blobs.has(file.sha256)) throw damagedFile(version, file);
}

function requireArrived({ connection }: Collector, run: string): void {
  const { files } = connection
    .prepare(
      `SELECT count(DISTINCT blob.sha256) AS files FROM run_artifact AS r
         JOIN artifact_file AS f ON f.artifact = r.artifact AND f.version = r.version
         JOIN blob ON blob.sha256 = f.sha256 WHERE r.run = ? AND blob.pending = 1`,
    )
    .get(run) as { files: number };
  if (files > 0)
    throw new CollectorError(
      "conflict",
      `The bytes of ${files} files of this run are still on their way here.`,
      {
        hint: "Their source sends them beside all else: try again in a while.",
      },
    );
}

type Named = Pick<ArchivedVersions[number], "kind" | "name" | "version">;
type FileOf = Pick<ArtifactFile, "path" | "sha256">;

export const damagedFile = ({ kind, name, version }: Named, { path, sha256 }: FileOf) =>
  new CollectorError(
    "damaged",
    `The file ${quoted(path)} of the ${kind} ${name} v${version} is damaged or gone: no bytes with its digest ${sha256} are here.`,
    {
      hint: `Put the same file once more (\`binnacle ${kind} put\`), which mends it; \`binnacle doctor\` looks for others.`,
    },
  );

/** Every file's bytes once, under the first name that they have. */
export async function writeVersions(
  { blobs }: Collector,
  versions: ArchivedVersions,
  out: ArchiveWriter,
): Promise<void> {
  await out.add(paths.artifacts, jsonOf(versions));
  const written = new Set<string>();
  for (const of of versions)
    for (const file of of.files) {
      const { path, sha256 } = file;
      if (written.has(sha256)) continue;
      written.add(sha256);
      await writeFile(blobs, out, fileEntry(of.kind, of.name, of.version, path), of, file);
    }
}

export async function writeFile(
  blobs: Collector["blobs"],
  out: ArchiveWriter,
  entry: string,
  of: Named,
  file: FileOf,
): Promise<void> {
  const { sha256 } = file;
  try {
    await out.add(entry, bytesOf(blobs.read(sha256)), { sha256 });
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== "damaged" && code !== "EIO" && code !== "not-found") throw error;
    // Whoever asks again is told at once.
    blobs.markDamaged(sha256);
    throw damagedFile(of, file);
  }
}

async function* bytesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
