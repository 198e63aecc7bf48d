import { encodeBatch } from "../metric/batch.ts";
import type { MetricBatch } from "../metric/batch.ts";
import { MAX_STEP } from "../metric/schema.ts";
import type { LogLine } from "../log/schema.ts";
import type { Frame } from "../relay/contract.ts";
import { ClientId } from "../run/schema.ts";
import { packLines } from "../store/log-chunk.ts";
import { place, type Numbering, type Place } from "./accept.ts";
import { PUT_COUNTER, unknownRun, type Plan, type PlannedRun } from "./plan.ts";
import { recordsFrom } from "./read-records.ts";
import { bad } from "./refuse.ts";

/**
 * A piece of history: frames of several ranks are of the same records, so each is placed by where the piece begins. "again": an entry
 * that was refused once, in whose place others stand: it goes behind all that is here.
 */
export type Where = Piece | "again" | undefined;

export interface Piece {
  run: PlannedRun;
  numbering: Numbering & { next: number };
}

/** What of an entry's head is taken over as it is. */
export function checkHead({ client, clientSeq, nextStep, time }: Frame): void {
  if (client !== null && !ClientId.safeParse(client).success) throw bad("That is no client's id.");
  if (clientSeq !== null && (client === null || !Number.isSafeInteger(clientSeq) || clientSeq < 1))
    throw bad("It has an impossible number of its client's.");
  if (nextStep !== null && !(Math.abs(nextStep) <= MAX_STEP)) throw bad("It has an impossible step.");
  if (!(time >= 0 && time <= 8.64e15)) throw bad("It has an impossible time.");
}

function isKnown(plan: Plan, run: PlannedRun, { client, clientSeq }: Frame): boolean {
  return client !== null && clientSeq !== null && clientSeq <= plan.writerOf(run, client).seq;
}

/** `isHere`: no entry will say that this batch was taken. */
function takeClient(
  plan: Plan,
  run: PlannedRun,
  { client, clientSeq, nextStep }: Frame,
  isHere: boolean,
): void {
  if (client === null || clientSeq === null) return;
  const writer = plan.writerOf(run, client);
  if (clientSeq <= writer.seq) return;
  writer.seq = clientSeq;
  if (nextStep !== null) writer.nextStep = nextStep;
  if (isHere) plan.writes.push({ sql: PUT_COUNTER, params: [run.local, client, clientSeq, nextStep] });
}

function runOf(plan: Plan, frame: Frame, where: Where): PlannedRun {
  const run = plan.requireRun(frame);
  // What lies before this entry is not in it either: positions are asked first, and begin it anew.
  if (where === undefined && (run.isToRenew || run.isPartial) && !run.isDeleted)
    throw unknownRun(frame.run, frame.seq);
  plan.touch(run, frame.seq);
  return run;
}

export function planRecords(plan: Plan, frame: Frame, batch: MetricBatch, where?: Where): void {
  const run = runOf(plan, frame, where);
  if (run.isDeleted) return;
  const numbering = { next: run.nextOrdinal, shift: run.ordinalShift };
  const placed = placeOf(where, numbering, batch, isKnown(plan, run, frame), run.localOrdinal);
  const { skip, at, numbering: after } = placed;
  if (!Number.isSafeInteger(at + batch.count)) throw bad("Its ordinals are beyond counting.");
  if (skip < batch.count) plan.collector.series.admit(run.local, batch);
  run.nextOrdinal = after.next;
  run.ordinalShift = after.shift;
  takeClient(plan, run, frame, skip === batch.count);
  if (skip === batch.count) return;
  const rest = recordsFrom(batch, skip);
  rest.ordinal = at;
  run.localOrdinal = Math.max(run.localOrdinal, at + rest.count);
  const { encoding, payload } = rest === batch ? frame : encodeBatch(rest);
  const { version, client, clientSeq, nextStep, time } = frame;
  plan.append(
    {
      kind: "metric.appended",
      version,
      run: run.local,
      client,
      clientSeq,
      ordinal: at,
      nextStep,
      count: rest.count,
      time,
      encoding: encoding as never,
      payload,
    },
    rest,
  );
}

export function planLines(plan: Plan, frame: Frame, lines: LogLine[], where?: Where): void {
  const run = runOf(plan, frame, where);
  if (run.isDeleted) return;
  const numbering = { next: run.nextLine, shift: run.lineShift };
  const range = { ordinal: frame.ordinal!, count: lines.length };
  const placed = placeOf(where, numbering, range, isKnown(plan, run, frame), run.localLine);
  const { skip, at, numbering: after } = placed;
  if (!Number.isSafeInteger(at + lines.length)) throw bad("Its lines are beyond counting.");
  run.nextLine = after.next;
  run.lineShift = after.shift;
  takeClient(plan, run, frame, lines.length > 0 && skip === lines.length);
  // One without lines takes its client's number: what the source has counted is counted here.
  if (lines.length > 0 && skip === lines.length) return;
  const rest =
    skip === 0 && (lines.length === 0 || at === lines[0]!.line)
      ? lines
      : lines.slice(skip).map((line, index) => ({ ...line, line: at + index }));
  run.localLine = Math.max(run.localLine, at + rest.length);
  const { encoding, payload } = rest === lines ? frame : packLines(rest);
  const { version, client, clientSeq, nextStep, time } = frame;
  plan.append(
    {
      kind: "log.appended",
      version,
      run: run.local,
      client,
      clientSeq,
      ordinal: at,
      nextStep,
      count: rest.length,
      time,
      encoding: encoding as never,
      payload,
    },
    rest,
  );
}

/** Where a piece of a run's history begins: behind all that is here. */
export function beginPiece(run: PlannedRun, of: "metrics" | "logs"): Piece {
  const isMetrics = of === "metrics";
  const next = (isMetrics ? run.nextOrdinal : run.nextLine) ?? (isMetrics ? 0 : 1);
  const localNext = isMetrics ? run.localOrdinal : run.localLine;
  const shift = Math.max(isMetrics ? run.ordinalShift : run.lineShift, localNext - next);
  return { run, numbering: { next, shift } };
}

/** Numbers that are in no frame are nowhere: the position passes over them. */
export function endPiece(
  plan: Plan,
  { run, numbering: { shift } }: Piece,
  of: "metrics" | "logs",
  to: number,
): void {
  if (of === "metrics") {
    run.nextOrdinal = Math.max(run.nextOrdinal ?? 0, to);
    run.ordinalShift = shift;
    run.localOrdinal = Math.max(run.localOrdinal, to + shift);
  } else {
    run.nextLine = Math.max(run.nextLine ?? 1, to);
    run.lineShift = shift;
    run.localLine = Math.max(run.localLine, to + shift);
  }
  // Numbers that no entry has.
  plan.writes.push({
    sql: "UPDATE run SET next_ordinal = max(next_ordinal, ?), next_line = max(next_line, ?) WHERE id = ?",
    params: [run.localOrdinal, run.localLine, run.local],
  });
}

function placeOf(
  where: Where,
  numbering: Numbering,
  { ordinal, count }: { ordinal: number; count: number },
  isKnown: boolean,
  localNext: number,
): Place {
  if (where === undefined) return place(numbering, { ordinal, count }, isKnown, localNext);
  if (where === "again") return { skip: 0, at: localNext, numbering };
  const { next, shift } = where.numbering;
  const skip = Math.min(Math.max(next - ordinal, 0), count);
  const reached = Math.max(numbering.next ?? next, ordinal + count);
  return { skip, at: ordinal + skip + shift, numbering: { next: reached, shift } };
}
