/** Texts in files as people read them. Pure; what is shown is always text, never markup. */

export type TextKind = "json" | "table" | "text";

const delimiters: Record<string, string> = { csv: ",", tsv: "\t" };

const extensionOf = (path: string): string => /\.([^./]+)$/.exec(path)?.[1]?.toLowerCase() ?? "";

export function textKind(path: string): TextKind {
  const extension = extensionOf(path);
  if (extension === "json" || extension === "ipynb") return "json";
  return extension in delimiters ? "table" : "text";
}

export const delimiterOf = (path: string): string => delimiters[extensionOf(path)] ?? ",";

const MAX_DEPTH = 64;

/**
 * JSON with a line for each value, its numbers and strings as they were written: parsing would round large integers, and drop
 * keys that stand twice. undefined: it is none.
 */
export function prettyJson(text: string): string | undefined {
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  let result = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{[]\s*[}\]]|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (/^[{[]\s*[}\]]$/.test(token)) result += token[0]! + token.at(-1)!;
    else if (token === "{" || token === "[") {
      depth++;
      if (depth > MAX_DEPTH) return undefined;
      result += token + line();
    } else if (token === "}" || token === "]") {
      depth--;
      result += line() + token;
    } else if (token === ",") result += token + line();
    else result += token === ":" ? ": " : token;
  }
  return result;
}

export interface TextTable {
  head: string[];
  rows: string[][];
  /** Of the rows and columns that were read, not all are here. */
  hasMoreRows: boolean;
  hasMoreColumns: boolean;
}

export interface TableBounds {
  delimiter?: string;
  rows?: number;
  columns?: number;
  /** The text ends in the middle: its last row is left out. */
  isCut?: boolean;
}

/** RFC 4180, and what is written instead of it. The first row is the head. undefined: there is none. */
export function parseTable(
  text: string,
  { delimiter = ",", rows: maxRows = 200, columns: maxColumns = 50, isCut = false }: TableBounds = {},
): TextTable | undefined {
  const rows: string[][] = [];
  let row: string[] = [];
  let at = text.startsWith("\ufeff") ? 1 : 0;
  let hasMoreColumns = false;
  const add = (cell: string) => {
    if (row.length < maxColumns) row.push(cell);
    else hasMoreColumns = true;
  };
  while (at < text.length && rows.length <= maxRows + 1) {
    const quoted = text[at] === '"' ? quotedCell(text, at) : undefined;
    const plain = plainCell(text, quoted?.end ?? at, delimiter);
    add((quoted?.value ?? "") + plain.value);
    const end = text[plain.end];
    at = plain.end + 1;
    if (end === delimiter && at < text.length) continue;
    // A delimiter at the very end has an empty cell behind it.
    if (end === delimiter) add("");
    // An empty line is no row of one empty cell.
    const isEmpty = row.length === 1 && row[0] === "";
    if (!isEmpty && (end === "\n" || !isCut)) rows.push(row);
    row = [];
  }
  const [head, ...body] = rows;
  if (!head) return undefined;
  return { head, rows: body.slice(0, maxRows), hasMoreRows: body.length > maxRows || isCut, hasMoreColumns };
}

function plainCell(text: string, from: number, delimiter: string): { value: string; end: number } {
  let end = from;
  while (end < text.length && text[end] !== delimiter && text[end] !== "\n") end++;
  return { value: text.slice(from, end).replace(/\r$/, ""), end };
}

/** undefined: the quote is not one that ends, and so stands for itself. */
function quotedCell(text: string, from: number): { value: string; end: number } | undefined {
  let value = "";
  for (let at = from + 1; ;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) return undefined;
    value += text.slice(at, quote);
    if (text[quote + 1] !== '"') return { value, end: quote + 1 };
    value += '"';
    at = quote + 2;
  }
}

const MAX_LINES = 5000;
const MAX_LINE = 5000;

/** A text that a browser lays out without stopping: so many lines, none longer than that. */
export function boundText(text: string): { text: string; isCut: boolean } {
  let isCut = false;
  const lines = text.split("\n");
  if (lines.length > MAX_LINES) isCut = true;
  const kept = lines.slice(0, MAX_LINES).map((line) => {
    if (line.length <= MAX_LINE) return line;
    isCut = true;
    return `${line.slice(0, MAX_LINE).toWellFormed()}…`;
  });
  return { text: kept.join("\n"), isCut };
}
