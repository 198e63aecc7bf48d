import type { Collector } from "../collector.ts";
import type { Connection } from "../store/open.ts";
import { prepared } from "../store/prepared.ts";
import type { QuerySpans, Span, SpanPage, SpanRow } from "./schema.ts";

/** A status lasts until the next one of its edge, which the planner would look for among all spans of the run. */
const ROWS = `SELECT id, kind, name, value, edge, started, round, total, coalesce(started, ended) AS at,
    CASE WHEN kind = 'status' AND ended IS NULL THEN (SELECT min(next.started) FROM span AS next INDEXED BY span_status
      WHERE next.run = span.run AND next.edge = span.edge AND next.kind = 'status' AND next.started > span.started)
    ELSE ended END AS ended
  FROM span WHERE run = ?1 AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR edge = ?3)
    AND coalesce(started, ended) >= ?4 AND (coalesce(started, ended), id) > (?4, ?5) ORDER BY coalesce(started, ended), id LIMIT ?6`;

const COUNT =
  "SELECT count(*) AS count FROM span WHERE run = ?1 AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR edge = ?3)";

/** Spans of a run page by page, by the time of their beginning. */
export function listSpans(
  { connection, counters }: Collector,
  run: string,
  { kind, edge, limit, after = "-1~" }: QuerySpans,
): SpanPage {
  counters.get(run);
  const of = [run, kind ?? null, edge ?? null];
  const { count } = prepared(connection, COUNT).get(...of) as { count: number };
  const [at, id] = after.split("~", 2) as [string, string];
  const rows = prepared(connection, ROWS).all(...of, Number(at), id, limit + 1) as Row[];
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    run,
    spans: shown.map(toSpan),
    count,
    next: rows.length > limit && last ? `${last.at}~${last.id}` : null,
  };
}

type Row = SpanRow & { at: number };

const rfc3339 = (time: number | null) => (time === null ? null : new Date(time).toISOString());

export const toSpan = ({ id, kind, name, value, edge, started, ended, round, total }: SpanRow): Span => ({
  id,
  kind,
  name,
  value: value === "" ? null : value,
  edge: edge === "" ? null : edge,
  started: rfc3339(started),
  ended: rfc3339(ended),
  round,
  total,
});

export const hasSpans = (connection: Connection, run: string): boolean =>
  prepared(connection, "SELECT 1 FROM span WHERE run = ? LIMIT 1").get(run) !== undefined;
