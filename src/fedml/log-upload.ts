import { CollectorError } from "../error.ts";
import { queryLogs } from "../log/query.ts";
import type { LogItem } from "../log/schema.ts";
import { inTurn } from "../run/change.ts";
import { createEdges } from "./edges.ts";
import type { FedmlScope } from "./keys.ts";
import { createCaptured } from "./log-captured.ts";
import { parseFedmlLine } from "./log-line.ts";
import { createRepeats, knownOf } from "./log-repeat.ts";
import { readPayload, type Payload } from "./payload.ts";
import { placeRun } from "./place.ts";
import { answerText, readCall, type FedmlHandler } from "./request.ts";
import type { FedmlContext, FedmlTopic } from "./topic.ts";

/** Clients send 1000. More would hold up everybody else while they are looked at. */
const MAX_LINES = 10_000;
const MAX_REPEATED = 1000;
/** Characters of all clients that may wait for their turn. */
const MAX_WAITING = 64 * 1024 * 1024;

export interface LogUpload {
  /** POST /fedmlLogsServer/logs/update. */
  handler: FedmlHandler;
  /** The same body by MQTT. */
  topics: FedmlTopic[];
}

/** Lines that FedML's client reads from its log file and sends each three seconds. */
export function logUpload({ collector, writer, counts, keys }: FedmlContext): LogUpload {
  const edges = createEdges(collector);
  const repeats = createRepeats();
  const captured = createCaptured(collector.bus);
  let waiting = 0;

  async function take(scope: FedmlScope, fields: Payload, id: unknown): Promise<void> {
    const given = fields["logs"];
    if (!Array.isArray(given) || given.length > MAX_LINES)
      throw new CollectorError(
        Array.isArray(given) ? "too-large" : "invalid",
        `A batch of logs wants a list 'logs' of at most ${MAX_LINES} lines.`,
        { hint: "Send what FedML's client sends." },
      );
    const lines = given.filter((line): line is string => typeof line === "string");
    if (lines.length < given.length) counts.add("malformed", given.length - lines.length);
    const run = await placeRun(collector, scope, id);
    const edge = edgeOf(fields);
    const rank = await edges.rankOf(run, edge);
    const key = `${run}\n${edge}`;
    const size = lines.reduce((sum, { length }) => sum + length, 0);
    if (waiting > 0 && waiting + size > MAX_WAITING)
      throw new CollectorError("busy", "More lines come from FedML clients than can be stored.", {
        hint: "They are taken again as soon as the disk has caught up.",
      });
    waiting += size;
    // One after the other: a client whose connection was cut sends again while the first are still on their way to disk.
    const stored = inTurn(collector, key, async () => {
      const known = repeats.known(key, lines) ?? knownOf(await storedLines(run, rank), lines);
      if (known > 0) counts.add("replayed", known);
      const printed = new Set<string>();
      const fresh = withoutPrinted(lines.slice(known), (line) => {
        const wasPrinted = captured.has(run, line) && !printed.has(line);
        if (wasPrinted) printed.add(line);
        return wasPrinted;
      });
      await writer.lines(run, itemsOf(fresh, `/fedml/${keys.secretOf(scope)}`), rank);
      // Not before: what was refused comes again.
      for (const line of printed) captured.forget(run, line);
      repeats.took(key, lines);
    });
    await stored.finally(() => (waiting -= size));
  }

  /** The last ones, as they came: of a client that did not hear that they are here, as we were ended before. */
  async function storedLines(run: string, rank: number): Promise<string[]> {
    const { lines } = await queryLogs(collector, run, { rank, limit: MAX_REPEATED });
    return lines.map(({ prefix = "", text }) => `${prefix}${text}`);
  }

  return {
    async handler(call) {
      const body = await readCall(call);
      await take(call.scope, body, body["run_id"]);
      return answerText("null");
    },
    topics: [
      {
        filter: "fedml_slave/fedml_master/logs/+",
        receive({ scope, payload, match }) {
          const fields = readPayload(payload);
          return take(scope, fields, fields["run_id"] ?? match[0]);
        },
      },
    ],
  };
}

/** Which device they are of; of an endpoint, which replica. */
function edgeOf({ replica_id: replica, edge_id: edge }: Payload): string {
  const id = replica ?? edge;
  return typeof id === "string" || typeof id === "number" ? String(id).slice(0, 100) || "0" : "0";
}

/** A line that was printed, and what belongs to it: a traceback is sent with its line's first brackets, which nobody printed. */
function withoutPrinted(lines: readonly string[], wasPrinted: (line: string) => boolean): readonly string[] {
  let isPrinted = false;
  return lines.filter((line) => {
    isPrinted = wasPrinted(line) || (isPrinted && parseFedmlLine(line).source === undefined);
    return !isPrinted;
  });
}

/** Lines taken apart. One that brings no time is of the time of the line before it. */
function itemsOf(lines: readonly string[], address: string): LogItem[] {
  const items: LogItem[] = [];
  let last: number | undefined;
  for (const given of lines) {
    // "The original log url is …": whoever reads it must not get a key by it.
    const line = given.includes(address) ? given.replaceAll(address, "") : given;
    const item: LogItem = parseFedmlLine(line);
    if (item.time !== undefined) last = item.time;
    else if (last !== undefined) item.time = last;
    items.push(item);
  }
  return items;
}
