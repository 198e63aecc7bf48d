import type { Collector } from "../collector.ts";
import type { Write } from "../store/journal-rows.ts";
import { SpanRow } from "../span/schema.ts";
import { spanPages, writeOfSpans } from "../span/write.ts";
import { lineOf, linesOf } from "./check.ts";
import { damaged, type ArchiveEntry } from "./zip-read.ts";

const PAGE = 1000;
const MAX_SPANS = 1_000_000;
const MAX_SPAN_BYTES = 64 * 1024;
/** Of all lines: their spans are held until they are written together. */
const MAX_ALL_BYTES = 256 * 1024 * 1024;

/** A run's spans, a line each. */
export async function* spanLines({ connection }: Collector, run: string): AsyncGenerator<string, void> {
  for (const rows of spanPages(connection, run, PAGE)) {
    for (const row of rows) yield `${JSON.stringify(row)}\n`;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** None where it is an archive from before there were spans. */
export async function readSpans(entry: ArchiveEntry | undefined): Promise<SpanRow[]> {
  const spans: SpanRow[] = [];
  if (!entry) return spans;
  if (entry.size > MAX_ALL_BYTES) throw damaged("it has too many spans");
  const ids = new Set<string>();
  for await (const line of linesOf(entry, MAX_SPAN_BYTES)) {
    const span = lineOf(entry, SpanRow, line);
    if (ids.has(span.id)) throw damaged("it names a span twice");
    ids.add(span.id);
    if (spans.push(span) > MAX_SPANS) throw damaged("it has too many spans");
  }
  return spans;
}

/** Behind the run's row. */
export function writesOfSpans(run: string, spans: readonly SpanRow[]): Write[] {
  const writes: Write[] = [];
  for (let at = 0; at < spans.length; at += PAGE) writes.push(writeOfSpans(run, spans.slice(at, at + PAGE)));
  return writes;
}
