/** @jsxImportSource hono/jsx */
import type { RunCount } from "../../run/count.ts";
import type { Run } from "../../run/schema.ts";
import { formatCount, plural } from "../format.ts";
import { countByGroup, listHref, type ListView, type StatusGroup } from "../list-view.ts";
import { Compass, Icon } from "./icon.tsx";
import { DeviceFilter, SourceFilter, type Places } from "./place-filters.tsx";
import { RunTable } from "./run-table.tsx";
import { Snippet } from "./snippet.tsx";

const groupLabels: [StatusGroup, string][] = [
  ["all", "All"],
  ["active", "Active"],
  ["finished", "Finished"],
  ["failed", "Failed"],
  ["killed", "Killed"],
];

/** All the list page shows; the server embeds it and the browser keeps it up to date. */
export interface RunListState {
  view: ListView;
  runs: Run[];
  next: string | null;
  /** Of the source and the machine that are chosen. */
  counts: RunCount[];
  places: Places;
  now: number;
  /** Where this collector is reached, for the snippets. */
  origin: string;
}

export interface RunListProps extends RunListState {
  current?: number | undefined;
  fresh?: ReadonlySet<string> | undefined;
  loading?: boolean;
  onSearch?: (search: string) => void;
  onFilter?: (filter: Partial<Pick<ListView, "project" | "source" | "device">>) => void;
  /** Adds to the rows; without it the next ones are another page. */
  onMore?: (() => void) | undefined;
  isFirstPage?: boolean;
}

export function RunList(props: RunListProps) {
  const { view, runs, next, counts, places, now, current, fresh, loading } = props;
  const projects = [...new Set(counts.map(({ project }) => project))].sort();
  const totals = countByGroup(counts, view.project);
  const filtered = [view.search, view.project, view.source, view.device].some((part) => part !== "");
  if (counts.length === 0 && !filtered && view.group === "all") return <FirstRun origin={props.origin} />;
  return (
    <>
      <div class="list-head">
        <h1>Runs</h1>
        <span class="count num" role="status">
          {describeCount(runs.length, next, view.search === "" ? totals[view.group] : undefined)}
        </span>
      </div>
      <form class="toolbar list-tools" role="search" action="/" method="get">
        {view.group !== "all" && <input type="hidden" name="status" value={view.group} />}
        {view.sort !== "created" && <input type="hidden" name="sort" value={view.sort} />}
        {view.order && <input type="hidden" name="order" value={view.order} />}
        <label class="search">
          <span class="unseen">Search runs</span>
          <Icon name="search" />
          <input
            class="field"
            type="search"
            name="search"
            id="search"
            value={view.search}
            placeholder="Name, id, project, tag or note"
            autocomplete="off"
            spellcheck={false}
            aria-keyshortcuts="/"
            onInput={(event: Event) => props.onSearch?.((event.target as HTMLInputElement).value)}
          />
        </label>
        <nav class="segments" aria-label="Status">
          {groupLabels.map(([group, label]) => (
            <a
              key={group}
              href={listHref({ ...view, group })}
              data-view="true"
              {...(view.group === group && { "aria-current": "true" })}
            >
              {label} <span class="num">{formatCount(totals[group])}</span>
            </a>
          ))}
        </nav>
        {(projects.length > 1 || view.project !== "") && (
          <label>
            <span class="unseen">Project</span>
            <select
              class="field"
              name="project"
              value={view.project}
              onChange={(event: Event) =>
                props.onFilter?.({ project: (event.target as HTMLSelectElement).value })
              }
            >
              <option value="">All projects</option>
              {projects.map((project) => (
                <option key={project} value={project} selected={project === view.project}>
                  {project}
                </option>
              ))}
            </select>
          </label>
        )}
        <SourceFilter
          sources={places.sources}
          value={view.source}
          onChange={props.onFilter && ((source) => props.onFilter!({ source }))}
        />
        <DeviceFilter
          devices={places.devices}
          value={view.device}
          onChange={props.onFilter && ((device) => props.onFilter!({ device }))}
        />
        <noscript>
          <button class="button" type="submit">
            Show
          </button>
        </noscript>
      </form>
      {runs.length > 0 ? (
        <RunTable runs={runs} view={view} now={now} current={current} fresh={fresh} />
      ) : (
        <div class="card no-match">
          <p>No run matches.</p>
          <p>
            <a href="/" data-view="true">
              Show all runs
            </a>
          </p>
        </div>
      )}
      {(next !== null || props.isFirstPage === false) && (
        <p class="more">
          {props.isFirstPage === false && (
            <a class="button" href={listHref(view)}>
              First page
            </a>
          )}
          {next !== null && (
            <a
              class="button"
              id="more"
              href={listHref(view, next)}
              onClick={(event: Event) => {
                if (!props.onMore) return;
                event.preventDefault();
                props.onMore();
              }}
            >
              {loading ? "Loading…" : props.onMore ? "Show more" : "Next page"}
            </a>
          )}
        </p>
      )}
    </>
  );
}

/** A search is counted as far as it was looked into. */
function describeCount(shown: number, next: string | null, total: number | undefined): string {
  if (shown === 0) return "";
  if (next === null && (total === undefined || shown === total)) return plural(shown, "run");
  return total === undefined
    ? `more than ${formatCount(shown)} runs`
    : `${formatCount(shown)} shown of ${formatCount(total)}`;
}

const FirstRun = ({ origin }: { origin: string }) => (
  <section class="card empty" aria-labelledby="first-run">
    <div class="rose">
      <Compass size={44} />
    </div>
    <h2 id="first-run">No runs yet</h2>
    <p class="soft">Start one, and it appears here by itself: metrics, output and status, as they happen.</p>
    <Snippet title="Any command, on this machine" code="binnacle launch -- python3 train.py" />
    <Snippet
      title="From Python"
      code={`import binnacle\n\nbinnacle.init(project="first", config={"lr": 0.001})\nfor step in range(100):\n    binnacle.log({"loss": 1 / (step + 1)})\nbinnacle.finish()`}
    />
    <p class="soft">
      <br />
      Another machine? Set <code>BINNACLE_URL={origin}</code> and <code>BINNACLE_TOKEN</code> (printed by{" "}
      <code>binnacle token --scope write</code>) there.
    </p>
  </section>
);
