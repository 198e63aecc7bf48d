/** @jsxImportSource hono/jsx */
import { RelayDestinations, type RelayPageState } from "../components/relay-list.tsx";
import { SourceTable, type SourcePageState } from "../components/source-table.tsx";
import { embed } from "../state.ts";
import type { Theme } from "../theme.ts";
import { Layout } from "./layout.tsx";

export const RelayPage = ({ state, theme }: { state: RelayPageState; theme: Theme }) => (
  <Layout title="Relay · binnacle" theme={theme} script="relay" section="relay">
    <div id="app" data-state={embed(state)}>
      <RelayDestinations {...state} />
    </div>
  </Layout>
);

export const SourcesPage = ({ state, theme }: { state: SourcePageState; theme: Theme }) => (
  <Layout title="Sources · binnacle" theme={theme} script="sources" section="sources">
    <div id="app" data-state={embed(state)}>
      <SourceTable {...state} />
    </div>
  </Layout>
);
