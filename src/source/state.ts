import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { diskFull } from "../store/journal.ts";
import type { Write } from "../store/journal-rows.ts";
import { prepared } from "../store/prepared.ts";
import type { KnownOpening, Refused, SourceState } from "./accept.ts";

/** A source, as it is kept in memory while it is heard. */
export interface Held {
  readonly id: string;
  /** Of its token. */
  readonly name: string;
  readonly label: string;
  state: SourceState;
  /** JSON. */
  path: string;
  /** Highest seq that it spoke of. */
  told: number | undefined;
}

interface Row {
  id: string;
  name: string;
  label: string;
  epoch: number;
  acked: number;
  reach: number;
  digest: string | null;
  nonce: string;
  turn: number;
  openings: string;
  doubt: number;
  path: string;
  last_seen: number;
}

const heldBy = new WeakMap<Collector, Map<string, Held>>();
const turnsBy = new WeakMap<Collector, Map<string, Promise<unknown>>>();

const of = <T>(by: WeakMap<Collector, Map<string, T>>, collector: Collector): Map<string, T> => {
  let map = by.get(collector);
  if (!map) by.set(collector, (map = new Map()));
  return map;
};

export function findSource(collector: Collector, id: string): Held | undefined {
  const held = of(heldBy, collector).get(id);
  if (held) return held;
  const row = prepared(
    collector.connection,
    "SELECT id, name, label, epoch, acked, reach, digest, nonce, turn, openings, doubt, path, last_seen FROM source WHERE id = ?",
  ).get(id) as Row | undefined;
  if (!row) return undefined;
  const { name, label, epoch, acked, reach, digest, nonce, turn, doubt, path } = row;
  const openings = JSON.parse(row.openings) as KnownOpening[];
  const state = { epoch, acked, reach, digest, nonce, turn, openings, doubt, heard: row.last_seen };
  return hold(collector, { id, name, label, state, path, told: undefined });
}

export function hold(collector: Collector, held: Held): Held {
  of(heldBy, collector).set(held.id, held);
  return held;
}

/** What a source sends is applied in the order in which it came, each after the one before is durable. */
export async function inSourceTurn<T>(collector: Collector, id: string, verb: () => Promise<T>): Promise<T> {
  const turns = of(turnsBy, collector);
  const turn = (turns.get(id) ?? Promise.resolve()).then(verb, verb);
  turns.set(id, turn);
  try {
    return await turn;
  } finally {
    if (turns.get(id) === turn) turns.delete(id);
  }
}

/** What a request has brought. */
export interface Brought {
  entries: number;
  records: number;
  bytes: number;
  /** Our clock less theirs, ms. */
  skew: number | undefined;
  path: string[];
}

const PUT_STATE = `UPDATE source SET epoch = ?, acked = ?, reach = ?, digest = ?, nonce = ?, turn = ?, openings = ?, doubt = ?, path = ?,
  last_seen = ?, skew = coalesce(?, skew), entries = entries + ?, records = records + ?, bytes = bytes + ? WHERE id = ?`;

/** The cursor, with all that is to stand or fall with it. */
export function writeOfState(id: string, state: SourceState, brought: Brought): Write {
  const { epoch, acked, reach, digest, nonce, turn, openings, doubt, heard } = state;
  const { path, skew, entries, records, bytes } = brought;
  return {
    sql: PUT_STATE,
    params: [
      epoch,
      acked,
      reach,
      digest,
      nonce,
      turn,
      JSON.stringify(openings),
      doubt,
      JSON.stringify(path),
      heard,
      skew ?? null,
      entries,
      records,
      bytes,
      id,
    ],
  };
}

/** Writes that no entry goes with, in one transaction. */
export function commitWrites({ connection }: Collector, writes: readonly Write[]): void {
  prepared(connection, "BEGIN IMMEDIATE").run();
  try {
    for (const { sql, params } of writes) prepared(connection, sql).run(...params);
    prepared(connection, "COMMIT").run();
  } catch (error) {
    if (connection.inTransaction) prepared(connection, "ROLLBACK").run();
    if ((error as { code?: string }).code !== "SQLITE_FULL") throw error;
    throw diskFull(error);
  }
}

export const refusal = ({ refused, detail, hint, details }: Refused): CollectorError =>
  new CollectorError(refused, detail, { hint, details });
