/** @jsxImportSource hono/jsx */
import type { Artifact, ArtifactKind } from "../../artifact/schema.ts";
import type { ModelsState, RunLabels } from "../artifact-state.ts";
import { artifactHref, kindTitles, modelsHref, versionHref } from "../artifact-view.ts";
import { formatCount, plural } from "../format.ts";
import { Aliases } from "./aliases.tsx";
import { MadeBy, NoneYet, Size } from "./artifact-bits.tsx";
import { Icon } from "./icon.tsx";
import { SourceBadge, SourceFilter } from "./place-filters.tsx";
import { Ago } from "./time.tsx";

const kinds: ArtifactKind[] = ["model", "artifact"];

export interface ModelListProps extends ModelsState {
  current?: number | undefined;
  loading?: boolean;
  isFirstPage: boolean;
  onSearch?: (search: string) => void;
  onSource?: (source: string) => void;
  onMore?: () => void;
}

/** Every model, or every artifact, of all runs. */
export function ModelList(props: ModelListProps) {
  const { view, artifacts, next, counts, sources } = props;
  const { kind, search, source } = view;
  return (
    <>
      <div class="list-head">
        <h1>{kindTitles[kind]}</h1>
        <span class="count num" role="status">
          {artifacts.length === 0
            ? ""
            : search === "" && props.isFirstPage && artifacts.length < counts[kind]
              ? `${formatCount(artifacts.length)} shown of ${formatCount(counts[kind])}`
              : plural(artifacts.length, kind)}
        </span>
      </div>
      <form class="toolbar list-tools" role="search" action="/models" method="get">
        {kind !== "model" && <input type="hidden" name="kind" value={kind} />}
        <label class="search">
          <span class="unseen">Search {kindTitles[kind].toLowerCase()}</span>
          <Icon name="search" />
          <input
            class="field"
            type="search"
            name="search"
            id="search"
            value={search}
            placeholder="Name or type"
            autocomplete="off"
            spellcheck={false}
            aria-keyshortcuts="/"
            onInput={(event: Event) => props.onSearch?.((event.target as HTMLInputElement).value)}
          />
        </label>
        <nav class="segments" aria-label="Kind">
          {kinds.map((each) => (
            <a
              key={each}
              href={modelsHref({ ...view, kind: each })}
              data-view="true"
              {...(each === kind && { "aria-current": "true" })}
            >
              {kindTitles[each]} <span class="num">{formatCount(counts[each])}</span>
            </a>
          ))}
        </nav>
        <SourceFilter sources={sources} value={source} onChange={props.onSource} />
        <noscript>
          <button class="button" type="submit">
            Show
          </button>
        </noscript>
      </form>
      {artifacts.length > 0 ? (
        <NameTable {...props} />
      ) : counts[kind] === 0 && source === "" ? (
        <NoneYet kind={kind} />
      ) : (
        <div class="card no-match">
          <p>No {kind} matches.</p>
          <p>
            <a href={modelsHref({ kind })} data-view="true">
              Show all {kindTitles[kind].toLowerCase()}
            </a>
          </p>
        </div>
      )}
      {(next !== null || !props.isFirstPage) && (
        <p class="more">
          {!props.isFirstPage && (
            <a class="button" href={modelsHref(view)}>
              First page
            </a>
          )}
          {next !== null && (
            <a
              class="button"
              id="more"
              href={modelsHref(view, next)}
              onClick={(event: Event) => {
                if (!props.onMore) return;
                event.preventDefault();
                props.onMore();
              }}
            >
              {props.loading ? "Loading…" : props.onMore ? "Show more" : "Next page"}
            </a>
          )}
        </p>
      )}
    </>
  );
}

const NameTable = ({ view, artifacts, runs, now, current }: ModelListProps) => (
  <div class="card table-wrap">
    <table class="runs names" role="table">
      <caption class="unseen">{kindTitles[view.kind]}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {["Name", "Versions", "Newest", "Size", "Made by", "Updated"].map((label) => (
            <th key={label} scope="col" role="columnheader">
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {artifacts.map((artifact, index) => (
          <NameRow
            key={artifact.id}
            artifact={artifact}
            runs={runs}
            now={now}
            isCurrent={index === current}
          />
        ))}
      </tbody>
    </table>
  </div>
);

interface RowProps {
  artifact: Artifact;
  runs: RunLabels;
  now: number;
  isCurrent: boolean;
}

const NameRow = ({ artifact, runs, now, isCurrent }: RowProps) => {
  const { id, name, type, versions, latest, updated, source } = artifact;
  const description = latest.description?.trim();
  return (
    <tr role="row" data-href={artifactHref(id)} data-current={isCurrent ? "true" : undefined}>
      <td class="cell-name" role="cell">
        <a class="run-name" href={artifactHref(id)} title={name}>
          <bdi>{name}</bdi>
        </a>
        <span class="run-sub" title={description}>
          <SourceBadge source={source} />
          {type !== "model" && <span class="type-word">{type}</span>}
          <bdi>{description || plural(latest.files, "file")}</bdi>
        </span>
      </td>
      <td class="cell-versions num" role="cell">
        {formatCount(versions)} <span class="only-phone">{versions === 1 ? "version" : "versions"}</span>
      </td>
      <td class="cell-newest" role="cell">
        <span class="newest">
          <a href={versionHref(id, latest.version)}>{latest.version}</a>
          <Aliases version={{ ...latest, aliases: latest.aliases.filter((alias) => alias !== "latest") }} />
        </span>
      </td>
      <td class="cell-size soft" role="cell">
        <Size bytes={latest.size} />
      </td>
      <td class="cell-maker" role="cell">
        <MadeBy version={latest} runs={runs} />
      </td>
      <td class="cell-updated num soft" role="cell">
        <Ago time={updated} now={now} />
      </td>
    </tr>
  );
};
