/** @jsxImportSource hono/jsx/dom */
import { render, useEffect, useRef, useState } from "hono/jsx/dom";
import type { LiveSpans, SpanPage } from "../../span/schema.ts";
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
import { KnownSpans } from "./known-spans.ts";
import { currentRun, listen, onRunChange, runPath } from "./run-frame.tsx";
import { TimelineChart, type Range } from "./timeline-chart.ts";

const PAGE = 10_000;
/** Beyond them a page would take its time. */
const MAX_SPANS = 50_000;
const ROWS = 100;

interface State {
  timeline: Timeline | undefined;
  first: 0 | 1;
  filter: string;
  range: Range | undefined;
  selected: Bar | undefined;
  /** What was chosen, as it was then: the words of one that goes on change each second, and nobody wants to hear them. */
  said: string;
  rows: number;
  problem: string | undefined;
}

const known = new KnownSpans(MAX_SPANS);
let state: State = {
  timeline: undefined,
  first: 0,
  filter: new URLSearchParams(location.search).get("q") ?? "",
  range: undefined,
  selected: undefined,
  said: "",
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
  const all = known.all();
  const first = firstRound(all);
  const timeline = layTimeline(matching(all, state.filter, first), until());
  const id = state.selected?.span.id;
  const selected = id === undefined ? undefined : timeline.bars.find(({ span }) => span.id === id);
  update({ timeline, first, selected });
  chart?.set(timeline, wordsOf);
}

async function load(): Promise<void> {
  await known.load((after) =>
    request<SpanPage>(`${runPath}/spans?limit=${PAGE}&after=${encodeURIComponent(after)}`),
  );
  update({ problem: undefined });
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
  known.hear(spans);
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

function choose(selected: Bar | undefined): void {
  update({ selected, said: selected ? wordsOf(selected) : "" });
}

const Chart = ({ summary }: { summary: string }) => {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const made = new TimelineChart(host.current!, {
      onSelect: choose,
      onRange: (range) => update({ range }),
    });
    chart = made;
    if (state.timeline) made.set(state.timeline, wordsOf);
    return () => made.destroy();
  }, []);
  return (
    <div
      class="timeline-plot"
      ref={host}
      tabindex={0}
      role="group"
      aria-roledescription="timeline"
      aria-label={`Timeline. ${summary}. Arrow keys go from span to span and from lane to lane, plus and minus zoom, Enter zooms to the span, 0 shows all of it; the table below has the same in words.`}
    ></div>
  );
};

function Page() {
  const [shown, setShown] = useState(state);
  show = setShown;
  const { timeline, first, filter, range, selected, said, rows, problem } = shown;
  const notice = problem !== undefined && (
    <p class="notice bad" role="alert">
      {problem}
    </p>
  );
  if (!timeline && notice) return notice;
  if (!timeline)
    return (
      <p class="loading faint" role="status">
        Loading…
      </p>
    );
  if (known.size === 0)
    return (
      <>
        {notice}
        <div class="empty card">
          <h2>No timeline yet</h2>
          <p class="soft">
            <code>with binnacle.span("eval"):</code> records how long something takes, and so do FedML's{" "}
            <code>mlops.event</code>, <code>log_round_info</code> and the statuses of its edges.
          </p>
        </div>
      </>
    );
  const summary = summaryOf(timeline, first);
  return (
    <>
      {notice}
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
        {summary.length > 0 && <span class="timeline-summary soft num">{summary.join(" · ")}</span>}
      </div>
      {known.more && (
        <p class="notice">
          <span>The first {formatCount(known.size)} spans are shown; the API has them all.</span>
        </p>
      )}
      <div class="card timeline">
        <Chart summary={summary.join(", ")} />
        <p class="timeline-reading num">
          {selected ? (
            wordsOf(selected)
          ) : (
            <span class="faint">Drag to zoom; click a bar, or use the arrow keys.</span>
          )}
        </p>
        <p class="unseen" aria-live="polite">
          {said}
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
          choose(bar);
          chart?.zoomIn(bar);
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
