import type { Sample } from "../../sample/schema.ts";
import type { HardwareChart, Line } from "../hardware-charts.ts";
import { gapsOf, markersOf, throttleSpans, type Gap, type GapFacts } from "../hardware-gaps.ts";
import {
  appendSamples,
  drawnOf,
  dropBefore,
  emptyTable,
  limitOf,
  nearestRow,
  shaped,
  summaryOf,
  tableOf,
  type Column,
  type Drawn,
  type Summary,
  type Table,
} from "../hardware-lines.ts";
import type { Window } from "../hardware-view.ts";
import { lookOf, rowsOf, type Surroundings } from "./hardware-drawing.ts";
import { isAbort } from "./http.ts";
import { Plot, type Cursor } from "./plot.ts";
import type { SampleSource } from "./sample-source.ts";

/** Live samples are drawn this often at most. */
const DRAW_MS = 250;
const REQUERY_MS = 4000;
/** Samples are stored in pieces of ten seconds: so long after a query the next one has what came before the live ones. */
const SETTLE_MS = 12_000;
/** A live line may be silent for so long before it counts as a hole; one that ended, since its last look. */
const PATIENCE_MS = 20_000;
const LAST_LOOK_MS = 5000;
/** Some readings are first taken a while after the run began. */
const FIRST_LOOK_MS = 30_000;

/** What is under the crosshair, by the key of the line. */
export interface LineReading {
  value: number | null;
  min: number | null;
  max: number | null;
}

export interface ChartReading {
  at: number;
  lines: Map<string, LineReading>;
  /** What happened there, or why there is nothing. */
  note: string;
}

export interface ChartState {
  /** Lines that have no value at the end of the window: their last one is history. */
  silent: ReadonlySet<string>;
  summaries: Map<string, Summary>;
  gaps: Gap[];
}

export interface SampleChartEvents {
  onReading(reading: ChartReading | undefined): void;
  onState(state: ChartState): void;
  onProblem(problem: string | undefined): void;
  onZoom(from: number, to: number): void;
  onReset(): void;
}

export interface SampleChartOptions {
  chart: HardwareChart;
  source: SampleSource;
  /** Subjects that all charts of the section ask for, so that they ask together. */
  subjects: readonly string[];
  window: () => Window;
  facts: () => GapFacts;
  hidden: ReadonlySet<string>;
  host: HTMLElement;
  events: SampleChartEvents;
}

/** One chart of hardware on screen: fetches its buckets, grows by what comes live, and asks again when that no longer fits. */
export class SampleChart {
  private readonly options: SampleChartOptions;
  private readonly plot: Plot;
  private hidden: ReadonlySet<string>;
  private table: Table = emptyTable();
  private columns: ReadonlyMap<string, Column> = new Map();
  private drawn: Drawn = { x: [], lines: new Map() };
  private around: Surroundings = { lines: [], gaps: [], spans: [], markers: [], limits: [], top: undefined };
  private pending: AbortController | undefined;
  private drawTimer: ReturnType<typeof setTimeout> | undefined;
  private queryTimer: ReturnType<typeof setTimeout> | undefined;
  private lastQuery = 0;
  private held: Sample[] | undefined;
  private budget = 0;
  private cursor: Cursor | undefined;

  constructor(options: SampleChartOptions) {
    this.options = options;
    this.hidden = options.hidden;
    const { events, host } = options;
    this.plot = new Plot(host, {
      onCursor: (cursor) => {
        this.cursor = cursor;
        events.onReading(cursor && this.read(cursor));
      },
      onZoom: (from, to) => events.onZoom(from, to),
      onReset: () => events.onReset(),
      onResize: () => {
        if (pointsFor(host) > 1.3 * this.budget) void this.query();
      },
    });
    void this.query(true);
  }

  /** The window was changed by hand, or samples may have been missed. */
  refresh(): void {
    void this.query(true);
  }

  /** What is known of the device and its events has changed, or the present has moved on. */
  update(): void {
    this.drawTimer ??= setTimeout(() => {
      this.drawTimer = undefined;
      this.draw();
    }, DRAW_MS);
  }

  hide(hidden: ReadonlySet<string>): void {
    this.hidden = hidden;
    this.draw();
  }

  recolor(): void {
    this.plot.rebuild();
  }

  destroy(): void {
    this.pending?.abort();
    clearTimeout(this.drawTimer);
    clearTimeout(this.queryTimer);
    this.plot.destroy();
  }

  append(samples: readonly Sample[]): void {
    if (this.held) {
      this.held.push(...samples);
      return;
    }
    if (!appendSamples(this.table, this.options.chart, samples)) return;
    dropBefore(this.table, this.options.window().from);
    if (this.table.times.length > 1.5 * this.budget + 60) this.schedule(REQUERY_MS);
    this.update();
  }

  private async query(settle = false): Promise<void> {
    this.pending?.abort();
    const pending = (this.pending = new AbortController());
    clearTimeout(this.queryTimer);
    this.queryTimer = undefined;
    this.lastQuery = Date.now();
    this.held = [];
    const { chart, source, subjects, host, events } = this.options;
    const window = this.options.window();
    this.budget = pointsFor(host);
    const readings = new Set([...chart.lines, ...chart.limits].map(({ reading }) => reading));
    // Whole seconds: charts that ask a moment later still ask for the same.
    const from = Math.floor(window.from / 1000) * 1000;
    const to = Math.ceil(window.to / 1000) * 1000;
    const wanted = { subjects, readings: [...readings], from, to, points: this.budget };
    try {
      const page = await source.fetch(wanted, pending.signal);
      this.table = tableOf(chart, page);
      const held = this.held ?? [];
      this.held = undefined;
      appendSamples(this.table, chart, held);
      events.onProblem(undefined);
      this.draw();
      if (settle && window.live && page.step < SETTLE_MS) this.schedule(SETTLE_MS);
    } catch (error) {
      if (isAbort(error)) return;
      this.held = undefined;
      events.onProblem((error as Error).message);
      this.schedule(REQUERY_MS);
    }
  }

  private schedule(ms: number): void {
    this.queryTimer ??= setTimeout(
      () => void this.query(),
      Math.max(ms, this.lastQuery + REQUERY_MS - Date.now()),
    );
  }

  private draw(): void {
    const { chart, facts, events } = this.options;
    const window = this.options.window();
    const known = facts();
    this.columns = shaped(this.table, chart);
    const patience = window.live ? PATIENCE_MS : LAST_LOOK_MS;
    const delay = window.start ? FIRST_LOOK_MS : 0;
    this.drawn = drawnOf(this.table, this.columns, chart.lines, { ...window, patience, delay });
    const lines = chart.lines.filter(({ key }) => !this.hidden.has(key));
    const holes = new Map([...this.drawn.lines].map(([key, line]) => [key, line.holes]));
    const gaps = chart.shape === "spans" ? [] : gapsOf(chart, holes, known);
    const limits = chart.shape === "lines" ? chart.limits.filter((limit) => bounds(limit, lines)) : [];
    const values = [chart.ceiling, ...limits.map((limit) => limitOf(this.table, [limit]))].filter(
      (value) => value !== undefined,
    );
    this.around = {
      lines,
      gaps,
      spans: throttleSpans(chart, known.events).filter(({ to }) => to > window.from),
      markers: markersOf(chart, known.events),
      limits: [...new Set(values)],
      top: values.length > 0 ? Math.max(...values) : undefined,
    };
    const spread = new Set(
      chart.lines.filter(({ key }) => hasSpread(this.columns.get(key))).map(({ key }) => key),
    );
    const signature = JSON.stringify([[...this.hidden], [...spread]]);
    this.plot.show(rowsOf(chart, this.drawn, window), window, signature, (color) =>
      lookOf(chart, this.hidden, spread, () => this.around, color),
    );
    const ends = ({ to }: { to: number }) => to >= window.to;
    events.onState({
      silent: new Set([...holes].filter(([, list]) => list.some(ends)).map(([key]) => key)),
      summaries: new Map(chart.lines.map(({ key }) => [key, summaryOf(this.columns.get(key))])),
      gaps,
    });
    if (this.cursor) events.onReading(this.read(this.cursor));
  }

  private read({ at }: Cursor): ChartReading {
    const { times, step } = this.table;
    const reach = Math.max(2.5 * step, 3000);
    const lines = new Map<string, LineReading>();
    for (const { key } of this.options.chart.lines) {
      const drawn = this.drawn.lines.get(key);
      const inHole = drawn?.holes.some(({ from, to }) => at > from && at < to) ?? true;
      const row = inHole ? -1 : this.rowOf(key, at - step / 2);
      const isNear = row >= 0 && Math.abs(times[row]! - at) <= Math.max(reach, this.rarity(key));
      const column = this.columns.get(key);
      const value = (values: readonly (number | null)[] | undefined) =>
        isNear ? (values?.[row] ?? null) : null;
      lines.set(key, { value: value(column?.mean), min: value(column?.min), max: value(column?.max) });
    }
    return { at, lines, note: this.noteAt(at) };
  }

  /** Row of the value nearest to a time: a reading that is rare has none in most rows. */
  private rowOf(key: string, at: number): number {
    const mean = this.columns.get(key)?.mean ?? [];
    const row = nearestRow(this.table.times, at);
    for (let distance = 0; distance < 120; distance++)
      for (const near of [row - distance, row + distance])
        if (mean[near] !== null && mean[near] !== undefined) return near;
    return -1;
  }

  private rarity(key: string): number {
    const present = this.columns.get(key)?.mean.filter((value) => value !== null).length ?? 0;
    const { times } = this.table;
    return present < 2 ? 0 : (2 * (times.at(-1)! - times[0]!)) / present;
  }

  private noteAt(at: number): string {
    const { from, to } = this.options.window();
    const near = (6 * (to - from)) / Math.max(1, this.options.host.clientWidth);
    const { markers, spans, gaps } = this.around;
    const marker = markers.find(({ time }) => Math.abs(time - at) <= near);
    const span = spans.find((candidate) => at >= candidate.from && at <= candidate.to);
    const gap = gaps.find((candidate) => at >= candidate.from && at <= candidate.to);
    return [marker?.text, gap && `No value: ${gap.reason}`, span?.text].filter(Boolean).join(" · ");
  }
}

/** One bucket a pixel or two; of cards of one width the same, so that they ask together. */
const pointsFor = (host: HTMLElement) =>
  Math.max(200, Math.min(1500, Math.ceil((host.clientWidth || 400) / 100) * 100));

/** A container's limit bounds the container's lines. */
const bounds = (limit: Line, lines: readonly Line[]) =>
  lines.some(({ subject, part }) => limit.subject === subject || limit.subject === part);

const hasSpread = (column: Column | undefined) =>
  column !== undefined && column.min !== column.max && column.min.some((min, i) => min !== column.max[i]);
