import { createHash } from "node:crypto";
import type { Collector } from "../collector.ts";
import { runOfSubject, subjectOfRun } from "../sample/schema.ts";
import { prepared } from "../store/prepared.ts";
import { isUnfinished } from "../store/unfinished.ts";

/** Ids that a batch on its way to the disk brings: the tables do not have them yet. */
const reservedBy = new WeakMap<Collector, Set<string>>();

export function reservedIds(collector: Collector): Set<string> {
  let reserved = reservedBy.get(collector);
  if (!reserved) reservedBy.set(collector, (reserved = new Set()));
  return reserved;
}

/** What a source's run is called here: as it is there, unless that name is taken. */
export function freeRunId(collector: Collector, run: string, label: string): string {
  const { connection } = collector;
  const isTaken = (id: string) =>
    reservedIds(collector).has(id) ||
    prepared(connection, "SELECT 1 FROM run WHERE id = ?").get(id) !== undefined ||
    isUnfinished(connection, id);
  if (!isTaken(run)) return run;
  // A run's id has at most 128 characters, a label 64 and a number.
  const stem = `${run.slice(0, 56)}.${label}`;
  let id = stem;
  for (let number = 2; isTaken(id); number++) id = `${stem}-${number}`;
  return id;
}

/** What a source's device is called here: two data folders of one machine are two devices, as each says what it reads. */
export function freeDeviceId(collector: Collector, device: string, source: string): string {
  const { connection } = collector;
  const isTaken = (id: string) =>
    id === collector.device ||
    reservedIds(collector).has(id) ||
    prepared(connection, "SELECT 1 FROM device WHERE id = ?").get(id) !== undefined ||
    prepared(connection, "SELECT 1 FROM source_device WHERE local = ?").get(id) !== undefined;
  let id = device;
  for (let number = 0; isTaken(id); number++)
    id = createHash("sha256").update(`${source} ${device} ${number}`).digest("hex").slice(0, 16);
  return id;
}

/** A subject as it is called here. */
export function localSubject(subject: string, localRun: (run: string) => string | undefined): string {
  const run = runOfSubject(subject);
  const local = run === undefined ? undefined : localRun(run);
  return local === undefined || local === run ? subject : subjectOfRun(local);
}

/** Under whose names a source's artifacts stand here: what it relays of others it keeps apart, and so do we. */
export const artifactSource = (source: string, from: string | undefined): string =>
  from === undefined ? source : `${source}/${from}`;
