/** @jsxImportSource hono/jsx/dom */
import { render, useEffect, useState } from "hono/jsx/dom";
import { DeviceHead } from "../components/device-head.tsx";
import type { DeviceListState } from "../components/device-tiles.tsx";
import { serverNow, setServerTime, useNow } from "../components/time.tsx";
import { deviceRanges, hardwareQuery, parseHardwareView, type HardwareView } from "../hardware-view.ts";
import { createAddress } from "./address.ts";
import { onTheme, shortcut } from "./frame.ts";
import { HardwareBoard } from "./hardware-board.tsx";
import { shownCharts } from "./hardware-card.tsx";
import { HardwareData } from "./hardware-data.ts";
import { createRunNames } from "./run-names.ts";

const head = document.getElementById("head")!;
const initial = JSON.parse(head.dataset["state"]!) as DeviceListState;
setServerTime(initial.now);
const [first] = initial.devices;
if (!first) throw new Error("The page has no device.");

/** Shown while no range was chosen. */
const USUAL_MINUTES = 60;

let show: (shown: object) => void = () => {};
let showHead: (shown: object) => void = () => {};
let runs = initial.runs;

const data = new HardwareData({
  run: undefined,
  view: parseHardwareView(new URLSearchParams(location.search)),
  places: [
    {
      id: first.id,
      name: first.name,
      life: { from: Date.parse(first.first_seen), to: null },
      use: undefined,
    },
  ],
  devices: initial.devices,
  usual: USUAL_MINUTES,
  quiet: false,
  onChange: (state) => {
    show(state);
    showHead(state);
    void needNames(data.device?.runs ?? []);
  },
});

const needNames = createRunNames(initial.runs, (names) => {
  runs = names;
  showHead({});
});

const followView = createAddress(() => hardwareQuery(data.state.view));

function setView(change: Partial<HardwareView>): void {
  data.setView(change);
  followView();
}

function Head() {
  const [, setShown] = useState<object>({});
  showHead = setShown;
  const now = useNow(2000, serverNow());
  return <DeviceHead device={{ ...data.device!, last_seen: data.lastSeen }} now={now} runs={runs} />;
}

function Hardware() {
  const [, setShown] = useState<object>(data.state);
  show = setShown;
  useEffect(() => onTheme(() => shownCharts.forEach((chart) => chart.recolor())), []);
  return (
    <HardwareBoard data={data} run={undefined} ranges={deviceRanges} usual={USUAL_MINUTES} onView={setView} />
  );
}

render(<Head />, head);
render(<Hardware />, document.getElementById("tab")!);
void data.load(true);
void needNames(first.runs);

shortcut(["r", "Escape"], "Reset the zoom", () => setView({ zoom: undefined }));
shortcut(["u"], "Up to the devices", () => {
  location.href = "/devices";
});
addEventListener("popstate", () => setView(parseHardwareView(new URLSearchParams(location.search))));
