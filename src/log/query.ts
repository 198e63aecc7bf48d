import type { Collector } from "../collector.ts";
import { levelMask, levelBit, sizeOf } from "../store/log-chunk.ts";
import { compilePattern } from "./pattern.ts";
import type { LogLine, LogPage, QueryLogs } from "./schema.ts";

/** A search gives what it has found after this long; `next` or `previous` says where to go on. */
const BUDGET_MS = 1500;
/** So does a page of so many characters, whatever its limit: 10,000 lines may be 10 GB. */
const MAX_PAGE_SIZE = 8 * 1024 * 1024;
/** And lets others have their turn this often. */
const SLICE_MS = 8;

/** A page of a run's lines: the first after `after`, else the last before `before`, else the last of all. */
export async function queryLogs(collector: Collector, run: string, query: QueryLogs): Promise<LogPage> {
  collector.counters.get(run);
  const matches = createFilter(query);
  const backwards = query.after === undefined;
  const { lines, reached, exhausted } = backwards
    ? await scanBackwards(collector, run, query, matches)
    : await scanForwards(collector, run, query, matches);
  const total = collector.logs.total(run);
  const first = backwards ? reached : query.after! + 1;
  const last = backwards ? (query.before ?? total + 1) - 1 : reached;
  return {
    run,
    total,
    lines,
    next: (backwards ? last >= total : exhausted) ? null : last,
    previous: first <= 1 || (backwards && exhausted) ? null : first,
    open: collector.logs.open.get(run),
  };
}

interface Scan {
  lines: LogLine[];
  /** Number of the last line looked at. */
  reached: number;
  /** No line is left beyond it. */
  exhausted: boolean;
}

async function scanForwards(
  { logs }: Collector,
  run: string,
  query: QueryLogs,
  matches: (line: LogLine) => boolean,
): Promise<Scan> {
  const page = createPage(query.limit);
  const { lines } = page;
  const clock = createClock();
  let reached = query.after!;
  for (;;) {
    const piece = logs.after(run, reached, query);
    if (!piece) return { lines, reached: Math.max(reached, logs.total(run)), exhausted: true };
    for (const line of piece) {
      if (line.line <= reached) continue;
      if (query.before !== undefined && line.line >= query.before) return { lines, reached, exhausted: true };
      reached = line.line;
      if (!matches(line)) continue;
      page.add(line);
      if (page.isFull) return { lines, reached, exhausted: reached >= logs.total(run) };
    }
    if (await clock.isOver()) return { lines, reached, exhausted: false };
  }
}

async function scanBackwards(
  { logs }: Collector,
  run: string,
  query: QueryLogs,
  matches: (line: LogLine) => boolean,
): Promise<Scan> {
  const page = createPage(query.limit);
  const { lines } = page;
  const clock = createClock();
  let reached = query.before ?? Number.MAX_SAFE_INTEGER;
  for (;;) {
    const piece = logs.before(run, reached, query);
    if (!piece) return { lines: lines.reverse(), reached: 1, exhausted: true };
    for (let index = piece.length - 1; index >= 0; index--) {
      const line = piece[index]!;
      if (line.line >= reached) continue;
      reached = line.line;
      if (!matches(line)) continue;
      page.add(line);
      if (page.isFull) return { lines: lines.reverse(), reached, exhausted: reached <= 1 };
    }
    if (await clock.isOver()) return { lines: lines.reverse(), reached, exhausted: false };
  }
}

function createPage(limit: number) {
  const lines: LogLine[] = [];
  let size = 0;
  return {
    lines,
    get isFull() {
      return lines.length >= limit || size >= MAX_PAGE_SIZE;
    },
    add(line: LogLine) {
      lines.push(line);
      size += sizeOf(line);
    },
  };
}

function createFilter({ level, stream, rank, since, grep }: QueryLogs): (line: LogLine) => boolean {
  const mask = level === undefined ? ~0 : levelMask(level);
  const pattern = grep === undefined ? undefined : compilePattern(grep);
  return (line) =>
    (levelBit(line.level) & mask) !== 0 &&
    (stream === undefined || line.stream === stream) &&
    (rank === undefined || line.rank === rank) &&
    (since === undefined || line.time >= since) &&
    (pattern === undefined || pattern(line.text));
}

function createClock() {
  const end = performance.now() + BUDGET_MS;
  let slice = performance.now() + SLICE_MS;
  return {
    async isOver(): Promise<boolean> {
      if (performance.now() < slice) return false;
      await new Promise((resolve) => setImmediate(resolve));
      slice = performance.now() + SLICE_MS;
      return slice > end;
    },
  };
}
