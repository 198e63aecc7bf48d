import { and, eq } from "drizzle-orm";
import { digestOf, INSERT_FILES, nextId } from "../artifact/log.ts";
import type { Collector } from "../collector.ts";
import type { Write } from "../store/journal-rows.ts";
import { artifact as artifactTable, artifactAlias, artifactVersion, runArtifact } from "../store/tables.ts";
import type { ArchivedVersions, ImportedRun } from "./schema.ts";

type Archived = ArchivedVersions[number];
type Imported = ImportedRun["versions"][number];

/** What is known of a name, here and of what is planned. */
interface Known {
  id: number;
  nextVersion: number;
  versionByDigest: Map<string, number>;
  aliases: Map<string, number>;
}

/**
 * Where each version finds its place: the one with the same files where there is one; else its own number where that was never
 * used, else the next. Nothing that is here changes, and no alias moves.
 */
export async function planVersions(
  collector: Collector,
  run: string,
  archived: ArchivedVersions,
): Promise<{ versions: Imported[]; writes: Write[] }> {
  const { db } = collector;
  const names = new Map<string, Known>();
  const writes: Write[] = [];
  const versions: Imported[] = [];
  let freeId = nextId(collector);

  async function find({ kind, name, type, about }: Archived): Promise<Known> {
    const key = `${kind} ${name}`;
    const planned = names.get(key);
    if (planned) return planned;
    const [row] = await db
      .select()
      .from(artifactTable)
      .where(and(eq(artifactTable.kind, kind), eq(artifactTable.name, name), eq(artifactTable.source, "")));
    const known: Known = {
      id: row?.id ?? freeId++,
      nextVersion: row?.nextVersion ?? 1,
      versionByDigest: new Map(),
      aliases: new Map(),
    };
    names.set(key, known);
    if (row) {
      const rows = await db.select().from(artifactVersion).where(eq(artifactVersion.artifact, row.id));
      for (const { digest, version } of rows) known.versionByDigest.set(digest, version);
      const aliases = await db.select().from(artifactAlias).where(eq(artifactAlias.artifact, row.id));
      for (const { alias, version } of aliases) known.aliases.set(alias, version);
    } else
      writes.push(
        db
          .insert(artifactTable)
          .values({ id: known.id, kind, name, type, ...about, nextVersion: 1 })
          .toSQL(),
      );
    return known;
  }

  for (const one of [...archived].sort((a, b) => a.version - b.version)) {
    const known = await find(one);
    const { id } = known;
    const digest = digestOf(one.files);
    const same = known.versionByDigest.get(digest);
    const version = same ?? Math.max(one.version, known.nextVersion);
    if (same === undefined) {
      known.nextVersion = version + 1;
      known.versionByDigest.set(digest, version);
      writes.push(...writesOfVersion(collector, id, version, digest, one));
    }
    const left: string[] = [];
    for (const alias of one.aliases) {
      const leadsTo = known.aliases.get(alias);
      if (leadsTo !== undefined && leadsTo !== version) left.push(alias);
      if (leadsTo !== undefined) continue;
      known.aliases.set(alias, version);
      writes.push(db.insert(artifactAlias).values({ artifact: id, alias, version }).toSQL());
    }
    for (const { role, time, origin } of one.uses)
      writes.push(
        db
          .insert(runArtifact)
          .values({ run, artifact: id, version, role, time, origin })
          .onConflictDoNothing()
          .toSQL(),
      );
    versions.push({
      id,
      kind: one.kind,
      name: one.name,
      exported_as: `v${one.version}`,
      version: `v${version}`,
      is_new: same === undefined,
      aliases_left: left,
    });
  }
  return { versions, writes };
}

function writesOfVersion(
  { db }: Collector,
  artifact: number,
  version: number,
  digest: string,
  { type, files, description, metadata, created }: Archived,
): Write[] {
  const size = files.reduce((sum, file) => sum + file.size, 0);
  return [
    db
      .update(artifactTable)
      .set({ nextVersion: version + 1 })
      .where(eq(artifactTable.id, artifact))
      .toSQL(),
    db
      .insert(artifactVersion)
      .values({ artifact, version, digest, size, files: files.length, description, metadata, created, type })
      .toSQL(),
    { sql: INSERT_FILES, params: [artifact, version, JSON.stringify(files)] },
  ];
}
