import { and, eq, inArray } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import type { Write } from "../store/journal-rows.ts";
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
    const ref = refOf(await getArtifact(collector, id));
    const { db } = collector;
    const writes: Write[] = [];
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
