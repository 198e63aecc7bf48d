import type { Collector } from "../collector.ts";
import { getOwnRow } from "../run/find.ts";
import { runArtifact } from "../store/tables.ts";
import { appendArtifactEntry, inArtifactTurn } from "./change.ts";
import { getArtifact, getVersion, refOf } from "./find.ts";
import type { ArtifactVersion } from "./schema.ts";

/** Notes that a run uses a version: lineage. */
export function useArtifact(
  collector: Collector,
  run: string,
  id: number,
  version: number,
): Promise<ArtifactVersion> {
  return inArtifactTurn(collector, async () => {
    await getOwnRow(collector, run);
    const { used_by } = await getVersion(collector, id, version);
    if (!used_by.includes(run)) {
      const time = collector.now();
      const ref = refOf(await getArtifact(collector, id));
      await appendArtifactEntry(collector, "artifact.used", run, { ...ref, version, time }, [
        collector.db
          .insert(runArtifact)
          .values({ run, artifact: id, version, role: "input", time })
          .onConflictDoNothing()
          .toSQL(),
      ]);
    }
    return getVersion(collector, id, version);
  });
}
