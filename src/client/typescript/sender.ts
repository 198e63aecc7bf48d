import type { LogItem } from "../../log/schema.ts";
import type { MetricRecord } from "../../metric/schema.ts";
import type { CreateRun, FinishRun, SetRun, Writer } from "../../run/schema.ts";
import { CollectorError } from "../../error.ts";
import { BatchQueue, lineOf, MAX_BATCH_BYTES } from "./batch-queue.ts";
import type { Connection } from "./connection.ts";
import type { Delivery, SendStats } from "./delivery.ts";
import { requestJson } from "./http.ts";
import { LaidAside } from "./laid-aside.ts";
import { Nap } from "./nap.ts";
import { OPEN_EVERY_MS, OpenLines, type OpenState } from "./open-lines.ts";
import { createSpoolQueue, type SpoolQueue } from "./spool-queue.ts";
import { deliver, fillNumber, isPermanent, type Post, type SpoolLine } from "./spool.ts";
import { Waiters } from "./waiters.ts";

export interface SenderOptions {
  /** Asked before every attempt: a collector that was restarted may have another port or token. */
  connection: () => Pick<Connection, "url" | "token">;
  spoolDir: string;
  /** The run to create, join or resume, and who we are in it. */
  create: CreateRun & { id: string; writer: Writer };
  /** Bytes kept in memory (default 8 MiB). */
  maxQueueBytes?: number;
  /** Bytes kept on disk while no collector answers (default 1 GiB); beyond them the newest is dropped and counted. */
  maxSpoolBytes?: number;
  /** Quiet time after a small batch, in which the next one gathers (default 100 ms). */
  gatherMs?: number;
  /** ms until a collector that does not answer counts as gone (default 10 s). */
  timeoutMs?: number;
  /** The collector stopped answering (with why), or answers again. */
  onChange?: (online: boolean, error: Error | undefined) => void;
  /** The first batch that the collector will never take, why, and where it lies. */
  onRefused?: (error: Error, file: string | undefined) => void;
}

/**
 * One writer's way to the collector: numbered batches, in order, one in flight. Nothing here waits in a caller's way: items
 * go into a bounded queue, from there to the collector or, while none answers, into a spool file that is sent first when it is back.
 */
export interface Sender {
  readonly run: string;
  readonly client: string;
  /** The collector's first answer (RunDetail). Rejects where it refuses for good; stays open while none answers. */
  readonly created: Promise<unknown>;
  records(items: MetricRecord[]): void;
  logs(items: LogItem[]): void;
  /** Changes the run's config, tags or notes, after everything given before. */
  change(input: SetRun): void;
  /** Newest state only; sent with the next lines, or by itself a few times a second. */
  open(state: OpenState): void;
  /** undefined, or what a producer that can wait should wait for. It never waits for a collector that is gone. */
  room(): Promise<void> | undefined;
  /** Resolves with true when everything given so far is answered, false after `timeoutMs`. */
  flush(timeoutMs: number): Promise<boolean>;
  /** Ends the run and this sender. What could not be sent by then stays in the spool. */
  finish(input: Omit<FinishRun, "client">, options?: FinishOptions): Promise<Delivery>;
  /** Ends this sender at once, without a word about the run: what is not sent goes to the spool. Synchronous, for exit hooks. */
  abandon(): Delivery;
  stats(): SendStats;
}

export interface FinishOptions {
  /** Longest wait in all (default 60 s). */
  timeoutMs?: number;
  /** Longest wait for a collector that does not answer (default 3 s). */
  offlineMs?: number;
}

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
/** A full queue that does not move for so long is written to the spool, though the connection is open. */
const STALL_MS = 3_000;
/** A disk that refused is asked again after so long: every attempt turns a whole batch into text. */
const SPILL_RETRY_MS = 1_000;

export function createSender(options: SenderOptions): Sender {
  return new QueueingSender(options);
}

class QueueingSender implements Sender {
  readonly run: string;
  readonly client: string;
  readonly created: Promise<unknown>;

  readonly #options: SenderOptions;
  readonly #maxQueueBytes: number;
  readonly #gatherMs: number;
  readonly #timeoutMs: number;
  readonly #queue: BatchQueue;
  readonly #spool: SpoolQueue;
  readonly #nap = new Nap();
  #resolveCreated!: (run: unknown) => void;
  #rejectCreated!: (error: unknown) => void;

  #joined = false;
  #online = true;
  #ended = false;
  #delivered = false;
  #retryMs = FIRST_RETRY_MS;
  readonly #aside: LaidAside;
  #error: Error | undefined;
  #dropped = { records: 0, lines: 0 };

  readonly #open = new OpenLines();

  readonly #waitingForRoom = new Waiters();
  readonly #waitingForEmpty = new Waiters();
  #stallTimer: ReturnType<typeof setTimeout> | undefined;
  #spillAgainAt = 0;

  constructor(options: SenderOptions) {
    const { create, maxQueueBytes = 8 * 1024 * 1024, gatherMs = 100, timeoutMs = 10_000 } = options;
    this.#options = options;
    this.#maxQueueBytes = maxQueueBytes;
    this.#gatherMs = gatherMs;
    this.#timeoutMs = timeoutMs;
    this.run = create.id;
    this.client = create.writer.client;
    this.created = new Promise((resolve, reject) => {
      this.#resolveCreated = resolve;
      this.#rejectCreated = reject;
    });
    // Who does not ask shall not be ended by it.
    this.created.catch(() => {});
    this.#queue = new BatchQueue(this.run, this.client, create.writer.rank);
    this.#spool = createSpoolQueue(options.spoolDir, this.run, this.client, {
      first: { v: 1, path: "/api/v1/runs", body: { ...create } },
      maxBytes: options.maxSpoolBytes ?? 1024 ** 3,
    });
    this.#aside = new LaidAside(this.#spool.path);
    void this.#pump();
  }

  records(items: MetricRecord[]): void {
    this.#push("records", items, (item) => 64 + JSON.stringify(item.metrics).length);
  }

  logs(items: LogItem[]): void {
    this.#push("logs", items, (item) => 64 + item.text.length);
  }

  #push<T>(kind: "records" | "logs", items: T[], sizeOf: (item: T) => number): void {
    if (this.#ended) return;
    for (const item of items) {
      const bytes = sizeOf(item);
      if (this.#makeRoom(bytes)) this.#queue.add(kind, item, bytes);
      else this.#dropped[kind === "logs" ? "lines" : "records"]++;
    }
    this.#nudge();
  }

  /** What memory cannot hold the disk must; false where it does not. No more than needed: whoever logs right now waits for it. */
  #makeRoom(bytes: number): boolean {
    // Twice over, and the producer does not wait for room.
    const bound = this.#online ? this.#maxQueueBytes * 2 : this.#maxQueueBytes;
    while (this.#queue.length > 0 && this.#queue.bytes + bytes > bound)
      if (!this.#spillOldest()) return false;
    return true;
  }

  open(state: OpenState): void {
    this.#open.change(state);
    this.#nudge();
  }

  room(): Promise<void> | undefined {
    if (this.#queue.bytes <= this.#maxQueueBytes || this.#ended) return undefined;
    if (!this.#online) {
      this.#spill();
      return undefined;
    }
    this.#stallTimer ??= setTimeout(() => {
      this.#stallTimer = undefined;
      this.#goOffline(new CollectorError("unreachable", "The collector takes nothing any more."));
    }, STALL_MS);
    return this.#waitingForRoom.wait();
  }

  async flush(timeoutMs: number): Promise<boolean> {
    if (this.#isEmpty) return true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const empty = this.#waitingForEmpty.wait().then(() => true);
    const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), timeoutMs)));
    this.#nap.wake();
    const done = await Promise.race([empty, late]);
    clearTimeout(timer);
    return done;
  }

  change(input: SetRun): void {
    if (this.#ended) return;
    this.#queue.request("change", { ...input });
    this.#nudge();
  }

  async finish(
    input: Omit<FinishRun, "client">,
    { timeoutMs = 60_000, offlineMs = 3_000 }: FinishOptions = {},
  ): Promise<Delivery> {
    const open = this.#open.take();
    if (open) this.#queue.push(this.#queue.open(open));
    this.#queue.request("finish", { client: this.client, finished: Date.now(), ...input });
    this.#nudge();
    const deadline = performance.now() + timeoutMs;
    let offlineSince = performance.now();
    while (!this.#ended && !this.#isEmpty && performance.now() < deadline) {
      if (this.#online) offlineSince = performance.now();
      else if (performance.now() - offlineSince > offlineMs) break;
      await this.flush(Math.min(250, offlineMs));
    }
    return this.abandon();
  }

  abandon(): Delivery {
    if (!this.#ended) {
      // Where the collector failed last and nothing is left, it was dropped.
      this.#delivered = this.#isEmpty && this.#online;
      if (!this.#delivered) this.#spillOrDrop();
      this.#ended = true;
      this.#spool.close({ discard: this.#delivered });
      clearTimeout(this.#stallTimer);
      this.#waitingForRoom.release();
      this.#nap.wake();
    }
    const spool = this.#spool.pending > 0 ? this.#spool.path : undefined;
    return { delivered: this.#delivered, spool, stats: this.stats() };
  }

  stats(): SendStats {
    return {
      online: this.#online,
      spooled: this.#spool.pending,
      dropped: { ...this.#dropped },
      refused: this.#aside.count,
      refusedFile: this.#aside.file,
      error: this.#error,
    };
  }

  get #isEmpty(): boolean {
    return this.#queue.length === 0 && this.#spool.pending === 0 && this.#joined;
  }

  /** The one loop: it alone sends, so nothing overtakes. */
  async #pump(): Promise<void> {
    while (!this.#ended) {
      try {
        await this.#join();
        if (this.#spool.pending > 0) await this.#sendSpooled();
        else if (this.#queue.length > 0) await this.#sendFirst();
        else if (!(await this.#sendOpen())) await this.#idle();
      } catch (error) {
        if (this.#ended) return;
        this.#goOffline(error as Error);
        await this.#nap.sleep(this.#retryMs * (0.75 + Math.random() / 2));
        this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
      }
    }
  }

  async #join(): Promise<void> {
    if (this.#joined) return;
    try {
      const answer = await this.#post("/api/v1/runs", { ...this.#options.create });
      this.#joined = true;
      this.#answered();
      this.#resolveCreated(answer);
    } catch (error) {
      if (!isPermanent(error)) throw error;
      // Whatever follows will be refused as well, and is counted there.
      this.#joined = true;
      this.#error ??= error as Error;
      this.#rejectCreated(error);
    }
  }

  async #sendSpooled(): Promise<void> {
    const line = this.#spool.peek();
    if (line) await this.#send(line);
    this.#spool.shift();
    this.#answered();
  }

  async #sendFirst(): Promise<void> {
    const batch = this.#queue.begin();
    const open = batch.kind === "logs" ? this.#open.take() : undefined;
    let isAnswered = false;
    try {
      await this.#send(lineOf(open ? { ...batch, body: { ...batch.body, open } } : batch));
      isAnswered = true;
    } finally {
      // Where it went to the spool meanwhile it will be sent again, to no effect.
      this.#queue.finished(batch, isAnswered);
    }
    this.#answered();
    if (this.#queue.bytes < MAX_BATCH_BYTES / 4 && this.#queue.last?.kind !== "finish")
      await this.#nap.sleep(this.#gatherMs, () => this.#queue.bytes >= MAX_BATCH_BYTES / 4);
  }

  /** Delivers one request, or lays it aside where it will never be taken. */
  async #send(line: SpoolLine): Promise<void> {
    const post: Post = (path, body, method) => this.#post(path, body, method);
    try {
      await deliver(line, post).catch(async (error: unknown) => {
        if (!isNotFound(error) || line.path === "/api/v1/runs") throw error;
        // The collector has lost the run (another data folder, an older backup): it gets it again.
        await this.#post("/api/v1/runs", { ...this.#options.create });
        await deliver(line, post);
      });
    } catch (error) {
      if (!isPermanent(error)) throw error;
      const isFirst = await this.#aside.add(line, error);
      this.#error ??= error as Error;
      if (isFirst) this.#options.onRefused?.(error as Error, this.#aside.file);
      await fillNumber(line, post);
    }
  }

  #idle(): Promise<void> {
    if (this.#open.isEmpty) return this.#nap.sleep(undefined);
    return this.#nap.sleep(OPEN_EVERY_MS, () => this.#queue.length > 0);
  }

  /** Returns whether there was something to send. */
  async #sendOpen(): Promise<boolean> {
    const open = this.#open.isDue ? this.#open.take() : undefined;
    if (!open) return false;
    const { path, body } = this.#queue.open(open);
    await this.#post(path, body).catch((error: unknown) => {
      if (!isPermanent(error)) throw error;
    });
    return true;
  }

  #post(path: string, body: Record<string, unknown>, method = "POST"): Promise<unknown> {
    return requestJson(this.#options.connection(), path, { method, body, timeout: this.#timeoutMs });
  }

  #answered(): void {
    this.#retryMs = FIRST_RETRY_MS;
    clearTimeout(this.#stallTimer);
    this.#stallTimer = undefined;
    if (!this.#online) {
      this.#online = true;
      this.#options.onChange?.(true, undefined);
    }
    if (this.#queue.bytes <= this.#maxQueueBytes) this.#waitingForRoom.release();
    if (this.#isEmpty) this.#waitingForEmpty.release();
  }

  #goOffline(error: Error): void {
    this.#error = error;
    const changed = this.#online;
    this.#online = false;
    // At once, not when memory is full: whoever kills this process now takes nothing with him.
    this.#spill();
    this.#waitingForRoom.release();
    if (changed) this.#options.onChange?.(false, error);
  }

  /** Moves the queue to the spool file, in order; what the file does not take stays in memory. */
  #spill(): void {
    while (this.#spillOldest());
  }

  /** Returns whether a batch was moved. The one on its way goes too: its answer may never come. The file is sent first. */
  #spillOldest(): boolean {
    const { first } = this.#queue;
    if (!first || performance.now() < this.#spillAgainAt) return false;
    if (!this.#spool.push(lineOf(first))) {
      this.#spillAgainAt = performance.now() + SPILL_RETRY_MS;
      return false;
    }
    this.#queue.takeFirst();
    return true;
  }

  /** The end of this process: nothing stays in memory. */
  #spillOrDrop(): void {
    for (const batch of this.#queue.takeAll()) {
      const always = batch.kind === "finish";
      if (this.#spool.push(lineOf(batch), { always })) continue;
      if (batch.kind === "records") this.#dropped.records += batch.items.length;
      if (batch.kind === "logs") this.#dropped.lines += batch.items.length;
    }
  }

  /** Something was queued. */
  #nudge(): void {
    if (!this.#online) {
      // The spool is where it must go in any case; by batches, not line by line.
      if (this.#queue.bytes > MAX_BATCH_BYTES / 4) this.#spill();
      return;
    }
    this.#nap.nudge();
  }
}

const isNotFound = (error: unknown) => error instanceof CollectorError && error.code === "not-found";
