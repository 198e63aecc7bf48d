import type { Buckets, MetricSummary } from "../../metric/schema.ts";
import { axisOf, type MetricsView } from "../metrics-view.ts";
import {
  appendPoint,
  emptySeries,
  fromBuckets,
  placeLate,
  placeOn,
  type LiveSeries,
  type Series,
} from "../series.ts";
import { Chart } from "./chart.ts";
import { isAbort, request } from "./http.ts";

/** How many ranks a chart shows at most: more lines than that tell nothing apart. */
const MAX_RANKS = 16;
/** Live points are drawn this often at most. */
const DRAW_MS = 120;
/** And buckets are asked for anew this often, where live points no longer fit or must be sorted in. */
const REQUERY_MS = 4000;

export interface Reading {
  x: number;
  ranks: { rank: number; value: number | null; min: number | null; max: number | null; note: string }[];
}

export interface MetricChartEvents {
  onReading(reading: Reading | undefined): void;
  onZoom(axis: string, from: number, to: number): void;
  onReset(): void;
  onProblem(problem: string | undefined): void;
  /** Whether there is something to see. */
  onData(points: number): void;
}

export interface MetricChartOptions {
  path: string;
  started: number;
  metric: MetricSummary;
  view: MetricsView;
  host: HTMLElement;
  events: MetricChartEvents;
}

/** One metric on screen: fetches its buckets, appends what comes live, and asks again when that no longer fits. */
export class MetricChart {
  private readonly options: MetricChartOptions;
  private readonly chart: Chart;
  private view: MetricsView;
  private readonly seriesByRank = new Map<number, Series>();
  private pending: AbortController | undefined;
  private drawTimer: ReturnType<typeof setTimeout> | undefined;
  private requeryTimer: ReturnType<typeof setTimeout> | undefined;
  private lastQuery = 0;
  /** What came live while buckets were on their way: how much of it those hold is unknown until then. */
  private held: LiveSeries[] | undefined;
  private budget = 0;

  constructor(options: MetricChartOptions) {
    this.options = options;
    this.view = options.view;
    const { events } = options;
    this.chart = new Chart(options.host, {
      onCursor: (cursor) => events.onReading(cursor && this.read(cursor.x)),
      onZoom: (from, to) => events.onZoom(this.axis, from, to),
      onReset: () => events.onReset(),
      // A chart made larger shows more than its buckets tell; one that is drawn point by point has all there is.
      onResize: () => {
        if (bucketsFor(options.host) > 1.3 * this.budget && this.count > this.budget) void this.query();
      },
    });
    void this.query();
  }

  get axis(): string {
    return axisOf(this.options.metric, this.view);
  }

  setView(view: MetricsView): void {
    const before = this.queryKey();
    this.view = view;
    if (this.queryKey() === before) this.draw();
    else void this.query();
  }

  /** Buckets may have changed in ways we did not hear of. */
  refresh(): void {
    this.scheduleQuery();
  }

  recolor(): void {
    this.chart.rebuild();
  }

  destroy(): void {
    this.pending?.abort();
    clearTimeout(this.drawTimer);
    clearTimeout(this.requeryTimer);
    this.chart.destroy();
  }

  private get ranks(): number[] {
    const { ranks } = this.options.metric;
    return this.view.allRanks ? ranks.slice(0, MAX_RANKS) : ranks.slice(0, 1);
  }

  private get range() {
    return this.view.zoom?.on === this.axis ? this.view.zoom : undefined;
  }

  private get count(): number {
    return [...this.seriesByRank.values()].reduce((sum, { count }) => sum + count, 0);
  }

  private queryKey(): string {
    return JSON.stringify([this.axis, this.ranks, this.range]);
  }

  private get shift(): number {
    return this.axis === "relative" ? this.options.started : 0;
  }

  private async query(): Promise<void> {
    this.pending?.abort();
    const pending = (this.pending = new AbortController());
    clearTimeout(this.requeryTimer);
    this.requeryTimer = undefined;
    this.lastQuery = Date.now();
    this.held = [];
    const { path, metric, host, events } = this.options;
    this.budget = bucketsFor(host);
    const { axis, range, shift, ranks } = this;
    const fetchRank = (rank: number) => {
      const query = new URLSearchParams({
        key: metric.name,
        x: axis === "relative" ? "time" : axis,
        rank: String(rank),
        points: String(this.budget),
      });
      if (range) {
        query.set("from", String(range.from + shift));
        query.set("to", String(range.to + shift));
      }
      return request<Buckets>(`${path}/points?${query}`, { signal: pending.signal });
    };
    try {
      const answers = await Promise.all(ranks.map(fetchRank));
      this.seriesByRank.clear();
      answers.forEach((buckets, i) => this.seriesByRank.set(ranks[i]!, fromBuckets(buckets, shift)));
      events.onProblem(undefined);
      events.onData(this.count);
      const held = this.held ?? [];
      this.held = undefined;
      for (const live of held) this.append(live, true);
      this.draw();
    } catch (error) {
      if (isAbort(error)) return;
      this.held = undefined;
      events.onProblem((error as Error).message);
      this.scheduleQuery();
    }
  }

  private scheduleQuery(): void {
    if (this.requeryTimer) return;
    const wait = Math.max(200, this.lastQuery + REQUERY_MS - Date.now());
    this.requeryTimer = setTimeout(() => void this.query(), wait);
  }

  /** `late`: it may be in the buckets already. */
  append(live: LiveSeries, late = false): void {
    if (this.held) {
      this.held.push(live);
      return;
    }
    if (!this.ranks.includes(live.rank)) return;
    const series = this.seriesByRank.get(live.rank) ?? emptySeries();
    this.seriesByRank.set(live.rank, series);
    const { axis, range } = this;
    let changed = false;
    for (const point of live.points) {
      const place = placeOn(axis, live, point, this.options.started);
      if (place === undefined) continue;
      const order = place === null ? "ask" : late ? placeLate(series, ...place) : "after";
      if (order === "ask") this.scheduleQuery();
      if (place === null || order !== "after") continue;
      if (range && (place[0] < range.from || place[0] > range.to)) continue;
      if (appendPoint(series, ...place)) changed = true;
      else this.scheduleQuery();
    }
    if (!changed) return;
    if (!late) series.count += live.n - live.points.length;
    if (series.x.length > 1.5 * this.budget) this.scheduleQuery();
    this.options.events.onData(this.count);
    this.drawTimer ??= setTimeout(() => {
      this.drawTimer = undefined;
      this.draw();
    }, DRAW_MS);
  }

  private draw(): void {
    const ranks = this.ranks.map((rank) => ({ rank, series: this.seriesByRank.get(rank) ?? emptySeries() }));
    const { smoothing, log } = this.view;
    this.chart.draw({ ranks, axis: this.axis, smoothing, log, range: this.range });
  }

  private read(x: number): Reading {
    return {
      x,
      ranks: this.ranks.map((rank) => {
        const series = this.seriesByRank.get(rank) ?? emptySeries();
        const i = nearest(series.x, x);
        const notes = [
          series.nan[i] ? `${series.nan[i]} NaN` : "",
          series.inf[i] ? `${series.inf[i]} +∞` : "",
          series.ninf[i] ? `${series.ninf[i]} −∞` : "",
        ];
        return {
          rank,
          value: series.mean[i] ?? null,
          min: series.min[i] ?? null,
          max: series.max[i] ?? null,
          note: notes.filter(Boolean).join(", "),
        };
      }),
    };
  }
}

/** One bucket a pixel. */
const bucketsFor = (host: HTMLElement) => Math.max(200, Math.min(2000, host.clientWidth || 400));

/** Index of the value nearest to `x` in an ascending list. */
function nearest(values: number[], x: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - values[low - 1]! < values[low]! - x ? low - 1 : low;
}
