import type { RunCount } from "../run/count.ts";
import { OWN } from "../entry.ts";
import type { ListRuns, Run, RunStatus } from "../run/schema.ts";

/** What the URL of the runs list says. */
export interface ListView {
  search: string;
  project: string;
  /** Label of a source; ".": this collector's own; "": whatever. */
  source: string;
  /** Id or host name of a machine. */
  device: string;
  group: StatusGroup;
  sort: ListRuns["sort"];
  order: "asc" | "desc" | undefined;
}

/** All runs, the newest first. */
export const noView: ListView = {
  search: "",
  project: "",
  source: "",
  device: "",
  group: "all",
  sort: "created",
  order: undefined,
};

/** The list's status filter, in groups a person looks for. */
const statusGroups = {
  all: [],
  active: ["QUEUED", "STARTING", "RUNNING", "STOPPING"],
  finished: ["FINISHED"],
  failed: ["FAILED"],
  killed: ["KILLED"],
} as const satisfies Record<string, readonly RunStatus[]>;

export type StatusGroup = keyof typeof statusGroups;

const sorts = ["created", "name", "project", "status", "started", "finished"] as const;

/** A view from a query string somebody may have typed: what makes no sense is left out. */
export function parseListView(params: URLSearchParams): ListView {
  const group = params.get("status") ?? "all";
  const sort = params.get("sort");
  const order = params.get("order");
  return {
    search: (params.get("search") ?? "").slice(0, 250),
    project: (params.get("project") ?? "").slice(0, 250),
    source: (params.get("source") ?? "").slice(0, 250),
    device: (params.get("device") ?? "").slice(0, 250),
    group: Object.hasOwn(statusGroups, group) ? (group as StatusGroup) : "all",
    sort: sorts.find((known) => known === sort) ?? "created",
    order: order === "asc" || order === "desc" ? order : undefined,
  };
}

function viewParams(view: ListView): URLSearchParams {
  const params = new URLSearchParams();
  if (view.search) params.set("search", view.search);
  if (view.project) params.set("project", view.project);
  if (view.source) params.set("source", view.source);
  if (view.device) params.set("device", view.device);
  if (view.group !== "all") params.set("status", view.group);
  if (view.sort !== "created") params.set("sort", view.sort);
  if (view.order) params.set("order", view.order);
  return params;
}

export function listHref(view: ListView, after?: string): string {
  const params = viewParams(view);
  if (after) params.set("after", after);
  const query = params.toString();
  return query ? `/?${query}` : "/";
}

/** The same view as a query of GET /api/v1/runs. */
export function listQuery(view: ListView, after?: string): URLSearchParams {
  const params = viewParams(view);
  params.delete("status");
  if (view.group !== "all") params.set("status", statusGroups[view.group].join(","));
  if (after) params.set("after", after);
  return params;
}

/** Runs of a project in a status, for the filters' counts. */
const inGroup = (status: RunStatus, group: StatusGroup) =>
  group === "all" || (statusGroups[group] as readonly RunStatus[]).includes(status);

/** How many runs each group would show within the chosen project. */
export function countByGroup(counts: RunCount[], project: string): Record<StatusGroup, number> {
  const totals: Record<StatusGroup, number> = { all: 0, active: 0, finished: 0, failed: 0, killed: 0 };
  for (const { project: name, status, count } of counts) {
    if (project && name !== project) continue;
    for (const group of Object.keys(totals) as StatusGroup[])
      if (inGroup(status, group)) totals[group] += count;
  }
  return totals;
}

/** Whether a run that changed may stay in the view; what it does not carry (notes, tags, machines) is the server's to search. */
export const matchesView = (run: Run, view: ListView): boolean =>
  inGroup(run.status, view.group) &&
  (!view.project || run.project === view.project) &&
  (!view.source || `${run.source ?? OWN} ▸ `.startsWith(`${view.source} ▸ `));
