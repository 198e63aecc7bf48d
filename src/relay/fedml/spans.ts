import type { SpanRow } from "../../span/schema.ts";
import { idOf, writeJson } from "./json.ts";
import type { Message } from "./message.ts";

/** Events by their two ends, federated rounds when they are over, edges by their words. */
export function* spanMessages(run: string, rows: readonly SpanRow[]): Generator<Message> {
  for (const row of rows) {
    if (row.kind === "event") yield* eventMessages(run, row);
    else if (row.kind === "round") yield* roundMessages(run, row);
    else yield* statusMessages(run, row);
  }
}

function* eventMessages(run: string, { name, value, edge, started, ended }: SpanRow): Generator<Message> {
  const about = { run_id: idOf(run), edge_id: edgeOf(edge), event_name: name, event_value: value };
  const topic = "mlops/events";
  if (started !== null) yield { topic, payload: writeJson({ ...about, started_time: Math.floor(started) }) };
  if (ended !== null) yield { topic, payload: writeJson({ ...about, ended_time: Math.floor(ended) }) };
}

function* roundMessages(run: string, { round, total, started, ended }: SpanRow): Generator<Message> {
  // Only what is over is told.
  if (ended === null || round === null) return;
  const running = started === null ? undefined : Math.round((ended - started) * 10) / 10_000;
  yield {
    topic: "fl_server/mlops/training_roundx",
    payload: writeJson({
      run_id: idOf(run),
      round_index: round,
      total_rounds: total ?? undefined,
      running_time: running,
    }),
  };
}

function* statusMessages(run: string, row: SpanRow): Generator<Message> {
  const server = SERVER.exec(row.edge);
  // A server's last word would end the run before its records are there; that the run has ended is told by itself.
  if (server) {
    if (row.ended === null && server[1] !== undefined)
      yield statusMessage("fl_run/fl_server/mlops/status", run, server[1], row);
  } else yield statusMessage("fl_run/fl_client/mlops/status", run, row.edge, row);
}

/** The lane of a server, which FedML knows by its number. */
const SERVER = /^server(?: (\d+))?$/;

const statusMessage = (topic: string, run: string, edge: string, { name, started }: SpanRow): Message => ({
  topic,
  payload: writeJson({
    edge_id: edgeOf(edge),
    run_id: idOf(run),
    status: name,
    timestamp: started === null ? undefined : Math.floor(started),
  }),
});

const edgeOf = (edge: string) => (edge === "" ? 0 : idOf(edge));
