import type { Collector } from "../collector.ts";
import { deviceOfStream, deviceStream, type Entry, type EntryKind } from "../entry.ts";
import { bytesOf } from "../store/chunk-table.ts";
import { BATCH_BYTES, BATCH_ENTRIES, type Frame, type Part } from "./contract.ts";
import { heldFrom, holderOf } from "./destinations.ts";
import { digestOf } from "./digest.ts";
import { createLetterBox } from "./letters.ts";
import type { KeptOpening } from "./openings.ts";
import type { DeadLetter, DestinationState, Identity, Outbox, Piece } from "./ports.ts";

/** What is kept of before, piece by piece. */
export interface History<Bounds> {
  parts(runs: string[] | undefined): Promise<{ parts: Part[]; bounds: Bounds }>;
  of(part: Part, from: number, bounds: Bounds, single?: boolean): ReturnType<Outbox["history"]>;
}

export interface JournalOutbox extends Outbox {
  /** What has not arrived; of entries that are gone, for which history stands in, nobody knows the size. */
  backlog(): { entries: number; bytes: number | undefined; oldest: number | undefined };
  close(): void;
}

export interface OutboxOptions<Bounds> {
  collector: Collector;
  destination: string;
  history: History<Bounds>;
  /** So much of the journal has arrived. */
  onAcked?: (entries: number, bytes: number) => void;
  /** Bytes of entries that are kept for it; beyond that they go, and history brings what they said. */
  maxHeldBytes?: number | undefined;
}

interface Row {
  seq: number;
  kind: EntryKind;
  run: string;
  /** 1: no writer's, but an import's, or history that another source sent. */
  unsigned: number;
  bytes: number;
}

/** Days of metrics, and minutes of history to send in their place. */
const MAX_HELD_BYTES = 1024 ** 3;
/** So many come between two looks at how much is held. */
const LOOK_BYTES = 4 * 1024 * 1024;

/** The journal as one destination sees it. */
export function createOutbox<Bounds>({
  collector,
  destination: name,
  history,
  onAcked = () => {},
  maxHeldBytes = MAX_HELD_BYTES,
}: OutboxOptions<Bounds>): JournalOutbox {
  const { connection, journal, bus, installation } = collector;
  const letters = createLetterBox(collector, name);
  const selectState = connection.prepare(
    `SELECT epoch, acked, skip, openings, paused, "from", created FROM destination WHERE name = ?`,
  );
  const selectRows = connection.prepare(
    `SELECT seq, kind, run, client IS NULL AND ordinal IS NOT NULL AS unsigned, length(payload) AS bytes
     FROM journal WHERE seq > ? ORDER BY seq LIMIT ${BATCH_ENTRIES}`,
  );
  const selectEntries = connection.prepare(
    `SELECT seq, kind, version, run, client, client_seq AS clientSeq, ordinal, next_step AS nextStep, count, time, encoding,
     payload FROM journal WHERE seq >= ? AND seq <= ? ORDER BY seq`,
  );
  const selectBytes = connection
    .prepare("SELECT count(*), coalesce(sum(length(payload)), 0) FROM journal WHERE seq > ? AND seq <= ?")
    .raw(true);
  const selectOldest = connection.prepare("SELECT time FROM journal WHERE seq > ? ORDER BY seq LIMIT 1");
  const selectUnfinished = connection.prepare("SELECT run, devices FROM unfinished_import");
  const selectSince = connection
    .prepare("SELECT id FROM run WHERE deleted = 0 AND (created >= ?1 OR finished IS NULL OR finished >= ?1)")
    .raw(true);
  const selectDevices = connection.prepare("SELECT id FROM device").raw(true);
  const updateAnswered = connection.prepare("UPDATE destination SET answered = ? WHERE name = ?");
  const updateState = connection.prepare(
    "UPDATE destination SET epoch = ?, acked = ?, paused = ? WHERE name = ?",
  );
  /** Runs whose entries are of no use there any more. */
  const forgotten = new Set<string>();
  /** Up to which seq history has brought a run: unsigned entries below need none of their own. */
  const broughtUpTo = new Map<string, number>();
  let { nonce } = installation;
  let kept = load();
  /** Of the last parts asked for, with the piece they belong to. */
  let bounds: Bounds | undefined;
  let bringing: { last: number; runs: string[] | undefined; upTo: number } | undefined;
  let historyFrom: { seq: number; bytes: number } | undefined;
  let waiting: (() => void)[] = [];
  let unacked = count(reached(kept.acked), journal.position().seq);
  let seen = journal.position();
  let lookedAt = seen.bytes;

  const unsubscribe = bus.subscribe(({ kind }) => {
    if (kind === "log.open") return;
    if (journal.position().bytes - lookedAt >= Math.min(LOOK_BYTES, maxHeldBytes)) hold();
    const woken = waiting;
    waiting = [];
    for (const wake of woken) wake();
  });
  hold();

  function load() {
    const row = selectState.get(name) as {
      epoch: number;
      acked: number;
      skip: number;
      openings: string;
      paused: string | null;
      from: "history" | "now";
      created: number;
    };
    return { ...row, openings: JSON.parse(row.openings) as KeptOpening[] };
  }

  /** Another destination may have found out that we are a copy, or restored: then its word is ours. */
  function current(): typeof kept {
    if (nonce === installation.nonce) return kept;
    ({ nonce } = installation);
    const { acked } = kept;
    kept = load();
    if (kept.acked === acked) return kept;
    broughtUpTo.clear();
    forgotten.clear();
    unacked = count(reached(kept.acked), seen.seq);
    return kept;
  }

  /** What is passed over from now on is nobody's backlog. */
  function reached(acked: number): number {
    return Math.max(acked, kept.skip);
  }

  function count(after: number, upTo: number): { entries: number; bytes: number } {
    const [entries, bytes] = selectBytes.get(after, upTo) as [number, number];
    return { entries, bytes };
  }

  function hold(): void {
    catchUp();
    lookedAt = seen.bytes;
    const { first } = journal.bounds();
    const own = heldFrom(kept, first);
    const from = own ?? historyFrom?.seq;
    const bytes = own === undefined ? seen.bytes - (historyFrom?.bytes ?? 0) : unacked.bytes;
    // What began before the journal does now has been cut off, and begins anew.
    const isHeld = from !== undefined && from >= first && bytes <= maxHeldBytes;
    journal.hold(holderOf(name), isHeld ? from : undefined);
  }

  function identity(): Identity {
    const openings = current().openings.map(({ nonce, last }) => ({ nonce, last }));
    return { id: installation.id, epoch: installation.epoch, nonce: installation.nonce, openings };
  }

  async function read(after: number): Promise<Piece | undefined> {
    const { skip } = current();
    settleHistory(after);
    const last = journal.position().seq;
    if (after >= last) return undefined;
    if (after < skip) return passOver(Math.min(skip, last));
    const rows = selectRows.all(after) as Row[];
    const first = rows[0]?.seq ?? last + 1;
    if (first > after + 1 && journal.bounds().first === first) return bring(last, everything());
    return rows.length === 0 ? { type: "batch", last, frames: [] } : pieceOf(rows);
  }

  /** From now on: all but which machines there are, as what comes of them says no more than their ids. */
  function passOver(last: number): Piece {
    const devices = (selectDevices.all() as [string][]).map(([id]) => deviceStream(id));
    return devices.length > 0 ? bring(last, devices) : { type: "batch", last, frames: [] };
  }

  /** Of what a destination is to have at all; undefined: no limit. */
  const everything = (): string[] | undefined =>
    kept.from === "history" ? undefined : (selectSince.all(kept.created) as [string][]).map(([id]) => id);

  /** All is brought up to here by content instead. */
  function bring(last: number, runs: string[] | undefined): Piece {
    bringing = { last, runs, upTo: last };
    historyFrom = { seq: last + 1, bytes: journal.position().bytes };
    hold();
    return { type: "history", last, runs };
  }

  /** Whoever asks for what is behind a piece of history has sent it. */
  function settleHistory(after: number): void {
    if (!bringing || after < bringing.last) return;
    for (const run of bringing.runs ?? []) broughtUpTo.set(run, bringing.upTo);
    bringing = undefined;
  }

  function pieceOf(rows: Row[]): Piece {
    const wayOf = createSorter(deadAmong(rows));
    const runs = new Set<string>();
    const chosen: number[] = [];
    let bytes = 0;
    let last = rows[0]!.seq - 1;
    for (const row of rows) {
      const way = wayOf(row);
      // Entries on either way end a piece of the other.
      if (way === "history" ? chosen.length > 0 : way === "entry" && runs.size > 0) break;
      if (way === "entry") {
        if (chosen.length > 0 && bytes + row.bytes > BATCH_BYTES) break;
        chosen.push(row.seq);
        bytes += row.bytes;
      }
      if (way === "history") runs.add(row.run);
      last = row.seq;
    }
    return runs.size > 0 ? bring(last, [...runs]) : { type: "batch", last, frames: framesOf(chosen) };
  }

  /** Seqs that wait as dead letters: a crash may have come before the batch that passes over them. */
  const deadAmong = (rows: Row[]) => letters.seqs(rows[0]!.seq, rows.at(-1)!.seq);

  /** How an entry gets there: as it is, by its run's history, or not at all. */
  function createSorter(dead: ReadonlySet<number>): (row: Row) => "entry" | "history" | "none" {
    const unfinished = selectUnfinished.all() as { run: string; devices: string }[];
    const absent = new Set(unfinished.map(({ run }) => run));
    const absentDevices = new Set(unfinished.flatMap(({ devices }) => JSON.parse(devices) as string[]));
    return ({ seq, kind, run, unsigned }) => {
      // Retention is everybody's own; what an import has brought so far is nobody's yet.
      if (kind === "run.pruned" || kind === "import.began") return "none";
      if (absent.has(run) || absentDevices.has(deviceOfStream(run) ?? "")) return "none";
      if (dead.has(seq) || (forgotten.has(run) && kind !== "run.deleted")) return "none";
      if (unsigned === 0 && kind !== "run.imported") return "entry";
      return (broughtUpTo.get(run) ?? 0) >= seq ? "none" : "history";
    };
  }

  function framesOf(seqs: number[]): Frame[] {
    const frames: Frame[] = [];
    for (let at = 0; at < seqs.length;) {
      let end = at;
      while (seqs[end + 1] === seqs[end]! + 1) end++;
      for (const entry of selectEntries.all(seqs[at], seqs[end]) as Entry[])
        frames.push({ ...entry, payload: bytesOf(entry.payload) });
      at = end + 1;
    }
    return frames;
  }

  async function save(state: DestinationState, dead: DeadLetter[], also?: () => void): Promise<void> {
    const before = current();
    const { epoch, acked, paused } = state;
    const isOnlyAck = dead.length === 0 && epoch === before.epoch && paused === before.paused;
    // The cursor is the platform's: losing this costs a question. It only has to be there before entries go, which
    // the next commit sees to, as it takes this one to the disk with it.
    if (isOnlyAck) connection.exec("PRAGMA synchronous=NORMAL");
    try {
      connection.exec("BEGIN IMMEDIATE");
      updateState.run(epoch, acked, paused, name);
      for (const letter of dead) letters.put(letter, epoch);
      also?.();
      connection.exec("COMMIT");
    } catch (error) {
      if (connection.inTransaction) connection.exec("ROLLBACK");
      throw error;
    } finally {
      if (isOnlyAck) connection.exec("PRAGMA synchronous=FULL");
    }
    measure(reached(before.acked), reached(acked));
    kept = { ...before, epoch, acked, paused };
    hold();
  }

  function measure(before: number, acked: number): void {
    catchUp();
    const arrived = count(before, acked);
    if (arrived.entries > 0) onAcked(arrived.entries, arrived.bytes);
    // Counted anew where entries between have gone unseen, or come back.
    if (acked < before || isCutOff(before)) unacked = count(acked, seen.seq);
    else unacked = { entries: unacked.entries - arrived.entries, bytes: unacked.bytes - arrived.bytes };
  }

  /** Entries behind it are gone. */
  const isCutOff = (acked: number): boolean => acked < seen.seq && acked + 1 < journal.bounds().first;

  /** Counts what has come since the last look, rather than all that waits. */
  function catchUp(): void {
    const position = journal.position();
    unacked.entries += position.seq - seen.seq;
    unacked.bytes += position.bytes - seen.bytes;
    seen = position;
  }

  return {
    identity,
    async greeted() {
      updateAnswered.run(installation.nonce, name);
    },
    async newEpoch(above) {
      installation.newEpoch(above);
      current();
    },
    async newSource() {
      installation.newSource();
      current();
    },
    last: () => journal.position().seq,
    async digestAt(seq) {
      const [frame] = framesOf([seq]);
      return frame && digestOf(frame);
    },
    read,
    forget: (run) => void forgotten.add(run),
    async wait(after, signal) {
      while (journal.position().seq <= after && !signal.aborted)
        await new Promise<void>((resolve) => {
          const wake = () => {
            signal.removeEventListener("abort", wake);
            resolve();
          };
          signal.addEventListener("abort", wake, { once: true });
          waiting.push(wake);
        });
    },
    state() {
      const { epoch, acked, paused } = current();
      return { epoch, acked, paused };
    },
    save,
    async parts(runs) {
      const upTo = journal.position().seq;
      const isPiece = bringing !== undefined && bringing.runs === runs;
      const all = await history.parts(runs ?? everything());
      bounds = all.bounds;
      if (bringing && isPiece) bringing.upTo = upTo;
      // From now on: a run that began before is introduced, and no more.
      return kept.from === "now" && !isPiece ? all.parts.filter((part) => part.of === "facts") : all.parts;
    },
    history(part, from, single) {
      if (bounds === undefined) throw new Error("History is sent before its parts were asked for.");
      return history.of(part, from, bounds, single);
    },
    backlog() {
      const acked = reached(current().acked);
      catchUp();
      if (isCutOff(acked)) return { entries: seen.seq - acked, bytes: undefined, oldest: undefined };
      const oldest =
        unacked.entries > 0 ? (selectOldest.get(acked) as { time: number } | undefined) : undefined;
      return { ...unacked, oldest: oldest?.time };
    },
    close() {
      unsubscribe();
      for (const wake of waiting) wake();
    },
  };
}
