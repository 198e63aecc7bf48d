import type { SpoolLine } from "./spool.ts";

/** One request of a writer, waiting for its turn. */
export interface Batch {
  path: string;
  kind: "records" | "logs" | "change" | "finish";
  body: Record<string, unknown>;
  items: unknown[];
  bytes: number;
}

const MAX_BATCH_ITEMS = 5_000;
export const MAX_BATCH_BYTES = 1024 * 1024;

/** What a writer has not sent yet, in memory, in order. Items gather in the last batch; its number is given when it begins. */
export class BatchQueue {
  readonly #run: string;
  readonly #client: string;
  readonly #rank: number;
  #batches: Batch[] = [];
  #bytes = 0;
  #seq = 0;
  /** Sent, perhaps in vain: it may not grow any more, as the collector may have taken it under its number. */
  #sent: Batch | undefined;

  constructor(run: string, client: string, rank: number) {
    this.#run = run;
    this.#client = client;
    this.#rank = rank;
  }

  get length(): number {
    return this.#batches.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get first(): Batch | undefined {
    return this.#batches[0];
  }

  get last(): Batch | undefined {
    return this.#batches.at(-1);
  }

  add(kind: "records" | "logs", item: unknown, bytes: number): void {
    const batch = this.#growing(kind, bytes) ?? this.#begin(kind);
    batch.items.push(item);
    batch.bytes += bytes;
    this.#bytes += bytes;
  }

  #growing(kind: "records" | "logs", bytes: number): Batch | undefined {
    const { last } = this;
    const fits =
      last?.kind === kind &&
      last !== this.#sent &&
      last.items.length < MAX_BATCH_ITEMS &&
      last.bytes + bytes <= MAX_BATCH_BYTES;
    return fits ? last : undefined;
  }

  #begin(kind: "records" | "logs"): Batch {
    const items: unknown[] = [];
    const body = { client: this.#client, seq: ++this.#seq, rank: this.#rank, items };
    const batch: Batch = { path: this.pathOf(kind), kind, items, bytes: 0, body };
    this.#batches.push(batch);
    return batch;
  }

  /** A request that is no batch. */
  request(kind: "change" | "finish", body: Record<string, unknown>): void {
    const bytes = JSON.stringify(body).length;
    this.#batches.push({ path: this.pathOf(kind), kind, items: [], body, bytes });
    this.#bytes += bytes;
  }

  /** Lines still being rewritten, and nothing to keep: takes no number. */
  open(open: object): Batch {
    const body = { client: this.#client, seq: this.#seq + 1, rank: this.#rank, items: [], open };
    return { path: this.pathOf("logs"), kind: "logs", items: [], body, bytes: 0 };
  }

  push(batch: Batch): void {
    this.#batches.push(batch);
    this.#bytes += batch.bytes;
  }

  /** The first, to be sent; `finished` tells that it is answered. */
  begin(): Batch {
    return (this.#sent = this.#batches[0]!);
  }

  /** Unless it was taken out meanwhile. */
  finished(batch: Batch, isAnswered: boolean): void {
    if (isAnswered && this.#batches[0] === batch) this.takeFirst();
  }

  takeFirst(): Batch {
    const batch = this.#batches.shift()!;
    this.#bytes -= batch.bytes;
    return batch;
  }

  takeAll(): Batch[] {
    const batches = this.#batches;
    this.#batches = [];
    this.#bytes = 0;
    return batches;
  }

  pathOf(kind: Batch["kind"]): string {
    return `/api/v1/runs/${this.#run}${kind === "change" ? "" : `/${kind}`}`;
  }
}

export const lineOf = ({ kind, path, body }: Batch): SpoolLine => ({
  v: 1,
  ...(kind === "change" && { method: "PATCH" as const }),
  path,
  body,
});
