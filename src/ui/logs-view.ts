import type { LogLevel, LogStream } from "../log/schema.ts";

/** Worst last. Said here again: the schemas would bring zod into the browser, where its use of eval is refused. */
export const levels = [
  "DEBUG",
  "INFO",
  "WARNING",
  "ERROR",
  "CRITICAL",
] as const satisfies readonly LogLevel[];
const streams = ["stdout", "stderr"] as const satisfies readonly LogStream[];

/** What the URL of the logs tab says. */
export interface LogsView {
  search: string;
  /** Show matching lines alone, rather than walk from match to match. */
  only: boolean;
  level: LogLevel | "";
  stream: LogStream | "";
  rank: string;
  time: boolean;
}

export function parseLogsView(params: URLSearchParams): LogsView {
  const level = params.get("level");
  const stream = params.get("stream");
  const rank = params.get("rank") ?? "";
  return {
    search: (params.get("search") ?? "").slice(0, 1000),
    only: params.get("only") === "1",
    level: levels.find((known) => known === level) ?? "",
    stream: streams.find((known) => known === stream) ?? "",
    rank: /^\d{1,7}$/.test(rank) ? rank : "",
    time: params.get("time") === "1",
  };
}

export function logsQuery(view: LogsView): string {
  const params = filterParams(view, view.search !== "");
  params.delete("grep");
  if (view.search) params.set("search", view.search);
  if (view.only) params.set("only", "1");
  if (view.time) params.set("time", "1");
  const query = params.toString();
  return query ? `?${query}` : "";
}

/** The filters as GET …/logs wants them. */
export function filterParams(view: LogsView, grep: boolean): URLSearchParams {
  const params = new URLSearchParams();
  if (view.level) params.set("level", view.level);
  if (view.stream) params.set("stream", view.stream);
  if (view.rank) params.set("rank", view.rank);
  if (grep && view.search) params.set("grep", grepOf(view));
  return params;
}

/** Whether lines are left out: then they are found by filter, not by number. */
export const isFiltered = (view: LogsView): boolean =>
  view.level !== "" || view.stream !== "" || view.rank !== "" || (view.only && view.search !== "");

/** Small letters find capitals too; a capital means itself. */
export const grepOf = ({ search }: LogsView): string => (/\p{Lu}/u.test(search) ? search : `(?i)${search}`);
