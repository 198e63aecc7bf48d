import type { LogLine, LogPage } from "../../log/schema.ts";
import { filterParams, type LogsView } from "../logs-view.ts";
import { isAbort, request } from "./http.ts";

/** Lines by place in the view, loaded as they come into sight. */
export interface LogSource {
  readonly length: number;
  /** What the status line says of it while it is being put together. */
  readonly note: string;
  at(index: number): LogLine | undefined;
  /** Lines [from, to) are in sight. */
  need(from: number, to: number): void;
  /** Where the line with this number is, or would be. */
  indexOf(line: number): number;
  /** Lines were added, `skipped` more before them that did not come along. */
  append(lines: LogLine[], total: number): void;
  close(): void;
}

export interface LogSourceEvents {
  /** Something in sight may have changed; `prepended` lines came before all others. */
  onChange(prepended: number): void;
  onProblem(problem: string): void;
}

/** Lines of a page. A line may be a megabyte long, so pages are no larger than a few screens. */
export const PAGE = 400;
/** Pages kept: some 160,000 lines. Those out of sight longest go first. */
const MAX_PAGES = 400;

/** The whole log: a line's place follows from its number. */
export class AllLines implements LogSource {
  readonly note = "";
  length: number;
  private readonly path: string;
  private readonly events: LogSourceEvents;
  private readonly pages = new Map<number, (LogLine | undefined)[]>();
  private readonly abort = new AbortController();
  private loading = 0;
  private wanted: [from: number, to: number] = [0, 0];

  constructor(path: string, first: LogPage, events: LogSourceEvents) {
    this.path = path;
    this.events = events;
    this.length = first.total;
    this.put(first.lines);
  }

  at(index: number): LogLine | undefined {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  indexOf(line: number): number {
    return line - 1;
  }

  private put(lines: LogLine[]): void {
    for (const line of lines) {
      const index = line.line - 1;
      const number = Math.floor(index / PAGE);
      let page = this.pages.get(number);
      if (!page) this.pages.set(number, (page = Array.from<LogLine | undefined>({ length: PAGE })));
      page[index % PAGE] = line;
    }
  }

  need(from: number, to: number): void {
    this.wanted = [from, to];
    for (let page = Math.floor(from / PAGE); page * PAGE < to; page++) this.touch(page);
    void this.load();
  }

  private touch(number: number): void {
    const page = this.pages.get(number);
    if (!page) return;
    this.pages.delete(number);
    this.pages.set(number, page);
  }

  /** One request at a time, always for what is in sight when the one before has come: a drag of the bar loads where it ends. */
  private async load(): Promise<void> {
    if (this.loading > 0) return;
    const first = this.firstMissing();
    if (first === undefined) return;
    this.loading++;
    try {
      const query = new URLSearchParams({ after: String(first), limit: String(PAGE) });
      const page = await request<LogPage>(`${this.path}/logs?${query}`, { signal: this.abort.signal });
      this.put(page.lines);
      this.fill(first, page);
      this.drop();
      this.length = Math.max(this.length, page.total);
      this.events.onChange(0);
    } catch (error) {
      if (isAbort(error)) return;
      this.events.onProblem((error as Error).message);
      return;
    } finally {
      this.loading--;
    }
    void this.load();
  }

  private firstMissing(): number | undefined {
    const [from, to] = this.wanted;
    for (let i = Math.max(0, from); i < Math.min(to, this.length); i++) if (!this.at(i)) return i;
    return undefined;
  }

  /** Numbers that the log does not have any more must not be asked for again and again. */
  private fill(first: number, { lines, next, total }: LogPage): void {
    const end = lines.at(-1)?.line ?? (next === null ? total : first + 1);
    for (let i = first; i < end; i++) {
      if (this.at(i)) continue;
      this.put([{ line: i + 1, time: 0, stream: "stdout", level: null, rank: 0, text: "" }]);
    }
  }

  private drop(): void {
    for (const number of this.pages.keys()) {
      if (this.pages.size <= MAX_PAGES) return;
      this.pages.delete(number);
    }
  }

  append(lines: LogLine[], total: number): void {
    this.put(lines);
    this.drop();
    this.length = Math.max(this.length, total);
    this.events.onChange(0);
  }

  close(): void {
    this.abort.abort();
  }
}

/** What a filter lets through: found from the end backwards, since the newest is what people look for. */
export class FilteredLines implements LogSource {
  private readonly path: string;
  private readonly view: LogsView;
  private readonly events: LogSourceEvents;
  private readonly abort = new AbortController();
  private lines: LogLine[] = [];
  private before: number | null;
  /** Last line number the filter has seen. */
  private scanned: number;
  private catching = false;

  static readonly MAX_LINES = 200_000;

  constructor(path: string, view: LogsView, first: LogPage, events: LogSourceEvents) {
    this.path = path;
    this.view = view;
    this.events = events;
    this.lines = first.lines;
    this.before = first.previous;
    this.scanned = first.total;
    void this.loadEarlier();
  }

  get length(): number {
    return this.lines.length;
  }

  get note(): string {
    if (this.before === null) return "";
    return this.lines.length >= FilteredLines.MAX_LINES ? "the newest of them" : "searching…";
  }

  at(index: number): LogLine | undefined {
    return this.lines[index];
  }

  need(): void {}

  indexOf(line: number): number {
    let low = 0;
    let high = this.lines.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.lines[middle]!.line < line) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private fetch(range: Record<string, string>): Promise<LogPage> {
    const query = filterParams(this.view, this.view.only);
    for (const [name, value] of Object.entries(range)) query.set(name, value);
    return request<LogPage>(`${this.path}/logs?${query}`, { signal: this.abort.signal });
  }

  private async loadEarlier(): Promise<void> {
    try {
      while (this.before !== null && this.lines.length < FilteredLines.MAX_LINES) {
        const page = await this.fetch({ before: String(this.before), limit: "2000" });
        this.lines = [...page.lines, ...this.lines];
        this.before = page.previous;
        this.events.onChange(page.lines.length);
      }
    } catch (error) {
      if (!isAbort(error)) this.events.onProblem((error as Error).message);
    }
  }

  /** New lines are asked for rather than tested here: there is one judge of what matches. */
  append(_lines: LogLine[], total: number): void {
    if (total > this.scanned && !this.catching) void this.catchUp();
  }

  private async catchUp(): Promise<void> {
    this.catching = true;
    try {
      let after: number | null = this.scanned;
      while (after !== null) {
        const page: LogPage = await this.fetch({ after: String(after), limit: "2000" });
        this.lines.push(...page.lines);
        this.scanned = page.next ?? page.total;
        after = page.next;
        this.events.onChange(0);
      }
    } catch (error) {
      if (!isAbort(error)) this.events.onProblem((error as Error).message);
    } finally {
      this.catching = false;
    }
  }

  close(): void {
    this.abort.abort();
  }
}
