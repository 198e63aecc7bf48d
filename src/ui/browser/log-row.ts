import type { LogLine } from "../../log/schema.ts";
import { parseAnsi, type AnsiSpan } from "../ansi.ts";
import { formatCount, formatTime } from "../format.ts";

export interface RowOptions {
  time: boolean;
  ranks: boolean;
}

/** A line as an element. Text nodes alone: nothing in a log is ever markup. */
export function createRow(line: LogLine, { time, ranks }: RowOptions): HTMLElement {
  const row = document.createElement("div");
  row.className = "log-row";
  row.dataset["line"] = String(line.line);
  if (line.stream === "stderr") row.dataset["stream"] = "stderr";
  if (line.level) row.dataset["level"] = line.level;
  const number = document.createElement("a");
  number.className = "log-number";
  number.href = `#L${line.line}`;
  number.textContent = String(line.line);
  number.tabIndex = -1;
  row.append(number);
  if (time)
    row.append(cell("log-time", line.time > 0 ? formatTime(line.time, { millis: true }).slice(11) : ""));
  if (ranks) row.append(cell("log-rank", `[${line.rank}]`));
  const text = createText(line.text);
  if (line.prefix) text.title = line.prefix.trim();
  row.append(text);
  return row;
}

/** A line that is still being rewritten: it has no number yet. */
export function createOpenRow(text: string, stream: "stdout" | "stderr"): HTMLElement {
  const row = document.createElement("div");
  row.className = "log-row open";
  row.dataset["stream"] = stream;
  row.append(cell("log-number", "…"), createText(text));
  return row;
}

export function createPlaceholder(index: number): HTMLElement {
  const row = document.createElement("div");
  row.className = "log-row missing";
  row.append(cell("log-number", String(index + 1)));
  return row;
}

function cell(className: string, text: string): HTMLElement {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function createText(text: string): HTMLElement {
  const { spans, left } = parseAnsi(text);
  const element = document.createElement("span");
  element.className = "log-text";
  for (const span of spans) element.append(createSpan(span));
  if (left > 0) element.append(cell("log-left", ` … ${formatCount(left)} more characters in the download`));
  return element;
}

function createSpan(span: AnsiSpan): Node {
  const { text, color, background, ...marks } = span;
  const { inverse, ...rest } = marks;
  const classes = Object.keys(rest);
  if (!color && !background && !inverse && classes.length === 0) return document.createTextNode(text);
  const element = document.createElement("span");
  element.textContent = text;
  paint(element, "color", inverse ? (background ?? "paper") : color);
  paint(element, "background", inverse ? (color ?? "ink") : background);
  if (inverse) element.classList.add("solid");
  if (classes.length > 0) element.classList.add(...classes.map((name) => `ansi-${name}`));
  return element;
}

function paint(element: HTMLElement, property: "color" | "background", color: string | undefined): void {
  if (color === undefined) return;
  // Through the object model, which the content security policy allows, unlike a style attribute.
  if (color.startsWith("#")) element.style.setProperty(property, color);
  else element.classList.add(`${property === "color" ? "fg" : "bg"}-${color}`);
}
