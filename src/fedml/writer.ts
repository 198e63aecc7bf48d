import { randomUUID } from "node:crypto";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { appendLogs } from "../log/append.ts";
import type { LogItem } from "../log/schema.ts";
import { appendRecords } from "../metric/append.ts";
import { MAX_STEP, type MetricRecord } from "../metric/schema.ts";
import { recordSpans } from "../span/record.ts";
import type { SpanItem } from "../span/schema.ts";
import { writerOf } from "../store/counters.ts";
import { reopenWithEdges } from "./edge-writer.ts";

/** Writes what FedML clients send, who number nothing: one writer of ours a run and rank, whose batches it numbers itself. */
export interface FedmlWriter {
  /** Resolves when they are durable. Calls for one rank of a run are stored in their order. */
  records(run: string, items: MetricRecord[]): Promise<void>;
  lines(run: string, items: LogItem[], rank?: number): Promise<void>;
  spans(run: string, items: SpanItem[]): Promise<void>;
}

/** Records, or bytes of lines, in one batch: bounds the time that the event loop is held. */
const MAX_BATCH_RECORDS = 5000;
const MAX_BATCH_TEXT = 4 * 1024 * 1024;
/** Values and characters that may wait for all runs together. */
const MAX_WAITING = 64 * 1024 * 1024;

interface Call {
  kind: "records" | "lines" | "spans";
  items: unknown[];
  /** Roughly how much memory it holds. */
  size: number;
  resolve(): void;
  reject(error: unknown): void;
}

/** One edge's lines must not wait for the disk with another's. */
interface Lane {
  run: string;
  rank: number;
  /** Whose batches it numbers. */
  writer: string;
  calls: Call[];
}

export function createWriter(collector: Collector): FedmlWriter {
  const client = `fedml-${randomUUID()}`;
  const lanes = new Map<string, Lane>();
  let waiting = 0;

  function put(run: string, kind: Call["kind"], rank: number, items: unknown[], size: number): Promise<void> {
    if (items.length === 0) return Promise.resolve();
    if (waiting > 0 && waiting + size > MAX_WAITING)
      return Promise.reject(
        new CollectorError("busy", "More comes from FedML clients than can be stored.", {
          hint: "It is taken again as soon as the disk has caught up.",
        }),
      );
    waiting += size;
    return new Promise((resolve, reject) => {
      const call = { kind, items, size, resolve, reject };
      const key = `${rank}/${run}`;
      const lane = lanes.get(key);
      if (lane) return void lane.calls.push(call);
      const opened = { run, rank, writer: rank === 0 ? client : `${client}-${rank}`, calls: [call] };
      lanes.set(key, opened);
      void drain(key, opened);
    });
  }

  /** One batch of a lane at a time: what comes while it is on its way to disk is the next. */
  async function drain(key: string, lane: Lane): Promise<void> {
    // What else is read from sockets in this tick shares the first commit, too.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (lane.calls.length > 0) {
      const calls = takeBatch(lane);
      await sendAll(lane, calls);
      for (const { size } of calls) waiting -= size;
    }
    // In the same turn as the look at its calls: one that comes between them would wait for ever.
    lanes.delete(key);
  }

  async function sendAll(lane: Lane, calls: Call[]): Promise<void> {
    try {
      await send(lane, calls);
      for (const call of calls) call.resolve();
    } catch (error) {
      if (calls.length === 1 || !isInvalid(error)) {
        for (const call of calls) call.reject(error);
        return;
      }
      // One bad record must not cost the others that it shared a batch with.
      for (const call of calls) await sendAll(lane, [call]);
    }
  }

  async function send({ run, rank, writer }: Lane, calls: readonly Call[]): Promise<void> {
    const { kind } = calls[0]!;
    const items = calls.length === 1 ? calls[0]!.items : calls.flatMap((call) => call.items);
    const counter = writerOf(collector.counters.own(run), writer);
    if (counter.seq === 0 && counter.nextStep === 0) counter.nextStep = firstStep(run);
    const seq = counter.seq + 1;
    const batch = { client: writer, seq, rank };
    if (kind === "records") await appendRecords(collector, run, { ...batch, items });
    else if (kind === "spans")
      await recordSpans(collector, run, { client: writer, seq, items: items as SpanItem[] });
    else await appendLogs(collector, run, { ...batch, items: items as LogItem[] });
    // Under one name for all ranks: one that fell silent while others write would be taken for dead.
    // They are durable now: where the run can't be taken up again, the next batch tries, and these need not come twice.
    if (collector.presence.contact(run, client))
      await reopenWithEdges(collector, run, client).catch(() => {});
  }

  /** Where clients of older versions, which bring no step, count on after a restart of ours. */
  const firstStep = (run: string) =>
    Math.min(Math.floor(collector.series.lastStep(run, 0) ?? -1) + 1, MAX_STEP);

  return {
    records: (run, items) => put(run, "records", 0, items, sizeOfRecords(items)),
    lines: (run, items, rank = 0) => put(run, "lines", rank, items, sizeOfLines(items)),
    spans: (run, items) => put(run, "spans", 0, items, 256 * items.length),
  };
}

/** The first calls that can go together. */
function takeBatch(lane: Lane): Call[] {
  const { kind } = lane.calls[0]!;
  let length = 0;
  let items = 0;
  let size = 0;
  for (const call of lane.calls) {
    if (call.kind !== kind) break;
    if (length > 0 && (items + call.items.length > MAX_BATCH_RECORDS || size + call.size > MAX_BATCH_TEXT))
      break;
    items += call.items.length;
    size += call.size;
    length++;
  }
  return lane.calls.splice(0, length);
}

const isInvalid = (error: unknown) => error instanceof CollectorError && error.code === "invalid";

function sizeOfRecords(items: readonly MetricRecord[]): number {
  let size = 0;
  for (const { metrics } of items) {
    size += 64;
    for (const key in metrics) {
      const value = metrics[key];
      size += 32 + (typeof value === "number" ? 0 : sizeOfValue(value));
    }
  }
  return size;
}

/** Of a text or of what is nested. */
const sizeOfValue = (value: unknown) =>
  typeof value === "string" ? value.length : JSON.stringify(value).length;

function sizeOfLines(items: readonly LogItem[]): number {
  let size = 0;
  for (const { text } of items) size += 64 + text.length;
  return size;
}
