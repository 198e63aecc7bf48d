/** @jsxImportSource hono/jsx */
import { DeviceHead } from "../components/device-head.tsx";
import { DeviceTiles, type DeviceListState } from "../components/device-tiles.tsx";
import { embed } from "../state.ts";
import type { Theme } from "../theme.ts";
import { Layout } from "./layout.tsx";

interface Props {
  state: DeviceListState;
  theme: Theme;
}

export const DeviceListPage = ({ state, theme }: Props) => (
  <Layout title="Devices · binnacle" theme={theme} script="devices" section="devices">
    <div id="app" data-state={embed(state)}>
      <DeviceTiles {...state} />
    </div>
  </Layout>
);

/** One machine: its charts are drawn by the script. */
export const DevicePage = ({ state, theme }: Props) => {
  const device = state.devices[0]!;
  return (
    <Layout title={`${device.name} · binnacle`} theme={theme} script="device" section="devices">
      <div id="head" data-state={embed(state)}>
        <DeviceHead device={device} now={state.now} runs={state.runs} />
      </div>
      <div id="tab">
        <p class="loading faint" role="status">
          Loading…
        </p>
        <noscript>
          <p class="notice">Charts are drawn by scripts, which this browser does not run.</p>
        </noscript>
      </div>
    </Layout>
  );
};
