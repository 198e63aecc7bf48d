import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { queryLogs } from "../log/query.ts";
import type { LogLine, LogPage } from "../log/schema.ts";
import { getRow, getRunDetail } from "../run/find.ts";
import type { Tokens } from "../token.ts";
import { requireReader, sees } from "./api-key.ts";
import { LOG_CLIENT, logClientOf } from "./edges.ts";
import { parseFedmlLine } from "./log-line.ts";
import { createLogRanks, placeOf, type RankLines } from "./log-ranks.ts";
import { createLogView } from "./log-view.ts";
import { answer, readCall, type FedmlHandler } from "./request.ts";
import { pageOf, textOf } from "./run-list.ts";
import { clockIn } from "./zone.ts";

const DEFAULT_PAGE = 1000;
const MAX_PAGE = 10_000;

/** log/getLogsFromCli: `fedml run logs`, with the keys that each generation of the client reads. */
export function runLogs(collector: Collector, tokens: () => Tokens): FedmlHandler {
  const ranks = createLogRanks(collector);
  return async (call) => {
    const { apiKey, runId, edgeId, pageNum, pageSize, timeZone } = await readCall(call);
    const access = requireReader(tokens(), apiKey);
    const run = textOf(runId);
    if (!sees(access, run))
      throw new CollectorError("forbidden", "A run's token reads that run alone.", {
        hint: "Use another: `binnacle token` prints the admin's.",
      });
    const { writers } = await getRunDetail(collector, await getRow(collector, run));
    const edges = writers.filter(({ client }) => client.startsWith(LOG_CLIENT));
    const size = Math.min(Math.max(1, numberOf(pageSize) || DEFAULT_PAGE), MAX_PAGE);
    const page = Math.max(1, numberOf(pageNum));
    const edge = textOf(edgeId);
    const isAll = edge === "" || edge === "-1";
    const rank = edges.find(({ client }) => client === logClientOf(edge))?.rank;
    const clock = clockIn(timeZone);
    const view = createLogView();
    const show = (line: LogLine) => view.add(textOfLine(line, clock));
    const first = (page - 1) * size;
    const total = isAll
      ? await showRun(collector, run, first, size, show)
      : rank === undefined
        ? 0
        : await showRank(collector, run, rank, await ranks.find(run, rank), first, size, show);
    const logs = view.lines;
    const url = `${pageOf(call, run)}/logs`;
    return answer({
      total_num: total,
      totalSize: total,
      total_pages: Math.ceil(total / size),
      totalPages: Math.ceil(total / size),
      current_page: page,
      pageNum: page,
      logs,
      logList: logs,
      log_full_url: url,
      devices: edges.map(({ client, device, rank }) => ({
        id: client.slice(LOG_CLIENT.length),
        name: device,
        log_url: `${url}?rank=${rank}`,
      })),
    });
  };
}

type Show = (line: LogLine) => void;

/** By the lines' numbers: any page takes as long as the first. Resolves with how many the run has. */
async function showRun(
  collector: Collector,
  run: string,
  first: number,
  size: number,
  show: Show,
): Promise<number> {
  const end = first + size;
  for (let after = first; ;) {
    const found = await queryLogs(collector, run, { after, before: end + 1, limit: size });
    found.lines.forEach(show);
    if (found.next === null || found.next >= end || found.next <= after) return found.total;
    after = found.next;
  }
}

async function showRank(
  collector: Collector,
  run: string,
  rank: number,
  ranked: RankLines,
  first: number,
  size: number,
  show: Show,
): Promise<number> {
  const start = placeOf(ranked, first);
  let left = start.skip + size;
  let { skip } = start;
  for (let after: number | null = start.after; after !== null && left > 0;) {
    const query = { after, before: ranked.end + 1, rank, limit: Math.min(left, MAX_PAGE) };
    const found: LogPage = await queryLogs(collector, run, query);
    for (const line of found.lines.slice(skip)) show(line);
    skip = Math.max(0, skip - found.lines.length);
    left -= found.lines.length;
    after = found.next;
  }
  return ranked.total;
}

/** As the platform shows it: with its time by the reader's clock, and no line break at its end. */
function textOfLine({ time, level, prefix, text }: LogLine, clock: (time: number) => string): string {
  const at = `[${clock(time)}]`;
  if (prefix === undefined) return `${at}${level === null ? "" : ` [${level}]`} ${text}`;
  const { writer, source } = parseFedmlLine(prefix);
  const rest = source === undefined ? "" : ` [${source}]`;
  return writer === undefined ? `${prefix}${text}` : `[${writer}] ${at} [${level ?? "INFO"}]${rest} ${text}`;
}

const numberOf = (value: unknown): number =>
  typeof value === "number" || typeof value === "string" ? Math.floor(Number(value)) || 0 : 0;
