import type { LogLine } from "../../log/schema.ts";
import { idOf, writeJson } from "./json.ts";

/** What the platform takes at once. */
const MAX_LINES = 1000;
/** Characters of text; one line alone may have more. */
const MAX_TEXT = 1024 * 1024;

/** Lines of one rank of a run. */
export interface Post {
  run: string;
  rank: number;
  lines: readonly LogLine[];
  /** When they were accepted, ms. */
  time: number;
}

/** In the order of the lines, as far as ranks let them be. */
export function* postsOf(run: string, all: readonly LogLine[], time: number): Generator<Post> {
  const byRank = Map.groupBy(all, ({ rank }) => rank);
  for (const [rank, lines] of byRank)
    for (let start = 0; start < lines.length;) {
      let end = start;
      for (let text = 0; end < lines.length && end - start < MAX_LINES; end++) {
        text += lines[end]!.text.length;
        if (end > start && text > MAX_TEXT) break;
      }
      yield { run, rank, lines: lines.slice(start, end), time };
      start = end;
    }
}

/** The body of POST /fedmlLogsServer/logs/update. A rank is an edge, as the client has it where nothing else says who it is. */
export function writePost({ run, rank, lines, time }: Post): string {
  const logs = lines.map((line) => `${writeLine(line)}\n`);
  const errors = lines.flatMap(({ level }, at) =>
    level === "ERROR" || level === "CRITICAL" ? [{ errLine: 0, errMsg: logs[at] }] : [],
  );
  return writeJson({
    run_id: idOf(run),
    edge_id: rank,
    logs,
    ...(errors.length > 0 && { errors }),
    create_time: time / 1000,
    update_time: time / 1000,
    created_by: String(rank),
    updated_by: String(rank),
    source: "train",
  });
}

/** [FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34.938608884] [INFO] [stdout:12:log] text. One that came so goes on as it was. */
export function writeLine({ line, time, stream, level, rank, text, prefix }: LogLine): string {
  if (prefix?.startsWith("[FedML-")) return `${prefix}${text.replaceAll("\n", " ")}`;
  const head = `[FedML-Client @device-id-${rank}] [${writeTime(time)}] [${level ?? "INFO"}] [${stream}:${line}:log]`;
  return `${head} ${text.replaceAll("\n", " ")}`;
}

/** UTC without a zone, and ns. */
function writeTime(time: number): string {
  const ms = Math.floor(time);
  const ns = Math.floor((time - ms) * 1e6);
  const fraction = String((((ms % 1000) + 1000) % 1000) * 1e6 + ns).padStart(9, "0");
  return `${new Date(ms).toUTCString().slice(0, -4)}.${fraction}`;
}
