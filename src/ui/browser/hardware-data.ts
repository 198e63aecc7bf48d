/** What a page with hardware charts knows, where it gets it from, and what it hears live. */
import type { Device, Gpu, RunDevice } from "../../device/schema.ts";
import type { LiveSamples } from "../../sample/latest.ts";
import type { DeviceEvent, DeviceEventPage } from "../../sample/schema.ts";
import { CGROUP, MACHINE, runOfSubject, subjectOfRun } from "../../sample/subject.ts";
import { serverNow } from "../components/time.tsx";
import {
  chartsOf,
  keyOfSeries,
  withLost,
  withoutEmpty,
  type HardwareChart,
  type Section,
} from "../hardware-charts.ts";
import type { GapFacts } from "../hardware-gaps.ts";
import { gpusOf, shownGpus } from "../hardware-gpus.ts";
import { windowOf, type HardwareView, type Life, type Window } from "../hardware-view.ts";
import { shownCharts } from "./hardware-card.tsx";
import { isAbort, request } from "./http.ts";
import { openLive, type Live } from "./live.ts";
import { SampleSource } from "./sample-source.ts";

/** A device as the page shows it: all of it, or a run's part of it. */
export interface Place {
  id: string;
  name: string;
  life: Life;
  use: RunDevice | undefined;
}

export interface HardwareState {
  view: HardwareView;
  places: Place[];
  /** All that are known, for words about those that are not the run's. */
  devices: Device[];
  /** Undefined until they are known. */
  charts: HardwareChart[] | undefined;
  subjects: Record<Section, readonly string[]>;
  events: DeviceEvent[];
  /** Older events were left out. */
  more: boolean;
  problem: string | undefined;
}

export interface HardwareOptions {
  run: string | undefined;
  view: HardwareView;
  places: Place[];
  devices: Device[];
  /** Minutes shown while nothing was chosen; undefined: all. */
  usual: number | undefined;
  /** Another stream of the page shows how the connection fares. */
  quiet: boolean;
  onChange: (state: HardwareState) => void;
}

const MAX_EVENTS = 2000;
const PROBE_MS = 10_000;
/** A redraw moves the present on, also where nothing comes any more. */
const MOVE_MS = 1000;

export class HardwareData {
  state: HardwareState;
  source: SampleSource | undefined;
  private readonly options: HardwareOptions;
  private live: Live | undefined;
  private liveDevice: string | undefined;
  private loading: AbortController | undefined;
  private probeTimer: ReturnType<typeof setTimeout> | undefined;
  private known = new Set<string>();
  private facts: GapFacts | undefined;
  private seen = 0;

  constructor(options: HardwareOptions) {
    this.options = options;
    const { view, places, devices } = options;
    this.state = {
      view,
      places,
      devices,
      charts: undefined,
      subjects: { run: [], gpu: [], machine: [] },
      events: [],
      more: false,
      problem: undefined,
    };
    setInterval(() => {
      if (document.hidden || !this.window().live) return;
      for (const chart of shownCharts) chart.update();
    }, MOVE_MS);
  }

  get place(): Place | undefined {
    const { places, view } = this.state;
    return places.find(({ id }) => id === view.device) ?? places[0];
  }

  get device(): Device | undefined {
    return this.state.devices.find(({ id }) => id === this.place?.id);
  }

  /** When the device was last heard of. */
  get lastSeen(): string {
    const known = this.device?.last_seen ?? "";
    return this.seen > Date.parse(known) ? new Date(this.seen).toISOString() : known;
  }

  get gpus(): Gpu[] {
    return gpusOf(this.device, this.place?.use);
  }

  /** UUIDs of the GPUs that are shown. */
  get shownGpus(): string[] {
    return shownGpus(this.state.view, this.gpus, this.place?.use);
  }

  readonly window = (): Window => {
    const now = serverNow();
    const { view } = this.state;
    const life = this.place?.life ?? { from: now - 60_000, to: null };
    return windowOf({ ...view, last: view.last ?? this.options.usual }, life, now);
  };

  readonly gapFacts = (): GapFacts =>
    (this.facts ??= {
      events: this.state.events,
      gpus: this.gpus,
      firstSeen: Date.parse(this.device?.first_seen ?? "") || 0,
    });

  private update(change: Partial<HardwareState>): void {
    this.state = { ...this.state, ...change };
    this.facts = undefined;
    this.options.onChange(this.state);
  }

  setView(change: Partial<HardwareView>): void {
    const before = this.place?.id;
    this.update({ view: { ...this.state.view, ...change } });
    const moved = this.place?.id !== before;
    void this.load(moved);
    if (!moved) for (const chart of shownCharts) chart.refresh();
  }

  setPlaces(places: Place[], devices: Device[]): void {
    const before = this.place;
    const subjects = JSON.stringify(this.subjectsNow());
    this.update({ places, devices });
    const isOver = before?.life.to === null && this.place?.life.to !== null;
    // At once where it is over: what still comes of the device would be drawn behind the end.
    if (before) this.listen();
    if (!before || isOver || JSON.stringify(this.subjectsNow()) !== subjects) void this.load(!before);
    // The end of the window stands still from now on.
    if (isOver) for (const chart of shownCharts) chart.refresh();
  }

  /** Which charts there are, and what happened. `anew`: of another device. */
  async load(anew = false): Promise<void> {
    const { place } = this;
    if (!place) {
      this.update({ charts: [] });
      return;
    }
    this.loading?.abort();
    const { signal } = (this.loading = new AbortController());
    if (this.source?.device !== place.id) this.source = new SampleSource(place.id);
    if (anew) this.update({ charts: undefined, events: [] });
    const subjects = this.subjectsNow();
    const { from, to } = this.window();
    const all = [...subjects.machine, ...subjects.gpu, ...subjects.run];
    const events = new URLSearchParams({ from: String(Math.floor(from)), limit: String(MAX_EVENTS) });
    if (!this.window().live) events.set("to", String(Math.ceil(to)));
    try {
      const [page, happened] = await Promise.all([
        this.source.query(
          { subjects: all, readings: [], from: Math.floor(from), to: Math.ceil(to), points: 1 },
          signal,
        ),
        request<DeviceEventPage>(`/api/v1/devices/${place.id}/events?${events}`, { signal }),
      ]);
      this.known = new Set(page.series.map(keyOfSeries));
      const series = withoutEmpty(page.series);
      this.update({
        charts: keepSame(this.state.charts, chartsOf(withLost(series, this.gpus, this.shownGpus), this.gpus)),
        subjects: keepSubjects(this.state.subjects, subjects),
        events: [...happened.states, ...happened.events].filter((event) => this.concerns(event)),
        more: happened.more,
        problem: undefined,
      });
    } catch (error) {
      if (isAbort(error)) return;
      this.update({ problem: (error as Error).message });
      this.probeSoon();
    }
    for (const chart of shownCharts) chart.update();
    this.listen();
  }

  private subjectsNow(): Record<Section, string[]> {
    return {
      run: this.options.run === undefined ? [] : [subjectOfRun(this.options.run)],
      gpu: this.shownGpus,
      machine: [MACHINE, CGROUP],
    };
  }

  /** Other runs' events are no concern of this one, nor are those of GPUs it does not have. */
  private concerns({ subject }: DeviceEvent): boolean {
    const { run } = this.options;
    const whose = runOfSubject(subject);
    if (whose !== undefined) return run === undefined || whose === run;
    return subject === MACHINE || subject === CGROUP || this.shownGpus.includes(subject);
  }

  private probeSoon(): void {
    this.probeTimer ??= setTimeout(() => {
      this.probeTimer = undefined;
      void this.load();
    }, PROBE_MS);
  }

  /** Live while the life on this device goes on. */
  private listen(): void {
    const { place } = this;
    const wanted = place && place.life.to === null ? place.id : undefined;
    if (wanted === this.liveDevice) return;
    this.live?.close();
    this.live = undefined;
    this.liveDevice = wanted;
    if (wanted === undefined) return;
    let times = 0;
    this.live = openLive(
      { device: wanted },
      {
        ready: () => {
          // Again: something may have been missed meanwhile.
          if (times++ > 0) this.setView({});
        },
        samples: ({ samples }: LiveSamples) => this.onSamples(samples),
        device: (device: Device) => this.onDevice(device),
        event: (event: DeviceEvent) => this.onEvent(event),
      },
      () => {},
      { path: "/api/v1/devices/live", quiet: this.options.quiet },
    );
  }

  private onSamples(samples: LiveSamples["samples"]): void {
    const { subjects, view } = this.state;
    for (const { time } of samples) this.seen = Math.max(this.seen, time);
    const shown = new Set(Object.values(subjects).flat());
    const mine = samples.filter(({ subject }) => shown.has(subject));
    const isNew = mine.some(({ subject, values }) =>
      Object.keys(values).some((key) => {
        const [reading, ...part] = key.split("@");
        return !this.known.has(
          keyOfSeries({ subject, reading: reading!, part: part.length > 0 ? part.join("@") : null }),
        );
      }),
    );
    if (isNew) this.probeSoon();
    if (!view.zoom) for (const chart of shownCharts) chart.append(mine);
  }

  private onDevice(device: Device): void {
    const devices = this.state.devices.map((known) => (known.id === device.id ? device : known));
    const before = JSON.stringify(this.subjectsNow());
    this.update({ devices });
    if (JSON.stringify(this.subjectsNow()) !== before) void this.load();
    for (const chart of shownCharts) chart.update();
  }

  private onEvent(event: DeviceEvent): void {
    if (!this.concerns(event) || this.state.events.some(({ id }) => id === event.id)) return;
    this.update({ events: [...this.state.events, event].slice(-MAX_EVENTS) });
    for (const chart of shownCharts) chart.update();
  }
}

/** Cards are told by identity: only charts that changed are made anew. */
function keepSame(before: HardwareChart[] | undefined, now: HardwareChart[]): HardwareChart[] {
  const known = new Map((before ?? []).map((chart) => [JSON.stringify(chart), chart]));
  return now.map((chart) => known.get(JSON.stringify(chart)) ?? chart);
}

const keepSubjects = (
  before: Record<Section, readonly string[]>,
  now: Record<Section, readonly string[]>,
): Record<Section, readonly string[]> => {
  const keep = (section: Section) =>
    JSON.stringify(before[section]) === JSON.stringify(now[section]) ? before[section] : now[section];
  return { run: keep("run"), gpu: keep("gpu"), machine: keep("machine") };
};
