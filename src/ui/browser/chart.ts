import uPlot from "uplot";
import { hasSpread, marksOf, positive, smooth, type Mark, type Series } from "../series.ts";
import { shortNumbers, thinGrid } from "./axis.ts";
import { MAX_COLORS, Plot, type ColorOf, type PlotEvents, type PlotLook } from "./plot.ts";

export interface ChartData {
  /** The series to draw, by rank, the first one first. */
  ranks: { rank: number; series: Series }[];
  axis: string;
  smoothing: number;
  log: boolean;
  range: { from: number; to: number } | undefined;
}

/** A metric's chart: lines over a band, marks for what is not finite. */
export class Chart {
  private readonly plot: Plot;
  private marks: Mark[] = [];

  constructor(host: HTMLElement, events: PlotEvents) {
    this.plot = new Plot(host, events);
  }

  draw(data: ChartData): void {
    this.marks = data.ranks.flatMap(({ series }) => marksOf(series));
    const signature = JSON.stringify([
      data.axis,
      data.log,
      data.smoothing > 0,
      data.ranks.map(({ rank }) => rank),
      data.ranks.map(({ series }, i) => i === 0 && hasSpread(series)),
    ]);
    this.plot.show(align(data), data.range, signature, (color) => this.look(data, color));
  }

  rebuild(): void {
    this.plot.rebuild();
  }

  destroy(): void {
    this.plot.destroy();
  }

  private look(data: ChartData, color: ColorOf): PlotLook {
    const series: uPlot.Series[] = [];
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
    const markColor = color("--series-4");
    return {
      axis: data.axis,
      yScale: { distr: data.log ? 3 : 1, range: (_plot, min, max) => rangeY(min, max, data.log) },
      yAxis: {
        ...(data.log && { grid: { filter: thinGrid } }),
        // Decades apart, one unit does not suit all.
        values: (_plot, splits) =>
          data.log ? splits.flatMap((at) => shortNumbers([at])) : shortNumbers(splits),
      },
      series,
      ...(banded && { bands: [{ series: [3, 4], fill: color("--series-1", 0.2) }] }),
      over: (plot) => drawMarks(plot, this.marks, markColor),
    };
  }
}

function align({ ranks, smoothing, log }: ChartData): uPlot.AlignedData {
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

/** NaN at the foot, infinities at the edge they went over. */
function drawMarks(plot: uPlot, marks: readonly Mark[], fill: string): void {
  if (marks.length === 0) return;
  const { ctx, bbox } = plot;
  const size = 4 * devicePixelRatio;
  ctx.save();
  ctx.fillStyle = fill;
  let last = -Infinity;
  for (const { x, kind } of marks) {
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
