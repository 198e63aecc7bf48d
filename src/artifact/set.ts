import { and, eq, inArray } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import type { Write } from "../store/journal-rows.ts";
import { writeOfEditedVersion, type EditedVersion } from "../store/source-edit.ts";
import { artifactAlias, artifactVersion } from "../store/tables.ts";
import { appendArtifactEntry, inArtifactTurn } from "./change.ts";
import { getArtifact, getVersion, refOf } from "./find.ts";
import { setAlias } from "./log.ts";
import type { ArtifactVersion, SetVersion } from "./schema.ts";

/** Changes what is said about a version, or which aliases lead to it. */
export function setVersion(
  collector: Collector,
  id: number,
  version: number,
  { description, metadata, add_aliases = [], remove_aliases = [] }: SetVersion,
): Promise<ArtifactVersion> {
  return inArtifactTurn(collector, async () => {
    await getVersion(collector, id, version);
    const artifact = await getArtifact(collector, id);
    const ref = refOf(artifact);
    const { db } = collector;
    const writes: Write[] = [];
    // Of a version that is relayed here: its source does not undo it by saying once more what it said before.
    const edits =
      artifact.source === ""
        ? []
        : await editsOf(collector, id, version, { description, metadata, add_aliases, remove_aliases });
    const change = { ...(description !== undefined && { description }), ...(metadata && { metadata }) };
    if (Object.keys(change).length > 0)
      writes.push(
        db
          .update(artifactVersion)
          .set(change)
          .where(and(eq(artifactVersion.artifact, id), eq(artifactVersion.version, version)))
          .toSQL(),
      );
    if (remove_aliases.length > 0)
      writes.push(
        db
          .delete(artifactAlias)
          .where(
            and(
              eq(artifactAlias.artifact, id),
              eq(artifactAlias.version, version),
              inArray(artifactAlias.alias, remove_aliases),
            ),
          )
          .toSQL(),
      );
    for (const alias of add_aliases) writes.push(setAlias(collector, id, alias, version));
    if (writes.length > 0) writes.push(...edits);
    if (writes.length > 0)
      await appendArtifactEntry(
        collector,
        "artifact.changed",
        null,
        { ...ref, version, ...change, add_aliases, remove_aliases },
        writes,
      );
    return getVersion(collector, id, version);
  });
}

/** What the source had said, of each version that the change is about: an alias that comes to one is gone from another. */
async function editsOf(
  { db }: Collector,
  artifact: number,
  version: number,
  { description, metadata, add_aliases = [], remove_aliases = [] }: SetVersion,
): Promise<Write[]> {
  const aliases = await db.select().from(artifactAlias).where(eq(artifactAlias.artifact, artifact));
  const moved = aliases.filter(({ alias }) => add_aliases.includes(alias)).map(({ version }) => version);
  const isAboutAliases = add_aliases.length + remove_aliases.length > 0;
  const rows = await db
    .select()
    .from(artifactVersion)
    .where(
      and(eq(artifactVersion.artifact, artifact), inArray(artifactVersion.version, [version, ...moved])),
    );
  return rows.map((row) => {
    const isIt = row.version === version;
    const said: EditedVersion = {
      ...(isIt && description !== undefined && { description: row.description }),
      ...(isIt && metadata && { metadata: row.metadata }),
      ...(isAboutAliases && {
        aliases: aliases.filter(({ version }) => version === row.version).map(({ alias }) => alias),
      }),
    };
    return writeOfEditedVersion(artifact, row.version, { ...said, ...row.edited });
  });
}
