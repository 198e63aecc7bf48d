import uPlot from "uplot";
import { formatNumber } from "../format.ts";
import { hasSpread, marksOf, positive, smooth, type Mark, type Series } from "../series.ts";

export interface ChartData {
  /** The series to draw, by rank, the first one first. */
  ranks: { rank: number; series: Series }[];
  axis: string;
  smoothing: number;
  log: boolean;
  range: { from: number; to: number } | undefined;
}

export interface ChartEvents {
  /** The place under the crosshair, on this chart or another; undefined where it left. */
  onCursor(x: number | undefined): void;
  onZoom(from: number, to: number): void;
  onReset(): void;
  onResize(): void;
}

export const MAX_COLORS = 8;

/** A colour of the style sheet, as the page has it now: canvas knows neither variables nor light-dark(). */
function colorReader(host: HTMLElement): (name: string, alpha?: number) => string {
  const probe = document.createElement("span");
  probe.hidden = true;
  host.append(probe);
  return (name, alpha = 1) => {
    probe.style.color = `color-mix(in srgb, var(${name}) ${alpha * 100}%, transparent)`;
    return getComputedStyle(probe).color;
  };
}

const SI: [number, string][] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** Labels of one axis, all in the unit that suits the largest. */
function shortNumbers(values: readonly (number | null)[]): string[] {
  const size = Math.max(0, ...values.map((value) => Math.abs(value ?? 0)));
  const unit = size >= 10_000 ? SI.find(([limit]) => size >= limit) : undefined;
  return values.map((value) => {
    if (value === null) return "";
    return unit && value !== 0 ? `${formatNumber(value / unit[0])}${unit[1]}` : formatNumber(value);
  });
}

function shortSeconds(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const sign = seconds < 0 ? "−" : "";
  const s = Math.abs(seconds);
  if (s < 60) return ms % 1000 === 0 ? `${sign}${s}s` : `${formatNumber(ms / 1000)}s`;
  if (s < 3600) return `${sign}${Math.floor(s / 60)}m${s % 60 ? ` ${s % 60}s` : ""}`;
  if (s < 86_400)
    return `${sign}${Math.floor(s / 3600)}h${s % 3600 ? ` ${Math.round((s % 3600) / 60)}m` : ""}`;
  return `${sign}${Math.floor(s / 86_400)}d${s % 86_400 ? ` ${Math.round((s % 86_400) / 3600)}h` : ""}`;
}

const SECONDS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
  604_800,
];
const RELATIVE_STEPS = [1, 10, 100, 200, 500, ...SECONDS.map((s) => s * 1000)];

/** There is nothing between step 1 and step 2. */
const WHOLE_STEPS = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

/** In 24 hours; the day stands below where it begins. */
const day = "\n{D} {MMM}";
const year = "\n{YYYY}";
const CLOCK: uPlot.Axis.Values = [
  [365 * 86_400_000, "{YYYY}", null, null, null, null, null, null, 1],
  [28 * 86_400_000, "{MMM}", year, null, null, null, null, null, 1],
  [86_400_000, "{D} {MMM}", year, null, null, null, null, null, 1],
  [60_000, "{HH}:{mm}", day, null, day, null, null, null, 1],
  [1000, "{HH}:{mm}:{ss}", day, null, day, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}.{fff}", day, null, day, null, null, null, 1],
];

/** Lines between the powers of ten tell nothing where there are many of those. */
function thinGrid(_plot: uPlot, splits: number[]): (number | null)[] {
  if (splits.length < 40) return splits;
  return splits.map((at) => (Number.isInteger(Math.round(Math.log10(at) * 1e9) / 1e9) ? at : null));
}

/** One chart: lines over a band, marks for what is not finite, a crosshair shared with the others. */
export class Chart {
  private readonly host: HTMLElement;
  private readonly events: ChartEvents;
  private readonly resize: ResizeObserver;
  private plot: uPlot | undefined;
  private data: ChartData | undefined;
  private signature = "";
  private marks: Mark[] = [];

  constructor(host: HTMLElement, events: ChartEvents) {
    this.host = host;
    this.events = events;
    this.resize = new ResizeObserver(() => {
      this.plot?.setSize(this.size());
      this.events.onResize();
    });
    this.resize.observe(host);
  }

  private size() {
    return { width: Math.max(80, this.host.clientWidth), height: Math.max(80, this.host.clientHeight) };
  }

  draw(data: ChartData): void {
    this.data = data;
    this.marks = data.ranks.flatMap(({ series }) => marksOf(series));
    const signature = JSON.stringify([
      data.axis,
      data.log,
      data.smoothing > 0,
      data.ranks.map(({ rank }) => rank),
      data.ranks.map(({ series }, i) => i === 0 && hasSpread(series)),
    ]);
    const aligned = this.align(data);
    if (this.plot && signature === this.signature) this.plot.setData(aligned);
    else {
      this.signature = signature;
      this.build(aligned, data);
    }
  }

  /** Colours are read once a build. */
  rebuild(): void {
    this.signature = "";
    if (this.data) this.draw(this.data);
  }

  destroy(): void {
    this.resize.disconnect();
    this.plot?.destroy();
    this.plot = undefined;
    this.host.replaceChildren();
  }

  private align({ ranks, smoothing, log }: ChartData): uPlot.AlignedData {
    const fit = log ? positive : (values: readonly (number | null)[]) => values as (number | null)[];
    const tables = ranks.map(({ series }): uPlot.AlignedData => {
      const mean = fit(series.mean);
      return [
        series.x,
        mean,
        smoothing > 0 ? fit(smooth(series.mean, smoothing)) : mean,
        fit(series.max),
        fit(series.min),
      ];
    });
    return tables.length === 1 ? tables[0]! : uPlot.join(tables);
  }

  private build(aligned: uPlot.AlignedData, data: ChartData): void {
    this.plot?.destroy();
    this.host.replaceChildren();
    const color = colorReader(this.host);
    const series: uPlot.Series[] = [{}];
    data.ranks.forEach((_, i) => {
      const name = `--series-${(i % MAX_COLORS) + 1}`;
      // A spike is one bucket wide: without its outline the band would not show it.
      const edge: uPlot.Series = {
        show: i === 0,
        stroke: color(name, 0.3),
        width: 1,
        points: { show: false },
      };
      series.push(
        { show: data.smoothing > 0, stroke: color(name, 0.28), width: 1, points: { show: false } },
        { stroke: color(name), width: 1.6 },
        edge,
        { ...edge },
      );
    });
    const banded = data.ranks[0] !== undefined && hasSpread(data.ranks[0].series);
    const grid = { stroke: color("--line", 0.6), width: 1 };
    const axis: uPlot.Axis = {
      stroke: color("--ink-faint"),
      font: `11px ${getComputedStyle(this.host).fontFamily}`,
      grid,
      ticks: { ...grid, size: 4 },
      gap: 5,
    };
    const isTime = data.axis === "time";
    const options: uPlot.Options = {
      ...this.size(),
      ms: 1,
      padding: [10, 14, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: isTime, range: (_plot, min, max) => this.rangeX(min, max) },
        y: { distr: data.log ? 3 : 1, range: (_plot, min, max) => rangeY(min, max, data.log) },
      },
      axes: [
        {
          ...axis,
          size: isTime ? 44 : 30,
          space: isTime ? 72 : 56,
          ...(isTime
            ? { values: CLOCK }
            : data.axis === "relative"
              ? { incrs: RELATIVE_STEPS, values: (_plot, splits) => splits.map((at) => shortSeconds(at)) }
              : {
                  ...(data.axis === "step" && { incrs: WHOLE_STEPS }),
                  values: (_plot, splits) => shortNumbers(splits),
                }),
        },
        {
          ...axis,
          space: 34,
          ...(data.log && { grid: { ...grid, filter: thinGrid } }),
          // Decades apart, one unit does not suit all.
          values: (_plot, splits) =>
            data.log ? splits.flatMap((at) => shortNumbers([at])) : shortNumbers(splits),
          size: (_plot, labels) =>
            Math.max(38, 16 + 6.6 * Math.max(0, ...(labels ?? []).map((text) => text?.length ?? 0))),
        },
      ],
      series,
      ...(banded && { bands: [{ series: [3, 4], fill: color("--series-1", 0.2) }] }),
      cursor: {
        y: false,
        points: { size: 7 },
        drag: { x: true, y: false, setScale: false, dist: 5 },
        sync: { key: `x:${data.axis}`, scales: ["x", null] },
        bind: {
          dblclick: () => () => {
            this.events.onReset();
            return null;
          },
        },
      },
      hooks: {
        setCursor: [(plot) => this.events.onCursor(cursorX(plot))],
        setSelect: [(plot) => this.onSelect(plot)],
        draw: [(plot) => this.drawMarks(plot, color("--series-4"))],
      },
    };
    this.plot = new uPlot(options, aligned, this.host);
  }

  private rangeX(min: number | null, max: number | null): [number, number] {
    const range = this.data?.range;
    if (range) return [range.from, range.to];
    if (min === null || max === null) return [0, 1];
    // A single point stands in the middle rather than on the edge.
    return min === max ? [min - 1, max + 1] : [min, max];
  }

  private onSelect(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 5) return;
    const from = plot.posToVal(left, "x");
    const to = plot.posToVal(left + width, "x");
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    // Charts in sync hear of the selection too; the one under the pointer speaks.
    if (this.host.matches(":hover")) this.events.onZoom(from, to);
  }

  /** NaN at the foot, infinities at the edge they went over. */
  private drawMarks(plot: uPlot, fill: string): void {
    if (this.marks.length === 0) return;
    const { ctx, bbox } = plot;
    const size = 4 * devicePixelRatio;
    ctx.save();
    ctx.fillStyle = fill;
    let last = -Infinity;
    for (const { x, kind } of this.marks) {
      const at = plot.valToPos(x, "x", true);
      if (at < bbox.left - 1 || at > bbox.left + bbox.width + 1) continue;
      if (kind === "NaN" && at - last < 1) continue;
      last = kind === "NaN" ? at : last;
      const top = kind === "+∞";
      const y = top ? bbox.top + size : bbox.top + bbox.height - size;
      const tip = top ? -size : kind === "−∞" ? size : 0;
      ctx.beginPath();
      if (kind === "NaN") {
        ctx.moveTo(at, y - size);
        ctx.lineTo(at + size, y);
        ctx.lineTo(at, y + size);
        ctx.lineTo(at - size, y);
      } else {
        ctx.moveTo(at - size, y - tip);
        ctx.lineTo(at + size, y - tip);
        ctx.lineTo(at, y + tip);
      }
      ctx.fill();
    }
    ctx.restore();
  }
}

function cursorX(plot: uPlot): number | undefined {
  const { idx, left } = plot.cursor;
  if (idx === null || idx === undefined || left === undefined || left < 0) return undefined;
  return plot.data[0][idx];
}

function rangeY(min: number | null, max: number | null, log: boolean): [number, number] {
  if (min === null || max === null) return log ? [1, 10] : [0, 1];
  if (log)
    return (min === max ? [min / 2, max * 2] : uPlot.rangeLog(min, max, 10, false)) as [number, number];
  if (min === max) {
    const pad = min === 0 ? 1 : Math.abs(min) * 0.1;
    return [min - pad, max + pad];
  }
  return uPlot.rangeNum(min, max, 0.08, true) as [number, number];
}
