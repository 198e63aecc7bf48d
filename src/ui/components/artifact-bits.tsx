/** @jsxImportSource hono/jsx */
import type { ArtifactKind, ArtifactVersion } from "../../artifact/schema.ts";
import type { RunLabels } from "../artifact-state.ts";
import { shortDigest } from "../artifact-view.ts";
import { formatCount } from "../format.ts";
import { formatReading } from "../units.ts";
import { Compass, Icon, StatusBadge } from "./icon.tsx";
import { Snippet } from "./snippet.tsx";

export const Size = ({ bytes }: { bytes: number }) => (
  <span class="num nowrap" title={`${formatCount(bytes)} bytes`}>
    {formatReading("B", bytes)}
  </span>
);

export const Digest = ({ digest, whole = false }: { digest: string; whole?: boolean }) => (
  <button class="digest mono" type="button" data-copy={digest} title={`SHA-256 ${digest}: copy`}>
    <span>{whole ? digest : shortDigest(digest)}</span> <Icon name="copy" size={12} />
  </button>
);

/** A run by its name, where it is still there. */
export const RunLink = ({
  id,
  runs,
  tab = "",
  status = false,
}: {
  id: string;
  runs: RunLabels;
  tab?: string;
  status?: boolean;
}) => {
  const run = runs[id];
  return (
    <span class="run-link">
      <a href={`/runs/${id}${tab}`} title={run?.name ?? id}>
        <bdi>{run?.name ?? id}</bdi>
      </a>
      {status && run && <StatusBadge status={run.status} />}
    </span>
  );
};

/** The first of the runs, and how many follow. */
export const MadeBy = ({ version, runs }: { version: ArtifactVersion; runs: RunLabels }) => {
  const [first, ...others] = version.produced_by;
  if (first === undefined) return <span class="faint">no run</span>;
  return (
    <>
      <RunLink id={first} runs={runs} />
      {others.length > 0 && (
        <span class="faint num nowrap" title="Other runs logged the very same files">
          {" "}
          +{formatCount(others.length)}
        </span>
      )}
    </>
  );
};

const logModel = `import binnacle

binnacle.init(project="first")
torch.save(model.state_dict(), "model.pt")
binnacle.log_model("classifier", "model.pt", aliases=["best"])`;

const logArtifact = `import binnacle

binnacle.init(project="first")
binnacle.log_artifact("train-data", "data/", type="dataset")`;

export interface NoneYetProps {
  kind: ArtifactKind;
  /** On a run's page. */
  run?: string;
}

/** What an empty page says: what would be here, and the lines that bring it here. */
export const NoneYet = ({ kind, run }: NoneYetProps) => (
  <section class="card empty" aria-labelledby="none-yet">
    <div class="rose">
      <Compass size={44} />
    </div>
    <h2 id="none-yet">
      {kind === "model" ? "No models" : "No artifacts"} {run === undefined ? "yet" : "in this run yet"}
    </h2>
    <p class="soft">
      {kind === "model"
        ? "A model is a file or a folder with a name. Log it again and it gets the next version; the same bytes are kept once."
        : "An artifact is any file or folder worth keeping with a run: data, source code, plots. Log it again and it gets the next version."}
    </p>
    <Snippet title="From Python" code={kind === "model" ? logModel : logArtifact} />
    <Snippet
      title="From a shell"
      code={`binnacle ${kind} put ${kind === "model" ? "classifier model.pt" : "train-data data/"}${run === undefined ? "" : ` -rid ${run}`}`}
    />
    {run !== undefined && (
      <>
        <h3>To use one that is there already</h3>
        <p class="soft">
          <code>
            folder = binnacle.use_artifact("{kind === "model" ? "classifier" : "train-data"}", "best"
            {kind === "model" && ', kind="model"'})
          </code>{" "}
          downloads it, and this page shows where it came from.
        </p>
      </>
    )}
  </section>
);
