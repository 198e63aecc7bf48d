import {
  firstRound,
  shortWords,
  spanWords,
  ticksOf,
  toneOf,
  type Bar,
  type Lane,
  type Timeline,
} from "../timeline.ts";
import type { ColorOf } from "./plot.ts";

export const AXIS = 26;
const ROW = 20;
const BAR = 16;
const STATUS = 7;
const PADDING = 6;
const SERIES = 8;

export interface LaneBox {
  lane: Lane;
  top: number;
  height: number;
}

/** Where the lanes stand below each other. */
export function boxesOf(lanes: readonly Lane[]): LaneBox[] {
  let top = 0;
  return lanes.map((lane) => {
    const statuses = lane.statuses.length > 0 ? STATUS + (lane.rows > 0 ? 3 : 9) : 0;
    const height = 2 * PADDING + statuses + Math.max(lane.rows * ROW, lane.rows > 0 ? 0 : 6);
    const box = { lane, top, height };
    top += height;
    return box;
  });
}

export const heightOf = (boxes: readonly LaneBox[]): number => {
  const last = boxes.at(-1);
  return AXIS + (last ? last.top + last.height : 0);
};

/** Pixels of a bar in its lane's box. */
export function placeOf({ lane, top }: LaneBox, bar: Bar): { top: number; height: number } {
  if (bar.span.kind === "status") return { top: top + PADDING, height: STATUS };
  const statuses = lane.statuses.length > 0 ? STATUS + 3 : 0;
  return { top: top + PADDING + statuses + bar.row * ROW + (ROW - BAR) / 2, height: BAR };
}

export interface Scene {
  context: CanvasRenderingContext2D;
  width: number;
  height: number;
  /** Pixels for the names of lanes. */
  left: number;
  scroll: number;
  range: { from: number; to: number };
  timeline: Timeline;
  boxes: readonly LaneBox[];
  colors: ColorOf;
  font: string;
  selected: string | undefined;
  hovered: string | undefined;
}

/** Names have colours in the order in which they come, so that the first eight differ. */
export function coloursOf({ bars }: Timeline): Map<string, string> {
  const colours = new Map<string, string>();
  for (const { span } of bars)
    if (span.kind === "event" && !colours.has(span.name))
      colours.set(span.name, `--series-${(colours.size % SERIES) + 1}`);
  return colours;
}

export function draw(scene: Scene): void {
  const { context, width, height, left, scroll, boxes, colors, font } = scene;
  context.clearRect(0, 0, width, height);
  context.font = font;
  context.textBaseline = "middle";
  context.save();
  context.beginPath();
  context.rect(0, AXIS, width, height - AXIS);
  context.clip();
  const names = coloursOf(scene.timeline);
  const first = firstRound(scene.timeline.bars.map(({ span }) => span));
  const paint = painter(scene, names, first);
  for (const [i, box] of boxes.entries()) {
    const top = AXIS + box.top - scroll;
    if (top > height || top + box.height < AXIS) continue;
    if (i % 2 === 1) {
      context.fillStyle = colors("--sunken", 0.55);
      context.fillRect(0, top, width, box.height);
    }
    drawLane(scene, box, paint);
    context.fillStyle = colors("--ink-soft");
    const label = fitted(context, box.lane.label, left - 16);
    context.fillText(label, 10, top + box.height / 2 + 0.5);
  }
  context.restore();
  drawAxis(scene);
}

type Paint = (bar: Bar, x: number, wide: number, top: number, tall: number) => void;

function drawLane(scene: Scene, box: LaneBox, paint: Paint): void {
  const { context, left, width, range, scroll } = scene;
  context.save();
  context.beginPath();
  context.rect(left, AXIS, width - left, scene.height - AXIS);
  context.clip();
  const scale = (width - left) / (range.to - range.from);
  /** Right edges of what is drawn, by row: thousands that share a pixel are drawn once. */
  const drawn = new Map<number, number>();
  for (const bars of [box.lane.statuses, box.lane.bars])
    for (const bar of bars) {
      if (bar.from > range.to) break;
      if (bar.to < range.from) continue;
      const x = left + (bar.from - range.from) * scale;
      const end = Math.max(x + 2, left + (bar.to - range.from) * scale);
      const row = bar.span.kind === "status" ? -1 : bar.row;
      const isMarked = bar.span.id === scene.selected || bar.span.id === scene.hovered;
      if (end - x < 3 && end <= (drawn.get(row) ?? -Infinity) && !isMarked) continue;
      drawn.set(row, Math.max(end, drawn.get(row) ?? -Infinity));
      const { top, height } = placeOf(box, bar);
      // A canvas does not take bars of millions of pixels.
      const from = Math.max(x, left - 8);
      paint(bar, from, Math.min(end, width + 8) - from, AXIS + top - scroll, height);
    }
  context.restore();
}

function painter(scene: Scene, names: ReadonlyMap<string, string>, first: 0 | 1): Paint {
  const { context, colors } = scene;
  const fills = new Map<string, { soft: string; strong: string }>();
  const fillOf = (name: string) => {
    let fill = fills.get(name);
    if (!fill) fills.set(name, (fill = { soft: colors(name, 0.34), strong: colors(name) }));
    return fill;
  };
  const [ink, accent, paper] = [colors("--ink"), colors("--brass"), colors("--card")];
  return (bar, x, wide, top, tall) => {
    const { span, lacks } = bar;
    const name =
      span.kind === "status"
        ? `--${toneOf(span.name)}`
        : span.kind === "round"
          ? "--accent"
          : (names.get(span.name) ?? "--series-8");
    const { soft, strong } = fillOf(name);
    const isSelected = span.id === scene.selected;
    if (span.kind === "status") {
      context.fillStyle = strong;
      context.fillRect(x, top, Math.max(wide - 1, 2), tall);
    } else {
      context.fillStyle = soft;
      context.fillRect(x, top, Math.max(wide - (wide > 4 ? 1 : 0), 2), tall);
      context.fillStyle = strong;
      context.fillRect(x, top, Math.min(2, wide), tall);
      if (lacks === "end") dashed(context, strong, x, top, wide, tall);
      if (lacks === "start") {
        context.beginPath();
        context.moveTo(x + 2, top);
        context.lineTo(x - 5, top + tall / 2);
        context.lineTo(x + 2, top + tall);
        context.fill();
      }
      if (wide > 24) {
        context.fillStyle = ink;
        const seen = Math.max(x, scene.left);
        const room = x + wide - seen - 10;
        const label = fitted(context, spanWords(span, first), room, shortWords(span, first));
        if (label !== "") context.fillText(label, seen + 6, top + tall / 2 + 0.5);
      }
    }
    if (isSelected || span.id === scene.hovered) {
      context.lineWidth = isSelected ? 2 : 1;
      context.strokeStyle = isSelected ? accent : ink;
      context.strokeRect(x - 1, top - 1, Math.max(wide, 3) + 1, tall + 2);
      context.strokeStyle = paper;
    }
  };
}

/** It goes on, as far as anybody knows. */
function dashed(
  context: CanvasRenderingContext2D,
  colour: string,
  x: number,
  top: number,
  wide: number,
  tall: number,
): void {
  context.save();
  context.setLineDash([3, 3]);
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.strokeRect(x + 0.5, top + 0.5, Math.max(1, wide - 2), tall - 1);
  context.restore();
}

function drawAxis({ context, width, height, left, range, timeline, colors }: Scene): void {
  const scale = (width - left) / (range.to - range.from);
  context.fillStyle = colors("--card");
  context.fillRect(0, 0, width, AXIS);
  context.fillStyle = colors("--line");
  context.fillRect(0, AXIS - 1, width, 1);
  context.textAlign = "center";
  let free = left;
  for (const { at, label } of ticksOf(range.from, range.to, timeline.from, (width - left) / 90)) {
    const x = left + (at - range.from) * scale;
    context.fillStyle = colors("--line", 0.8);
    context.fillRect(Math.round(x), AXIS - 5, 1, 5);
    context.fillStyle = colors("--line", 0.45);
    context.fillRect(Math.round(x), AXIS, 1, height - AXIS);
    const half = context.measureText(label).width / 2;
    const middle = Math.min(Math.max(x, left + half), width - half - 4);
    if (middle - half < free) continue;
    free = middle + half + 10;
    context.fillStyle = colors("--ink-faint");
    context.fillText(label, middle, AXIS / 2 - 1);
  }
  context.textAlign = "left";
  context.fillStyle = colors("--line");
  context.fillRect(left - 1, AXIS, 1, height - AXIS);
}

const widths = new Map<string, number>();

/** As much of a text as there is room for; `short` in the place of a part. */
function fitted(context: CanvasRenderingContext2D, text: string, room: number, short = ""): string {
  let width = widths.get(text);
  if (width === undefined) {
    if (widths.size > 5000) widths.clear();
    widths.set(text, (width = context.measureText(text).width));
  }
  if (width <= room) return text;
  if (short !== "") return fitted(context, short, room);
  const length = Math.floor((text.length * room) / width) - 2;
  return length < 2 ? "" : `${text.slice(0, length)}…`;
}
