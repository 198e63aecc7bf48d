/** @jsxImportSource hono/jsx */
import type { Child } from "hono/jsx";
import type { Announced, RunArtifact } from "../../artifact/schema.ts";
import type { RunFilesState } from "../artifact-state.ts";
import { artifactHref, downloadHref, kindTitles, rowKey, versionHref, zipHref } from "../artifact-view.ts";
import { formatCount, formatTime, plural } from "../format.ts";
import { Aliases, type OnSetVersion } from "./aliases.tsx";
import { Digest, NoneYet, Size } from "./artifact-bits.tsx";
import { Icon } from "./icon.tsx";
import { Lineage } from "./lineage.tsx";
import { Fact, Moment } from "./run-facts.tsx";
import { Ago } from "./time.tsx";

export interface RunFilesProps extends RunFilesState {
  /** Of the run that is looked at. */
  run?: string;
  open?: ReadonlySet<string>;
  problem?: string | undefined;
  /** Rows shown of each list. */
  limit?: number;
  onToggle?: (key: string) => void;
  onSet?: OnSetVersion;
  onMore?: () => void;
  /** The files of an open row. */
  filesOf?: (version: RunArtifact) => Child;
}

const MAX_ROWS = 100;

/** What a run logged and what it used, of one kind. */
export const RunFiles = (props: RunFilesProps) => {
  const { kind, outputs, inputs, announced, totals, problem, now } = props;
  if (outputs.length + inputs.length + announced.length === 0)
    return <NoneYet kind={kind} {...(props.run && { run: props.run })} />;
  return (
    <div class="run-files">
      {problem !== undefined && (
        <p class="notice bad" role="alert">
          {problem}
        </p>
      )}
      {outputs.length > 0 && (
        <Versions {...props} title="Logged by this run" id="outputs" rows={outputs} total={totals.outputs} />
      )}
      {inputs.length > 0 && (
        <Versions {...props} title="Used by this run" id="inputs" rows={inputs} total={totals.inputs} />
      )}
      {announced.length > 0 && <Missing rows={announced} now={now} />}
    </div>
  );
};

const Missing = ({ rows, now }: { rows: Announced[]; now: number }) => (
  <section class="card" aria-labelledby="announced">
    <h2 id="announced">
      Logged, but not here <span class="faint num">{formatCount(rows.length)}</span>
    </h2>
    <ul class="announced">
      {rows.map(({ name, type, state, reason, time }) => (
        <li key={`${type} ${name}`}>
          <bdi class="run-name">{name}</bdi>
          {type !== "model" && <span class="type-word">{type}</span>}
          <span class="soft">{state === "failed" ? reason : "Its bytes have not come yet."}</span>
          <span class="soft num">
            <Ago time={time} now={now} />
          </span>
        </li>
      ))}
    </ul>
  </section>
);

interface VersionsProps extends RunFilesProps {
  title: string;
  id: string;
  rows: RunArtifact[];
  total: number;
}

const Versions = (props: VersionsProps) => {
  const { title, id, rows, total, kind, limit = MAX_ROWS } = props;
  return (
    <section class="card table-wrap" aria-labelledby={id}>
      <h2 id={id}>
        {title} <span class="faint num">{formatCount(total)}</span>
      </h2>
      <table class="runs logged" role="table">
        <caption class="unseen">
          {kindTitles[kind]}: {title.toLowerCase()}
        </caption>
        <thead role="rowgroup">
          <tr role="row">
            {["Name", "Version", "Aliases", "Size", "Digest", id === "inputs" ? "Used" : "Logged"].map(
              (label) => (
                <th key={label} scope="col" role="columnheader">
                  {label}
                </th>
              ),
            )}
            <th scope="col" role="columnheader">
              <span class="unseen">Download</span>
            </th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.slice(0, limit).flatMap((version) => {
            const key = rowKey(version);
            const isOpen = props.open?.has(`${id === "inputs" ? "in." : ""}${key}`) ?? false;
            const row = (
              <VersionRow key={key} {...props} version={version} isOpen={isOpen} isInput={id === "inputs"} />
            );
            return isOpen ? [row, <Details key={`${key} details`} {...props} version={version} />] : [row];
          })}
        </tbody>
      </table>
      {rows.length > limit && (
        <p class="more">
          <button class="button" type="button" onClick={() => props.onMore?.()}>
            Show more
          </button>
        </p>
      )}
      {rows.length < total && rows.length <= limit && (
        <p class="more faint">and {formatCount(total - rows.length)} older ones</p>
      )}
    </section>
  );
};

interface RowProps extends RunFilesProps {
  version: RunArtifact;
  isOpen: boolean;
  isInput: boolean;
}

const VersionRow = ({ version, isOpen, isInput, now, onToggle, onSet, onlyFiles }: RowProps) => {
  const only = onlyFiles[rowKey(version)];
  const key = `${isInput ? "in." : ""}${rowKey(version)}`;
  const { id, name, type, description } = version;
  return (
    <tr role="row" data-row={key} data-open={isOpen ? "true" : undefined}>
      <td class="cell-name" role="cell">
        <span class="logged-name">
          <button
            class="icon-button quiet"
            type="button"
            aria-expanded={isOpen ? "true" : "false"}
            aria-label={`Details of ${name} ${version.version}`}
            onClick={() => onToggle?.(key)}
          >
            <Icon name={isOpen ? "down" : "right"} size={13} />
          </button>
          <span>
            <a class="run-name" href={artifactHref(id)} title={name}>
              <bdi>{name}</bdi>
            </a>
            <span class="run-sub" title={description ?? ""}>
              {type !== "model" && <span class="type-word">{type}</span>}
              <bdi>{description?.trim() || plural(version.files, "file")}</bdi>
            </span>
          </span>
        </span>
      </td>
      <td class="cell-version num" role="cell">
        <a class="version-name" href={versionHref(id, version.version)}>
          {version.version}
        </a>
      </td>
      <td class="cell-aliases" role="cell">
        <Aliases version={version} onSet={onSet} />
      </td>
      <td class="cell-size soft" role="cell">
        <Size bytes={version.size} />
      </td>
      <td class="cell-digest" role="cell">
        <Digest digest={version.digest} />
      </td>
      <td class="cell-time num soft" role="cell">
        <Ago time={version.time} now={now} />
      </td>
      <td class="cell-get" role="cell">
        <a
          class="icon-button quiet"
          href={only === undefined ? zipHref(id, version.version) : downloadHref(id, version.version, only)}
          download
          aria-label={`Download ${name} ${version.version}`}
          title={only === undefined ? "Download all files, as one zip" : "Download"}
        >
          <Icon name="download" size={14} />
        </a>
      </td>
    </tr>
  );
};

const Details = ({ version, names, runs, now, filesOf }: RunFilesProps & { version: RunArtifact }) => {
  const name = names[version.id];
  const { environment, edge } = version.origin;
  return (
    <tr role="row" class="details">
      <td role="cell" colSpan={7}>
        <div class="logged-details">
          <div class="logged-files">{filesOf?.(version)}</div>
          <div class="logged-facts">
            {version.description?.trim() && <p class="notes">{version.description}</p>}
            <dl class="facts">
              <Fact label="Created">
                <Moment time={version.created} now={now} />
              </Fact>
              {name && (
                <>
                  <Fact label="First version">
                    <span class="num">{formatTime(Date.parse(name.created))}</span>
                  </Fact>
                  <Fact label="Updated">
                    <Moment time={name.updated} now={now} />
                  </Fact>
                </>
              )}
              {environment !== undefined && <Fact label="Environment">{environment}</Fact>}
              {edge !== undefined && <Fact label="Device">{edge}</Fact>}
            </dl>
            <Lineage version={version} runs={runs} limit={3} />
            <p>
              <a href={versionHref(version.id, version.version)}>All about {version.version}</a>
            </p>
          </div>
        </div>
      </td>
    </tr>
  );
};
