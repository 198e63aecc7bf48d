import type { LogPage } from "../../log/schema.ts";
import { filterParams, type LogsView } from "../logs-view.ts";
import { isAbort, request } from "./http.ts";

export const MAX_MATCHES = 100_000;

/** Lines that match, by number, found from the start while the search goes on. */
export class LogSearch {
  readonly lines: number[] = [];
  complete = false;
  private scanned = 0;
  private running = false;
  private readonly abort = new AbortController();
  private readonly path: string;
  private readonly view: LogsView;
  private readonly onChange: (problem?: string) => void;

  constructor(path: string, view: LogsView, onChange: (problem?: string) => void) {
    this.path = path;
    this.view = view;
    this.onChange = onChange;
    void this.run();
  }

  /** Goes on where it stopped: after new lines. */
  async run(): Promise<void> {
    if (this.running) return;
    this.running = true;
    try {
      let after: number | null = this.scanned;
      while (after !== null && this.lines.length < MAX_MATCHES) {
        const query = filterParams(this.view, true);
        query.set("after", String(after));
        query.set("limit", "2000");
        const page: LogPage = await request<LogPage>(`${this.path}/logs?${query}`, {
          signal: this.abort.signal,
        });
        for (const { line } of page.lines) this.lines.push(line);
        after = page.next;
        this.scanned = page.next ?? page.total;
        this.complete = after === null;
        this.onChange();
      }
    } catch (error) {
      if (!isAbort(error)) this.onChange((error as Error).message);
    } finally {
      this.running = false;
    }
  }

  /** Place among the matches of the first one at or after `line`; of the last one where there is none. */
  indexFrom(line: number): number {
    const index = this.lines.findIndex((match) => match >= line);
    return index < 0 ? this.lines.length - 1 : index;
  }

  close(): void {
    this.abort.abort();
  }
}

interface Highlights {
  set(name: string, highlight: unknown): void;
  delete(name: string): void;
}

/** Marks matches in the rows on the page, by ranges: no element is added to what a person may be selecting. */
export function highlight(rows: Element, search: string): void {
  const registry = (CSS as { highlights?: Highlights }).highlights;
  if (!registry) return;
  registry.delete("match");
  const pattern = toPattern(search);
  if (!pattern) return;
  const ranges: Range[] = [];
  for (const text of rows.querySelectorAll(".log-text")) {
    collect(text, pattern, ranges);
    if (ranges.length > 2000) break;
  }
  if (ranges.length > 0) registry.set("match", new Highlight(...ranges));
}

/** A repeated group can take this browser's engine for ever; the collector's is another, which finds its lines all the same. */
function toPattern(search: string): RegExp | undefined {
  if (!search || /\)[*+{]/.test(search)) return undefined;
  const source = search.replace(/^\(\?i\)/, "");
  try {
    return new RegExp(source, source === search ? "g" : "gi");
  } catch {
    return undefined;
  }
}

function collect(element: Element, pattern: RegExp, ranges: Range[]): void {
  const content = element.textContent ?? "";
  pattern.lastIndex = 0;
  const nodes: { node: Text; start: number }[] = [];
  let start = 0;
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode() as Text | null; node; node = walker.nextNode() as Text | null) {
    nodes.push({ node, start });
    start += node.length;
  }
  for (let count = 0; count < 100; count++) {
    const match = pattern.exec(content);
    if (!match) return;
    if (match[0] === "") {
      pattern.lastIndex++;
      continue;
    }
    const range = new Range();
    const from = nodes.findLast((piece) => piece.start <= match.index)!;
    const end = match.index + match[0].length;
    const to = nodes.findLast((piece) => piece.start < end)!;
    range.setStart(from.node, match.index - from.start);
    range.setEnd(to.node, end - to.start);
    ranges.push(range);
  }
}
