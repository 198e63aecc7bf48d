/** How hardware is drawn: bands around lines, limits, what is missing and what happened. */
import type uPlot from "uplot";
import { incrementsOf, formatReadings } from "../units.ts";
import type { HardwareChart, Line } from "../hardware-charts.ts";
import type { Gap, Marker, Severity, Span } from "../hardware-gaps.ts";
import type { Drawn } from "../hardware-lines.ts";
import type { ColorOf, PlotLook } from "./plot.ts";

/** All there is to draw beside the values themselves; it changes without a new build. */
export interface Surroundings {
  /** Lines that are shown. */
  lines: Line[];
  gaps: Gap[];
  spans: Span[];
  markers: Marker[];
  /** Values of the limits, each once. */
  limits: number[];
  /** End of the axis, where it does not follow the values. */
  top: number | undefined;
}

const leastTop: Partial<Record<string, number>> = { B: 1024 * 1024, "B/s": 1000, J: 1 };
const severityColors: Record<Severity, string> = {
  bad: "--bad",
  warn: "--warn",
  good: "--good",
  info: "--ink-faint",
};
const ROW_HEIGHT = 7;
/** Half of "18:12:20", which stands at the very end of many a live window. */
const MARGIN = 26;

export function rowsOf(
  chart: HardwareChart,
  drawn: Drawn,
  window: { from: number; to: number },
): uPlot.AlignedData {
  // A crosshair wants rows, and lanes have none of their own.
  if (chart.shape === "spans") return [[window.from, window.to], ...chart.lines.map(() => [null, null])];
  const nothing = drawn.x.map(() => null);
  return [
    drawn.x,
    ...chart.lines.flatMap(({ key }) => {
      const line = drawn.lines.get(key);
      return line ? [line.mean, line.max, line.min] : [nothing, nothing, nothing];
    }),
  ];
}

export function lookOf(
  chart: HardwareChart,
  hidden: ReadonlySet<string>,
  spread: ReadonlySet<string>,
  around: () => Surroundings,
  color: ColorOf,
): PlotLook {
  const inks = {
    hatch: hatchOf(color("--ink-faint", 0.55)),
    wash: color("--ink-faint", 0.07),
    limit: color("--ink-faint", 0.8),
    series: (line: Pick<Line, "color">, alpha = 1) => color(`--series-${line.color}`, alpha),
    severity: (severity: Severity) => color(severityColors[severity]),
  };
  const seriesInks = new Map(
    chart.lines.map((line) => [line.key, { full: inks.series(line), soft: inks.series(line, 0.55) }]),
  );
  const severityInks = Object.fromEntries(
    Object.keys(severityColors).map((severity) => [severity, inks.severity(severity as Severity)]),
  ) as Record<Severity, string>;
  const under = (plot: uPlot) =>
    clipped(plot, (ctx) => {
      const { lines, gaps, spans, limits } = around();
      if (chart.shape === "spans") drawLanes(plot, ctx, chart.lines, spans, seriesInks);
      else {
        drawGaps(plot, ctx, lines, gaps, inks.hatch, inks.wash);
        drawSpans(plot, ctx, lines, spans, seriesInks);
        drawLimits(plot, ctx, limits, inks.limit);
      }
    });
  const over = (plot: uPlot) =>
    clipped(plot, (ctx) => drawMarkers(plot, ctx, around().markers, severityInks));
  if (chart.shape === "spans") return { ...laneLook(chart), under, over };
  const series: uPlot.Series[] = [];
  const bands: uPlot.Band[] = [];
  const alpha = chart.lines.length > 3 ? 0.12 : 0.2;
  for (const line of chart.lines) {
    const show = !hidden.has(line.key);
    const ink = seriesInks.get(line.key)!.full;
    const edge: uPlot.Series = {
      show: show && spread.has(line.key),
      // Of many lines the outlines would be a thicket.
      stroke: chart.lines.length > 3 ? "transparent" : inks.series(line, alpha + 0.1),
      width: 1,
      points: { show: false },
    };
    bands.push({ series: [series.length + 2, series.length + 3], fill: inks.series(line, alpha) });
    series.push(
      { show, stroke: ink, width: 1.6, ...(line.dashed && { dash: [7, 4] }), points: { size: 4 } },
      edge,
      { ...edge },
    );
  }
  return {
    axis: "time",
    margin: MARGIN,
    yScale: { range: (_plot, _min, max) => [0, topOf(chart, around().top, max)] },
    yAxis: {
      incrs: (_plot, _axis, _from, to) => incrementsOf(chart.unit, to),
      values: (_plot, splits) =>
        chart.id === "gpu.performance_state"
          ? splits.map((at) => `P${at}`)
          : formatReadings(chart.unit, splits),
    },
    series,
    ...(spread.size > 0 && { bands }),
    under,
    over,
  };
}

function topOf(chart: HardwareChart, top: number | undefined, max: number | null): number {
  const fixed = chart.max ?? top;
  const most = max ?? 0;
  if (fixed !== undefined && fixed > 0) return most > fixed ? most * 1.05 : fixed;
  return most > 0 ? most * 1.1 : (leastTop[chart.unit] ?? 1);
}

/** One lane a line, with a bar for when it was so. */
function laneLook(chart: HardwareChart): Pick<PlotLook, "axis" | "margin" | "yScale" | "yAxis" | "series"> {
  const { lines } = chart;
  return {
    axis: "time",
    margin: MARGIN,
    yScale: { range: [0, lines.length] },
    yAxis: {
      splits: lines.map((_, i) => lines.length - i - 0.5),
      values: (_plot, splits) => splits.map((_, i) => lines[i]?.label.split(" ").slice(0, 2).join(" ") ?? ""),
      grid: { show: false },
      space: 1,
    },
    series: lines.map(() => ({ points: { show: false } })),
  };
}

type Context = CanvasRenderingContext2D;

function clipped(plot: uPlot, draw: (ctx: Context) => void): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx);
  ctx.restore();
}

/** From and to as pixels; a moment is still seen. */
function extent(plot: uPlot, from: number, to: number): [left: number, width: number] {
  const { left, width } = plot.bbox;
  const start = Math.max(left, plot.valToPos(from, "x", true));
  const end = Math.min(left + width, to === Infinity ? left + width : plot.valToPos(to, "x", true));
  return [start, Math.max(devicePixelRatio, end - start)];
}

/** All lines missing: the whole height. Some of them: a strip at the foot. */
function drawGaps(
  plot: uPlot,
  ctx: Context,
  lines: readonly Line[],
  gaps: readonly Gap[],
  hatch: CanvasPattern | string,
  wash: string,
): void {
  const { top, height } = plot.bbox;
  for (const gap of gaps) {
    const [left, width] = extent(plot, gap.from, gap.to);
    const isWhole = lines.every(({ key }) => gap.lines.includes(key));
    const tall = isWhole ? height : 2 * ROW_HEIGHT * devicePixelRatio;
    for (const fill of [wash, hatch]) {
      ctx.fillStyle = fill;
      ctx.fillRect(left, top + height - tall, width, tall);
    }
  }
}

/** Above the lines, one row for each that had some. */
function drawSpans(
  plot: uPlot,
  ctx: Context,
  lines: readonly Line[],
  spans: readonly Span[],
  inks: ReadonlyMap<string, { soft: string }>,
): void {
  const row = 4 * devicePixelRatio;
  const involved = lines.filter(({ subject }) => spans.some((span) => span.subject === subject));
  involved.forEach(({ subject, key }, i) => {
    ctx.fillStyle = inks.get(key)!.soft;
    for (const span of spans) {
      if (span.subject !== subject) continue;
      const [left, width] = extent(plot, span.from, span.to);
      ctx.fillRect(left, plot.bbox.top + i * row, width, row - devicePixelRatio);
    }
  });
}

function drawLanes(
  plot: uPlot,
  ctx: Context,
  lines: readonly Line[],
  spans: readonly Span[],
  inks: ReadonlyMap<string, { full: string; soft: string }>,
): void {
  const { top, height } = plot.bbox;
  const lane = height / lines.length;
  lines.forEach(({ subject, key }, i) => {
    const middle = top + (i + 0.5) * lane;
    const tall = Math.min(lane * 0.62, 22 * devicePixelRatio);
    ctx.fillStyle = inks.get(key)!.soft;
    ctx.fillRect(plot.bbox.left, middle - 0.5, plot.bbox.width, 1);
    ctx.fillStyle = inks.get(key)!.full;
    for (const span of spans) {
      if (span.subject !== subject) continue;
      const [left, width] = extent(plot, span.from, span.to);
      ctx.fillRect(left, middle - tall / 2, width, tall);
    }
  });
}

function drawLimits(plot: uPlot, ctx: Context, limits: readonly number[], ink: string): void {
  ctx.strokeStyle = ink;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const limit of limits) {
    // At the very edge half of it would be cut off.
    const at = Math.max(plot.bbox.top + devicePixelRatio, plot.valToPos(limit, "y", true));
    ctx.beginPath();
    ctx.moveTo(plot.bbox.left, at);
    ctx.lineTo(plot.bbox.left + plot.bbox.width, at);
    ctx.stroke();
  }
  ctx.setLineDash([]);
}

function drawMarkers(
  plot: uPlot,
  ctx: Context,
  markers: readonly Marker[],
  inks: Record<Severity, string>,
): void {
  const { left, top, width, height } = plot.bbox;
  const size = 5 * devicePixelRatio;
  ctx.lineWidth = devicePixelRatio;
  for (const { time, severity } of markers) {
    const place = plot.valToPos(time, "x", true);
    if (place < left || place > left + width) continue;
    // On whole pixels: between two of them the line would be a pale smear, and flicker as the present moves on.
    const at = Math.round(place - devicePixelRatio / 2) + devicePixelRatio / 2;
    ctx.strokeStyle = inks[severity];
    ctx.fillStyle = inks[severity];
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(at, top + size);
    ctx.lineTo(at, top + height);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.moveTo(at - size, top);
    ctx.lineTo(at + size, top);
    ctx.lineTo(at, top + size * 1.5);
    ctx.fill();
  }
}

/** Diagonal lines: told from any colour, and by eyes that tell none. */
function hatchOf(ink: string): CanvasPattern | string {
  const tile = document.createElement("canvas");
  const size = Math.round(8 * devicePixelRatio);
  tile.width = size;
  tile.height = size;
  const ctx = tile.getContext("2d")!;
  ctx.strokeStyle = ink;
  ctx.lineWidth = devicePixelRatio;
  for (const shift of [-size, 0, size]) {
    ctx.beginPath();
    ctx.moveTo(shift, size);
    ctx.lineTo(shift + size, 0);
    ctx.stroke();
  }
  return ctx.createPattern(tile, "repeat") ?? ink;
}
