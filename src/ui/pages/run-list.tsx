/** @jsxImportSource hono/jsx */
import { RunList, type RunListState } from "../components/run-list.tsx";
import { embed } from "../state.ts";
import type { Theme } from "../theme.ts";
import { Layout } from "./layout.tsx";

export const RunListPage = ({ state, theme }: { state: RunListState; theme: Theme }) => (
  <Layout title="Runs · binnacle" theme={theme} script="run-list" section="runs">
    <div id="app" data-state={embed(state)}>
      <RunList {...state} />
    </div>
  </Layout>
);
