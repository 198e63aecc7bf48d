import type { Connection } from "../client/typescript/connection.ts";
import { requestJson } from "../client/typescript/http.ts";
import { LogLevel, type LogLine, type LogPage } from "../log/schema.ts";
import { connectionFlags, defineCommand, runFlag } from "./command.ts";
import { connect, currentRun, findRun, runPath } from "./connect.ts";
import { UsageError } from "./error.ts";
import { printFedmlLogs } from "./fedml-logs.ts";
import { follow } from "./follow.ts";
import { print } from "./output.ts";
import { outputBytes, terminalText } from "./terminal.ts";
import { localTime } from "./text.ts";
import { pointInTime, wholeNumber } from "./values.ts";

export const command = defineCommand({
  name: "run logs",
  summary: "Print a run's output, or follow it until the run ends.",
  usage: "[ID]",
  maxPositionals: 1,
  flags: {
    ...runFlag,
    follow: { type: "boolean", short: "f", help: "go on until the run ends" },
    lines: { type: "string", short: "n", value: "LINES", help: "only the last so many lines" },
    level: {
      type: "string",
      value: "LEVEL",
      help: "this level and worse: DEBUG, INFO, WARNING, ERROR, CRITICAL",
    },
    grep: { type: "string", value: "RE", help: "only lines this regular expression matches" },
    since: { type: "string", value: "TIME", help: "only lines from then on: 10m, 2h, 2026-01-31T12:00:00Z" },
    rank: { type: "string", value: "R", help: "only lines of this rank" },
    stream: { type: "string", value: "NAME", help: "only stdout or only stderr" },
    timestamps: { type: "boolean", short: "t", help: "put the time before each line" },
    json: { type: "boolean", help: "print one JSON object a line" },
    "page-num": {
      type: "string",
      aliases: ["pn", "page_num"],
      value: "N",
      help: "print this page",
      hidden: true,
    },
    "page-size": {
      type: "string",
      aliases: ["ps", "page_size"],
      value: "N",
      help: "lines a page",
      hidden: true,
    },
    all: { type: "boolean", short: "a", aliases: ["need_all_logs"], help: "print all lines", hidden: true },
    ...connectionFlags,
  },
  examples: [
    ["run logs -rid 483 -f", "print the output so far and follow it"],
    ["run logs -rid 483 -n 50 --level WARNING", "print the last 50 warnings and errors"],
    ["run logs -rid 483 --grep 'loss=nan' --since 2h", "search the last two hours"],
  ],
  async run({ values, positionals, program }) {
    const query = {
      level: levelOf(values.level),
      grep: values.grep,
      since: pointInTime(values.since, "--since"),
      rank: wholeNumber(values.rank, "--rank"),
      stream: streamOf(values.stream),
    };
    const last = wholeNumber(values.lines, "--lines");
    const pageSize = wholeNumber(values["page-size"], "--page-size");
    const pageNumber = wholeNumber(values["page-num"], "--page-num");
    const connection = connect(values);
    const run = await findRun(connection, values["run-id"] ?? positionals[0] ?? currentRun(), "run logs");

    if (program === "fedml" && !values.follow && !values.json)
      return printFedmlLogs(connection, run, { pageNumber, pageSize, all: values.all });

    const show = (lines: LogLine[]) => print(formatLines(lines, values));
    const cursor = { line: 0 };
    if (last !== undefined) cursor.line = await showLast(connection, run.id, query, last, show);
    else if (pageSize) return showPage(connection, run.id, query, pageSize, pageNumber ?? 1, show);
    if (values.follow)
      await follow(
        () => connect(values),
        run.id,
        (from) => showAfter(from, run.id, query, cursor, show),
      );
    else await showAfter(connection, run.id, query, cursor, show);
    return 0;
  },
});

type LogFilter = Record<"level" | "grep" | "since" | "rank" | "stream", string | number | undefined>;
type Show = (lines: LogLine[]) => Promise<void>;

const PAGE = 5000;

const getPage = (connection: Connection, run: string, query: Record<string, string | number | undefined>) =>
  requestJson<LogPage>(connection, runPath(run, "/logs"), { query });

/** Prints what follows the cursor, which moves with every page: if the collector goes away, nothing is printed twice. */
async function showAfter(
  connection: Connection,
  run: string,
  filter: LogFilter,
  cursor: { line: number },
  show: Show,
): Promise<void> {
  for (;;) {
    const page = await getPage(connection, run, { ...filter, after: cursor.line, limit: PAGE });
    if (page.lines.length > 0) await show(page.lines);
    const lastLine = page.lines.at(-1)?.line ?? 0;
    // At the end, lines that the filter left out count as seen: a follower must not search them again each time.
    cursor.line = Math.max(cursor.line, lastLine, page.next ?? page.total);
    if (page.next === null) return;
  }
}

/** The last lines that match, oldest first. They are gathered page by page from the end, and so bounded by `count`. */
async function showLast(
  connection: Connection,
  run: string,
  filter: LogFilter,
  count: number,
  show: Show,
): Promise<number> {
  const pages: LogLine[][] = [];
  let before: number | undefined;
  let seen: number | undefined;
  let missing = count;
  do {
    const page = await getPage(connection, run, {
      ...filter,
      before,
      limit: Math.max(1, Math.min(missing, PAGE)),
    });
    // Of the first page only: what arrived since then is not shown yet.
    seen ??= page.total;
    const lines = missing === 0 ? [] : page.lines;
    pages.unshift(lines);
    missing -= lines.length;
    before = page.previous ?? undefined;
  } while (before !== undefined && missing > 0);
  for (const lines of pages) if (lines.length > 0) await show(lines);
  return seen;
}

async function showPage(
  connection: Connection,
  run: string,
  filter: LogFilter,
  size: number,
  number: number,
  show: Show,
): Promise<number> {
  let after: number | null = (Math.max(1, number) - 1) * size;
  for (let missing = size; missing > 0 && after !== null;) {
    const page: LogPage = await getPage(connection, run, {
      ...filter,
      after,
      limit: Math.min(missing, PAGE),
    });
    await show(page.lines);
    missing -= page.lines.length;
    after = page.next;
  }
  return 0;
}

interface Format {
  json: boolean;
  timestamps: boolean;
}

function formatLines(lines: LogLine[], { json, timestamps }: Format): Uint8Array | string {
  if (json) return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  const text = lines.map((line) => `${timestamps ? `${localTime(line.time)} ` : ""}${line.text}\n`).join("");
  return process.stdout.isTTY ? terminalText(text) : outputBytes(text);
}

function levelOf(text: string | undefined): LogLevel | undefined {
  if (text === undefined) return undefined;
  const level = LogLevel.safeParse(text.toUpperCase() === "WARN" ? "WARNING" : text.toUpperCase());
  if (level.success) return level.data;
  throw new UsageError(`--level wants one of ${LogLevel.options.join(", ")}, not '${text}'.`, "run logs");
}

function streamOf(text: string | undefined): string | undefined {
  if (text === undefined || text === "stdout" || text === "stderr") return text;
  throw new UsageError(`--stream wants stdout or stderr, not '${text}'.`, "run logs");
}
