/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { MetricSummary } from "../../metric/schema.ts";
import type { RunDetail } from "../../run/schema.ts";
import { LatestMetrics } from "../components/latest-metrics.tsx";
import { ConfigTable, Facts, Notes, Tags, Writers } from "../components/run-facts.tsx";
import { serverNow } from "../components/time.tsx";
import { request } from "./http.ts";
import {
  currentRun,
  currentSource,
  initialMetrics,
  listen,
  onRunChange,
  refreshRun,
  runId,
  runPath,
  setRun,
} from "./run-frame.tsx";

interface State {
  run: RunDetail;
  metrics: MetricSummary[] | undefined;
  editing: boolean;
}

let state: State = { run: currentRun(), metrics: initialMetrics, editing: false };
let show: (state: State) => void = () => {};

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

async function loadMetrics(): Promise<void> {
  const { metrics } = await request<{ metrics: MetricSummary[] }>(`${runPath}/metrics`);
  update({ metrics });
}

/** The summaries are a few kilobytes and exact; counting along with every record would be neither. */
const REFRESH_MS = 1000;
let timer: ReturnType<typeof setTimeout> | undefined;

function scheduleMetrics(): void {
  timer ??= setTimeout(async () => {
    await loadMetrics().catch(() => {});
    timer = undefined;
  }, REFRESH_MS);
}

/** The run's own data comes with its changes; its metrics go on between those. */
const lastStep = ({ run, metrics }: State) =>
  (metrics ?? []).reduce<number | null>(
    (last, { last_step: step }) => (step === null ? last : Math.max(step, last ?? step)),
    run.last_step,
  );

function Overview() {
  const [shown, setShown] = useState(state);
  show = setShown;
  const { metrics, editing } = shown;
  const run = { ...shown.run, last_step: lastStep(shown) };
  const now = serverNow();
  return (
    <div class="overview">
      <div class="overview-main">
        <LatestMetrics metrics={metrics} runId={runId} />
        <ConfigTable config={run.config} />
      </div>
      <div class="overview-side">
        <Facts run={run} now={now} source={currentSource()} />
        <Tags
          tags={run.tags}
          onAdd={(tag) => void setRun({ tags: [...run.tags, tag] })}
          onRemove={(tag) => void setRun({ tags: run.tags.filter((kept) => kept !== tag) })}
        />
        <Notes
          notes={run.notes}
          editing={editing}
          onEdit={() => {
            update({ editing: true });
            requestAnimationFrame(() => document.querySelector<HTMLElement>("textarea[name=notes]")?.focus());
          }}
          onCancel={() => update({ editing: false })}
          onSave={(notes) => {
            update({ editing: false });
            void setRun({ notes });
          }}
        />
        <Writers writers={run.writers} />
      </div>
    </div>
  );
}

render(<Overview />, document.getElementById("tab")!);
onRunChange((run) => update({ run }));
if (!state.metrics) loadMetrics().catch(() => update({ metrics: [] }));
listen({ record: scheduleMetrics }, () => {
  scheduleMetrics();
  refreshRun().catch(() => {});
});
