import { CollectorError } from "../error.ts";
import type { Entry, EntryKind, NewEntry } from "../entry.ts";
import type { Bus } from "./bus.ts";
import { createJournalRows, type Write } from "./journal-rows.ts";
import type { Connection } from "./open.ts";

/** What a concept does with its entries once they are durable, and again on start for those not yet sealed. */
export interface Applier {
  kind: EntryKind;
  /** `data` is the decoded batch where it just came in, undefined on replay. Returns the decoded batch for the bus. */
  apply(entry: Entry, data: unknown): unknown;
  /** Lowest seq whose content is only in memory; undefined where all is sealed. Entries below every low-water mark may go. */
  lowWater?(): number | undefined;
}

export interface Journal {
  /** Resolves with the entry's seq after COMMIT, when it is applied and announced. Entries keep the order of the calls. */
  append(entry: NewEntry, data: unknown, writes?: Write[]): Promise<number>;
  /**
   * Several entries that stand or fall together: one commit has them all, or none, with their writes. Resolves with the seq of
   * the last one. What they may come to is bounded by who calls: a commit holds up everybody else.
   */
  appendAll(items: readonly AppendItem[]): Promise<number>;
  /** Resolves when everything appended so far is durable. */
  settled(): Promise<void>;
  /** Calls `take` in a tick in which nothing is on its way: numbers that were given out are those of durable entries. */
  atRest<T>(take: () => T): Promise<T>;
  /** Entries with seq > after, ascending. */
  read(after: number, limit: number): Entry[];
  /** Lowest and highest seq still here; last counts on when everything is deleted. */
  bounds(): { first: number; last: number };
  /** How far it has come: the highest seq, and the bytes that were appended or replayed since the start. */
  position(): { seq: number; bytes: number };
  /** Lowest seq that an applier still needs, or whom it is held for: entries below it may go. */
  needed(): number;
  /** Entries from `from` on stay until this is called again with more, or with undefined. */
  hold(who: string, from: number | undefined): void;
  /**
   * While given, records, lines and samples are rejected with it, or samples alone; what steers runs still passes, so that
   * some can be deleted.
   */
  refuse(reason: CollectorError | undefined, what?: "data" | "samples"): void;
  register(applier: Applier): void;
  /** Hands entries above each applier's sealed state to it, once, on start. */
  replay(): void;
  /** Ends acceptance; resolves when what was queued is durable. */
  close(): Promise<void>;
}

export interface JournalEvents {
  /** The database failed in a way after which it can't be trusted. */
  onFatal: (error: unknown) => void;
  /** Batches of these runs had taken numbers and were not stored. */
  onRejected: (runs: Set<string>) => void;
  /** Batches of a deleted run that were still under way are stored, and nobody applies them. */
  isDeleted: (run: string) => boolean;
  /** The disk is full. */
  onFull?: (() => void) | undefined;
}

export interface AppendItem {
  entry: NewEntry;
  /** The decoded batch, where there is one. */
  data: unknown;
  writes: Write[];
}

interface Pending extends AppendItem {
  /** Followed by more that must not be parted from it. */
  joined: boolean;
  resolve(seq: number): void;
  reject(error: unknown): void;
}

/** Bytes of payload in one commit: bounds the time the event loop is held. */
const MAX_GROUP_BYTES = 8 * 1024 * 1024;

/**
 * The one way data enters the store. Whatever arrived while the last commit was on its way to disk goes into the next
 * one; setImmediate rather than a microtask, which would make every request a commit of its own (15,000 against 1,100 requests/s).
 *
 * `onFatal` is called once when the database fails in a way after which libSQL may report success for writes it
 * lost: nothing is accepted from then on, and the process is expected to end.
 *
 * Batches take their numbers before they are queued. One that is rejected takes everything of its run behind it along, and
 * `onRejected` gives the numbers back: else the client's second try would be taken for a repetition, and be lost.
 */
export function createJournal(
  connection: Connection,
  bus: Bus,
  { onFatal, onRejected, isDeleted, onFull }: JournalEvents,
): Journal {
  const rows = createJournalRows(connection);
  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");
  const appliers = new Map<EntryKind, Applier>();
  const heldFrom = new Map<string, number>();
  let queue: Pending[] = [];
  let scheduled = false;
  let stopped: CollectorError | undefined;
  let refusal: CollectorError | undefined;
  let sampleRefusal: CollectorError | undefined;
  let waiting: (() => void)[] = [];
  let passedBytes = 0;
  let lastSeq = rows.lastGiven();

  function append(entry: NewEntry, data: unknown, entryWrites: Write[] = []): Promise<number> {
    if (stopped) return Promise.reject(stopped);
    return new Promise((resolve, reject) => {
      queue.push({ entry, data, writes: entryWrites, joined: false, resolve, reject });
      schedule();
    });
  }

  function appendAll(items: readonly AppendItem[]): Promise<number> {
    if (stopped) return Promise.reject(stopped);
    return new Promise((resolve, reject) => {
      const last = items.length - 1;
      items.forEach((item, at) =>
        queue.push(
          at === last
            ? { ...item, joined: false, resolve, reject }
            : { ...item, joined: true, resolve() {}, reject() {} },
        ),
      );
      schedule();
    });
  }

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    setImmediate(flush);
  }

  function flush(): void {
    scheduled = false;
    if (refusal) reject(queue.filter(isData), refusal);
    if (sampleRefusal) reject(queue.filter(isSample), sampleRefusal);
    const group = takeGroup();
    if (group.length === 0) return settle();
    try {
      commitGroup(group);
    } catch (error) {
      return fail(group, error);
    }
    settleOrContinue();
  }

  function takeGroup(): Pending[] {
    let bytes = 0;
    let length = 0;
    while (length < queue.length && (bytes < MAX_GROUP_BYTES || queue[length - 1]!.joined))
      bytes += queue[length++]!.entry.payload.byteLength;
    const group = queue.slice(0, length);
    queue = queue.slice(length);
    return group;
  }

  function commitGroup(group: Pending[]): void {
    begin.run();
    const first = lastSeq + 1;
    try {
      rows.insert(group.map(({ entry }) => entry));
      for (const pending of group) for (const write of pending.writes) rows.write(write);
      commit.run();
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      throw error;
    }
    lastSeq += group.length;
    for (const { entry } of group) passedBytes += entry.payload.byteLength;
    group.forEach((pending, index) => announce(pending, first + index));
  }

  function announce({ entry, data, resolve }: Pending, seq: number): void {
    const decoded = applierOf(entry)?.apply({ ...entry, seq }, data) ?? data;
    bus.publish({ seq, kind: entry.kind, run: entry.run, data: decoded });
    resolve(seq);
  }

  const applierOf = ({ kind, run }: NewEntry) => (isDeleted(run) ? undefined : appliers.get(kind));

  /** Rejects these and whatever of their runs is queued behind them. */
  function reject(refused: Pending[], error: unknown): void {
    if (refused.length === 0) return;
    const runs = new Set(refused.map(({ entry }) => entry.run));
    const all = new Set(refused);
    for (const pending of queue) if (runs.has(pending.entry.run) && isData(pending)) all.add(pending);
    addJoined(all, runs);
    queue = queue.filter((pending) => !all.has(pending));
    onRejected(runs);
    for (const pending of all) pending.reject(error);
  }

  /** One of them takes the others along, and these what is behind them of their runs. */
  function addJoined(all: Set<Pending>, runs: Set<string>): void {
    let before: number;
    do {
      before = all.size;
      for (const unit of unitsOf(queue)) {
        if (!unit.some((pending) => all.has(pending))) continue;
        for (const pending of unit) {
          all.add(pending);
          runs.add(pending.entry.run);
        }
      }
      for (const pending of queue) if (runs.has(pending.entry.run) && isData(pending)) all.add(pending);
    } while (all.size > before);
  }

  function fail(group: Pending[], error: unknown): void {
    if (isConstraint(error)) return failAlone(group, error);
    if (codeOf(error) === "SQLITE_FULL") {
      reject([...group, ...queue], diskFull(error));
      onFull?.();
      return settleOrContinue();
    }
    stop(new CollectorError("internal", `The database failed: ${String(error)}`, { cause: error }), group);
    onFatal(error);
  }

  /** A write that breaks a constraint must not take down the strangers it shared a commit with: each tries again alone. */
  function failAlone(group: Pending[], error: unknown): void {
    const units = unitsOf(group);
    if (units.length === 1) {
      reject(group, error);
      return settleOrContinue();
    }
    queue = [...group, ...queue];
    for (let left = units.length; left > 0 && queue.length > 0; left--) {
      const unit = unitsOf(queue)[0]!;
      queue = queue.slice(unit.length);
      try {
        commitGroup(unit);
      } catch (alone) {
        if (!isConstraint(alone)) return fail(unit, alone);
        reject(unit, alone);
      }
    }
    settleOrContinue();
  }

  function stop(reason: CollectorError, group: Pending[]): void {
    stopped = reason;
    for (const pending of [...group, ...queue]) pending.reject(reason);
    queue = [];
    settle();
  }

  function settleOrContinue(): void {
    if (queue.length > 0) schedule();
    else settle();
  }

  function settle(): void {
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
  }

  function settled(): Promise<void> {
    if (queue.length === 0 && !scheduled) return Promise.resolve();
    return new Promise((resolve) => waiting.push(resolve));
  }

  function atRest<T>(take: () => T): Promise<T> {
    // A continuation of settled() may come behind others that append.
    return new Promise((resolve, reject) => {
      const attempt = () => {
        try {
          resolve(take());
        } catch (error) {
          reject(error);
        }
      };
      if (queue.length === 0 && !scheduled) attempt();
      else waiting.push(attempt);
    });
  }

  function replay(): void {
    let after = 0;
    for (;;) {
      const entries = rows.read(after, 256);
      if (entries.length === 0) return;
      for (const entry of entries) {
        applierOf(entry)?.apply(entry, undefined);
        passedBytes += entry.payload.byteLength;
        after = entry.seq;
      }
    }
  }

  return {
    append,
    appendAll,
    settled,
    atRest,
    read: rows.read,
    bounds: () => ({ first: rows.first() ?? lastSeq + 1, last: lastSeq }),
    position: () => ({ seq: lastSeq, bytes: passedBytes }),
    needed() {
      let lowest = lastSeq + 1;
      for (const applier of appliers.values()) lowest = Math.min(lowest, applier.lowWater?.() ?? lowest);
      for (const from of heldFrom.values()) lowest = Math.min(lowest, from);
      return lowest;
    },
    hold(who, from) {
      if (from === undefined) heldFrom.delete(who);
      else heldFrom.set(who, from);
    },
    refuse(reason, what = "data") {
      if (what === "samples") sampleRefusal = reason;
      else refusal = reason;
    },
    register: (applier) => void appliers.set(applier.kind, applier),
    replay,
    async close() {
      await settled();
      stopped ??= new CollectorError("unreachable", "The collector is shutting down.");
    },
  };
}

/** In their order, those together that stand or fall together. */
function unitsOf(queue: readonly Pending[]): Pending[][] {
  const units: Pending[][] = [];
  let isJoined = false;
  for (const pending of queue) {
    if (isJoined) units.at(-1)!.push(pending);
    else units.push([pending]);
    isJoined = pending.joined;
  }
  return units;
}

/** Records and lines, which take numbers, and samples; all else steers runs, or says what a device is. */
const isData = (pending: Pending) =>
  pending.entry.ordinal !== null || pending.entry.kind === "span.recorded" || isSample(pending);

const isSample = ({ entry }: Pending) => entry.kind === "sample.appended";

export function diskFull(cause?: unknown): CollectorError {
  return new CollectorError("disk-full", "The disk is full: nothing was stored.", {
    hint: "Free some space; the client keeps its data and sends it again.",
    cause,
  });
}

const codeOf = (error: unknown) => (error as { code?: string } | undefined)?.code;

const isConstraint = (error: unknown) => codeOf(error)?.startsWith("SQLITE_CONSTRAINT") ?? false;
