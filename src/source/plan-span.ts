import type { Frame } from "../relay/contract.ts";
import { isSameSpan, joinSpans } from "../span/pair.ts";
import type { SpanRow } from "../span/schema.ts";
import { findSpan, writeOfSpans } from "../span/write.ts";
import type { Plan } from "./plan.ts";

/** As its source has put them together. What is said of one that is here is added to it, however often and in whatever order. */
export function planSpans(plan: Plan, frame: Frame, spans: SpanRow[]): void {
  const planned = plan.requireRun(frame);
  if (planned.isDeleted) return;
  const { local } = planned;
  const { connection } = plan.collector;
  const changed = spans.flatMap((said) => {
    const known = planned.isNew ? undefined : findSpan(connection, local, said.id);
    const row = known ? joinSpans(known, said) : said;
    return known && isSameSpan(row, known) ? [] : [row];
  });
  if (changed.length === 0) return;
  plan.appendFact(frame, "span.recorded", local, {
    payload: changed,
    count: changed.length,
    writes: [writeOfSpans(local, changed)],
  });
}
