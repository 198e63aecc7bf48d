/** @jsxImportSource hono/jsx/dom */
import { render, useEffect, useState } from "hono/jsx/dom";
import type { Run } from "../../run/schema.ts";
import type { Places } from "../components/place-filters.tsx";
import { RunList, type RunListState } from "../components/run-list.tsx";
import { serverNow, setServerTime } from "../components/time.tsx";
import { listHref, listQuery, matchesView, parseListView, type ListView } from "../list-view.ts";
import { shortcut } from "./frame.ts";
import { isAbort, request } from "./http.ts";
import { openLive } from "./live.ts";

const app = document.getElementById("app")!;
const initial = JSON.parse(app.dataset["state"]!) as RunListState;
setServerTime(initial.now);

/** What comes after so many rows is on a page of its own. */
const MAX_ROWS = 300;
/** New rows are marked for so long. */
const FRESH_MS = 4000;
/** Changes that only the server can place are asked for at most this often. */
const REFRESH_MS = 1500;

/** Where runs come from was said with the page. */
type Fetched = Omit<RunListState, "view" | "places">;

interface State extends RunListState {
  current: number | undefined;
  fresh: ReadonlySet<string>;
  loading: boolean;
  /** A page in the middle, reached by its link, is not the place for what is new. */
  isFirstPage: boolean;
}

let state: State = {
  ...initial,
  current: undefined,
  fresh: new Set(),
  loading: false,
  isFirstPage: !new URLSearchParams(location.search).has("after"),
};
let show: (state: State) => void = () => {};

function update(change: Partial<State>): void {
  state = { ...state, ...change, places: withSources(state.places, change.runs ?? []) };
  show(state);
}

/** Somebody may have begun to relay here since the page was opened. */
function withSources(places: Places, runs: readonly Run[]): Places {
  const added = runs.flatMap(({ source }) =>
    source === null || places.sources.includes(source) ? [] : [source],
  );
  if (added.length === 0) return places;
  return { ...places, sources: [...new Set([...places.sources, ...added])].sort() };
}

let pending: AbortController | undefined;

/** Fetches the view anew, as many rows as are shown now. */
async function reload(view: ListView = state.view, keepLength = true): Promise<void> {
  pending?.abort();
  pending = new AbortController();
  const query = listQuery(view);
  if (keepLength) query.set("limit", String(Math.min(MAX_ROWS, Math.max(100, state.runs.length))));
  try {
    const fetched = await request<Fetched>(`/ui/runs?${query}`, { signal: pending.signal });
    setServerTime(fetched.now);
    update({
      current: undefined,
      runs: keepSame(fetched.runs),
      next: fetched.next,
      counts: fetched.counts,
      now: fetched.now,
      view,
      isFirstPage: true,
    });
  } catch (error) {
    if (!isAbort(error)) scheduleRefresh();
  }
}

/** Rows are drawn anew only for runs that changed, and those are told by identity. */
function keepSame(runs: Run[]): Run[] {
  const known = new Map(state.runs.map((run) => [run.id, run]));
  return runs.map((run) => {
    const before = known.get(run.id);
    return before && JSON.stringify(before) === JSON.stringify(run) ? before : run;
  });
}

let refreshTimer: ReturnType<typeof setTimeout> | undefined;

function scheduleRefresh(): void {
  refreshTimer ??= setTimeout(() => {
    refreshTimer = undefined;
    if (!document.hidden && state.isFirstPage) void reload();
  }, REFRESH_MS);
}

async function more(): Promise<void> {
  if (state.loading || state.next === null || state.runs.length >= MAX_ROWS) return;
  update({ loading: true });
  const { view } = state;
  try {
    const page = await request<Fetched>(`/ui/runs?${listQuery(view, state.next)}`);
    if (state.view !== view) return;
    const known = new Set(state.runs.map(({ id }) => id));
    update({ runs: [...state.runs, ...page.runs.filter(({ id }) => !known.has(id))], next: page.next });
  } finally {
    update({ loading: false });
  }
}

function go(view: ListView, replace = false): void {
  history[replace ? "replaceState" : "pushState"](null, "", listHref(view));
  update({ view });
  void reload(view, false);
}

let typing: ReturnType<typeof setTimeout> | undefined;

function onSearch(search: string): void {
  // Its answer would put the words that were there before back into the field.
  pending?.abort();
  update({ view: { ...state.view, search } });
  clearTimeout(typing);
  typing = setTimeout(() => go(state.view, true), 180);
}

function onRun(run: Run & { deleted?: boolean }): void {
  if (run.deleted) {
    update({ runs: state.runs.filter(({ id }) => id !== run.id) });
    scheduleRefresh();
    return;
  }
  const index = state.runs.findIndex(({ id }) => id === run.id);
  const known = state.runs[index];
  // Counts by status and by project are the server's to know.
  if (!known || known.status !== run.status || known.project !== run.project) scheduleRefresh();
  if (known) {
    const runs = [...state.runs];
    if (matchesView(run, state.view)) runs[index] = run;
    else runs.splice(index, 1);
    update({ runs });
    return;
  }
  const { view } = state;
  // What is searched for, and on which machine a run is, only the server knows.
  const isTold = !view.search && !view.device;
  const isNewest = view.sort === "created" && view.order !== "asc" && isTold && state.isFirstPage;
  // Clocks differ: what comes last need not be the newest. Behind the last row is the place of those not loaded yet.
  const after = state.runs.findIndex(({ created }) => created <= run.created);
  const place = after < 0 && state.next === null ? state.runs.length : after;
  if (!isNewest || !matchesView(run, view) || place < 0) return;
  update({ runs: state.runs.toSpliced(place, 0, run), fresh: new Set([...state.fresh, run.id]) });
  if (state.counts.length === 0) void reload();
  setTimeout(() => {
    const fresh = new Set(state.fresh);
    fresh.delete(run.id);
    update({ fresh });
  }, FRESH_MS);
}

function App() {
  const [shown, setShown] = useState(state);
  show = setShown;
  useEffect(() => {
    const button = document.getElementById("more");
    if (!button || state.runs.length >= MAX_ROWS) return undefined;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) void more();
      },
      { rootMargin: "600px" },
    );
    observer.observe(button);
    return () => observer.disconnect();
  }, [shown.next, shown.runs.length < MAX_ROWS]);
  return (
    <RunList
      {...shown}
      now={serverNow()}
      onSearch={onSearch}
      onFilter={(filter) => go({ ...state.view, ...filter })}
      onMore={shown.runs.length < MAX_ROWS ? () => void more() : undefined}
    />
  );
}

render(<App />, app);

app.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  const target = event.target as Element;
  const link = target.closest("a");
  if (link?.dataset["view"]) {
    event.preventDefault();
    go(parseListView(new URL(link.href).searchParams));
    return;
  }
  // The whole row is a target for the mouse; the link in it is what assistive technology meets.
  const row = target.closest<HTMLElement>("tr[data-run]");
  if (row && !link && getSelection()?.isCollapsed !== false) location.href = `/runs/${row.dataset["run"]}`;
});

app.addEventListener("submit", (event) => {
  event.preventDefault();
  go(state.view, true);
});

addEventListener("popstate", () => {
  const view = parseListView(new URLSearchParams(location.search));
  update({ view });
  void reload(view, false);
});

function move(by: number): void {
  if (state.runs.length === 0) return;
  const current = Math.min(state.runs.length - 1, Math.max(0, (state.current ?? (by > 0 ? -1 : 0)) + by));
  update({ current });
  requestAnimationFrame(() => {
    const row = app.querySelectorAll<HTMLElement>("tr[data-run]")[current];
    row?.querySelector<HTMLElement>("a.run-name")?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  });
}

shortcut(["/"], "Search", () => document.getElementById("search")?.focus());
shortcut(["j", "ArrowDown"], "Next run", () => move(1));
shortcut(["k", "ArrowUp"], "Previous run", () => move(-1));
shortcut(["Enter"], "Open the run", () => {
  const run = state.current === undefined ? undefined : state.runs[state.current];
  if (run) location.href = `/runs/${run.id}`;
});

openLive({}, { run: onRun }, () => void reload());
