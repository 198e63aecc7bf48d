/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import { freshMs } from "../../device/fresh.ts";
import type { Device } from "../../device/schema.ts";
import { OWN } from "../../entry.ts";
import type { LiveSamples } from "../../sample/latest.ts";
import { MACHINE } from "../../sample/subject.ts";
import { DeviceTiles, sparkKey, type DeviceListState } from "../components/device-tiles.tsx";
import { serverNow, setServerTime } from "../components/time.tsx";
import { shortcut } from "./frame.ts";
import { openLive } from "./live.ts";
import { createRunNames } from "./run-names.ts";
import { SampleSource } from "./sample-source.ts";

const app = document.getElementById("app")!;
const initial = JSON.parse(app.dataset["state"]!) as DeviceListState;
setServerTime(initial.now);

/** A sparkline has five minutes, a value for each five seconds. */
const SPARK_STEP = 5000;
const SPARK_LENGTH = 60;
const RELAYED_MS = 10_000;

interface State {
  devices: Device[];
  runs: Record<string, string>;
  sparks: Map<string, (number | null)[]>;
}

let state: State = { devices: initial.devices, runs: initial.runs, sparks: new Map() };
let show: (state: State) => void = () => {};

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

const needNames = createRunNames(initial.runs, (runs) => update({ runs }));

/** The slot of a sparkline that a time falls into. */
const slotOf = (time: number) => Math.floor(time / SPARK_STEP);
let lastSlot = slotOf(serverNow());

const emptySpark = () => Array.from({ length: SPARK_LENGTH }, (): number | null => null);

function sparkOf(key: string): (number | null)[] {
  let spark = state.sparks.get(key);
  if (!spark) state.sparks.set(key, (spark = emptySpark()));
  return spark;
}

/** A value holds for a bucket, which may be wider than a slot. */
function put(key: string, time: number, value: number | null | undefined, width = 1): void {
  if (value === null || value === undefined) return;
  const spark = sparkOf(key);
  for (let slot = slotOf(time); slot <= slotOf(time + width - 1); slot++) {
    const place = SPARK_LENGTH - 1 - (lastSlot - slot);
    if (place >= 0 && place < SPARK_LENGTH) spark[place] = value;
  }
}

/** What has no value in a slot leaves a hole there. */
function moveOn(): void {
  const slot = slotOf(serverNow());
  for (; lastSlot < slot; lastSlot++)
    for (const spark of state.sparks.values()) {
      spark.shift();
      spark.push(null);
    }
}

async function loadSparks(device: Device): Promise<void> {
  const to = serverNow();
  const page = await new SampleSource(device.id).query({
    subjects: [MACHINE, ...device.gpus.map(({ uuid }) => uuid)],
    readings: ["cpu.utilization", "gpu.utilization", "gpu.sm.active"],
    from: to - SPARK_LENGTH * SPARK_STEP,
    to,
    points: SPARK_LENGTH,
  });
  moveOn();
  // Utilization after what stands in for it: it is what a sparkline shows, where there is any.
  const order = page.series.toSorted((a, b) => a.reading.localeCompare(b.reading));
  for (const { subject, mean } of order)
    page.times.forEach((time, i) => put(sparkKey(device.id, subject), time, mean[i], page.step));
  update({});
}

function onSamples({ device: id, samples }: LiveSamples): void {
  moveOn();
  const devices = state.devices.map((device) => {
    if (device.id !== id) return device;
    const latest = { ...device.latest };
    const known = new Set(device.gpus.map(({ uuid }) => uuid));
    let seen = Date.parse(device.last_seen);
    for (const { subject, time, values } of samples) {
      // Instances of a GPU have no utilization, but what their SMs do.
      const main = values["cpu.utilization"] ?? values["gpu.utilization"] ?? values["gpu.sm.active"];
      // What is relayed comes ten seconds at a time, and only the last of them is told.
      const width = device.source === null ? 1 : RELAYED_MS;
      if (subject === MACHINE || known.has(subject))
        put(sparkKey(id, subject), time - width + 1, main, width);
      // Some readings are rarer than others: what a tick does not bring is as it was, for a while.
      const before = latest[subject];
      const isFresh = before && time - Date.parse(before.time) < freshMs(device);
      latest[subject] = {
        time: new Date(time).toISOString(),
        values: isFresh ? { ...before.values, ...values } : values,
      };
      seen = Math.max(seen, time);
    }
    return { ...device, latest, last_seen: new Date(seen).toISOString() };
  });
  update({ devices });
}

function onDevice(device: Device): void {
  const known = state.devices.some(({ id }) => id === device.id);
  const { source = "" } = initial;
  if (!known && source !== "" && (device.source ?? OWN) !== source) return;
  update({
    devices: known
      ? state.devices.map((before) => (before.id === device.id ? device : before))
      : [...state.devices, device],
  });
  void needNames(device.runs);
  if (!known) void loadSparks(device).catch(() => {});
}

function App() {
  const [shown, setShown] = useState(state);
  show = setShown;
  return (
    <DeviceTiles
      {...initial}
      {...shown}
      now={serverNow()}
      onSource={(source) => {
        location.href = source === "" ? "/devices" : `/devices?${new URLSearchParams({ source })}`;
      }}
    />
  );
}

render(<App />, app);
const loadAll = () => {
  for (const device of state.devices) void loadSparks(device).catch(() => {});
};
loadAll();
for (const device of state.devices) void needNames(device.runs);

/** Ages go on where nothing comes; what has gone silent has no present values. */
setInterval(() => {
  if (document.hidden) return;
  moveOn();
  const now = serverNow();
  update({
    devices: state.devices.map((device) => ({
      ...device,
      latest: Object.fromEntries(
        Object.entries(device.latest).filter(([, { time }]) => now - Date.parse(time) <= freshMs(device)),
      ),
    })),
  });
}, 2000);

shortcut(["u"], "Up to the runs", () => {
  location.href = "/";
});

let times = 0;
openLive(
  {},
  {
    ready: () => {
      if (times++ > 0) loadAll();
    },
    samples: onSamples,
    device: onDevice,
  },
  () => {},
  { path: "/api/v1/devices/live" },
);
