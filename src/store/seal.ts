import { BLOCK_CHUNKS, type ChunkTable, type SeriesRow } from "./chunk-table.ts";
import type { Connection } from "./open.ts";
import { encodeJobs, type EncodedJob, type EncodeJob } from "./seal-encode.ts";

/** Chunks in one message and one transaction: some 5 ms of the event loop. */
const BATCH = 16;
/** Messages a worker holds: it computes one while the other is written. */
const IN_FLIGHT = 2;
/** Chunks compressed at a time where there is no worker. */
const SLICE = 4;
/** A worker costs memory: an idle collector has none. */
const WORKER_IDLE_MS = 30_000;
const RETRY_MS = 1000;

/** The series a chunk is of. */
export interface SealedSeries {
  readonly id: number;
  /** Its run was deleted meanwhile: nothing of it is written any more. */
  readonly dead: boolean;
  /** Its row once everything up to there is in chunks. */
  rowAt(sealed: number, sealedOrdinal: number): SeriesRow;
}

export interface SealRequest {
  series: SealedSeries;
  /** Which of the series' chunks. */
  position: number;
  /** Asked when its turn has come: what is on disk of thousands of chunks would fill memory. */
  job(): EncodeJob;
  /** After COMMIT. */
  done(): void;
}

export interface Sealer {
  /** Compresses and writes in the background; chunks of a series in the order of the calls. */
  seal(request: SealRequest): void;
  /** Resolves when nothing is under way. */
  idle(): Promise<void>;
  close(): void;
}

export interface SealerOptions {
  /** Full chunk, in points. */
  chunkPoints: number;
  onFatal: (error: unknown) => void;
  /** The disk is full: asked again in a second, and told again. */
  onFull: () => void;
  /** There is no worker to be had, or it failed: from now on the event loop does its work. */
  onWorkerLost: (error: unknown) => void;
  /** false: compress on the event loop, in slices; for tests and for want of workers. */
  useWorker?: boolean | undefined;
}

export function createSealer(
  connection: Connection,
  table: ChunkTable,
  { chunkPoints, onFatal, onFull, onWorkerLost, useWorker = true }: SealerOptions,
): Sealer {
  const queue: SealRequest[] = [];
  const inFlight: SealRequest[][] = [];
  let worker: Worker | undefined;
  let workerFailed = !useWorker;
  let idleTimer: ReturnType<typeof setTimeout> | undefined;
  let slicing = false;
  /** Compressed and not yet written, in order. */
  const ready: { requests: SealRequest[]; encoded: EncodedJob[] }[] = [];
  let retrying = false;
  let closed = false;
  let waiting: (() => void)[] = [];
  const begin = connection.prepare("BEGIN IMMEDIATE");
  const commit = connection.prepare("COMMIT");
  const rollback = connection.prepare("ROLLBACK");

  const isIdle = () => queue.length === 0 && inFlight.length === 0 && ready.length === 0;

  function pump(): void {
    if (closed) return;
    if (isIdle()) return rest();
    clearTimeout(idleTimer);
    idleTimer = undefined;
    // Nothing more is compressed while the disk is full: it would wait in memory twice.
    if (retrying) return;
    if (workerFailed) return pumpSlice();
    while (!workerFailed && queue.length > 0 && inFlight.length < IN_FLIGHT) {
      const requests = queue.splice(0, BATCH);
      inFlight.push(requests);
      post(requests);
    }
  }

  function post(requests: SealRequest[]): void {
    try {
      worker ??= startWorker();
      worker.postMessage(requests.map((request) => request.job()));
    } catch (error) {
      loseWorker(error);
    }
  }

  function startWorker(): Worker {
    const worker = new Worker(new URL("./seal-worker.ts", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }: MessageEvent<EncodedJob[]>) => {
      const requests = inFlight.shift();
      if (!requests) return;
      write(requests, data);
      pump();
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      loseWorker(new Error(`The sealing worker failed: ${event.message}`, { cause: event.error }));
    });
    // Bun and Node keep a process for its workers unless told otherwise; on Deno close() ends it.
    (worker as { unref?: () => void }).unref?.();
    return worker;
  }

  /** What the worker had is done again here, and everything after it. */
  function loseWorker(error: unknown): void {
    workerFailed = true;
    onWorkerLost(error);
    worker?.terminate();
    worker = undefined;
    queue.unshift(...inFlight.splice(0).flat());
    pump();
  }

  /** A few chunks at a time, so that requests get their turn in between. */
  function pumpSlice(): void {
    if (slicing || queue.length === 0) return;
    slicing = true;
    setImmediate(() => {
      slicing = false;
      if (closed) return;
      const requests = queue.splice(0, SLICE);
      try {
        if (requests.length > 0) write(requests, encodeJobs(requests.map((request) => request.job())));
      } catch (error) {
        return fail(error);
      }
      pump();
    });
  }

  /** In order and one after the other: a series' row must not run ahead of its chunks. */
  function write(requests: SealRequest[], encoded: EncodedJob[]): void {
    ready.push({ requests, encoded });
    if (!retrying) writeReady();
  }

  function writeReady(): void {
    for (let next = ready[0]; next !== undefined && !closed; next = ready[0]) {
      try {
        writeBatch(next.requests, next.encoded);
      } catch (error) {
        if ((error as { code?: string }).code === "SQLITE_FULL") return retry();
        return fail(error);
      }
      ready.shift();
      for (const { done } of next.requests) done();
    }
  }

  function writeBatch(requests: SealRequest[], encoded: EncodedJob[]): void {
    begin.run();
    try {
      requests.forEach((request, i) => writeChunk(requests, request, encoded[i]!));
      commit.run();
    } catch (error) {
      if (connection.inTransaction) rollback.run();
      throw error;
    }
  }

  /** The disk is full: the points stay in memory and in the journal until there is room. */
  function retry(): void {
    retrying = true;
    onFull();
    const timer = setTimeout(() => {
      retrying = false;
      writeReady();
      pump();
    }, RETRY_MS);
    timer.unref?.();
  }

  function fail(error: unknown): void {
    closed = true;
    onFatal(error);
  }

  function writeChunk(
    requests: SealRequest[],
    { series, position }: SealRequest,
    { chunk, sharesWith }: EncodedJob,
  ): void {
    if (series.dead) return;
    const holder = sharesWith === null ? undefined : requests[sharesWith];
    table.putSeries(series.rowAt(position * chunkPoints + chunk.count, chunk.lastOrdinal));
    table.putChunk(series.id, position, chunk, holder ? [holder.series.id, holder.position] : null);
    if (chunk.count === chunkPoints && (position + 1) % BLOCK_CHUNKS === 0)
      table.putBlock(series.id, (position + 1) / BLOCK_CHUNKS - 1);
  }

  function rest(): void {
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
    if (worker === undefined || idleTimer !== undefined) return;
    idleTimer = setTimeout(() => {
      worker?.terminate();
      worker = undefined;
    }, WORKER_IDLE_MS);
    idleTimer.unref?.();
  }

  return {
    seal(request) {
      queue.push(request);
      // What fills up in the same tick, as all metrics of a record do, goes into one message and shares an axis.
      if (queue.length === 1) queueMicrotask(pump);
    },
    idle() {
      if (isIdle()) return Promise.resolve();
      return new Promise((resolve) => waiting.push(resolve));
    },
    close() {
      closed = true;
      clearTimeout(idleTimer);
      worker?.terminate();
      worker = undefined;
      for (const resolve of waiting) resolve();
    },
  };
}
