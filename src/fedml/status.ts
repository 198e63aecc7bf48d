import type { Collector } from "../collector.ts";
import { advanceRun } from "../run/advance.ts";
import { createRun } from "../run/create.ts";
import { findRow } from "../run/find.ts";
import { finishRun } from "../run/finish.ts";
import { reopenRun } from "../run/reopen.ts";
import { isLive, type Run, type RunStatus } from "../run/schema.ts";
import { listLiveWriters } from "../run/writers.ts";
import { EDGE_CLIENT, edgeClient, reopenWithEdges } from "./edge-writer.ts";
import type { FedmlScope } from "./keys.ts";
import { readPayload, readText, type Payload } from "./payload.ts";
import { placeRun, runOf } from "./place.ts";
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

/** The writer that stands for a run's server or agent where it speaks beside a launched program. */
const SERVER_CLIENT = "fedml-server";
const MAX_REASON = 10_000;
/** Data is a sign of life of a run's edges, which say nothing while all is well; noted so often at most. */
const TOUCH_EVERY = 60_000;

/**
 * How runs and their edges are. An edge is a writer of its run, so that the run ends with the last of them and as badly as the worst;
 * what is said of the run itself ends it at once. Messages repeat and come out of order: what would lead back changes nothing.
 */
export function statusTopics({ collector, counts }: FedmlContext): FedmlTopic[] {
  touchEdges(collector);

  async function ofRun(scope: FedmlScope, fields: Payload, id: unknown): Promise<void> {
    const status = statusOfWord(fields.status);
    if (status === undefined) return counts.add("malformed");
    if (status === null) return;
    const isNew = collector.counters.find(runOf(scope, id)) === undefined;
    const run = await placeRun(collector, scope, id);
    if (!(await isOpen(run, SERVER_CLIENT))) return;
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
    const client = edgeClient(edge);
    // A process's first word comes before it knows its device: nobody would end that one.
    const isNobody = isLive(status) && (edge ?? null) === null;
    if (!(await isOpen(run, isNobody ? SERVER_CLIENT : client))) return;
    if (!isNobody) await join(run, client);
    if (isLive(status)) {
      await advanceRun(collector, run, status, isNew);
      return;
    }
    // Its first word about its end counts.
    const lives = (await listLiveWriters(collector, run)).some((writer) => writer.client === client);
    if (lives)
      await finishRun(collector, run, { client, status: status as End, ...reasonOf(status, fields) });
  }

  /** Whether it goes on. One that was only taken for dead does, as it shows, and so does a client of it. */
  async function isOpen(run: string, client: string): Promise<boolean> {
    const row = await findRow(collector, run);
    if (!row || row.deleted || (!isLive(row.status) && !row.presumed)) return false;
    const reopen = client === SERVER_CLIENT ? reopenWithEdges : reopenRun;
    if (collector.presence.contact(run, client) || row.presumed) await reopen(collector, run, client);
    return true;
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
function touchEdges({ bus, presence, now }: Collector): void {
  const touchedByRun = new Map<string, number>();
  bus.subscribe(({ kind, run, data }) => {
    if (kind === "run.deleted" || kind === "run.pruned") return void touchedByRun.delete(run);
    if (kind === "run.changed" && !isLive((data as Run).status)) return void touchedByRun.delete(run);
    if (kind !== "metric.appended" && kind !== "log.appended") return;
    if (now() - (touchedByRun.get(run) ?? 0) < TOUCH_EVERY) return;
    const edges = presence.writers(run).filter((client) => client.startsWith(EDGE_CLIENT));
    if (edges.length > 0) touchedByRun.set(run, now());
    for (const client of edges) presence.contact(run, client);
  });
}
