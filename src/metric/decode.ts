import { Encoding, type Entry } from "../entry.ts";
import { decompress } from "../store/zstd.ts";
import { unpackBatch, type MetricBatch } from "./batch.ts";
import { buildColumns } from "./parse.ts";

/** The batch of a metric.appended entry. */
export function decodeBatch({ encoding, payload, ordinal }: Entry): MetricBatch {
  const first = ordinal ?? 0;
  if (encoding === Encoding.columns) return unpackBatch(payload, first);
  if (encoding === Encoding.columnsZstd) return unpackBatch(decompress(payload), first);
  const text = new TextDecoder().decode(encoding === Encoding.jsonZstd ? decompress(payload) : payload);
  const { rank, items } = JSON.parse(text) as { rank: number; items: unknown[] };
  const batch = buildColumns(items, rank);
  batch.ordinal = first;
  return batch;
}
