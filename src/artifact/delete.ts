import { and, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { artifact as artifactTable, artifactVersion } from "../store/tables.ts";
import { appendArtifactEntry, inArtifactTurn } from "./change.ts";
import { getArtifact, getVersion } from "./find.ts";

/** Deletes one version. Its bytes go later, when nothing else refers to them; its number is not used again. */
export function deleteVersion(
  collector: Collector,
  id: number,
  version: number,
  { force = false }: { force?: boolean } = {},
): Promise<void> {
  return inArtifactTurn(collector, async () => {
    const { kind, name, aliases } = await getVersion(collector, id, version);
    const kept = aliases.filter((alias) => alias !== "latest");
    if (kept.length > 0 && !force)
      throw new CollectorError("conflict", `v${version} of ${name} is called ${kept.join(", ")}.`, {
        hint: "Move the alias to another version first, or delete with --force (?force=true).",
      });
    const { db } = collector;
    await appendArtifactEntry(collector, "artifact.deleted", null, { kind, name, version }, [
      db
        .delete(artifactVersion)
        .where(and(eq(artifactVersion.artifact, id), eq(artifactVersion.version, version)))
        .toSQL(),
    ]);
  });
}

/** Deletes a name with all its versions. */
export function deleteArtifact(collector: Collector, id: number): Promise<void> {
  return inArtifactTurn(collector, async () => {
    const { kind, name } = await getArtifact(collector, id);
    await appendArtifactEntry(collector, "artifact.deleted", null, { kind, name, version: null }, [
      collector.db.delete(artifactTable).where(eq(artifactTable.id, id)).toSQL(),
    ]);
  });
}
