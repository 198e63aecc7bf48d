/** @jsxImportSource hono/jsx/dom */
import { render, useEffect, useMemo, useState } from "hono/jsx/dom";
import type { MetricSummary } from "../../metric/schema.ts";
import {
  createFilter,
  groupMetrics,
  isCharted,
  metricsQuery,
  parseMetricsView,
  type MetricsView,
} from "../metrics-view.ts";
import type { LiveSeries } from "../series.ts";
import { createAddress } from "./address.ts";
import { onTheme, shortcut } from "./frame.ts";
import { request } from "./http.ts";
import { ChartGroup } from "./metric-cards.tsx";
import { MetricTools } from "./metric-tools.tsx";
import { OtherValues } from "./other-values.tsx";
import { currentRun, listen, runPath } from "./run-frame.tsx";
import { cards } from "./visible-charts.ts";

interface State {
  metrics: MetricSummary[] | undefined;
  view: MetricsView;
  problem: string | undefined;
}

let state: State = {
  metrics: undefined,
  view: parseMetricsView(new URLSearchParams(location.search)),
  problem: undefined,
};
let show: (state: State) => void = () => {};

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

const followView = createAddress(() => metricsQuery(state.view));

function setView(change: Partial<MetricsView>): void {
  const view = { ...state.view, ...change };
  update({ view });
  for (const card of cards) card.setView(view);
  followView();
}

async function load(): Promise<void> {
  try {
    const { metrics } = await request<{ metrics: MetricSummary[] }>(`${runPath}/metrics`);
    update({ metrics, problem: undefined });
  } catch (error) {
    update({ problem: (error as Error).message });
  }
}

const RELOAD_MS = 2000;
let reloadTimer: ReturnType<typeof setTimeout> | undefined;

function scheduleLoad(): void {
  reloadTimer ??= setTimeout(async () => {
    await load();
    reloadTimer = undefined;
  }, RELOAD_MS);
}

function onRecord({ series, more }: { series: LiveSeries[]; more: boolean }): void {
  const known = new Map((state.metrics ?? []).map((metric) => [metric.name, metric]));
  for (const live of series) {
    const metric = known.get(live.key);
    if (!metric || !isCharted(metric) || !metric.ranks.includes(live.rank)) scheduleLoad();
  }
  const byKey = Map.groupBy(series, ({ key }) => key);
  for (const card of cards) {
    for (const live of byKey.get(card.name) ?? []) card.append(live);
    if (more) card.refresh();
  }
}

const started = () => Date.parse(currentRun().started ?? currentRun().created);

/** So many cards are put on the page at once; groups beyond them are folded. */
const MAX_OPEN = 120;

/** All that follows from the metrics and the filter, which with twenty thousand metrics takes its time. */
function arrange(metrics: MetricSummary[], filter: string) {
  const matches = createFilter(filter);
  const charted = metrics.filter((metric) => isCharted(metric));
  const matching = charted.filter(({ name }) => matches(name));
  let before = 0;
  const groups = groupMetrics(matching).map((group) => {
    const open = before < MAX_OPEN;
    before += group.metrics.length;
    return { group, open };
  });
  const others = metrics.filter((metric) => !isCharted(metric) && matches(metric.name));
  return { charted, matching, groups, others };
}

function Metrics() {
  const [shown, setShown] = useState(state);
  show = setShown;
  useEffect(() => onTheme(() => cards.forEach((card) => card.recolor())), []);
  const { metrics, view, problem } = shown;
  const { charted, matching, groups, others } = useMemo(
    () => arrange(metrics ?? [], view.filter),
    [metrics, view.filter],
  );
  if (metrics === undefined)
    return (
      <p class="loading faint" role="status">
        {problem ?? "Loading…"}
      </p>
    );
  if (metrics.length === 0)
    return (
      <section class="card no-match">
        <p>Nothing logged yet. Charts appear here with the first values.</p>
      </section>
    );
  return (
    <>
      <MetricTools metrics={charted} matching={matching.length} view={view} onView={setView} />
      {groups.map(({ group, open }) => (
        <ChartGroup
          key={group.name}
          group={group}
          view={view}
          currentView={() => state.view}
          path={runPath}
          started={started()}
          open={open}
          onZoom={(axis, from, to) => setView({ zoom: { on: axis, from, to } })}
          onReset={() => setView({ zoom: undefined })}
        />
      ))}
      {matching.length === 0 && charted.length > 0 && (
        <section class="card no-match">
          <p>No metric matches.</p>
        </section>
      )}
      <OtherValues metrics={others} />
    </>
  );
}

render(<Metrics />, document.getElementById("tab")!);
void load();

shortcut(["/"], "Filter the metrics", () => document.getElementById("filter")?.focus());
shortcut(["r", "Escape"], "Reset the zoom", () => setView({ zoom: undefined }));
shortcut(["y"], "Logarithmic y axis", () => setView({ log: !state.view.log }));

addEventListener("popstate", () => setView(parseMetricsView(new URLSearchParams(location.search))));

listen({ record: onRecord }, () => {
  void load();
  for (const card of cards) card.refresh();
});
