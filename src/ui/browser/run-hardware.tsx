/** @jsxImportSource hono/jsx/dom */
import { render, useEffect, useState } from "hono/jsx/dom";
import type { Device, RunDevice } from "../../device/schema.ts";
import { isEnded } from "../components/time.tsx";
import { hardwareQuery, parseHardwareView, runRanges, type HardwareView } from "../hardware-view.ts";
import { createAddress } from "./address.ts";
import { onTheme, shortcut } from "./frame.ts";
import { HardwareBoard } from "./hardware-board.tsx";
import { shownCharts } from "./hardware-card.tsx";
import { HardwareData, type Place } from "./hardware-data.ts";
import { request } from "./http.ts";
import { currentRun, initialHardware, listen, onRunChange, runId, runPath } from "./run-frame.tsx";

const placesOf = (uses: readonly RunDevice[]): Place[] =>
  uses.map((use) => ({
    id: use.device,
    name: use.name,
    life: { from: Date.parse(use.from), to: use.to === null ? null : Date.parse(use.to) },
    use,
  }));

let show: (shown: object) => void = () => {};

const data = new HardwareData({
  run: runId,
  view: parseHardwareView(new URLSearchParams(location.search)),
  places: placesOf(initialHardware?.uses ?? []),
  devices: initialHardware?.devices ?? [],
  usual: undefined,
  quiet: true,
  onChange: (state) => show(state),
});

const followView = createAddress(() => hardwareQuery(data.state.view));

function setView(change: Partial<HardwareView>): void {
  data.setView(change);
  followView();
}

/** What the run used grows while it lives: energy, hours, processor time. */
const USE_MS = 10_000;
/** And where nothing is known of it yet, it is asked for more often. */
const FIRST_MS = 2000;
let useTimer: ReturnType<typeof setTimeout> | undefined;

async function loadUse(): Promise<void> {
  const [{ devices: uses }, { devices }] = await Promise.all([
    request<{ devices: RunDevice[] }>(`${runPath}/devices`),
    request<{ devices: Device[] }>("/api/v1/devices"),
  ]);
  data.setPlaces(placesOf(uses), devices);
}

function followUse(): void {
  clearTimeout(useTimer);
  const { places } = data.state;
  const isOver = isEnded(currentRun()) && places.every(({ life }) => life.to !== null);
  if (isOver) return;
  useTimer = setTimeout(
    async () => {
      if (!document.hidden) await loadUse().catch(() => {});
      followUse();
    },
    places.length === 0 ? FIRST_MS : USE_MS,
  );
}

function Hardware() {
  const [, setShown] = useState<object>(data.state);
  show = setShown;
  useEffect(() => onTheme(() => shownCharts.forEach((chart) => chart.recolor())), []);
  return (
    <HardwareBoard data={data} run={currentRun()} ranges={runRanges} usual={undefined} onView={setView} />
  );
}

render(<Hardware />, document.getElementById("tab")!);
void data.load(true);
followUse();

onRunChange(() => {
  show({});
  void loadUse().catch(() => {});
  followUse();
});
shortcut(["g"], "This run's GPUs, or all", () =>
  setView({ gpus: data.state.view.gpus === "run" ? "all" : "run" }),
);
shortcut(["r", "Escape"], "Reset the zoom", () => setView({ zoom: undefined }));
addEventListener("popstate", () => setView(parseHardwareView(new URLSearchParams(location.search))));
listen({}, () => void loadUse().catch(() => {}));
