import { CollectorError } from "../error.ts";
import type { MetricBatch } from "../metric/batch.ts";
import { BATCH_VERSION } from "../metric/batch.ts";
import { DeviceFacts } from "../device/schema.ts";
import type { Frame } from "../relay/contract.ts";
import { HELD_VERSION, HeldDevice, HeldRun, HeldUse, HeldVersion } from "../relay/held.ts";
import { RecordedSpans } from "../span/schema.ts";
import { SAMPLE_BATCH_VERSION } from "../store/sample-batch.ts";
import {
  ChangedVersion,
  DeletedVersion,
  LoggedVersion,
  planHeldVersion,
  planLogged,
  planVersionChange,
  planVersionDelete,
  planVersionUse,
  UsedVersion,
} from "./plan-artifact.ts";
import { checkHead, planLines, planRecords, type Where } from "./plan-data.ts";
import {
  planDevice,
  planEvents,
  planRolled,
  planSamples,
  RecordedEvents,
  RolledSamples,
} from "./plan-device.ts";
import {
  ChangedRun,
  CreatedRun,
  DeletedRun,
  planChanged,
  planCreated,
  planDeleted,
  planHeld,
  planUse,
  readFact,
} from "./plan-run.ts";
import { planSpans } from "./plan-span.ts";
import type { Plan } from "./plan.ts";
import { readLines } from "./read-lines.ts";
import { readRecords } from "./read-records.ts";
import { readSamples } from "./read-samples.ts";
import { bad } from "./refuse.ts";

/** What a frame comes to, once all of it was looked at. */
export type Apply = (plan: Plan, where?: Where) => void;

/** Reads a frame as its kind wants it; what it does then happens in one tick with the others of its batch. */
const readers: Record<string, { version: number; read: (frame: Frame) => Apply }> = {
  "run.created": fact(1, CreatedRun, planCreated),
  "run.changed": fact(1, ChangedRun, planChanged),
  "run.deleted": fact(1, DeletedRun, planDeleted),
  // What its owner has no room for stays here.
  "run.pruned": { version: 1, read: () => () => {} },
  "run.held": fact(HELD_VERSION, HeldRun, planHeld),
  "metric.appended": {
    version: BATCH_VERSION,
    read(frame) {
      const batch: MetricBatch = readRecords(frame);
      return (plan, where) => planRecords(plan, frame, batch, where);
    },
  },
  "log.appended": {
    version: 1,
    read(frame) {
      const lines = readLines(frame);
      return (plan, where) => planLines(plan, frame, lines, where);
    },
  },
  "device.changed": fact(1, DeviceFacts, (plan, frame, facts) =>
    planDevice(plan, frame, facts, { firstSeen: frame.time, lastSeen: frame.time }),
  ),
  "device.held": fact(HELD_VERSION, HeldDevice, (plan, frame, { facts, ...seen }) =>
    planDevice(plan, frame, facts, seen),
  ),
  "sample.appended": {
    version: SAMPLE_BATCH_VERSION,
    read(frame) {
      const samples = readSamples(frame);
      return (plan) => planSamples(plan, frame, samples);
    },
  },
  "sample.rolled": fact(1, RolledSamples, planRolled),
  "event.recorded": fact(1, RecordedEvents, planEvents),
  "span.recorded": fact(1, RecordedSpans, planSpans),
  "use.changed": fact(1, HeldUse, (plan, frame, use) => planUse(plan, frame, plan.requireRun(frame), use)),
  "artifact.logged": fact(1, LoggedVersion, planLogged),
  "artifact.changed": fact(1, ChangedVersion, planVersionChange),
  "artifact.used": fact(1, UsedVersion, planVersionUse),
  "artifact.deleted": fact(1, DeletedVersion, planVersionDelete),
  "artifact.held": fact(HELD_VERSION, HeldVersion, planHeldVersion),
};

function fact<T extends Parameters<typeof readFact>[1]>(
  version: number,
  schema: T,
  plan: (plan: Plan, frame: Frame, fact: ReturnType<typeof readFact<T>>) => void,
) {
  return {
    version,
    read(frame: Frame): Apply {
      const read = readFact(frame, schema);
      return (at) => plan(at, frame, read);
    },
  };
}

/** Newest version of each kind that is understood here. */
export const KINDS: Record<string, number> = Object.fromEntries(
  Object.entries(readers).map(([kind, { version }]) => [kind, version]),
);

/** Its sender's own affair: a run is sent when its import is done. */
const NEVER_SENT = new Set(["import.began", "run.imported"]);

export function readFrame(frame: Frame): Apply {
  const { kind, version, seq } = frame;
  if (NEVER_SENT.has(kind)) throw bad(`Entries of the kind ${kind} are not sent.`);
  const reader = Object.hasOwn(readers, kind) ? readers[kind] : undefined;
  if (!reader || version > reader.version)
    throw new CollectorError("unknown-kind", `This platform does not know ${kind} in version ${version}.`, {
      hint: "Upgrade the platform.",
      details: { kind, seq, version },
    });
  checkHead(frame);
  return reader.read(frame);
}
