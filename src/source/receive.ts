import { inArtifactTurn } from "../artifact/change.ts";
import type { Collector } from "../collector.ts";
import { deviceOfStream } from "../entry.ts";
import { CollectorError } from "../error.ts";
import type {
  Accepted,
  Batch,
  Frame,
  HistoryAccepted,
  HistoryBatch,
  HistoryPart,
  Part,
  Rejected,
  Session,
} from "../relay/contract.ts";
import { prepared } from "../store/prepared.ts";
import type { Write } from "../store/journal-rows.ts";
import { acceptBatch, acceptHistory, checkSession, type SourceState } from "./accept.ts";
import { findOwnSource } from "./greet.ts";
import { readFrame, type Apply } from "./kinds.ts";
import { beginPiece, endPiece, type Piece } from "./plan-data.ts";
import { renewRun } from "./plan-run.ts";
import { Plan, Renew, unknownRun, type PlannedRun } from "./plan.ts";
import { bad } from "./refuse.ts";
import { commitWrites, inSourceTurn, refusal, writeOfState, type Brought, type Held } from "./state.ts";

/** Who sends, by its token, and what its clock says. */
export interface Sender {
  id: string;
  name: string;
  /** ms; undefined: it did not say. */
  sentAt?: number | undefined;
}

/** The others are told when these are gone: an answer is bounded. */
const MAX_REJECTED = 200;

interface ReadFrame {
  frame: Frame;
  apply: Apply;
}

/** All of a batch is stored, with the cursor that says so, or nothing of it is. */
export function receiveBatch(collector: Collector, sender: Sender, batch: Batch): Promise<Accepted> {
  return inSourceTurn(collector, sender.id, async () => {
    const held = findOwnSource(collector, sender.name, sender.id);
    const accepted = acceptBatch(held?.state, batch, contextOf(collector));
    if ("refused" in accepted) throw refusal(accepted);
    if (!held) throw new Error("accepted from nobody");
    held.told = Math.max(held.told ?? 0, batch.last);
    const { frames, state } = accepted;
    if (batch.last <= held.state.acked) {
      held.state = state;
      return { acked: state.acked };
    }
    const read = frames.map((frame) => named(frame, () => ({ frame, apply: readFrame(frame) })));
    const brought = broughtBy(collector, sender, batch.path, frames);
    await apply(collector, held, { brought, frames, doubt: state.doubt }, (plan) => {
      for (const { frame, apply } of read) named(frame, () => apply(plan));
      return state;
    });
    return { acked: state.acked };
  });
}

/** What is wrong with a batch is said with the entry that it is wrong with. */
function named<T>(frame: Frame, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof CollectorError) || error.code !== "invalid") throw error;
    throw new CollectorError("invalid", error.message, {
      ...(error.hint !== undefined && { hint: error.hint }),
      details: { seq: frame.seq },
      cause: error,
    });
  }
}

const contextOf = ({ installation, now }: Collector) => ({ own: installation.id, now: now() });

function broughtBy(
  { now }: Collector,
  { sentAt }: Sender,
  path: string[],
  frames: readonly Frame[],
): Brought {
  return {
    entries: frames.length,
    records: frames.reduce((sum, { count }) => sum + count, 0),
    bytes: frames.reduce((sum, { payload }) => sum + payload.length, 0),
    skew: sentAt === undefined ? undefined : now() - sentAt,
    path,
  };
}

/** Fills a plan; returns what its source is once that is stored. */
type Fill = (plan: Plan) => SourceState;

/**
 * Plans in one tick and commits: entries, what is kept about their source, and its cursor stand or fall together. A plan that breaks
 * a constraint (an id that somebody took meanwhile) is made once more.
 */
async function apply(
  collector: Collector,
  held: Held,
  {
    brought,
    frames,
    ...options
  }: { brought: Brought; frames: readonly Frame[]; doubt?: number; upto?: number },
  fill: Fill,
): Promise<void> {
  await waitForRoom(collector, frames);
  const attempt = () => commit(collector, held, new Plan(collector, held, options), brought, fill);
  const turn = () =>
    attempt().catch((error: unknown) => (isConstraint(error) ? attempt() : Promise.reject(error)));
  if (frames.some(({ kind }) => kind.startsWith("artifact."))) await inArtifactTurn(collector, turn);
  else await turn();
}

async function commit(
  collector: Collector,
  held: Held,
  plan: Plan,
  brought: Brought,
  fill: Fill,
): Promise<void> {
  try {
    const state = fill(plan);
    const { items } = plan;
    const writes: Write[] = [...plan.bookkeeping(), writeOfState(held.id, state, brought)];
    if (items.length === 0) {
      commitWrites(collector, writes);
      plan.takeNumbers();
    } else {
      items.at(-1)!.writes.push(...writes);
      plan.takeNumbers();
      await collector.journal.appendAll(items);
    }
    held.state = state;
    held.path = JSON.stringify(brought.path);
  } finally {
    plan.release();
  }
  for (const work of plan.after) work();
}

async function waitForRoom({ series, logs, samples }: Collector, frames: readonly Frame[]): Promise<void> {
  const kinds = new Set(frames.map(({ kind }) => kind));
  if (kinds.has("metric.appended")) await series.room(true);
  if (kinds.has("log.appended")) await logs.room();
  if (kinds.has("sample.appended") && !(await samples.room()))
    throw new CollectorError("busy", "More samples wait to be compressed than fit into memory.", {
      hint: "Send them again in a while.",
    });
}

const isConstraint = (error: unknown) =>
  String((error as { code?: string } | undefined)?.code).startsWith("SQLITE_CONSTRAINT");

/** A piece of what a source keeps of before: by content, as often as it likes. */
export function receiveHistory(
  collector: Collector,
  sender: Sender,
  batch: HistoryBatch,
): Promise<HistoryAccepted> {
  return inSourceTurn(collector, sender.id, async () => {
    const held = findOwnSource(collector, sender.name, sender.id);
    const { part, to, upto, frames } = batch;
    const refused = checkSession(held?.state, batch, contextOf(collector));
    if (refused) throw refusal(refused);
    if (!held) throw new Error("accepted from nobody");
    const unreadable: Rejected = [];
    const read: (ReadFrame & { index: number })[] = [];
    frames.forEach((frame, index) =>
      orReject(unreadable, index, () => {
        checkPart(part, frame);
        read.push({ index, frame, apply: readFrame(frame) });
      }),
    );
    let answer: HistoryAccepted = { position: 0 };
    const brought = broughtBy(collector, sender, batch.path, frames);
    await apply(collector, held, { brought, frames, upto }, (plan) => {
      const rejected = [...unreadable];
      const piece = pieceOf(plan, part, contextOf(collector).now);
      const accepted = acceptHistory(held.state, batch, positionIn(plan, part), contextOf(collector));
      if ("refused" in accepted) throw refusal(accepted);
      if (accepted.apply && !piece?.run.isDeleted) {
        for (const { index, apply } of read) orReject(rejected, index, () => apply(plan, piece));
        if (piece) endPiece(plan, piece, part.of === "logs" ? "logs" : "metrics", to);
        if (part.of === "samples" && part.run === undefined) plan.sawSamples(part.device, to);
        if (part.of === "whole") makeWhole(plan, part.run);
      }
      if (rejected.length > 0) throw refusedPiece(rejected);
      answer = { position: positionIn(plan, part) };
      return accepted.state;
    });
    return answer;
  });
}

/** Its sender keeps these, and sends the others. */
function refusedPiece(rejected: Rejected): CollectorError {
  const [{ detail }] = rejected as [Rejected[number]];
  return new CollectorError(
    "invalid",
    `${rejected.length} of its frames are refused. The first one: ${detail}`,
    {
      hint: "It is refused for good; what it holds stays where it came from.",
      details: { rejected: rejected.slice(0, MAX_REJECTED) },
    },
  );
}

/** All bad frames of a request are named, not the first one alone. */
function orReject(rejected: Rejected, index: number, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof CollectorError) || error.code !== "invalid") throw error;
    rejected.push({ index, type: error.code, detail: error.message.slice(0, 1000) });
  }
}

const FACTS = new Set([
  "run.held",
  "run.deleted",
  "device.held",
  "artifact.held",
  "event.recorded",
  "span.recorded",
]);

function checkPart(part: HistoryPart, { kind, run }: Frame): void {
  const belongs =
    part.of === "facts"
      ? FACTS.has(kind)
      : part.of === "whole"
        ? false
        : part.of === "samples"
          ? (kind === "sample.appended" || kind === "sample.rolled") && deviceOfStream(run) === part.device
          : kind === (part.of === "logs" ? "log.appended" : "metric.appended") && run === part.run;
  if (!belongs) throw bad(`${kind} of ${run.slice(0, 80)} is no part of this.`);
}

const isUncertain = ({ nextOrdinal, nextLine, isToRenew, isLeft }: PlannedRun) =>
  isToRenew || isLeft || nextOrdinal === null || nextLine === null;

function pieceOf(plan: Plan, part: HistoryPart, now: number): Piece | undefined {
  if (part.of !== "metrics" && part.of !== "logs") return undefined;
  const run = plan.run(part.run);
  if (!run) throw unknownRun(part.run, 0);
  const known = isUncertain(run) ? renewRun(plan, run, now) : run;
  plan.touch(known, plan.upto);
  known.history = Math.max(known.history, plan.upto);
  return beginPiece(known, part.of);
}

/** All of it has come, or of everything: entries may follow. */
function makeWhole(plan: Plan, name: string | undefined): void {
  if (name === undefined)
    plan.writes.push({
      sql: `UPDATE source_run SET renew = 0 WHERE source = ? AND renew = ${Renew.partial}`,
      params: [plan.source.id],
    });
  const run = name === undefined ? undefined : plan.run(name);
  if (!run?.isPartial) return;
  run.isPartial = false;
  run.isTouched = true;
}

/** Where a part stands, as its source counts. Of what was deleted here nothing is wanted. */
function positionIn(plan: Plan, part: HistoryPart): number {
  if (part.of === "facts" || part.of === "whole") return 0;
  if (part.of === "samples") {
    const row = prepared(
      plan.collector.connection,
      "SELECT upto FROM source_device WHERE source = ? AND device = ?",
    ).get(plan.source.id, part.device) as { upto: number | null } | undefined;
    return Math.max(row?.upto ?? 0, plan.upTo(part.device));
  }
  const run = plan.run(part.run);
  if (!run) return 0;
  if (run.isDeleted) return Number.MAX_SAFE_INTEGER;
  return (part.of === "metrics" ? run.nextOrdinal : run.nextLine) ?? 0;
}

/** Where parts stand here, in their order. */
export function positionsOf(
  collector: Collector,
  sender: Sender,
  session: Session,
  parts: readonly Part[],
): Promise<number[]> {
  return inSourceTurn(collector, sender.id, async () => {
    const held = findOwnSource(collector, sender.name, sender.id);
    const refused = checkSession(held?.state, session, contextOf(collector));
    if (refused) throw refusal(refused);
    if (!held) throw new Error("accepted from nobody");
    let positions: number[] = [];
    const brought = broughtBy(collector, sender, session.path, []);
    await apply(collector, held, { brought, frames: [], upto: 0 }, (plan) => {
      for (const part of parts) {
        if (part.of !== "metrics" && part.of !== "logs") continue;
        const run = plan.run(part.run);
        if (run && !run.isDeleted && isUncertain(run)) renewRun(plan, run, collector.now());
      }
      positions = parts.map((part) => positionIn(plan, part));
      return { ...held.state, heard: collector.now() };
    });
    return positions;
  });
}

/** Dead letters that their owner sends again: each is taken once, behind what came since. */
export function receiveAgain(
  collector: Collector,
  sender: Sender,
  { frames, ...session }: Session & { frames: readonly Frame[] },
): Promise<{ rejected: Rejected }> {
  return inSourceTurn(collector, sender.id, async () => {
    const held = findOwnSource(collector, sender.name, sender.id);
    const refused = checkSession(held?.state, session, contextOf(collector));
    if (refused) throw refusal(refused);
    if (!held) throw new Error("accepted from nobody");
    const isTaken = prepared(
      collector.connection,
      "SELECT 1 FROM source_requeued WHERE source = ? AND epoch = ? AND seq = ?",
    );
    const unreadable: Rejected = [];
    const read: (ReadFrame & { index: number })[] = [];
    frames.forEach((frame, index) => {
      if (frame.seq > 0 && isTaken.get(sender.id, session.epoch, frame.seq) !== undefined) return;
      orReject(unreadable, index, () => read.push({ index, frame, apply: readFrame(frame) }));
    });
    let rejected = unreadable;
    const brought = broughtBy(collector, sender, session.path, frames);
    // As if it were from a time of which nobody knows what is here.
    const doubt = Number.MAX_SAFE_INTEGER;
    await apply(collector, held, { brought, frames, doubt }, (plan) => {
      rejected = [...unreadable];
      for (const { index, frame, apply } of read)
        orReject(rejected, index, () => {
          apply(plan, "again");
          if (frame.seq > 0)
            plan.writes.push({
              sql: "INSERT OR IGNORE INTO source_requeued (source, epoch, seq) VALUES (?, ?, ?)",
              params: [sender.id, session.epoch, frame.seq],
            });
        });
      return { ...held.state, heard: collector.now() };
    });
    return { rejected };
  });
}
