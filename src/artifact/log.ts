import { createHash } from "node:crypto";
import { and, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { getOwnRow } from "../run/find.ts";
import type { Write } from "../store/journal-rows.ts";
import { artifact as artifactTable, artifactAlias, artifactVersion, runArtifact } from "../store/tables.ts";
import { appendArtifactEntry, inArtifactTurn } from "./change.ts";
import { getVersion } from "./find.ts";
import type { ArtifactFile, LogArtifact, LoggedArtifact } from "./schema.ts";

/** One statement for a hundred thousand files: as rows of values, building it would hold the event loop for seconds. */
export const INSERT_FILES = `INSERT INTO artifact_file (artifact, version, path, size, sha256)
  SELECT ?, ?, value ->> 'path', value ->> 'size', value ->> 'sha256' FROM json_each(?)`;

/** Makes these files the next version of their name; the same files as the newest version's are that version. */
export function logArtifact(
  collector: Collector,
  run: string | null,
  input: LogArtifact,
): Promise<LoggedArtifact> {
  return inArtifactTurn(collector, async () => {
    if (run !== null) await getOwnRow(collector, run);
    requireBlobs(collector, input.files);
    const { db } = collector;
    const time = collector.now();
    const digest = digestOf(input.files);
    const [known] = await db
      .select()
      .from(artifactTable)
      .where(
        and(
          eq(artifactTable.kind, input.kind),
          eq(artifactTable.name, input.name),
          eq(artifactTable.source, ""),
        ),
      );
    const id = known?.id ?? nextId(collector);
    const newest = known && (await versionWith(collector, id, digest, known.nextVersion - 1));
    const version = newest?.version ?? known?.nextVersion ?? 1;
    const about = aboutOf(input, newest);
    const writes: Write[] = [];
    if (newest === undefined) {
      writes.push(...writesOfArtifact(collector, known !== undefined, id, input, time, version));
      writes.push(...writesOfVersion(collector, id, version, digest, input, time));
    } else if (!isSame(about, newest)) writes.push(writeOfAbout(collector, id, version, about));
    for (const alias of input.aliases) writes.push(setAlias(collector, id, alias, version));
    if (run !== null)
      writes.push(
        db
          .insert(runArtifact)
          .values({ run, artifact: id, version, role: "output", time, origin: input.origin })
          .onConflictDoNothing()
          .toSQL(),
      );
    if (writes.length > 0)
      await appendArtifactEntry(
        collector,
        "artifact.logged",
        run,
        // As it is now, for whoever keeps a copy.
        { ...input, description: about.description ?? undefined, metadata: about.metadata, version, time },
        writes,
      );
    return { ...(await getVersion(collector, id, version)), is_new: newest === undefined };
  });
}

/** Nothing refers to bytes that are not here. */
function requireBlobs({ blobs }: Collector, files: readonly ArtifactFile[]): void {
  const missing = new Set(blobs.missing(files.map(({ sha256 }) => sha256)));
  if (missing.size > 0)
    throw new CollectorError("conflict", `The bytes of ${missing.size} files are not here.`, {
      hint: "Upload them first: POST /api/v1/blobs/missing tells which.",
      details: { missing: [...missing].slice(0, 1000) },
    });
  for (const { path, size, sha256 } of files)
    if (blobs.size(sha256) !== size)
      throw new CollectorError("invalid", `${path} has ${blobs.size(sha256)} bytes, not ${size}.`, {
        hint: "The file may have changed while it was read: log it anew.",
      });
}

/** By paths and contents, whatever their order. */
export function digestOf(files: readonly ArtifactFile[]): string {
  const hash = createHash("sha256");
  const lines = files.map(({ path, sha256 }) => `${sha256} ${path}\n`).sort();
  for (const line of lines) hash.update(line);
  return hash.digest("hex");
}

export function nextId({ connection }: Collector): number {
  const row = connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'artifact'").get() as
    | { seq: number }
    | undefined;
  return (row?.seq ?? 0) + 1;
}

type About = Pick<typeof artifactVersion.$inferSelect, "description" | "metadata">;

/** Who logs the same files again may know more of them: what they say is added to what is known. */
const aboutOf = ({ description, metadata }: LogArtifact, known: About | undefined): About => ({
  description: description ?? known?.description ?? null,
  metadata: { ...known?.metadata, ...metadata },
});

const isSame = (a: About, b: About) =>
  a.description === b.description && JSON.stringify(a.metadata) === JSON.stringify(b.metadata);

const writeOfAbout = ({ db }: Collector, id: number, version: number, about: About): Write =>
  db
    .update(artifactVersion)
    .set(about)
    .where(and(eq(artifactVersion.artifact, id), eq(artifactVersion.version, version)))
    .toSQL();

/** The newest version if these are its files. */
async function versionWith(
  { db }: Collector,
  id: number,
  digest: string,
  version: number,
): Promise<(About & { version: number }) | undefined> {
  const { description, metadata } = artifactVersion;
  const [row] = await db
    .select({ version: artifactVersion.version, description, metadata })
    .from(artifactVersion)
    .where(
      and(
        eq(artifactVersion.artifact, id),
        eq(artifactVersion.version, version),
        eq(artifactVersion.digest, digest),
      ),
    );
  return row;
}

function writesOfArtifact(
  { db }: Collector,
  isKnown: boolean,
  id: number,
  { kind, name, type }: LogArtifact,
  time: number,
  version: number,
): Write[] {
  const row = { type, updated: time, nextVersion: version + 1 };
  return [
    isKnown
      ? db.update(artifactTable).set(row).where(eq(artifactTable.id, id)).toSQL()
      : db
          .insert(artifactTable)
          .values({ id, kind, name, created: time, ...row })
          .toSQL(),
  ];
}

function writesOfVersion(
  { db }: Collector,
  id: number,
  version: number,
  digest: string,
  { type, files, description, metadata }: LogArtifact,
  time: number,
): Write[] {
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const writes: Write[] = [
    db
      .insert(artifactVersion)
      .values({
        artifact: id,
        version,
        digest,
        size,
        files: files.length,
        description: description ?? null,
        metadata: metadata ?? {},
        created: time,
        type,
      })
      .toSQL(),
  ];
  writes.push({ sql: INSERT_FILES, params: [id, version, JSON.stringify(files)] });
  return writes;
}

export const setAlias = ({ db }: Collector, id: number, alias: string, version: number): Write =>
  db
    .insert(artifactAlias)
    .values({ artifact: id, alias, version })
    .onConflictDoUpdate({ target: [artifactAlias.artifact, artifactAlias.alias], set: { version } })
    .toSQL();
