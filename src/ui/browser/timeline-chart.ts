import type { Bar, Timeline } from "../timeline.ts";
import { onTheme } from "./frame.ts";
import { colorReader } from "./plot.ts";
import { AXIS, boxesOf, draw, heightOf, placeOf, type LaneBox } from "./timeline-draw.ts";

export interface Range {
  from: number;
  to: number;
}

export interface TimelineEvents {
  /** By the mouse, or the keyboard; undefined: none. */
  onSelect(bar: Bar | undefined): void;
  /** undefined: all of it. */
  onRange(range: Range | undefined): void;
}

const MAX_HEIGHT = 560;
/** ms; below this nobody sees more. */
const MIN_RANGE = 0.5;
const ZOOM = 2;
/** The part of what is shown that a span takes when one sees what it is. */
const LEGIBLE = 0.05;

/** The lanes of a run on a canvas as large as what is seen of them, which follows the scroll bar. */
export class TimelineChart {
  readonly #host: HTMLElement;
  readonly #events: TimelineEvents;
  readonly #canvas = document.createElement("canvas");
  readonly #space = document.createElement("div");
  readonly #band = document.createElement("div");
  readonly #tip = document.createElement("div");
  readonly #colors;
  #timeline: Timeline = { lanes: [], bars: [], from: 0, to: 1 };
  #boxes: LaneBox[] = [];
  #range: Range | undefined;
  #selected: Bar | undefined;
  #hovered: Bar | undefined;
  #words: (bar: Bar) => string = () => "";
  #drag: { x: number; pointer: number; moved: boolean } | undefined;
  #isDue = false;
  readonly #end = new AbortController();

  constructor(host: HTMLElement, events: TimelineEvents) {
    this.#host = host;
    this.#events = events;
    this.#colors = colorReader(host);
    this.#canvas.setAttribute("aria-hidden", "true");
    this.#space.className = "timeline-space";
    this.#band.className = "timeline-band";
    this.#tip.className = "timeline-tip";
    this.#band.hidden = this.#tip.hidden = true;
    host.append(this.#canvas, this.#space, this.#band, this.#tip);
    const { signal } = this.#end;
    const resize = new ResizeObserver(() => this.#schedule());
    resize.observe(host);
    const offTheme = onTheme(() => this.#schedule());
    signal.addEventListener("abort", () => {
      resize.disconnect();
      offTheme();
    });
    host.addEventListener("scroll", () => this.#schedule(), { passive: true, signal });
    host.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    host.addEventListener("pointermove", (event) => this.#move(event), { signal });
    host.addEventListener("pointerup", (event) => this.#up(event), { signal });
    host.addEventListener("pointercancel", () => this.#endDrag(), { signal });
    host.addEventListener("pointerleave", () => this.#hover(undefined), { signal });
    host.addEventListener("dblclick", () => this.zoomTo(undefined), { signal });
    host.addEventListener("keydown", (event) => this.#key(event), { signal });
  }

  destroy(): void {
    this.#end.abort();
    this.#host.replaceChildren();
  }

  set(timeline: Timeline, words: (bar: Bar) => string): void {
    this.#timeline = timeline;
    this.#words = words;
    this.#boxes = boxesOf(timeline.lanes);
    const id = this.#selected?.span.id;
    if (id !== undefined) this.#selected = timeline.bars.find(({ span }) => span.id === id);
    const height = heightOf(this.#boxes);
    this.#host.style.height = `${Math.min(height, MAX_HEIGHT)}px`;
    this.#space.style.height = `${height}px`;
    this.#schedule();
  }

  /** Shows a span, wherever it is. */
  reveal(bar: Bar): void {
    this.#selected = bar;
    const { from, to } = this.#shown();
    if (bar.to < from || bar.from > to) {
      const half = (to - from) / 2;
      this.zoomTo({ from: (bar.from + bar.to) / 2 - half, to: (bar.from + bar.to) / 2 + half });
    }
    const box = this.#boxOf(bar);
    if (box) {
      const { top, height } = placeOf(box, bar);
      const { scrollTop, clientHeight } = this.#host;
      if (top < scrollTop) this.#host.scrollTop = top - 10;
      else if (AXIS + top + height > scrollTop + clientHeight)
        this.#host.scrollTop = AXIS + top + height - clientHeight + 10;
    }
    this.#schedule();
  }

  /** Shows a span, as large as one sees what it is: beside one that goes on for hours most are a hair. */
  zoomIn(bar: Bar): void {
    const { from, to } = this.#shown();
    const wide = bar.to - bar.from;
    if (wide > 0 && wide < (to - from) * LEGIBLE)
      this.zoomTo({ from: bar.from - 2 * wide - MIN_RANGE, to: bar.to + 2 * wide + MIN_RANGE });
    this.reveal(bar);
  }

  zoomTo(range: Range | undefined): void {
    const { from, to } = this.#timeline;
    if (!range) this.#range = undefined;
    else {
      const width = Math.min(Math.max(range.to - range.from, MIN_RANGE), to - from);
      const start = Math.min(Math.max(range.from, from), to - width);
      this.#range = width >= to - from ? undefined : { from: start, to: start + width };
    }
    this.#events.onRange(this.#range);
    this.#schedule();
  }

  /** In (above 1) or out, around what is selected, else the middle. */
  zoom(factor: number): void {
    const { from, to } = this.#shown();
    const bar = this.#selected;
    const isSeen = bar && bar.to >= from && bar.from <= to;
    const middle = isSeen ? Math.min(Math.max((bar.from + bar.to) / 2, from), to) : (from + to) / 2;
    this.zoomTo({ from: middle - (middle - from) / factor, to: middle + (to - middle) / factor });
  }

  #shown(): Range {
    const { from, to } = this.#timeline;
    const pad = (to - from) * 0.01;
    return this.#range ?? { from: from - pad, to: to + pad };
  }

  #left(): number {
    return Math.min(150, Math.max(76, this.#host.clientWidth * 0.18));
  }

  #schedule(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  #draw(): void {
    const { clientWidth: width, clientHeight: height, scrollTop } = this.#host;
    if (width === 0) return;
    const ratio = devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.#canvas.width !== w || this.#canvas.height !== h) {
      this.#canvas.width = w;
      this.#canvas.height = h;
      this.#canvas.style.width = `${width}px`;
      this.#canvas.style.height = `${height}px`;
    }
    const context = this.#canvas.getContext("2d")!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw({
      context,
      width,
      height,
      left: this.#left(),
      scroll: scrollTop,
      range: this.#shown(),
      timeline: this.#timeline,
      boxes: this.#boxes,
      colors: this.#colors,
      font: `12px ${getComputedStyle(this.#host).fontFamily}`,
      selected: this.#selected?.span.id,
      hovered: this.#hovered?.span.id,
    });
  }

  /** Pixels within what is seen. */
  #point({ clientX, clientY }: MouseEvent): { x: number; y: number } {
    const { left, top } = this.#host.getBoundingClientRect();
    return { x: clientX - left - this.#host.clientLeft, y: clientY - top - this.#host.clientTop };
  }

  #timeAt(x: number): number {
    const { from, to } = this.#shown();
    const left = this.#left();
    return from + ((x - left) / (this.#host.clientWidth - left)) * (to - from);
  }

  #barAt({ x, y }: { x: number; y: number }): Bar | undefined {
    if (y < AXIS || x < this.#left()) return undefined;
    const at = y - AXIS + this.#host.scrollTop;
    const box = this.#boxes.find(({ top, height }) => at >= top && at < top + height);
    if (!box) return undefined;
    const time = this.#timeAt(x);
    const slack = this.#timeAt(x + 4) - time;
    let nearest: Bar | undefined;
    let distance = slack;
    for (const bars of [box.lane.bars, box.lane.statuses])
      for (const bar of bars) {
        if (bar.from > time + slack) break;
        const { top, height } = placeOf(box, bar);
        if (at < top - 2 || at > top + height + 2) continue;
        const off = time < bar.from ? bar.from - time : time > bar.to ? time - bar.to : 0;
        if (off <= distance) [nearest, distance] = [bar, off];
      }
    return nearest;
  }

  #boxOf({ span }: Bar): LaneBox | undefined {
    return this.#boxes.find(({ lane }) =>
      (span.kind === "status" ? lane.statuses : lane.bars).some((bar) => bar.span.id === span.id),
    );
  }

  #down(event: PointerEvent): void {
    const { x } = this.#point(event);
    if (event.button !== 0 || x < this.#left() || x > this.#host.clientWidth) return;
    this.#drag = { x, pointer: event.pointerId, moved: false };
  }

  #move(event: PointerEvent): void {
    const point = this.#point(event);
    const drag = this.#drag;
    if (!drag || event.pointerType === "touch") return this.#hover(this.#barAt(point), point);
    if (!drag.moved && Math.abs(point.x - drag.x) < 5) return;
    if (!drag.moved) this.#host.setPointerCapture(drag.pointer);
    drag.moved = true;
    this.#hover(undefined);
    const [from, to] = [Math.min(drag.x, point.x), Math.max(drag.x, point.x)];
    this.#band.hidden = false;
    this.#band.style.left = `${Math.max(from, this.#left())}px`;
    this.#band.style.width = `${Math.min(to, this.#host.clientWidth) - Math.max(from, this.#left())}px`;
    this.#band.style.top = `${this.#host.scrollTop + AXIS}px`;
    this.#band.style.height = `${this.#host.clientHeight - AXIS}px`;
  }

  #up(event: PointerEvent): void {
    const drag = this.#drag;
    this.#endDrag();
    if (!drag) return;
    const point = this.#point(event);
    if (drag.moved) {
      const [from, to] = [Math.min(drag.x, point.x), Math.max(drag.x, point.x)];
      return this.zoomTo({ from: this.#timeAt(Math.max(from, this.#left())), to: this.#timeAt(to) });
    }
    this.#select(this.#barAt(point));
  }

  #endDrag(): void {
    this.#drag = undefined;
    this.#band.hidden = true;
  }

  #hover(bar: Bar | undefined, point = { x: 0, y: 0 }): void {
    this.#tip.hidden = bar === undefined;
    if (bar) {
      this.#tip.textContent = this.#words(bar);
      const right = this.#host.clientWidth - this.#tip.offsetWidth - 8;
      this.#tip.style.left = `${Math.max(4, Math.min(point.x + 14, right))}px`;
      const below = point.y + 18 + this.#tip.offsetHeight < this.#host.clientHeight;
      this.#tip.style.top = `${this.#host.scrollTop + (below ? point.y + 18 : Math.max(0, point.y - 12 - this.#tip.offsetHeight))}px`;
    }
    if (bar === this.#hovered) return;
    this.#hovered = bar;
    this.#schedule();
  }

  #select(bar: Bar | undefined): void {
    this.#selected = bar;
    this.#events.onSelect(bar);
    if (bar) this.reveal(bar);
    this.#schedule();
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = this.#actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  readonly #actions: Record<string, () => void> = {
    ArrowRight: () => this.#walk(1),
    ArrowLeft: () => this.#walk(-1),
    ArrowDown: () => this.#walkLanes(1),
    ArrowUp: () => this.#walkLanes(-1),
    Home: () => this.#select(this.#inLane()[0]),
    End: () => this.#select(this.#inLane().at(-1)),
    "+": () => this.zoom(ZOOM),
    "=": () => this.zoom(ZOOM),
    "-": () => this.zoom(1 / ZOOM),
    "0": () => this.zoomTo(undefined),
    Enter: () => this.#selected && this.zoomIn(this.#selected),
    Escape: () => this.#select(undefined),
  };

  /** Of the lane that the selection stands in, in the order of time. */
  #inLane(): Bar[] {
    const box = (this.#selected && this.#boxOf(this.#selected)) ?? this.#boxes[0];
    return box ? [...box.lane.statuses, ...box.lane.bars].sort((a, b) => a.from - b.from) : [];
  }

  #walk(by: number): void {
    const bars = this.#inLane();
    const at = bars.findIndex(({ span }) => span.id === this.#selected?.span.id);
    this.#select(bars[at < 0 ? 0 : Math.min(bars.length - 1, Math.max(0, at + by))]);
  }

  /** To the span of the next lane that is nearest in time. */
  #walkLanes(by: number): void {
    const selected = this.#selected;
    if (!selected) return this.#walk(1);
    const at = this.#boxes.indexOf(this.#boxOf(selected)!);
    const box = this.#boxes[Math.min(this.#boxes.length - 1, Math.max(0, at + by))];
    if (!box || this.#boxes[at] === box) return;
    let nearest: Bar | undefined;
    for (const bar of [...box.lane.statuses, ...box.lane.bars])
      if (!nearest || Math.abs(bar.from - selected.from) < Math.abs(nearest.from - selected.from))
        nearest = bar;
    this.#select(nearest);
  }
}
