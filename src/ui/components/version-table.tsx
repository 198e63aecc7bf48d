/** @jsxImportSource hono/jsx */
import type { ArtifactVersion } from "../../artifact/schema.ts";
import type { ModelState } from "../artifact-state.ts";
import { kindTitles, modelsHref, usualMetrics, versionHref, type ModelView } from "../artifact-view.ts";
import { formatCount, formatNumber, plural, toNumber } from "../format.ts";
import { Aliases, type OnSetVersion } from "./aliases.tsx";
import { MadeBy, Size } from "./artifact-bits.tsx";
import { Icon } from "./icon.tsx";
import { SourceBadge } from "./place-filters.tsx";
import { Ago } from "./time.tsx";

export interface ModelVersionsProps extends ModelState {
  view: ModelView;
  busy?: boolean;
  problem?: string | undefined;
  loading?: boolean;
  current?: number | undefined;
  fresh?: ReadonlySet<string> | undefined;
  onSet?: OnSetVersion;
  onDelete?: () => void;
  onMetrics?: (metrics: string[]) => void;
  onMore?: () => void;
}

/** A name with all its versions. */
export function ModelVersions(props: ModelVersionsProps) {
  const { artifact, versions, next, problem, metricNames, view } = props;
  const { kind, name, type } = artifact;
  const columns = view.metrics ?? usualMetrics(metricNames);
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href={modelsHref({ kind, search: "" })}>{kindTitles[kind]}</a>
      </nav>
      <div class="run-head">
        <div class="run-title">
          <h1>
            <bdi>{name}</bdi>
          </h1>
          {type !== "model" && <span class="type-word">{type}</span>}
          <SourceBadge source={artifact.source} />
          <span class="soft num">{plural(artifact.versions, "version")}</span>
          <span class="faint">
            first logged <Ago time={artifact.created} now={props.now} />
          </span>
        </div>
        <div class="run-actions">
          {metricNames.length > 0 && (
            <MetricPicker names={metricNames} chosen={columns} onMetrics={props.onMetrics} />
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
      {problem !== undefined && (
        <p class="notice bad" role="alert">
          {problem}
        </p>
      )}
      <VersionTable {...props} columns={columns} />
      {next !== null && (
        <p class="more">
          <button class="button" type="button" onClick={() => props.onMore?.()} disabled={props.loading}>
            {props.loading ? "Loading…" : "Show more"}
          </button>
          <span class="faint num" role="status">
            {formatCount(versions.length)} of {formatCount(artifact.versions)}
          </span>
        </p>
      )}
    </>
  );
}

const MetricPicker = ({
  names,
  chosen,
  onMetrics,
}: {
  names: string[];
  chosen: string[];
  onMetrics?: ((metrics: string[]) => void) | undefined;
}) => {
  const all = [...new Set([...chosen, ...names])];
  return (
    <details class="picker">
      <summary class="button">
        <Icon name="table" size={14} /> Metrics <span class="faint num">{chosen.length}</span>
      </summary>
      <fieldset class="picker-list">
        <legend class="faint">Last values of the run that made the version</legend>
        {all.map((name) => (
          <label key={name}>
            <input
              type="checkbox"
              value={name}
              checked={chosen.includes(name)}
              disabled={chosen.length >= 8 && !chosen.includes(name)}
              onChange={(event: Event) => {
                const isOn = (event.target as HTMLInputElement).checked;
                onMetrics?.(isOn ? [...chosen, name] : chosen.filter((kept) => kept !== name));
              }}
            />{" "}
            <bdi>{name}</bdi>
          </label>
        ))}
      </fieldset>
    </details>
  );
};

const VersionTable = (props: ModelVersionsProps & { columns: string[] }) => {
  const { artifact, versions, columns, runs, now } = props;
  return (
    <div class="card table-wrap">
      <table class="runs versions" role="table">
        <caption class="unseen">Versions of {artifact.name}, the newest first</caption>
        <thead role="rowgroup">
          <tr role="row">
            {["Version", "Aliases", "Made by"].map((label) => (
              <th key={label} scope="col" role="columnheader">
                {label}
              </th>
            ))}
            {columns.map((name) => (
              <th key={`metric ${name}`} scope="col" role="columnheader" class="right metric" title={name}>
                <bdi class="clip">{name}</bdi>
              </th>
            ))}
            {["Used by", "Files", "Size", "Created"].map((label) => (
              <th
                key={label}
                scope="col"
                role="columnheader"
                class={label === "Created" ? undefined : "right"}
              >
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {versions.map((version, index) => (
            <VersionRow
              key={version.version}
              version={version}
              columns={columns}
              values={props.metrics[version.produced_by[0] ?? ""] ?? {}}
              runs={runs}
              now={now}
              isCurrent={index === props.current}
              isFresh={props.fresh?.has(version.version) ?? false}
              onSet={props.onSet}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
};

interface RowProps {
  version: ArtifactVersion;
  columns: string[];
  values: ModelState["metrics"][string];
  runs: ModelState["runs"];
  now: number;
  isCurrent: boolean;
  isFresh: boolean;
  onSet?: OnSetVersion | undefined;
}

const VersionRow = ({ version, columns, values, runs, now, isCurrent, isFresh, onSet }: RowProps) => (
  <tr
    role="row"
    data-href={versionHref(version.id, version.version)}
    data-current={isCurrent ? "true" : undefined}
    class={isFresh ? "fresh" : undefined}
  >
    <td class="cell-version num" role="cell">
      <a class="version-name" href={versionHref(version.id, version.version)}>
        {version.version}
      </a>
    </td>
    <td class="cell-aliases" role="cell">
      <Aliases version={version} onSet={onSet} />
    </td>
    <td class="cell-maker" role="cell" data-label="Made by">
      <MadeBy version={version} runs={runs} />
    </td>
    {columns.map((name) => (
      <td key={`metric ${name}`} class="right num metric" role="cell" data-label={name}>
        {values[name] === undefined ? <span class="faint">—</span> : formatNumber(toNumber(values[name]))}
      </td>
    ))}
    <td class="right num soft" role="cell" data-label="Used by">
      {version.used_by.length === 0 ? <span class="faint">—</span> : plural(version.used_by.length, "run")}
    </td>
    <td class="right num soft" role="cell" data-label="Files">
      {formatCount(version.files)}
    </td>
    <td class="right soft" role="cell" data-label="Size">
      <Size bytes={version.size} />
    </td>
    <td class="num soft" role="cell" data-label="Created">
      <Ago time={version.created} now={now} />
    </td>
  </tr>
);
