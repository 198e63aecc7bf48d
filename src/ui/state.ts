import type { ArtifactCounts } from "../artifact/count.ts";
import type { Device, RunDevice } from "../device/schema.ts";
import type { MetricSummary } from "../metric/schema.ts";
import type { RunDetail } from "../run/schema.ts";
import type { KnownSource } from "../source/known.ts";
import type { RunFilesState } from "./artifact-state.ts";

export type RunTab = "overview" | "metrics" | "logs" | "hardware" | "models" | "artifacts" | "timeline";

/** The machines there are, and those of them that the run lived on. */
export interface HardwareState {
  devices: Device[];
  uses: RunDevice[];
}

/** All the run page's frame shows; the server embeds it and the browser keeps it up to date. */
export interface RunState {
  run: RunDetail;
  tab: RunTab;
  now: number;
  /** Who relayed the run; null: it was logged here. */
  source: KnownSource | null;
  /** On the overview, where they are few enough to come with the page. */
  metrics?: MetricSummary[] | undefined;
  /** On the hardware tab. */
  hardware?: HardwareState | undefined;
  /** Versions that the run logged or used, for their tabs' labels. */
  counts: ArtifactCounts;
  /** Spans were recorded: there is a timeline. */
  hasSpans: boolean;
  /** On the tabs Models and Artifacts. */
  files?: RunFilesState | undefined;
}

/** State as an attribute: JSX escapes it, so no markup of ours is ever put together from text. */
export const embed = (state: unknown): string =>
  JSON.stringify(state, (_key, value) => (typeof value === "bigint" ? value.toString() : value));

const tabTitles: Record<RunTab, string> = {
  overview: "",
  metrics: "Metrics · ",
  logs: "Logs · ",
  hardware: "Hardware · ",
  models: "Models · ",
  artifacts: "Artifacts · ",
  timeline: "Timeline · ",
};

export const runTitle = (name: string, tab: RunTab): string => `${tabTitles[tab]}${name} · binnacle`;
