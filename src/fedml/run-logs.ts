import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { queryLogs } from "../log/query.ts";
import type { LogLine } from "../log/schema.ts";
import { getRow, getRunDetail } from "../run/find.ts";
import type { Tokens } from "../token.ts";
import { requireReader, sees } from "./api-key.ts";
import { EDGE_CLIENT } from "./edges.ts";
import { parseFedmlLine } from "./log-line.ts";
import { answer, readCall, type FedmlHandler } from "./request.ts";
import { pageOf, textOf } from "./run-list.ts";
import { clockIn } from "./zone.ts";

const DEFAULT_PAGE = 1000;
const MAX_PAGE = 10_000;

/** log/getLogsFromCli: `fedml run logs`, with the keys that each generation of the client reads. */
export const runLogs =
  (collector: Collector, tokens: () => Tokens): FedmlHandler =>
  async (call) => {
    const { apiKey, runId, edgeId, pageNum, pageSize, timeZone } = await readCall(call);
    const access = requireReader(tokens(), apiKey);
    const run = textOf(runId);
    if (!sees(access, run))
      throw new CollectorError("forbidden", "A run's token reads that run alone.", {
        hint: "Use another: `binnacle token` prints the admin's.",
      });
    const { writers } = await getRunDetail(collector, await getRow(collector, run));
    const edges = writers.filter(({ client }) => client.startsWith(EDGE_CLIENT));
    const size = Math.min(Math.max(1, numberOf(pageSize) || DEFAULT_PAGE), MAX_PAGE);
    const page = Math.max(1, numberOf(pageNum));
    const edge = textOf(edgeId);
    const isAll = edge === "" || edge === "-1";
    const rank = edges.find(({ client }) => client === EDGE_CLIENT + edge)?.rank;
    const { total, lines } = isAll
      ? await pageOfRun(collector, run, page, size)
      : rank === undefined
        ? { total: 0, lines: [] }
        : await pageOfRank(collector, run, rank, page, size);
    const logs = linesOf(lines, timeZone);
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
        id: client.slice(EDGE_CLIENT.length),
        name: device,
        log_url: `${url}?rank=${rank}`,
      })),
    });
  };

interface Page {
  total: number;
  lines: LogLine[];
}

/** By the lines' numbers: any page takes as long as the first. */
async function pageOfRun(collector: Collector, run: string, page: number, size: number): Promise<Page> {
  const lines: LogLine[] = [];
  const end = page * size;
  for (let after = end - size; ;) {
    const found = await queryLogs(collector, run, { after, before: end + 1, limit: size });
    lines.push(...found.lines);
    if (found.next === null || found.next >= end || found.next <= after) return { total: found.total, lines };
    after = found.next;
  }
}

/** The lines of one device are to be counted first. */
async function pageOfRank(
  collector: Collector,
  run: string,
  rank: number,
  page: number,
  size: number,
): Promise<Page> {
  const lines: LogLine[] = [];
  let total = 0;
  for (let after: number | null = 0; after !== null;) {
    const found = await queryLogs(collector, run, { after, rank, limit: MAX_PAGE });
    for (const line of found.lines) {
      if (total >= (page - 1) * size && lines.length < size) lines.push(line);
      total++;
    }
    after = found.next;
  }
  return { total, lines };
}

/** As the platform shows them: with times of the reader's clock, and no line break at their end. */
function linesOf(lines: readonly LogLine[], timeZone: unknown): string[] {
  const clock = clockIn(timeZone);
  return lines.map(({ time, level, prefix, text }) => {
    const at = `[${clock(time)}]`;
    if (prefix === undefined) return `${at}${level === null ? "" : ` [${level}]`} ${text}`;
    const { writer, source } = parseFedmlLine(prefix);
    const rest = source === undefined ? "" : ` [${source}]`;
    return writer === undefined
      ? `${prefix}${text}`
      : `[${writer}] ${at} [${level ?? "INFO"}]${rest} ${text}`;
  });
}

const numberOf = (value: unknown): number =>
  typeof value === "number" || typeof value === "string" ? Math.floor(Number(value)) || 0 : 0;
