/** @jsxImportSource hono/jsx */
import type { ArtifactVersion } from "../../artifact/schema.ts";
import type { RunLabels } from "../artifact-state.ts";
import { formatCount } from "../format.ts";
import { RunLink } from "./artifact-bits.tsx";

export interface LineageProps {
  version: ArtifactVersion;
  runs: RunLabels;
  /** As many links as there are names for. */
  limit?: number;
}

/** Where a version came from and where it went. */
export const Lineage = ({ version, runs, limit = 50 }: LineageProps) => {
  const tab = version.kind === "model" ? "/models" : "/artifacts";
  const list = (title: string, ids: string[], none: string) => (
    <div>
      <dt>{title}</dt>
      <dd>
        {ids.length === 0 ? (
          <span class="faint">{none}</span>
        ) : (
          <ul class="run-links">
            {ids.slice(0, limit).map((id) => (
              <li key={id}>
                <RunLink id={id} runs={runs} tab={tab} status />
              </li>
            ))}
            {ids.length > limit && <li class="faint num">and {formatCount(ids.length - limit)} more</li>}
          </ul>
        )}
      </dd>
    </div>
  );
  return (
    <dl class="lineage">
      {list("Logged by", version.produced_by, "no run")}
      {list("Used by", version.used_by, "no run yet")}
    </dl>
  );
};
