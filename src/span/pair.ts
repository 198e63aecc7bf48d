import { createHash } from "node:crypto";
import type { SpanItem, SpanRow } from "./schema.ts";

/** What two ends of a span have in common. */
export type SpanKey = Pick<SpanRow, "kind" | "name" | "value" | "edge">;

/** One end of a span, or both. */
export interface Mark {
  started: number | null;
  ended: number | null;
}

/** Of a span that is known, under its id. */
export interface KnownMark extends Mark {
  id: string;
}

/** Where a mark belongs; null: nothing new is said by it. */
export type Placed = { id: string } | "new" | null;

/**
 * Which of the spans of its key a mark belongs to. Its sender may say an end twice, lose one, or say the end before the beginning:
 *
 * - said again (a known span begins, or ends, at that very time): nothing new
 * - an end: of the last open span that began by then; else of one nobody has heard of, whose beginning may come
 * - a beginning: of the first span that ended since and has none, unless another one began in between; else a new span
 * - both: of the open span that began then; else a new span
 */
export function placeMark(known: readonly KnownMark[], { started, ended }: Mark): Placed {
  if (started === null) return placeEnd(known, ended!);
  const begun = known.find((span) => span.started === started);
  if (ended === null) return begun ? null : placeStart(known, started);
  const same = known.find(
    (span) => span.started === started && (span.ended === null || span.ended === ended),
  );
  return !same ? "new" : same.ended === null ? { id: same.id } : null;
}

function placeEnd(known: readonly KnownMark[], ended: number): Placed {
  if (known.some((span) => span.ended === ended)) return null;
  let last: (KnownMark & { started: number }) | undefined;
  for (const { id, started, ended: end } of known)
    if (started !== null && end === null && started <= ended && started >= (last?.started ?? 0))
      last = { id, started, ended: null };
  return last ? { id: last.id } : "new";
}

function placeStart(known: readonly KnownMark[], started: number): Placed {
  let first: (KnownMark & { ended: number }) | undefined;
  for (const { id, started: start, ended } of known)
    if (start === null && ended !== null && ended >= started && ended < (first?.ended ?? Infinity))
      first = { id, started: null, ended };
  if (!first) return "new";
  const { ended } = first;
  const isBetween = known.some(({ started: start }) => start !== null && start > started && start <= ended);
  return isBetween ? "new" : { id: first.id };
}

/**
 * Of what the span is by what was heard of it first: whoever hears the same makes the same id of it, so that a batch that is stored
 * again, by a relay or by a collector that was restored, makes no second span. `whole`: of both its ends.
 */
export function spanId(
  { kind, name, value, edge }: SpanKey,
  { started, ended }: Mark,
  { whole = false } = {},
): string {
  const first = started === null ? `e${ended}` : whole ? `s${started}e${ended}` : `s${started}`;
  return createHash("sha256")
    .update(JSON.stringify([kind, edge, name, value, first]))
    .digest("hex")
    .slice(0, 24);
}

/** What both say: neither takes anything back. */
export const joinSpans = (known: SpanRow, said: SpanRow): SpanRow => ({
  ...known,
  started: known.started ?? said.started,
  ended: known.ended ?? said.ended,
  round: known.round ?? said.round,
  total: known.total ?? said.total,
});

export const isSameSpan = (a: SpanRow, b: SpanRow): boolean =>
  a.started === b.started && a.ended === b.ended && a.round === b.round && a.total === b.total;

/** An item as a row, without the id it may have none of. */
export const rowOf = (item: SpanItem, id: string): SpanRow => ({
  id,
  kind: item.kind,
  name: item.name,
  value: item.value ?? "",
  edge: item.edge ?? "",
  started: item.started ?? null,
  ended: item.ended ?? null,
  round: item.round ?? null,
  total: item.total ?? null,
});
