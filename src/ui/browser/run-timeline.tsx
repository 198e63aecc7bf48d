/** @jsxImportSource hono/jsx/dom */
import { render, useEffect, useRef, useState } from "hono/jsx/dom";
import type { LiveSpans, Span, SpanPage } from "../../span/schema.ts";
import { Icon } from "../components/icon.tsx";
import { SpanTable } from "../components/timeline.tsx";
import { isEnded, serverNow } from "../components/time.tsx";
import { formatCount, formatTime } from "../format.ts";
import {
  durationWords,
  edgeLabel,
  elapsed,
  firstRound,
  layTimeline,
  matching,
  spanWords,
  summaryOf,
  type Bar,
  type Timeline,
} from "../timeline.ts";
import { request } from "./http.ts";
import { createRefresh } from "./keep-fresh.ts";
import { currentRun, listen, onRunChange, runPath } from "./run-frame.tsx";
import { TimelineChart, type Range } from "./timeline-chart.ts";

const PAGE = 10_000;
/** Beyond them a page would take its time. */
const MAX_SPANS = 50_000;
const ROWS = 100;

interface State {
  timeline: Timeline | undefined;
  first: 0 | 1;
  /** There are more than are shown. */
  more: boolean;
  filter: string;
  range: Range | undefined;
  selected: Bar | undefined;
  rows: number;
  problem: string | undefined;
}

const spansById = new Map<string, Span>();
let state: State = {
  timeline: undefined,
  first: 0,
  more: false,
  filter: new URLSearchParams(location.search).get("q") ?? "",
  range: undefined,
  selected: undefined,
  rows: ROWS,
  problem: undefined,
};
let show: (state: State) => void = () => {};
let chart: TimelineChart | undefined;

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

const isLive = () => !isEnded(currentRun());

/** How far the run has come, or came. */
function until(): number {
  const { finished } = currentRun();
  return finished !== null && !isLive() ? Date.parse(finished) : serverNow();
}

const wordsOf = (bar: Bar): string => {
  const { span } = bar;
  const where = span.kind === "round" ? "" : ` · ${edgeLabel(span.edge)}`;
  const took = durationWords(bar, isLive());
  const origin = state.timeline?.from ?? bar.from;
  return `${spanWords(span, state.first)}${where}${took && ` · ${took}`} · at ${elapsed(bar.from - origin)} (${formatTime(bar.from, { millis: true })})`;
};

function lay(): void {
  const all = [...spansById.values()];
  const first = firstRound(all);
  const timeline = layTimeline(matching(all, state.filter, first), until());
  const id = state.selected?.span.id;
  const selected = id === undefined ? undefined : timeline.bars.find(({ span }) => span.id === id);
  update({ timeline, first, selected });
  chart?.set(timeline, wordsOf);
}

async function load(): Promise<void> {
  const loaded = new Map<string, Span>();
  let next: string | null = "";
  let count = 0;
  while (next !== null && loaded.size < MAX_SPANS) {
    const page: SpanPage = await request<SpanPage>(
      `${runPath}/spans?limit=${PAGE}&after=${encodeURIComponent(next)}`,
    );
    for (const span of page.spans) loaded.set(span.id, span);
    ({ next, count } = page);
  }
  spansById.clear();
  for (const [id, span] of loaded) spansById.set(id, span);
  update({ more: count > loaded.size, problem: undefined });
  lay();
}

const refresh = createRefresh(() =>
  load().catch((error: unknown) => update({ problem: (error as Error).message })),
);

let frame: ReturnType<typeof setTimeout> | undefined;
/** Drawn at most so often, however much comes. */
const LAY_MS = 250;

function layLater(): void {
  frame ??= setTimeout(() => {
    frame = undefined;
    lay();
  }, LAY_MS);
}

function hear({ spans, more }: LiveSpans): void {
  if (more) return refresh();
  for (const span of spans) spansById.set(span.id, span);
  layLater();
}

function onFilter(filter: string): void {
  history.replaceState(
    null,
    "",
    location.pathname + (filter === "" ? "" : `?${new URLSearchParams({ q: filter })}`),
  );
  update({ filter, rows: ROWS });
  layLater();
}

const Chart = ({ summary }: { summary: string }) => {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    chart = new TimelineChart(host.current!, {
      onSelect: (selected) => update({ selected }),
      onRange: (range) => update({ range }),
    });
    if (state.timeline) chart.set(state.timeline, wordsOf);
  }, []);
  return (
    <div
      class="timeline-plot"
      ref={host}
      tabindex={0}
      role="group"
      aria-roledescription="timeline"
      aria-label={`Timeline. ${summary}. Arrow keys go from span to span and from lane to lane, plus and minus zoom, 0 shows all of it; the table below has the same in words.`}
    ></div>
  );
};

function Page() {
  const [shown, setShown] = useState(state);
  show = setShown;
  const { timeline, first, more, filter, range, selected, rows, problem } = shown;
  if (problem !== undefined)
    return (
      <p class="notice bad" role="alert">
        {problem}
      </p>
    );
  if (!timeline)
    return (
      <p class="loading faint" role="status">
        Loading…
      </p>
    );
  if (spansById.size === 0)
    return (
      <div class="empty card">
        <h2>No timeline yet</h2>
        <p class="soft">
          <code>with binnacle.span("eval"):</code> records how long something takes, and so do FedML's{" "}
          <code>mlops.event</code>, <code>log_round_info</code> and the statuses of its edges.
        </p>
      </div>
    );
  const summary = summaryOf(timeline, first);
  return (
    <>
      <div class="toolbar metric-tools" role="toolbar" aria-label="Timeline">
        <label class="search">
          <Icon name="search" />
          <input
            class="field"
            type="search"
            placeholder="Filter"
            aria-label="Filter spans by name, value or edge"
            value={filter}
            onInput={(event: Event) => onFilter((event.target as HTMLInputElement).value)}
          />
        </label>
        <button class="button" type="button" aria-label="Zoom in" onClick={() => chart?.zoom(2)}>
          <Icon name="plus" size={14} />
        </button>
        <button
          class="button"
          type="button"
          aria-label="Zoom out"
          disabled={!range}
          onClick={() => chart?.zoom(0.5)}
        >
          <Icon name="minus" size={14} />
        </button>
        {range && (
          <button class="button" type="button" onClick={() => chart?.zoomTo(undefined)}>
            <Icon name="reset" size={14} /> Reset zoom
          </button>
        )}
        <span class="timeline-summary soft num">{summary.join(" · ")}</span>
      </div>
      {more && (
        <p class="notice">
          <span>The first {formatCount(spansById.size)} spans are shown; the API has them all.</span>
        </p>
      )}
      <div class="card timeline">
        <Chart summary={summary.join(", ")} />
        <p class="timeline-reading num" aria-live="polite">
          {selected ? (
            wordsOf(selected)
          ) : (
            <span class="faint">Drag to zoom; click a bar, or use the arrow keys.</span>
          )}
        </p>
      </div>
      <SpanTable
        bars={timeline.bars}
        first={first}
        origin={timeline.from}
        isLive={isLive()}
        selected={selected?.span.id}
        limit={rows}
        onShow={(bar) => {
          update({ selected: bar });
          chart?.reveal(bar);
          document.querySelector(".timeline")?.scrollIntoView({ block: "nearest" });
        }}
        onMore={() => update({ rows: rows + 5 * ROWS })}
      />
    </>
  );
}

render(<Page />, document.getElementById("tab")!);
onRunChange(layLater);
// What goes on grows.
setInterval(() => {
  if (!document.hidden && isLive() && state.timeline?.bars.some(({ lacks }) => lacks === "end")) lay();
}, 1000);
listen({ span: hear, ready: refresh }, refresh);
refresh();
