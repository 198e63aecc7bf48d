import { ScrollScale } from "../scroll-scale.ts";
import { createOpenRow, createPlaceholder, createRow, type RowOptions } from "./log-row.ts";
import type { LogSource } from "./log-source.ts";

const ROW = 20;
const PADDING = 8;
/** Rows kept ready above and below what is seen. */
const OVERSCAN = 30;

export interface ViewportEvents {
  /** Whether the view now moves on with new lines. */
  onFollow(following: boolean): void;
  /** Rows were put on the page. */
  onRender(): void;
}

/** The rows in sight of a log of any length. */
export class LogViewport {
  private readonly scroller: HTMLElement;
  private readonly space: HTMLElement;
  private readonly rows: HTMLElement;
  private readonly events: ViewportEvents;
  private readonly scale = new ScrollScale();
  private readonly elements = new Map<string, HTMLElement>();
  private readonly observer: ResizeObserver;
  private source: LogSource | undefined;
  private open: { text: string; stream: "stdout" | "stderr" }[] = [];
  private options: RowOptions = { time: false, ranks: false };
  private marked: number | undefined;
  private expectedTop = -1;
  private frame: number | undefined;
  following = true;

  constructor(scroller: HTMLElement, events: ViewportEvents) {
    this.scroller = scroller;
    this.events = events;
    this.space = document.createElement("div");
    this.space.className = "log-space";
    this.rows = document.createElement("div");
    this.rows.className = "log-rows";
    this.space.append(this.rows);
    scroller.replaceChildren(this.space);
    scroller.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.observer = new ResizeObserver(() => this.update());
    this.observer.observe(scroller);
  }

  setSource(source: LogSource): void {
    this.source = source;
    this.elements.clear();
    this.rows.replaceChildren();
    this.update();
  }

  setOptions(options: RowOptions): void {
    this.options = options;
    this.elements.clear();
    this.rows.replaceChildren();
    this.update();
  }

  setOpen(open: { text: string; stream: "stdout" | "stderr" }[]): void {
    this.open = open;
    this.update();
  }

  /** Marks a line, as a match or as the target of a link. */
  mark(line: number | undefined): void {
    this.marked = line;
    for (const row of this.rows.children) this.paintMark(row as HTMLElement);
  }

  get firstVisible(): number {
    return Math.floor(Math.max(0, this.scale.top - PADDING) / ROW);
  }

  /** Lines were added; `prepended` of them before all others, which must not move what is read. */
  update(prepended = 0): void {
    if (!this.source) return;
    const before = this.scale.top;
    const total = (this.source.length + this.open.length) * ROW + 2 * PADDING;
    this.scale.resize(total, this.scroller.clientHeight);
    this.space.style.height = `${this.scale.height}px`;
    this.moveTo(this.following ? this.scale.bottom : before + prepended * ROW);
  }

  scrollTo(index: number): void {
    this.setFollowing(false);
    this.moveTo(PADDING + index * ROW - this.scroller.clientHeight / 3);
  }

  scrollBy(pixels: number): void {
    if (pixels < 0) this.setFollowing(false);
    this.moveTo(this.scale.top + pixels);
    if (this.scale.top >= this.scale.bottom - 1) this.setFollowing(true);
  }

  follow(): void {
    this.setFollowing(true);
    this.moveTo(this.scale.bottom);
  }

  private setFollowing(following: boolean): void {
    if (this.following === following) return;
    this.following = following;
    this.events.onFollow(following);
  }

  private moveTo(top: number): void {
    const real = this.scale.goTo(top);
    if (Math.abs(this.scroller.scrollTop - real) >= 1) this.scroller.scrollTop = real;
    // What the browser made of it, which may be rounded.
    this.expectedTop = this.scroller.scrollTop;
    this.schedule();
  }

  private onScroll(): void {
    const real = this.scroller.scrollTop;
    // Our own moves come back as events, too.
    if (Math.abs(real - this.expectedTop) < 1) return this.schedule();
    const wanted = this.scale.scrolled(real);
    this.expectedTop = wanted;
    if (Math.abs(wanted - real) >= 1) {
      this.scroller.scrollTop = wanted;
      this.expectedTop = this.scroller.scrollTop;
    }
    this.setFollowing(this.scale.top >= this.scale.bottom - ROW);
    this.schedule();
  }

  private schedule(): void {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.render();
    });
  }

  private render(): void {
    const { source } = this;
    if (!source) return;
    const height = this.scroller.clientHeight;
    const from = Math.max(0, this.firstVisible - OVERSCAN);
    const to = Math.min(
      source.length + this.open.length,
      this.firstVisible + Math.ceil(height / ROW) + OVERSCAN,
    );
    source.need(from, Math.min(to, source.length));
    const kept = new Set<string>();
    let place: ChildNode | null = this.rows.firstChild;
    for (let index = from; index < to; index++) {
      const line = source.at(index);
      const open = this.open[index - source.length];
      const key = line ? `${line.line}` : open ? `open-${open.stream}-${open.text}` : `missing-${index}`;
      kept.add(key);
      let row = this.elements.get(key);
      if (!row) {
        row = line
          ? createRow(line, this.options)
          : open
            ? createOpenRow(open.text, open.stream)
            : createPlaceholder(index);
        this.paintMark(row);
        this.elements.set(key, row);
      }
      // Rows that stay are not touched: a selection in them lives on.
      if (row === place) place = row.nextSibling;
      else this.rows.insertBefore(row, place);
    }
    for (const [key, row] of this.elements) {
      if (kept.has(key)) continue;
      row.remove();
      this.elements.delete(key);
    }
    const top = PADDING + from * ROW - this.scale.top + this.scale.realTop;
    this.rows.style.transform = `translateY(${top}px)`;
    this.events.onRender();
  }

  private paintMark(row: HTMLElement): void {
    row.classList.toggle("marked", this.marked !== undefined && row.dataset["line"] === String(this.marked));
  }
}
