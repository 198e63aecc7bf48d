import type { Entry } from "../entry.ts";
import type { LogLevel, LogLine } from "../log/schema.ts";
import { CHUNK_SIZE, levelBit, levelMask, packLines, sizeOf, unpackLines, type Packed } from "./log-chunk.ts";
import type { Applier } from "./journal.ts";
import type { Connection } from "./open.ts";

/** Unsealed text in memory, over all runs, above which a writer waits. */
const MAX_PENDING = 32 * 1024 * 1024;
/** An entry of at least a chunk's size becomes one as it was packed for the journal, unless reading one line of it would cost too much. */
const MAX_WHOLE = 4 * CHUNK_SIZE;
/** A chunk that is not full is written all the same after this long: else one slow run would pin the journal. */
const PARTIAL_AFTER_MS = 10_000;
/** How long one turn of sealing may hold the event loop. */
const SLICE_MS = 10;
/** A full disk is asked again so much later. */
const FULL_DISK_MS = 1000;

/** What a search can be sure of before it opens a chunk. */
export interface ChunkFilter {
  level?: LogLevel | undefined;
  since?: number | undefined;
}

export interface LogStore {
  /** The journal's hand into this store. */
  readonly applier: Applier;
  /** Lines stored in all; also the number of the last one. */
  total(run: string): number;
  /** The next piece of the log with lines numbered > `line`; undefined at the end. Pieces that cannot match are skipped. */
  after(run: string, line: number, filter: ChunkFilter): LogLine[] | undefined;
  /** The same, backwards: the piece with lines numbered < `line`. */
  before(run: string, line: number, filter: ChunkFilter): LogLine[] | undefined;
  /** undefined, or what a writer waits for while sealing catches up. */
  room(): Promise<void> | undefined;
  /** Writes everything that is only in memory (and in the journal) into chunks. */
  seal(): void;
  /** Forgets a run: its chunks, its head. */
  purge(run: string): Promise<void>;
  close(): void;
}

/** The newest lines of a run: the unfinished chunk. Those up to `sealed` are also in the database. */
interface Head {
  run: string;
  lines: LogLine[];
  size: number;
  sealed: number;
  last: number;
  /** Where each line's entry stands in the journal: entries, ascending. */
  entries: HeadEntry[];
  /** Since when there are unsealed lines; ms, monotonic. */
  dirtySince: number | undefined;
  usedAt: number;
}

interface HeadEntry {
  seq: number;
  last: number;
  /** Where it is a chunk by itself: its first line, and itself. */
  whole: { first: number; packed: Packed } | undefined;
}

/** What a transaction has written of a head: its first `written` lines in full chunks, and all up to number `sealed`. */
interface Sealed {
  head: Head;
  written: number;
  sealed: number;
}

interface ChunkRow {
  first_line: number;
  last_line: number;
  seq: number;
  encoding: Packed["encoding"];
  data: Uint8Array;
}

export interface LogStoreOptions {
  onFatal: (error: unknown) => void;
  /** Sealing met a full disk. */
  onFull: () => void;
}

export function createLogStore(connection: Connection, { onFatal, onFull }: LogStoreOptions): LogStore {
  const heads = new Map<string, Head>();
  const dirty = new Set<Head>();
  let pending = 0;
  let waiting: (() => void)[] = [];
  let scheduled = false;
  let closed = false;

  const columns = "first_line, last_line, seq, encoding, data";
  const selectLast = connection.prepare(
    `SELECT ${columns} FROM log_chunk WHERE run = ? ORDER BY first_line DESC LIMIT 1`,
  );
  const selectAfter = connection.prepare(
    `SELECT ${columns} FROM log_chunk WHERE run = ? AND last_line > ? AND first_line < ?
     AND (levels & ?) != 0 AND max_time >= ? ORDER BY last_line LIMIT 1`,
  );
  const selectBefore = connection.prepare(
    `SELECT ${columns} FROM log_chunk WHERE run = ? AND first_line < ?
     AND (levels & ?) != 0 AND max_time >= ? ORDER BY first_line DESC LIMIT 1`,
  );
  const selectTotal = connection.prepare("SELECT max(last_line) AS total FROM log_chunk WHERE run = ?");
  const insert = connection.prepare(
    `INSERT INTO log_chunk (run, first_line, last_line, min_time, max_time, levels, size, seq, encoding, data)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (run, first_line) DO UPDATE SET last_line = excluded.last_line, min_time = excluded.min_time,
       max_time = excluded.max_time, levels = excluded.levels, size = excluded.size, seq = excluded.seq,
       encoding = excluded.encoding, data = excluded.data`,
  );
  const remove = connection.prepare(
    "DELETE FROM log_chunk WHERE rowid IN (SELECT rowid FROM log_chunk WHERE run = ? LIMIT 200)",
  );
  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");

  const timer = setInterval(tend, PARTIAL_AFTER_MS / 4);
  timer.unref();

  function apply(entry: Entry, data: unknown): LogLine[] {
    const head = headOf(entry.run);
    // On replay most is sealed, and need not be unpacked.
    if (data === undefined && entry.ordinal! + entry.count - 1 <= head.last) return [];
    const lines = (data as LogLine[] | undefined) ?? unpackLines(entry);
    head.usedAt = performance.now();
    const fresh =
      lines.length > 0 && lines[0]!.line > head.last ? lines : lines.filter((line) => line.line > head.last);
    if (fresh.length === 0) return lines;
    const size = sizeOfAll(fresh);
    for (const line of fresh) head.lines.push(line);
    head.size += size;
    pending += size;
    head.last = fresh.at(-1)!.line;
    const isWhole = fresh === lines && size >= CHUNK_SIZE && size <= MAX_WHOLE;
    head.entries.push({
      seq: entry.seq,
      last: head.last,
      whole: isWhole ? { first: lines[0]!.line, packed: packedOf(entry) } : undefined,
    });
    if (head.dirtySince === undefined) {
      head.dirtySince = performance.now();
      dirty.add(head);
    }
    if (head.size >= CHUNK_SIZE) schedule();
    // Replay is synchronous: without this the whole journal would stand in memory at once.
    if (data === undefined && pending > MAX_PENDING / 4) seal(Infinity, () => "all");
    return lines;
  }

  function headOf(run: string): Head {
    let head = heads.get(run);
    if (head) return head;
    head = { run, lines: [], size: 0, sealed: 0, last: 0, entries: [], dirtySince: undefined, usedAt: 0 };
    const row = selectLast.get(run) as ChunkRow | undefined;
    if (row) {
      head.sealed = head.last = row.last_line;
      const lines = unpackLines({ encoding: row.encoding, payload: row.data });
      const size = sizeOfAll(lines);
      // Full ones are left alone; this one is taken up again and rewritten until it is full.
      if (size < CHUNK_SIZE) Object.assign(head, { lines, size });
    }
    heads.set(run, head);
    return head;
  }

  /** Soon, with others having their turn before; later where the disk is full. */
  function schedule(delay = 0): void {
    if (scheduled || closed) return;
    scheduled = true;
    const turn = () => {
      scheduled = false;
      if (closed) return;
      const isSealed = seal(SLICE_MS, (head) =>
        head.size >= CHUNK_SIZE ? "full" : isOld(head) ? "all" : undefined,
      );
      for (const head of dirty)
        if (head.size >= CHUNK_SIZE || isOld(head)) return schedule(isSealed ? 0 : FULL_DISK_MS);
    };
    if (delay === 0) setImmediate(turn);
    else setTimeout(turn, delay).unref();
  }

  const isOld = (head: Head) => performance.now() - head.dirtySince! >= PARTIAL_AFTER_MS;

  /** Slow runs have chunks too, and those that rest no head. */
  function tend(): void {
    for (const head of dirty)
      if (isOld(head)) {
        schedule();
        break;
      }
    const now = performance.now();
    for (const head of heads.values())
      if (head.dirtySince === undefined && now - head.usedAt > 6 * PARTIAL_AFTER_MS) heads.delete(head.run);
  }

  /** One transaction, of `ms` at the most. False where the disk is full: nothing is lost, the journal keeps what is not sealed. */
  function seal(ms: number, wanted: (head: Head) => "full" | "all" | undefined): boolean {
    const until = performance.now() + ms;
    const sealed: Sealed[] = [];
    try {
      begin.run();
      for (const head of dirty) {
        const extent = wanted(head);
        if (extent) sealed.push(sealHead(head, until, extent === "all"));
        if (performance.now() > until) break;
      }
      commit.run();
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      if ((error as { code?: string }).code !== "SQLITE_FULL") onFatal(error);
      else {
        onFull();
        // Who waits for sealing would wait in vain: let the journal tell them why.
        admitWaiting();
      }
      return false;
    }
    for (const one of sealed) settle(one);
    if (pending < MAX_PENDING) admitWaiting();
    return true;
  }

  function admitWaiting(): void {
    const admitted = waiting;
    waiting = [];
    for (const admit of admitted) admit();
  }

  function sealHead(head: Head, until: number, partial: boolean): Sealed {
    const { lines } = head;
    const wholes = head.entries.filter(({ whole }) => whole !== undefined);
    let from = 0;
    let size = 0;
    for (let index = 0; index < lines.length && performance.now() <= until; index++) {
      const { line } = lines[index]!;
      while (wholes.length > 0 && wholes[0]!.whole!.first < line) wholes.shift();
      // What is packed already need not be packed again; the chunk before it is let be as it is, one short one for each whole.
      if (wholes[0]?.whole?.first === line) {
        const { last, whole } = wholes.shift()!;
        if (index > from) writeChunk(head, from, index);
        from = index + last - line + 1;
        size = 0;
        writeChunk(head, index, from, whole!.packed);
        index = from - 1;
        continue;
      }
      const next = sizeOf(lines[index]!);
      // Numbers of a batch that a full disk refused are missing, and a chunk counts its lines from the first.
      const gap = index > from && line !== lines[index - 1]!.line + 1;
      if (index > from && (gap || size + next > CHUNK_SIZE)) {
        writeChunk(head, from, index);
        from = index;
        size = 0;
      }
      size += next;
      const isLast = index === lines.length - 1;
      // One line alone can fill a chunk; nothing that comes later would make it any fuller.
      if (isLast && size >= CHUNK_SIZE) writeChunk(head, from, (from = lines.length));
      else if (isLast && partial) {
        writeChunk(head, from, lines.length);
        return { head, written: from, sealed: head.last };
      }
    }
    return { head, written: from, sealed: from === 0 ? head.sealed : lines[from - 1]!.line };
  }

  /** What is in full chunks leaves memory, what is in the unfinished one stays to be filled up. */
  function settle({ head, written, sealed }: Sealed): void {
    for (const line of head.lines) {
      if (line.line > sealed) break;
      if (line.line > head.sealed) pending -= sizeOf(line);
    }
    head.sealed = sealed;
    head.size -= sizeOfAll(head.lines.slice(0, written));
    head.lines = head.lines.slice(written);
    let durable = 0;
    while (durable < head.entries.length && head.entries[durable]!.last <= sealed) durable++;
    head.entries.splice(0, durable);
    if (head.entries.length > 0) return;
    head.dirtySince = undefined;
    dirty.delete(head);
  }

  function writeChunk(head: Head, from: number, to: number, packed?: Packed): void {
    const lines = head.lines.slice(from, to);
    const { encoding, payload } = packed ?? packLines(lines);
    let levels = 0;
    let minTime = Infinity;
    let maxTime = -Infinity;
    for (const line of lines) {
      levels |= levelBit(line.level);
      minTime = Math.min(minTime, line.time);
      maxTime = Math.max(maxTime, line.time);
    }
    const last = lines.at(-1)!.line;
    const seq = head.entries.find((entry) => entry.last >= last)?.seq ?? 0;
    insert.run(
      head.run,
      lines[0]!.line,
      last,
      minTime,
      maxTime,
      levels,
      sizeOfAll(lines),
      seq,
      encoding,
      payload,
    );
  }

  const maskOf = ({ level }: ChunkFilter) => (level === undefined ? ~0 : levelMask(level));
  const linesOf = (row: ChunkRow) => unpackLines({ encoding: row.encoding, payload: row.data });

  return {
    applier: {
      kind: "log.appended",
      apply,
      lowWater() {
        let low: number | undefined;
        for (const head of dirty) low = Math.min(low ?? Infinity, head.entries[0]!.seq);
        return low;
      },
    },
    total(run) {
      const head = heads.get(run);
      if (head) return head.last;
      return (selectTotal.get(run) as { total: number | null }).total ?? 0;
    },
    after(run, line, filter) {
      const head = heads.get(run)?.lines ?? [];
      const end = head[0]?.line ?? Infinity;
      // sqlite binds no Infinity as an integer: 2^53 is past every line.
      const row = selectAfter.get(
        run,
        line,
        Math.min(end, Number.MAX_SAFE_INTEGER),
        maskOf(filter),
        filter.since ?? 0,
      ) as ChunkRow | undefined;
      if (row) return linesOf(row);
      return head.length > 0 && head.at(-1)!.line > line ? head : undefined;
    },
    before(run, line, filter) {
      const head = heads.get(run)?.lines ?? [];
      const end = head[0]?.line ?? Infinity;
      if (end < line) return head;
      const row = selectBefore.get(
        run,
        Math.min(line, end, Number.MAX_SAFE_INTEGER),
        maskOf(filter),
        filter.since ?? 0,
      ) as ChunkRow | undefined;
      return row && linesOf(row);
    },
    room() {
      if (pending < MAX_PENDING) return undefined;
      schedule();
      return new Promise((resolve) => waiting.push(resolve));
    },
    seal: () => void seal(Infinity, () => "all"),
    async purge(run) {
      const head = heads.get(run);
      if (head) {
        for (const line of head.lines) if (line.line > head.sealed) pending -= sizeOf(line);
        dirty.delete(head);
        heads.delete(run);
        if (pending < MAX_PENDING) admitWaiting();
      }
      for (;;) {
        if (closed || remove.run(run).changes === 0) return;
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    close() {
      closed = true;
      clearInterval(timer);
      admitWaiting();
    },
  };
}

/** Of what was relayed here a payload is a piece of a body of many megabytes, which must not stay for it. */
const packedOf = ({ encoding, payload }: Packed): Packed => ({
  encoding,
  payload: payload.byteLength < payload.buffer.byteLength / 2 ? new Uint8Array(payload) : payload,
});

function sizeOfAll(lines: LogLine[]): number {
  let size = 0;
  for (const line of lines) size += sizeOf(line);
  return size;
}
