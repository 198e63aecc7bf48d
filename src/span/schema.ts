import { z } from "zod";
import { MAX_TIME } from "../metric/schema.ts";
import { ClientId } from "../run/schema.ts";

export const MAX_SPANS_PER_BATCH = 1000;
/** Of one page of a listing. */
export const MAX_SPANS = 10_000;
const MAX_ROUND = 1_000_000_000;

/**
 * event: what a program says that it does. round: of federated training, `round` of `total`. status: how an edge is from then on, until
 * its next one.
 */
export const SpanKind = z.enum(["event", "round", "status"]);
export type SpanKind = z.infer<typeof SpanKind>;

const time = z.number().min(0).max(MAX_TIME);
const text = (max: number) => z.string().max(max);

/** What a span is called by its own recorder. */
export const SpanId = z
  .string()
  .regex(/^[\w.:-]{1,64}$/, "wants up to 64 letters, digits, '.', ':', '_' or '-'");

const fields = {
  kind: SpanKind,
  name: text(250).min(1),
  value: text(1000),
  edge: text(250),
  round: z.int().min(0).max(MAX_ROUND),
  total: z.int().min(0).max(MAX_ROUND),
};

/**
 * A span, or one end of it. Ends are put together by `id`; without one by edge, kind, name and value (pair.ts). What is known of a span
 * does not change: its ends are heard of once.
 */
export const SpanItem = z
  .object({
    id: SpanId.optional(),
    kind: fields.kind.default("event"),
    name: fields.name,
    value: fields.value.optional(),
    edge: fields.edge.optional(),
    started: time.optional(),
    ended: time.optional(),
    round: fields.round.optional(),
    total: fields.total.optional(),
  })
  .refine(({ started, ended }) => started !== undefined || ended !== undefined, {
    message: "wants `started`, `ended`, or both",
  })
  .refine(({ started, ended }) => started === undefined || ended === undefined || started <= ended, {
    message: "ends before it has started",
  })
  .meta({ id: "SpanItem" });
export type SpanItem = z.infer<typeof SpanItem>;

/** POST /api/v1/runs/{id}/spans */
export const RecordSpans = z
  .object({
    client: ClientId,
    /** Of this batch: 1, 2, 3, … with the client's records and lines. A repeated batch changes nothing. */
    seq: z.int().min(1),
    items: z.array(SpanItem).max(MAX_SPANS_PER_BATCH),
  })
  .meta({ id: "RecordSpans" });
export type RecordSpans = z.infer<typeof RecordSpans>;

/** A row of the table, and what travels: of entries, of history and of archives. "": none. */
export const SpanRow = z
  .object({
    id: SpanId,
    ...fields,
    started: time.nullable(),
    ended: time.nullable(),
    round: fields.round.nullable(),
    total: fields.total.nullable(),
  })
  .refine(({ started, ended }) => started !== null || ended !== null, { message: "has no time" });
export type SpanRow = z.infer<typeof SpanRow>;

/** Payload of `span.recorded`: each as it is then. */
export const RecordedSpans = z.array(SpanRow).max(MAX_SPANS);

/** A span as it is listed. */
export const Span = z
  .object({
    id: z.string(),
    kind: SpanKind,
    name: z.string(),
    value: z.string().nullable(),
    edge: z.string().nullable(),
    /** RFC 3339 UTC; null: not heard of. */
    started: z.string().nullable(),
    /** null: it goes on, or nobody said when it ended. Of a status: when the next one of its edge began. */
    ended: z.string().nullable(),
    round: z.number().nullable(),
    total: z.number().nullable(),
  })
  .meta({ id: "Span" });
export type Span = z.infer<typeof Span>;

/** GET /api/v1/runs/{id}/spans */
export const QuerySpans = z.object({
  kind: SpanKind.optional(),
  edge: fields.edge.optional(),
  limit: z.coerce.number().int().min(1).max(MAX_SPANS).default(1000),
  /** `next` of the page before. */
  after: z
    .string()
    .regex(/^\d+(\.\d+)?~[\w.:-]{1,64}$/, "wants the `next` of another page")
    .optional(),
});
export type QuerySpans = z.infer<typeof QuerySpans>;

export const SpanPage = z
  .object({
    run: z.string(),
    /** By the time of their beginning. */
    spans: z.array(Span),
    /** Of those that the query asks for, on all pages. */
    count: z.number(),
    next: z.string().nullable(),
  })
  .meta({ id: "SpanPage" });
export type SpanPage = z.infer<typeof SpanPage>;

/** Data of a live `span` event: spans as they are now, or `more` than one event holds: ask for them. */
export interface LiveSpans {
  run: string;
  spans: Span[];
  more: boolean;
}
