import type { Collector } from "../collector.ts";
import { ARTIFACT_STREAM, Encoding, type EntryKind } from "../entry.ts";
import type { Write } from "../store/journal-rows.ts";

/** A change of artifacts with its journal entry; `run`: the one that made it, if one did. */
export async function appendArtifactEntry(
  collector: Collector,
  kind: EntryKind,
  run: string | null,
  payload: unknown,
  writes: Write[],
): Promise<void> {
  await collector.journal.append(
    {
      kind,
      version: 1,
      run: run ?? ARTIFACT_STREAM,
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: 1,
      time: collector.now(),
      encoding: Encoding.json,
      payload: new TextEncoder().encode(JSON.stringify(payload)),
    },
    payload,
    writes,
  );
}

const turns = new WeakMap<Collector, Promise<unknown>>();

/** Changes of artifacts one after another: two that log the same name at once would else take the same number. */
export async function inArtifactTurn<T>(collector: Collector, verb: () => Promise<T>): Promise<T> {
  // A run that is deleted meanwhile takes versions along without a turn of its own: then the verb looks again.
  const attempt = () =>
    verb().catch((error: unknown) => (isConstraint(error) ? verb() : Promise.reject(error)));
  const turn = (turns.get(collector) ?? Promise.resolve()).then(attempt, attempt);
  turns.set(collector, turn);
  return turn;
}

const isConstraint = (error: unknown) =>
  String((error as { code?: string } | undefined)?.code).startsWith("SQLITE_CONSTRAINT");
