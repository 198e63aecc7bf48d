import type { SpanItem } from "../span/schema.ts";
import { readLabel, readMoment } from "./events.ts";
import { readPayload, type Payload } from "./payload.ts";
import { placeRun } from "./place.ts";
import { statusOfWord } from "./status.ts";
import type { FedmlContext, FedmlMessage, FedmlTopic } from "./topic.ts";
import { isLive } from "../run/schema.ts";

const MAX_EDGE = 250;
/** Edges whose last word is remembered. */
const MAX_EDGES = 10_000;

/** The lane of a federated server, whose number may be that of an edge, too. */
const SERVER = "server";

/**
 * How each edge of a run is, and its server, for its timeline: in FedML's own words, which are more than a run's statuses. Clients say
 * the same thing on several topics, and again; that is one span. (What it means for the run: status.ts.)
 */
export function edgeStatusTopics({ collector, writer }: FedmlContext): FedmlTopic[] {
  const lastByEdge = new Map<string, { word: string; started: number }>();

  async function receive(
    { scope, payload, received, match }: FedmlMessage,
    about: (fields: Payload) => Payload | undefined = (fields) => fields,
  ): Promise<void> {
    const fields = readPayload(payload);
    const said = about(fields);
    const item = said && readEdgeStatus(said, received);
    if (item === undefined) return;
    const run = await placeRun(collector, scope, fields.run_id ?? match[0]);
    const key = `${run} ${item.edge ?? ""}`;
    const last = lastByEdge.get(key);
    if (last?.word === item.name) return;
    // Words of one millisecond have an order.
    const isSame = last && last.started >= item.started && last.started < item.started + 1;
    const started = isSame ? last.started + 0.01 : item.started;
    lastByEdge.delete(key);
    lastByEdge.set(key, { word: item.name, started });
    if (lastByEdge.size > MAX_EDGES) lastByEdge.delete(lastByEdge.keys().next().value!);
    try {
      await writer.spans(run, [{ ...item, started, ...(item.ended !== undefined && { ended: started }) }]);
    } catch (error) {
      if (last) lastByEdge.set(key, last);
      else lastByEdge.delete(key);
      throw error;
    }
  }

  return [
    ...["fl_run/fl_client/mlops/status", "fl_client/mlops/status", "fl_client/+/status"].map(
      (filter): FedmlTopic => ({
        filter,
        // What stands for + here is an agent's name, and no run.
        receive: (message) => receive({ ...message, match: [] }),
      }),
    ),
    {
      filter: "flserver_agent/+/client_exit_train_with_exception",
      receive: (message) => receive(message, (fields) => ({ status: "FAILED", ...fields })),
    },
    {
      filter: "fl_server/+/status",
      receive: (message) => receive({ ...message, match: [] }, asServer),
    },
    ...["fl_run/fl_server/mlops/status", "fl_server/mlops/status"].map((filter): FedmlTopic => ({
      filter,
      // Whoever sends a run's own status on says it here, too, and is no server.
      receive: (message) => receive(message, (fields) => (hasNumber(fields) ? asServer(fields) : undefined)),
    })),
  ];
}

const hasNumber = ({ edge_id: edge }: Payload) => !["", "0", undefined].includes(readLabel(edge, MAX_EDGE));

const asServer = (fields: Payload): Payload => ({
  ...fields,
  edge_id: hasNumber(fields) ? `${SERVER} ${readLabel(fields.edge_id, MAX_EDGE - 10)}` : SERVER,
});

/** undefined: of a device that waits for work or has gone away, or no word that is known. */
export function readEdgeStatus(
  fields: Payload,
  received: number,
): (SpanItem & { started: number }) | undefined {
  const status = statusOfWord(fields.status);
  if (status === undefined || status === null) return undefined;
  const edge = readLabel(fields.edge_id, MAX_EDGE);
  const started = readMoment(fields.timestamp) ?? received;
  return {
    kind: "status",
    name: String(fields.status).trim().toUpperCase(),
    ...(edge !== undefined && { edge }),
    started,
    ...(!isLive(status) && { ended: started }),
  };
}
