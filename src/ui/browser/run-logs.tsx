/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { LogLine, LogPage } from "../../log/schema.ts";
import { filterParams, grepOf, isFiltered, logsQuery, parseLogsView, type LogsView } from "../logs-view.ts";
import { shortcut } from "./frame.ts";
import { request } from "./http.ts";
import { highlight, LogSearch } from "./log-search.ts";
import { AllLines, FilteredLines, PAGE, type LogSource } from "./log-source.ts";
import { LogTools, type LogToolsProps } from "./log-tools.tsx";
import { LogViewport } from "./log-viewport.ts";
import { currentRun, listen, runId, runPath } from "./run-frame.tsx";

type ToolState = Omit<LogToolsProps, "onView" | "onMove" | "onFollow" | "downloadHref">;

let tools: ToolState = {
  view: parseLogsView(new URLSearchParams(location.search)),
  ranks: [],
  total: 0,
  shown: 0,
  note: "",
  following: true,
  fresh: 0,
  matches: undefined,
  problem: undefined,
};
let show: (state: ToolState) => void = () => {};

function update(change: Partial<ToolState>): void {
  tools = { ...tools, ...change };
  show(tools);
}

let source: LogSource | undefined;
let search: LogSearch | undefined;
/** Place among the matches, from 0. */
let current = -1;
let generation = 0;

const tab = document.getElementById("tab")!;

function Tools() {
  const [shown, setShown] = useState(tools);
  show = setShown;
  return (
    <LogTools
      {...shown}
      downloadHref={`/runs/${runId}/logs.txt`}
      onView={setView}
      onMove={goToMatch}
      onFollow={() => viewport.follow()}
    />
  );
}

const toolbar = document.createElement("div");
const scroller = document.createElement("div");
scroller.className = "log card";
scroller.id = "log";
scroller.tabIndex = 0;
scroller.setAttribute("role", "log");
// A reader of the screen is not read every line of a training: it asks for what it wants.
scroller.setAttribute("aria-live", "off");
scroller.setAttribute("aria-label", "Output of the run");
tab.replaceChildren(toolbar, scroller);

const viewport = new LogViewport(scroller, {
  onFollow: (following) => update({ following, ...(following && { fresh: 0 }) }),
  onRender: () => highlight(scroller, tools.view.search === "" ? "" : grepOf(tools.view)),
});

render(<Tools />, toolbar);

const rankList = () => [...new Set(currentRun().writers.map(({ rank }) => rank))].sort((a, b) => a - b);

/** Starts over with the view as it is. */
async function load(): Promise<void> {
  const mine = ++generation;
  const { view } = tools;
  const query = filterParams(view, view.only);
  query.set("limit", String(PAGE));
  try {
    const first = await request<LogPage>(`${runPath}/logs?${query}`);
    if (mine !== generation) return;
    source?.close();
    const events = {
      onChange: (prepended: number) => {
        viewport.update(prepended);
        report();
      },
      onProblem: (problem: string) => update({ problem }),
    };
    source = isFiltered(view)
      ? new FilteredLines(runPath, view, first, events)
      : new AllLines(runPath, first, events);
    const ranks = rankList();
    viewport.setOptions({ time: view.time, ranks: ranks.length > 1 });
    viewport.setSource(source);
    update({ ranks, problem: undefined, total: first.total });
    setOpen(0, first.open);
    report();
    startSearch();
  } catch (error) {
    if (mine === generation) update({ problem: (error as Error).message });
  }
}

function report(): void {
  if (source)
    update({
      shown: source.length,
      note: source.note,
      total: Math.max(tools.total, isFiltered(tools.view) ? 0 : source.length),
    });
}

function startSearch(): void {
  search?.close();
  search = undefined;
  current = -1;
  viewport.mark(targetLine());
  if (!tools.view.search || tools.view.only) {
    update({ matches: undefined });
    return;
  }
  update({ matches: { count: 0, current: -1, complete: false } });
  const started = (search = new LogSearch(runPath, tools.view, (problem) => {
    if (search !== started) return;
    if (problem) update({ problem });
    if (current < 0 && started.lines.length > 0 && started.complete) goToMatch(0);
    update({ matches: { count: started.lines.length, current, complete: started.complete } });
  }));
}

/** Forwards or backwards from match to match; 0: to the one nearest to what is read. */
function goToMatch(by: number): void {
  if (!search || !source || search.lines.length === 0) return;
  const { lines } = search;
  if (by === 0 || current < 0) {
    const seen = source.at(viewport.firstVisible)?.line ?? 1;
    current = viewport.following ? lines.length - 1 : search.indexFrom(seen);
  } else current = (current + by + lines.length) % lines.length;
  const line = lines[current]!;
  viewport.scrollTo(source.indexOf(line));
  viewport.mark(line);
  update({ matches: { count: lines.length, current, complete: search.complete } });
}

let loadTimer: ReturnType<typeof setTimeout> | undefined;

function setView(change: Partial<LogsView>): void {
  const view = { ...tools.view, ...change };
  update({ view });
  history.replaceState(null, "", location.pathname + logsQuery(view) + location.hash);
  if (Object.keys(change).every((name) => name === "time")) {
    viewport.setOptions({ time: view.time, ranks: tools.ranks.length > 1 });
    return;
  }
  clearTimeout(loadTimer);
  loadTimer = setTimeout(() => void load(), "search" in change ? 200 : 0);
}

const openByRank = new Map<number, Pick<LogPage["open"], "stdout" | "stderr">>();

function setOpen(rank: number, open: LogPage["open"]): void {
  openByRank.set(rank, open);
  const { stream, rank: only, level } = tools.view;
  const rows = [...openByRank].flatMap(([of, lines]) =>
    (["stdout", "stderr"] as const).flatMap((name) => {
      const text = lines[name];
      const isHidden =
        (stream && stream !== name) || (only && only !== String(of)) || level || tools.view.only;
      return text === null || isHidden ? [] : [{ text, stream: name }];
    }),
  );
  viewport.setOpen(rows);
}

function onLog({ lines }: { lines: LogLine[] }): void {
  const total = Math.max(tools.total, lines.at(-1)?.line ?? 0);
  const added = total - tools.total;
  update({ total, ...(!viewport.following && { fresh: tools.fresh + added }) });
  source?.append(lines, total);
  scheduleSearch();
}

let searchTimer: ReturnType<typeof setTimeout> | undefined;

function scheduleSearch(): void {
  if (!search) return;
  searchTimer ??= setTimeout(() => {
    searchTimer = undefined;
    void search?.run();
  }, 1000);
}

const targetLine = () => {
  const match = /^#L(\d{1,12})$/.exec(location.hash);
  return match ? Number(match[1]) : undefined;
};

function goToTarget(): void {
  const line = targetLine();
  if (line === undefined || !source) return;
  viewport.mark(line);
  viewport.scrollTo(source.indexOf(line));
}

addEventListener("hashchange", goToTarget);
// The number is a link to its line: a click marks it, and moves nothing.
scroller.addEventListener("click", (event) => {
  const link = (event.target as Element).closest<HTMLAnchorElement>("a.log-number");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  history.replaceState(null, "", link.hash);
  viewport.mark(targetLine());
});

void load().then(goToTarget);

shortcut(["/"], "Search the output", () => document.getElementById("log-search")?.focus());
shortcut(["n"], "Next match", () => goToMatch(1));
shortcut(["N"], "Previous match", () => goToMatch(-1));
shortcut(["f", "G", "End"], "Follow the end", () => viewport.follow());
shortcut(["g", "Home"], "Go to the start", () => viewport.scrollTo(0));
shortcut(["j", "ArrowDown"], "Line down", () => viewport.scrollBy(20));
shortcut(["k", "ArrowUp"], "Line up", () => viewport.scrollBy(-20));

listen(
  {
    log: onLog,
    open: ({ rank, stdout, stderr }: { rank: number; stdout: string | null; stderr: string | null }) =>
      setOpen(rank, { stdout, stderr }),
  },
  () => void load(),
);
