import type { Collector } from "../collector.ts";
import { Encoding } from "../entry.ts";
import type { Appended } from "../metric/schema.ts";
import { answerRepetition } from "../run/repetition.ts";
import { claimBatch } from "../store/counters.ts";
import { compress } from "../store/zstd.ts";
import { isSameSpan, joinSpans, placeMark, rowOf, spanId } from "./pair.ts";
import type { RecordSpans, SpanItem, SpanRow } from "./schema.ts";
import { findMarks, findSpan, writeOfSpans } from "./write.ts";

/** Below this zstd only adds a header. */
const MIN_COMPRESSED = 512;

/** Rows that are on their way to the disk, by run and id: the next batch adds to them. */
const underWay = new WeakMap<Collector, Map<string, Map<string, SpanRow>>>();

/**
 * Stores spans, once. Everything from the claim of the batch's number to the call of the journal happens in one tick; a batch that
 * says nothing new is an entry all the same, which carries its client's number.
 */
export async function recordSpans(collector: Collector, run: string, input: RecordSpans): Promise<Appended> {
  const { client, seq, items } = input;
  const counter = collector.counters.own(run);
  if (!claimBatch(counter, client, seq))
    return answerRepetition(collector, run, input, () => recordSpans(collector, run, input));
  const rows = [...placeAll(collector, run, items).values()];
  const json = new TextEncoder().encode(JSON.stringify(rows));
  const isLarge = json.length >= MIN_COMPRESSED;
  const done = enter(collector, run, rows);
  try {
    await collector.journal.append(
      {
        kind: "span.recorded",
        version: 1,
        run,
        client,
        clientSeq: seq,
        ordinal: null,
        nextStep: null,
        count: rows.length,
        time: collector.now(),
        encoding: isLarge ? Encoding.jsonZstd : Encoding.json,
        payload: isLarge ? compress(json) : json,
      },
      rows,
      rows.length === 0 ? [] : [writeOfSpans(run, rows)],
    );
  } finally {
    done();
  }
  return { acked: seq };
}

/** What changes, each as it is then. */
function placeAll(collector: Collector, run: string, items: readonly SpanItem[]): Map<string, SpanRow> {
  const { connection } = collector;
  const waiting = underWay.get(collector)?.get(run) ?? new Map<string, SpanRow>();
  const changed = new Map<string, SpanRow>();
  for (const item of items) {
    const id = item.id ?? placeOf(item);
    if (id === undefined) continue;
    const said = rowOf(item, id);
    const known = changed.get(id) ?? waiting.get(id) ?? findSpan(connection, run, id);
    const row = known ? joinSpans(known, said) : said;
    if (!known || !isSameSpan(row, known)) changed.set(id, row);
  }

  function placeOf(item: SpanItem): string | undefined {
    const mark = rowOf(item, "");
    const known = new Map(findMarks(connection, run, mark).map((span) => [span.id, span]));
    for (const rows of [waiting, changed])
      for (const [id, row] of rows) if (isOfKey(row, mark)) known.set(id, row);
    const placed = placeMark([...known.values()], mark);
    if (placed !== "new") return placed?.id;
    const id = spanId(mark, mark);
    // One that began with it has ended at another time.
    return mark.ended !== null && known.has(id) ? spanId(mark, mark, { whole: true }) : id;
  }

  return changed;
}

const isOfKey = (a: SpanRow, b: SpanRow): boolean =>
  a.kind === b.kind && a.name === b.name && a.value === b.value && a.edge === b.edge;

/** Notes what is under way; returns what takes it back. */
function enter(collector: Collector, run: string, rows: readonly SpanRow[]): () => void {
  let byRun = underWay.get(collector);
  if (!byRun) underWay.set(collector, (byRun = new Map()));
  let waiting = byRun.get(run);
  if (!waiting) byRun.set(run, (waiting = new Map()));
  for (const row of rows) waiting.set(row.id, row);
  return () => {
    for (const row of rows) if (waiting.get(row.id) === row) waiting.delete(row.id);
    if (waiting.size === 0 && byRun.get(run) === waiting) byRun.delete(run);
  };
}
