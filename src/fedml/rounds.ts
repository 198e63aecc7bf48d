import { createHash } from "node:crypto";
import { CollectorError } from "../error.ts";
import { findRound } from "../span/find.ts";
import type { SpanItem } from "../span/schema.ts";
import { readPayload, type Payload } from "./payload.ts";
import { placeRun } from "./place.ts";
import type { FedmlContext, FedmlMessage, FedmlTopic } from "./topic.ts";

/** Beyond it nobody has started the timer: the client counts from 1970 then. */
const MAX_RUNNING_S = 10 * 365 * 86_400;
const MAX_ROUND = 1_000_000_000;

/** A federated round that has ended, as FedML's server says it. */
export interface Round {
  index: number;
  total: number | null;
  /** Seconds since the timer was started, before the first round; null: it was not. */
  running: number | null;
}

/**
 * `fedml.mlops.log_round_info`, called by a federated server when a round is over, and once before the first with index -1, which
 * starts its timer. It says no time but that of the timer: a round ends when we hear of it, and began when the one before it ended.
 */
export function roundTopics({ collector, writer, counts }: FedmlContext): FedmlTopic[] {
  /** By run, the round that is on its way to the disk. */
  const underWay = new Map<string, { index: number; ended: number }>();

  async function receive({ scope, payload, received, again }: FedmlMessage): Promise<void> {
    const fields = readPayload(payload);
    const round = readRound(fields);
    if (round === undefined) return;
    const { index, running } = round;
    const run = await placeRun(collector, scope, fields.run_id);
    // Nothing but its index tells that it is the same.
    if (again && running === null && findRound(collector, run, index, received) !== undefined)
      return counts.add("replayed");
    const last = underWay.get(run);
    const before = last?.index === index - 1 ? last.ended : findRound(collector, run, index - 1, received);
    const own = { index, ended: received };
    underWay.set(run, own);
    try {
      await writer.spans(run, [spanOfRound(round, received, before)]);
    } finally {
      if (underWay.get(run) === own) underWay.delete(run);
    }
  }

  return [{ filter: "fl_server/mlops/training_roundx", receive }];
}

/** undefined: the timer starts, and no round is over. */
export function readRound({
  round_index: index,
  total_rounds: total,
  running_time: running,
}: Payload): Round | undefined {
  if (index === -1) return undefined;
  if (!isCount(index))
    throw new CollectorError("invalid", "The round has no round_index.", {
      hint: "Send a number from 0 on, as FedML's client does.",
    });
  const isRunning = typeof running === "number" && running >= 0 && running <= MAX_RUNNING_S;
  return { index, total: isCount(total) ? total : null, running: isRunning ? running : null };
}

/** `before`: when the round before it ended. Said again it has the same id, whenever it comes. */
export function spanOfRound(
  { index, total, running }: Round,
  received: number,
  before: number | undefined,
): SpanItem {
  const begun = before ?? (index === 0 && running !== null ? received - running * 1000 : undefined);
  const said = createHash("sha256").update(JSON.stringify([index, total, running ?? received]));
  return {
    id: `round.${said.digest("hex").slice(0, 24)}`,
    kind: "round",
    name: "round",
    value: String(index),
    ...(begun !== undefined && begun >= 0 && begun <= received && { started: begun }),
    ended: received,
    round: index,
    ...(total !== null && { total }),
  };
}

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= MAX_ROUND;
