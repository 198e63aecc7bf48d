/** @jsxImportSource hono/jsx */
import { memo } from "hono/jsx";
import type { ListRuns, Run } from "../../run/schema.ts";
import { StatusBadge } from "./icon.tsx";
import { SourceBadge } from "./place-filters.tsx";
import { Ago, Duration } from "./time.tsx";
import { listHref, type ListView } from "../list-view.ts";

type Sort = ListRuns["sort"];

const columns: { label: string; sort: Sort | null; cell: string }[] = [
  { label: "Name", sort: "name", cell: "cell-name" },
  { label: "Status", sort: "status", cell: "cell-status" },
  { label: "Project", sort: "project", cell: "cell-project" },
  { label: "Created", sort: "created", cell: "cell-started" },
  { label: "Duration", sort: null, cell: "cell-duration" },
  { label: "Device", sort: null, cell: "cell-device" },
];

/** First click on a column: names from A, times from the newest. */
const naturalOrder = (sort: Sort): "asc" | "desc" =>
  sort === "name" || sort === "project" || sort === "status" ? "asc" : "desc";

function SortHeader({ label, sort, view }: { label: string; sort: Sort; view: ListView }) {
  const current = view.sort === sort;
  const order = current ? (view.order ?? naturalOrder(sort)) : null;
  const next = order === null ? naturalOrder(sort) : order === "asc" ? "desc" : "asc";
  const href = listHref({ ...view, sort, order: next === naturalOrder(sort) ? undefined : next });
  return (
    <th
      scope="col"
      role="columnheader"
      {...(order && { "aria-sort": order === "asc" ? "ascending" : "descending" })}
    >
      <a href={href} data-view="true">
        {label}
        {order && <span aria-hidden="true">{order === "asc" ? " ↑" : " ↓"}</span>}
      </a>
    </th>
  );
}

/** The reason of a failure says more than an id; otherwise the id, which is what commands want. */
const subtitle = (run: Run) => (
  <span class="run-sub">
    <SourceBadge source={run.source} />
    {run.deleted_at_source !== null && <span>deleted there · </span>}
    {run.reason !== null && run.status !== "FINISHED" ? (
      <span class={run.status === "FAILED" ? "bad" : ""} title={run.reason}>
        {run.reason}
      </span>
    ) : (
      <span class="mono">{run.id}</span>
    )}
  </span>
);

interface RowProps {
  run: Run;
  view: ListView;
  now: number;
  isCurrent: boolean;
  isFresh: boolean;
}

/** Times count on by themselves: of a thousand rows only those are made anew whose run changed. */
const isSameRow = (a: RowProps, b: RowProps) =>
  a.run === b.run && a.view === b.view && a.isCurrent === b.isCurrent && a.isFresh === b.isFresh;

const Row = memo(
  ({ run, view, now, isCurrent, isFresh }: RowProps) => (
    <tr
      role="row"
      data-run={run.id}
      data-current={isCurrent ? "true" : undefined}
      class={isFresh ? "fresh" : undefined}
    >
      <td class="cell-name" role="cell">
        <a class="run-name" href={`/runs/${run.id}`} title={run.name}>
          <bdi>{run.name}</bdi>
        </a>
        {subtitle(run)}
      </td>
      <td class="cell-status" role="cell">
        <StatusBadge status={run.status} />
      </td>
      <td class="cell-project" role="cell">
        <a
          class="clip"
          href={listHref({ ...view, project: run.project })}
          data-view="true"
          title={run.project}
        >
          <bdi>{run.project}</bdi>
        </a>
      </td>
      <td class="cell-started num soft" role="cell">
        <Ago time={run.created} now={now} />
      </td>
      <td class="cell-duration num" role="cell">
        <Duration run={run} now={now} />
      </td>
      <td class="cell-device soft" role="cell">
        <span class="clip" title={run.device ?? ""}>
          {run.device ?? "—"}
        </span>
      </td>
    </tr>
  ),
  isSameRow,
);

export interface RunTableProps {
  runs: Run[];
  view: ListView;
  now: number;
  current?: number | undefined;
  fresh?: ReadonlySet<string> | undefined;
}

export const RunTable = ({ runs, view, now, current, fresh }: RunTableProps) => (
  <div class="card table-wrap">
    <table class="runs" role="table">
      <caption class="unseen">Runs</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map(({ label, sort }) =>
            sort ? (
              <SortHeader key={label} label={label} sort={sort} view={view} />
            ) : (
              <th key={label} scope="col" role="columnheader">
                {label}
              </th>
            ),
          )}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {runs.map((run, index) => (
          <Row
            key={run.id}
            run={run}
            view={view}
            now={now}
            isCurrent={index === current}
            isFresh={fresh?.has(run.id) ?? false}
          />
        ))}
      </tbody>
    </table>
  </div>
);
