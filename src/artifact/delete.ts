import { and, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { writeOfDeleted } from "../store/bury.ts";
import { artifact as artifactTable, artifactAlias, artifactVersion, runArtifact } from "../store/tables.ts";
import { appendArtifactEntry, inArtifactTurn } from "./change.ts";
import { getArtifact, getVersion, refOf } from "./find.ts";

interface Delete {
  /** Even if something is lost that others refer to. */
  force?: boolean;
}

/** Deletes one version. Its bytes go later, when nothing else refers to them; its number is not used again. */
export function deleteVersion(
  collector: Collector,
  id: number,
  version: number,
  { force = false }: Delete = {},
): Promise<void> {
  return inArtifactTurn(collector, async () => {
    const { name, aliases, used_by } = await getVersion(collector, id, version);
    const kept = aliases.filter((alias) => alias !== "latest");
    const what = `v${version} of ${name}`;
    if (kept.length > 0 && !force)
      throw new CollectorError("conflict", `${what} is called ${kept.join(", ")}.`, {
        hint: "Move the alias to another version first, or delete with --force (?force=true).",
      });
    if (used_by.length > 0 && !force)
      throw new CollectorError(
        "conflict",
        `${what} is used by ${used_by.length === 1 ? `run ${used_by[0]}` : `${used_by.length} runs`}.`,
        { hint: "Delete it all the same with --force (?force=true)." },
      );
    const { db } = collector;
    const ref = refOf(await getArtifact(collector, id));
    await appendArtifactEntry(collector, "artifact.deleted", null, { ...ref, version }, [
      writeOfDeleted("artifact_version.artifact = ? AND artifact_version.version = ?", [id, version]),
      db
        .delete(artifactVersion)
        .where(and(eq(artifactVersion.artifact, id), eq(artifactVersion.version, version)))
        .toSQL(),
    ]);
  });
}

/** Deletes a name with all its versions. */
export function deleteArtifact(
  collector: Collector,
  id: number,
  { force = false }: Delete = {},
): Promise<void> {
  return inArtifactTurn(collector, async () => {
    const row = await getArtifact(collector, id);
    if (!force) await requireUnreferenced(collector, id, row.name);
    await appendArtifactEntry(collector, "artifact.deleted", null, { ...refOf(row), version: null }, [
      writeOfDeleted("artifact_version.artifact = ?", [id]),
      collector.db.delete(artifactTable).where(eq(artifactTable.id, id)).toSQL(),
    ]);
  });
}

/** Who names no version may not have thought of all of them: here those count, too, that a run has but logged. */
async function requireUnreferenced({ db }: Collector, id: number, name: string): Promise<void> {
  const aliases = await db.select().from(artifactAlias).where(eq(artifactAlias.artifact, id));
  const runs = await db
    .selectDistinct({ run: runArtifact.run })
    .from(runArtifact)
    .where(eq(runArtifact.artifact, id));
  if (aliases.length + runs.length === 0) return;
  const versions = await db.$count(artifactVersion, eq(artifactVersion.artifact, id));
  const words = aliases.map(({ alias }) => alias).sort();
  const them = versions === 1 ? "it" : "them";
  const lost = [
    ...(words.length > 0 ? [`${words.join(", ")} ${words.length === 1 ? "leads" : "lead"} to ${them}`] : []),
    ...(runs.length > 0
      ? [`${runs.length === 1 ? "a run" : `${runs.length} runs`} logged or used ${them}`]
      : []),
  ];
  throw new CollectorError(
    "conflict",
    `${name} has ${versions === 1 ? "one version" : `${versions} versions`}: ${lost.join(", and ")}.`,
    { hint: `Delete all of it with --force (?force=true), or one version by its number.` },
  );
}
