/** @jsxImportSource hono/jsx */
import type { Child } from "hono/jsx";
import type { VersionState } from "../artifact-state.ts";
import { artifactHref, downloadHref, getCommand, kindTitles, modelsHref, zipHref } from "../artifact-view.ts";
import { formatCount, formatTime, plural } from "../format.ts";
import { Aliases, type OnSetVersion } from "./aliases.tsx";
import { Digest, RunLink, Size } from "./artifact-bits.tsx";
import { Icon } from "./icon.tsx";
import { LatestMetrics } from "./latest-metrics.tsx";
import { Lineage } from "./lineage.tsx";
import { SourceBadge } from "./place-filters.tsx";
import { ConfigTable, Fact, Moment, Notes } from "./run-facts.tsx";
import { Snippet } from "./snippet.tsx";

export interface VersionViewProps extends VersionState {
  busy?: boolean;
  problem?: string | undefined;
  editing?: boolean;
  onSet?: OnSetVersion;
  onDelete?: () => void;
  onEdit?: () => void;
  onCancel?: () => void;
  /** The files: what the browser can do with them it brings itself. */
  children?: Child;
}

/** One version: what it is, what is in it, where it came from and how the run that made it went. */
export const VersionView = (props: VersionViewProps) => {
  const { artifact, version, runs, metrics, now } = props;
  const { kind, name } = artifact;
  const maker = version.produced_by.find((run) => runs[run]);
  const only = version.files === 1 ? props.files.files[0] : undefined;
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href={modelsHref({ kind, search: "" })}>{kindTitles[kind]}</a>
        <span aria-hidden="true">/</span>
        <a href={artifactHref(artifact.id)}>
          <bdi>{name}</bdi>
        </a>
      </nav>
      <div class="run-head version-head">
        <div class="run-title">
          <h1>
            <bdi>{name}</bdi> <span class="version-word">{version.version}</span>
          </h1>
          {version.type !== "model" && <span class="type-word">{version.type}</span>}
          <SourceBadge source={artifact.source} />
          <Aliases version={version} onSet={props.onSet} />
        </div>
        <div class="run-actions">
          {props.pending === 0 && (
            <a
              class="button primary"
              href={
                only
                  ? downloadHref(version.id, version.version, only.path)
                  : zipHref(version.id, version.version)
              }
              title={only ? only.path : "All files, as one zip"}
              download
            >
              <Icon name="download" size={14} /> {only ? "Download" : "Download all"}
            </a>
          )}
          <button
            class={props.onDelete ? "button danger" : "button danger waiting"}
            type="button"
            onClick={() => props.onDelete?.()}
            disabled={props.busy}
          >
            <Icon name="trash" size={14} /> Delete
          </button>
        </div>
      </div>
      {props.problem !== undefined && (
        <p class="notice bad" role="alert">
          {props.problem}
        </p>
      )}
      {props.pending > 0 && (
        <p class="notice" role="status">
          <span>
            Content on its way: <bdi>{artifact.source}</bdi> still has to send{" "}
            {props.pending === version.files
              ? version.files === 1
                ? "its file"
                : "its files"
              : `${formatCount(props.pending)} of its ${plural(version.files, "file")}`}
            .
          </span>
        </p>
      )}
      <div class="overview version">
        <div class="overview-main">
          <section class="card panel" aria-labelledby="files">
            <h2 id="files">
              Files <span class="faint num">{formatCount(version.files)}</span>
            </h2>
            {props.children}
          </section>
          <section class="card panel" aria-labelledby="get">
            <h2 id="get">Get it</h2>
            <Snippet code={getCommand(version, artifact.source)} />
          </section>
        </div>
        <div class="overview-side">
          <section class="card panel" aria-labelledby="facts">
            <h2 id="facts">Version</h2>
            <dl class="facts">
              <Fact label="Size">
                <Size bytes={version.size} /> <span class="faint">in {plural(version.files, "file")}</span>
              </Fact>
              <Fact label="Digest">
                <Digest digest={version.digest} />
              </Fact>
              <Fact label="Created">
                <Moment time={version.created} now={now} />
              </Fact>
              <Fact label="First version">
                <span class="num">{formatTime(Date.parse(artifact.created))}</span>
              </Fact>
              <Fact label="Newest version">
                <span class="num">{formatTime(Date.parse(artifact.updated))}</span>{" "}
                {artifact.latest.version !== version.version && (
                  <a href={`${artifactHref(artifact.id)}/${artifact.latest.version}`}>
                    {artifact.latest.version}
                  </a>
                )}
              </Fact>
            </dl>
          </section>
          <section class="card panel" aria-labelledby="lineage">
            <h2 id="lineage">Lineage</h2>
            <Lineage version={version} runs={runs} limit={200} />
          </section>
          <Notes
            title="Description"
            notes={version.description}
            editing={props.editing ?? false}
            onEdit={props.onEdit}
            onCancel={props.onCancel}
            onSave={(description) => props.onSet?.(version, { description })}
          />
          {Object.keys(version.metadata).length > 0 && (
            <ConfigTable config={version.metadata} title="Metadata" address="GET /api/v1/artifacts/…" />
          )}
          {maker !== undefined && metrics && metrics.length > 0 && (
            <>
              <p class="maker-word soft">
                What run <RunLink id={maker} runs={runs} /> logged:
              </p>
              <LatestMetrics metrics={metrics} runId={maker} />
            </>
          )}
        </div>
      </div>
    </>
  );
};
