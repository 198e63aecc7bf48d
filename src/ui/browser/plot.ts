import uPlot from "uplot";
import { axisWidth, xAxisOf } from "./axis.ts";

/** A place under the crosshair: the nearest row, and where it really is. */
export interface Cursor {
  x: number;
  at: number;
}

export interface PlotEvents {
  /** The place under the crosshair, on this chart or another; undefined where it left. */
  onCursor(cursor: Cursor | undefined): void;
  onZoom(from: number, to: number): void;
  onReset(): void;
  onResize(): void;
}

export const MAX_COLORS = 8;

export type ColorOf = (name: string, alpha?: number) => string;

/** How a chart looks: what is asked for once a build. */
export interface PlotLook {
  /** Pixels to the right of the lines, for the last label of the axis. */
  margin?: number;
  /** "time", "relative", "step" or a metric's name: charts with the same one share their crosshair. */
  axis: string;
  yScale: uPlot.Scale;
  yAxis: uPlot.Axis;
  series: uPlot.Series[];
  bands?: uPlot.Band[];
  /** Drawn before the lines, and after them. */
  under?: (plot: uPlot) => void;
  over?: (plot: uPlot) => void;
}

/** A colour of the style sheet, as the page has it now: canvas knows neither variables nor light-dark(). */
export function colorReader(host: HTMLElement): ColorOf {
  const probe = document.createElement("span");
  probe.hidden = true;
  host.append(probe);
  return (name, alpha = 1) => {
    probe.style.color = `color-mix(in srgb, var(${name}) ${alpha * 100}%, transparent)`;
    return getComputedStyle(probe).color;
  };
}

/** What every chart has: its size, its x axis, a crosshair shared with the others, zoom by a drag. */
export class Plot {
  private readonly host: HTMLElement;
  private readonly events: PlotEvents;
  private readonly resize: ResizeObserver;
  private plot: uPlot | undefined;
  private signature = "";
  private range: { from: number; to: number } | undefined;
  private again: () => void = () => {};

  constructor(host: HTMLElement, events: PlotEvents) {
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

  /** Draws data; a look with another signature builds the chart anew. */
  show(
    data: uPlot.AlignedData,
    range: { from: number; to: number } | undefined,
    signature: string,
    look: (color: ColorOf) => PlotLook,
  ): void {
    this.range = range;
    this.again = () => this.show(data, range, signature, look);
    if (this.plot && signature === this.signature) {
      this.plot.setData(data);
      return;
    }
    this.signature = signature;
    this.build(data, look);
  }

  /** Colours are read once a build. */
  rebuild(): void {
    this.signature = "";
    this.again();
  }

  destroy(): void {
    this.resize.disconnect();
    this.plot?.destroy();
    this.plot = undefined;
    this.host.replaceChildren();
  }

  private build(data: uPlot.AlignedData, looks: (color: ColorOf) => PlotLook): void {
    this.plot?.destroy();
    this.host.replaceChildren();
    const color = colorReader(this.host);
    const look = looks(color);
    const grid = { stroke: color("--line", 0.6), width: 1 };
    const axis: uPlot.Axis = {
      stroke: color("--ink-faint"),
      font: `11px ${getComputedStyle(this.host).fontFamily}`,
      grid,
      ticks: { ...grid, size: 4 },
      gap: 5,
    };
    const options: uPlot.Options = {
      ...this.size(),
      ms: 1,
      padding: [10, look.margin ?? 14, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: look.axis === "time", range: (_plot, min, max) => this.rangeX(min, max) },
        y: look.yScale,
      },
      axes: [
        { ...axis, ...xAxisOf(look.axis) },
        { ...axis, space: 34, size: axisWidth, ...look.yAxis, grid: { ...grid, ...look.yAxis.grid } },
      ],
      series: [{}, ...look.series],
      ...(look.bands && { bands: look.bands }),
      cursor: {
        y: false,
        points: { size: 7 },
        drag: { x: true, y: false, setScale: false, dist: 5 },
        sync: { key: `x:${look.axis}`, scales: ["x", null] },
        bind: {
          dblclick: () => () => {
            this.events.onReset();
            return null;
          },
        },
      },
      hooks: {
        setCursor: [(plot) => this.events.onCursor(cursorOf(plot))],
        setSelect: [(plot) => this.onSelect(plot)],
        ...(look.under && { drawAxes: [look.under] }),
        ...(look.over && { draw: [look.over] }),
      },
    };
    this.plot = new uPlot(options, data, this.host);
  }

  private rangeX(min: number | null, max: number | null): [number, number] {
    if (this.range) return [this.range.from, this.range.to];
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
}

function cursorOf(plot: uPlot): Cursor | undefined {
  const { idx, left } = plot.cursor;
  if (idx === null || idx === undefined || left === undefined || left < 0) return undefined;
  const x = plot.data[0][idx];
  return x === undefined ? undefined : { x, at: plot.posToVal(left, "x") };
}
