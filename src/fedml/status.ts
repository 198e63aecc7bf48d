import type { Collector } from "../collector.ts";
import { advanceRun } from "../run/advance.ts";
import { createRun } from "../run/create.ts";
import { findRow } from "../run/find.ts";
import { finishRun } from "../run/finish.ts";
import { reopenRun } from "../run/reopen.ts";
import { isLive, type RunStatus } from "../run/schema.ts";
import { listLiveWriters } from "../run/writers.ts";
import { readPayload, readText, type Payload } from "./payload.ts";
import { placeRun, runOf, type FedmlScope } from "./place.ts";
import type { FedmlContext, FedmlTopic } from "./topic.ts";

/** FedML's words for how a run, or an edge in it, is. null: it says nothing about the run. */
export const STATUS_BY_WORD: Readonly<Record<string, RunStatus | null>> = {
  NOT_STARTED: "QUEUED",
  PRE_QUEUE: "QUEUED",
  CLUSTER_QUEUE: "QUEUED",
  QUEUED: "QUEUED",
  BLOCKED: "QUEUED",
  LAUNCHED: "STARTING",
  PROVISIONING: "STARTING",
  UPGRADING: "STARTING",
  INITIALIZING: "STARTING",
  STARTING: "STARTING",
  TRAINING: "RUNNING",
  RUNNING: "RUNNING",
  STOPPING: "STOPPING",
  ABANDONED: "KILLED",
  KILLED: "KILLED",
  ERROR: "FAILED",
  EXCEPTION: "FAILED",
  INVALID: "FAILED",
  FAILED: "FAILED",
  FINISHED: "FINISHED",
  /** Of devices that wait for work, or went away: a run whose edge falls silent may go on. */
  IDLE: null,
  OFFLINE: null,
  UNDETERMINED: null,
};

export const statusOfWord = (word: unknown): RunStatus | null | undefined => {
  const name = typeof word === "string" ? word.trim().toUpperCase() : "";
  return Object.hasOwn(STATUS_BY_WORD, name) ? STATUS_BY_WORD[name] : undefined;
};

/** The writer that stands for an edge of a run; for a run's server or agent where it speaks beside a launched program. */
export const EDGE_CLIENT = "fedml-edge-";
const edgeClient = (edge: unknown) =>
  `${EDGE_CLIENT}${
    String(edge ?? 0)
      .replace(/[^A-Za-z0-9._-]/g, "_")
      .slice(0, 80) || "0"
  }`;
const SERVER_CLIENT = "fedml-server";
const MAX_REASON = 10_000;
/** Data is a sign of life of a run's edges, which say nothing while all is well; noted so often at most. */
const TOUCH_EVERY = 60_000;

/**
 * How runs and their edges are. An edge is a writer of its run, so that the run ends with the last of them and as badly as the worst;
 * what is said of the run itself ends it at once. Messages repeat and come out of order: what would lead back changes nothing.
 */
export function statusTopics({ collector, counts }: FedmlContext): FedmlTopic[] {
  const touch = touchEdges(collector);

  async function ofRun(scope: FedmlScope, fields: Payload, id: unknown): Promise<void> {
    const status = statusOfWord(fields.status);
    if (status === undefined) return counts.add("malformed");
    if (status === null) return;
    const isNew = collector.counters.find(runOf(scope, id)) === undefined;
    const run = await placeRun(collector, scope, id);
    if (!(await isOpen(run))) return;
    if (isLive(status)) return void (await advanceRun(collector, run, status, isNew));
    const end = { status: status as End, ...reasonOf(status, fields) };
    // Whoever launched the program sees how it ends, and has the last word.
    const launched = (await listLiveWriters(collector, run)).some(({ role }) => role === "launch");
    if (launched) await join(run, SERVER_CLIENT);
    await finishRun(collector, run, launched ? { ...end, client: SERVER_CLIENT } : end);
  }

  async function ofEdge(scope: FedmlScope, fields: Payload, id: unknown, edge: unknown): Promise<void> {
    const status = statusOfWord(fields.status);
    if (status === undefined) return counts.add("malformed");
    if (status === null || status === "STOPPING") return;
    const isNew = collector.counters.find(runOf(scope, id)) === undefined;
    const run = await placeRun(collector, scope, id);
    if (!(await isOpen(run))) return;
    const client = edgeClient(edge);
    // A process's first word comes before it knows its device: nobody would end that one.
    const isNobody = isLive(status) && (edge ?? null) === null;
    if (!isNobody) await join(run, client);
    if (isLive(status)) {
      if (!isNobody) touch(run, client);
      await advanceRun(collector, run, status, isNew);
      return;
    }
    // Its first word about its end counts.
    const lives = (await listLiveWriters(collector, run)).some((writer) => writer.client === client);
    if (lives)
      await finishRun(collector, run, { client, status: status as End, ...reasonOf(status, fields) });
  }

  /** Whether it goes on; one that was only taken for dead does, as it shows. */
  async function isOpen(run: string): Promise<boolean> {
    const row = await findRow(collector, run);
    if (!row || row.deleted) return false;
    if (!isLive(row.status) && row.presumed) await reopenRun(collector, run, SERVER_CLIENT);
    return isLive(row.status) || row.presumed;
  }

  const join = (run: string, client: string) =>
    createRun(collector, { id: run, writer: { client, role: "client", rank: 0 } });

  return [
    ...["fl_run/fl_server/mlops/status", "fl_server/mlops/status", "fl_server/+/status"].map(
      (filter): FedmlTopic => ({
        filter,
        receive({ scope, payload }) {
          const fields = readPayload(payload);
          return ofRun(scope, fields, fields.run_id);
        },
      }),
    ),
    {
      filter: "master_agent/slave_agent/job_status/+",
      receive({ scope, payload, match }) {
        const fields = readPayload(payload);
        return ofRun(scope, fields, fields.run_id ?? match[0]);
      },
    },
    ...["fl_run/fl_client/mlops/status", "fl_client/mlops/status", "fl_client/+/status"].map(
      (filter): FedmlTopic => ({
        filter,
        receive({ scope, payload }) {
          const fields = readPayload(payload);
          return ofEdge(scope, fields, fields.run_id, fields.edge_id);
        },
      }),
    ),
    {
      filter: "flserver_agent/+/client_exit_train_with_exception",
      receive({ scope, payload, match }) {
        const fields = readPayload(payload);
        return ofEdge(scope, { status: "FAILED", ...fields }, fields.run_id ?? match[0], fields.edge_id);
      },
    },
  ];
}

type End = "FINISHED" | "FAILED" | "KILLED";

/** Why, in the client's words where it has some. */
function reasonOf(status: RunStatus, { msg, status: word }: Payload): { reason?: string } {
  if (status === "FINISHED") return {};
  return { reason: readText(msg, MAX_REASON) ?? `FedML reported ${String(word).trim().toUpperCase()}.` };
}

/** Notes for presence that a run's edges live as long as data of it comes. */
function touchEdges({ bus, presence, now }: Collector): (run: string, client: string) => void {
  const edgesByRun = new Map<string, { clients: Set<string>; at: number }>();
  bus.subscribe(({ kind, run }) => {
    if (kind === "run.deleted" || kind === "run.pruned") return void edgesByRun.delete(run);
    if (kind !== "metric.appended" && kind !== "log.appended") return;
    const edges = edgesByRun.get(run);
    if (!edges || now() - edges.at < TOUCH_EVERY) return;
    edges.at = now();
    for (const client of edges.clients) presence.contact(run, client);
  });
  return (run, client) => {
    const edges = edgesByRun.get(run) ?? { clients: new Set(), at: 0 };
    if (edges.clients.size < 10_000) edges.clients.add(client);
    edgesByRun.set(run, edges);
  };
}
