import type { ChunkTable } from "../store/chunk-table.ts";
import type { Connection } from "../store/open.ts";
import type { Series } from "./series.ts";

/** How long one transaction may hold the event loop. */
const SLICE_MS = 8;
/** Texts of one series between two looks at the clock. */
const BATCH = 500;
/** A full disk is asked again so much later. */
const RETRY_MS = 1000;

export interface TextSealer {
  /** Writes the texts that a series has in memory, in the background. */
  seal(series: Series): void;
  /** Resolves when nothing is under way. */
  idle(): Promise<void>;
  close(): void;
}

export interface TextSealerOptions {
  onFatal: (error: unknown) => void;
  onFull: () => void;
  /** After COMMIT: so many texts of a series are no longer in memory. */
  onSealed: (series: Series, count: number) => void;
}

/** Writes what is no number: many series share a transaction, and many transactions let others have their turn in between. */
export function createTextSealer(
  connection: Connection,
  table: ChunkTable,
  { onFatal, onFull, onSealed }: TextSealerOptions,
): TextSealer {
  const queue = new Set<Series>();
  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");
  let scheduled = false;
  let closed = false;
  let waiting: (() => void)[] = [];

  function schedule(delay = 0): void {
    if (scheduled || closed) return;
    scheduled = true;
    if (delay === 0) setImmediate(turn);
    else setTimeout(turn, delay).unref();
  }

  function turn(): void {
    scheduled = false;
    if (closed) return;
    const isWritten = writeSlice();
    if (queue.size > 0) schedule(isWritten ? 0 : RETRY_MS);
    else rest();
  }

  /** False where the disk is full: nothing is lost by waiting, the journal keeps what is not sealed. */
  function writeSlice(): boolean {
    const until = performance.now() + SLICE_MS;
    const written: [Series, number][] = [];
    try {
      begin.run();
      for (const series of queue) {
        if (!series.dead) written.push([series, writeTexts(series)]);
        if (performance.now() > until) break;
      }
      commit.run();
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      if ((error as { code?: string }).code === "SQLITE_FULL") onFull();
      else fail(error);
      return false;
    }
    for (const series of queue) if (series.dead) queue.delete(series);
    for (const [series, count] of written) {
      series.dropTexts(count);
      if (series.texts.length === 0) queue.delete(series);
      onSealed(series, count);
    }
    return true;
  }

  function writeTexts(series: Series): number {
    const texts = series.texts.slice(0, BATCH);
    for (const text of texts) table.putText(series.id, text);
    table.putSeries({
      ...series.rowAt(series.sealed, series.sealedOrdinal),
      sealedTexts: series.sealedTexts + texts.length,
      sealedTextOrdinal: texts.at(-1)!.ordinal,
    });
    return texts.length;
  }

  function fail(error: unknown): void {
    closed = true;
    onFatal(error);
  }

  function rest(): void {
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
  }

  return {
    seal(series) {
      if (series.texts.length === 0) return;
      queue.add(series);
      schedule();
    },
    idle() {
      if (queue.size === 0) return Promise.resolve();
      return new Promise((resolve) => waiting.push(resolve));
    },
    close() {
      closed = true;
      rest();
    },
  };
}
