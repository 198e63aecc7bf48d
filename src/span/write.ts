import type { Connection } from "../store/open.ts";
import type { Write } from "../store/journal-rows.ts";
import { prepared } from "../store/prepared.ts";
import type { KnownMark, SpanKey } from "./pair.ts";
import type { SpanRow } from "./schema.ts";

const COLUMNS = "id, kind, name, value, edge, started, ended, round, total";

/** Nothing is kept of a run that was deleted meanwhile, and what a row says already stays. */
const PUT = `INSERT INTO span (run, ${COLUMNS})
  SELECT ?1, ${COLUMNS.split(", ")
    .map((column) => `value ->> '${column}'`)
    .join(", ")}
  FROM json_each(?2) WHERE EXISTS (SELECT 1 FROM run WHERE id = ?1 AND deleted = 0)
  ON CONFLICT (run, id) DO UPDATE SET started = coalesce(started, excluded.started), ended = coalesce(ended, excluded.ended),
  round = coalesce(round, excluded.round), total = coalesce(total, excluded.total)`;

export const writeOfSpans = (run: string, rows: readonly SpanRow[]): Write => ({
  sql: PUT,
  params: [run, JSON.stringify(rows)],
});

/** By all(): what get() gives has a member of its own. */
export const findSpan = (connection: Connection, run: string, id: string): SpanRow | undefined =>
  (prepared(connection, `SELECT ${COLUMNS} FROM span WHERE run = ? AND id = ?`).all(run, id) as SpanRow[])[0];

/**
 * Left to itself the planner walks all spans of the run by their time, to save the sorting of a handful.
 * Of those of one key as many as a mark can belong to: it comes soon after the span's other end.
 */
const MAX_KNOWN = 1000;

export function findMarks(
  connection: Connection,
  run: string,
  { edge, kind, name, value }: SpanKey,
): KnownMark[] {
  return prepared(
    connection,
    `SELECT id, started, ended FROM span INDEXED BY span_name WHERE run = ? AND edge = ? AND kind = ? AND name = ? AND value = ?
     ORDER BY coalesce(started, ended) DESC LIMIT ${MAX_KNOWN}`,
  ).all(run, edge, kind, name, value) as KnownMark[];
}

/** Of a run page by page, in the order of their beginnings. */
export function* spanPages(connection: Connection, run: string, size: number): Generator<SpanRow[], void> {
  const select = prepared(
    connection,
    `SELECT ${COLUMNS} FROM span WHERE run = ?1 AND id > ?2 ORDER BY id LIMIT ?3`,
  );
  for (let after = ""; ;) {
    const rows = select.all(run, after, size) as SpanRow[];
    if (rows.length > 0) yield rows;
    if (rows.length < size) return;
    after = rows.at(-1)!.id;
  }
}
