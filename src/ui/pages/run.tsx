/** @jsxImportSource hono/jsx */
import { LatestMetrics } from "../components/latest-metrics.tsx";
import { ConfigTable, Facts, Notes, Tags, Writers } from "../components/run-facts.tsx";
import { RunFiles } from "../components/run-files.tsx";
import { RunHead } from "../components/run-head.tsx";
import { embed, runTitle, type RunState } from "../state.ts";
import type { Theme } from "../theme.ts";
import { Layout } from "./layout.tsx";

const scripts = {
  overview: "run-overview",
  metrics: "run-metrics",
  logs: "run-logs",
  hardware: "run-hardware",
  models: "run-files",
  artifacts: "run-files",
  timeline: "run-timeline",
} as const;

export interface RunPageProps {
  state: RunState;
  theme: Theme;
  /** Rows of the tabs Models and Artifacts. */
  open?: ReadonlySet<string> | undefined;
}

/** The frame and, on the overview, all that is known without asking for data; the rest is drawn by the tab's script. */
export const RunPage = ({ state, theme, open }: RunPageProps) => {
  const { run, tab, now } = state;
  return (
    <Layout title={runTitle(run.name, tab)} theme={theme} script={scripts[tab]} section="runs">
      <div id="head" data-state={embed(state)}>
        <RunHead
          run={run}
          tab={tab}
          now={now}
          counts={state.counts}
          hasSpans={state.hasSpans}
          source={state.source}
        />
      </div>
      <div id="tab">
        {tab === "overview" ? (
          <div class="overview">
            <div class="overview-main">
              <LatestMetrics metrics={state.metrics} runId={run.id} />
              <ConfigTable config={run.config} />
            </div>
            <div class="overview-side">
              <Facts run={run} now={now} source={state.source} />
              <Tags tags={run.tags} />
              <Notes notes={run.notes} />
              <Writers writers={run.writers} />
            </div>
          </div>
        ) : state.files ? (
          <RunFiles {...state.files} run={run.id} {...(open && { open })} />
        ) : (
          <p class="loading faint" role="status">
            Loading…
          </p>
        )}
        <noscript>
          <p class="notice">Charts and output are drawn by scripts, which this browser does not run.</p>
        </noscript>
      </div>
    </Layout>
  );
};
