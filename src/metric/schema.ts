import { z } from "zod";
import { ClientId, Json } from "../run/schema.ts";

/** Largest |step|: float64 counts exactly up to here, so a step counter can always move on. */
export const MAX_STEP = Number.MAX_SAFE_INTEGER;
/** 9999-12-31: what a Date can print in four digits. */
export const MAX_TIME = 253_402_300_799_999;
export const MAX_KEY_LENGTH = 500;
export const MAX_KEYS_PER_RECORD = 10_000;
export const MAX_SERIES_PER_RUN = 20_000;
export const MAX_RECORDS_PER_BATCH = 100_000;

/** JSON has no NaN and no infinities; on the wire they are these strings, and mean numbers. */
const NonFinite = z.enum(["NaN", "Infinity", "-Infinity"]);

/** A metric's name as the user gave it; slashes group charts. */
export const MetricKey = z
  .string()
  .min(1, "must not be empty")
  .max(MAX_KEY_LENGTH)
  // eslint-disable-next-line no-control-regex
  .regex(/^[^\u0000-\u001f\u007f-\u009f]*$/, "must not contain control characters")
  // Half a surrogate pair would come back from UTF-8 as another name.
  .refine((key) => key.isWellFormed(), "must be well-formed Unicode");

/** Numbers are charted; anything else is kept and shown. */
export const MetricValue = z.union([z.number(), NonFinite, Json]);
export type MetricValue = z.infer<typeof MetricValue>;

/** One commit of a writer: several metrics, one step, one time. */
export const MetricRecord = z
  .object({
    /** Absent: the collector counts per writer. */
    step: z.number().min(-MAX_STEP).max(MAX_STEP).optional(),
    /** ms since the epoch, fractions allowed; absent: when it arrived. */
    time: z.number().min(0).max(MAX_TIME).optional(),
    /** Metrics of this record that are an x axis rather than a result (`customized_step_key`). */
    x: z.union([MetricKey, z.array(MetricKey).max(16)]).optional(),
    metrics: z
      .record(MetricKey, MetricValue)
      .refine((metrics) => Object.keys(metrics).length <= MAX_KEYS_PER_RECORD, "has too many keys"),
  })
  .meta({ id: "MetricRecord" });
export type MetricRecord = z.infer<typeof MetricRecord>;

/** POST /api/v1/runs/{id}/records. `seq` counts a client's batches (records and logs alike) from 1. */
export const AppendRecords = z
  .object({
    client: ClientId,
    seq: z.int().min(1),
    rank: z.int().min(0).max(1_000_000).optional(),
    items: z.array(MetricRecord).max(MAX_RECORDS_PER_BATCH),
  })
  .meta({ id: "AppendRecords" });
export type AppendRecords = z.infer<typeof AppendRecords>;

/** The same answer for a batch and for its repetitions. */
export const Appended = z.object({ acked: z.int() }).meta({ id: "Appended" });
export type Appended = z.infer<typeof Appended>;

/** A number of a point in JSON: non-finite values as strings. */
const PointNumber = z.union([z.number(), NonFinite]);

/** One metric of a run. `last`, `min`, `max` are null where no number was ever logged. */
export const MetricSummary = z
  .object({
    name: z.string(),
    count: z.number(),
    last: z.union([PointNumber, Json]),
    min: PointNumber.nullable(),
    max: PointNumber.nullable(),
    /** Ranks that log it, ascending. The figures above are rank 0's, or the lowest rank's. */
    ranks: z.array(z.number()),
    /** Custom x axis this metric was last logged with; null for the step. */
    x: z.string().nullable(),
    /** True where the metric itself served as an x axis. */
    axis: z.boolean(),
    last_step: z.number().nullable(),
    last_time: z.number().nullable(),
  })
  .meta({ id: "MetricSummary" });
export type MetricSummary = z.infer<typeof MetricSummary>;

/** GET …/points. */
export const QueryPoints = z.object({
  key: MetricKey,
  /** "step", "time", or the name of another metric of the same records. */
  x: z.string().max(MAX_KEY_LENGTH).default("step"),
  rank: z.coerce.number().int().min(0).optional(),
  /** At most so many buckets; absent: every point, in arrival order. */
  points: z.coerce.number().int().min(1).max(20_000).optional(),
  /** Range of x, inclusive. */
  from: z.coerce.number().optional(),
  to: z.coerce.number().optional(),
});
export type QueryPoints = z.infer<typeof QueryPoints>;

/** Every point: `points` is [x, y] in arrival order; y may be text where it was not a number. */
export const Points = z
  .object({
    run: z.string(),
    metric: z.string(),
    x: z.string(),
    rank: z.number(),
    points: z.array(z.tuple([PointNumber, z.union([PointNumber, Json])])),
  })
  .meta({ id: "Points" });
export type Points = z.infer<typeof Points>;

/**
 * Buckets for a chart, as columns of equal length, ascending in x. A bucket of n > 1 points has its extremes and its mean
 * over finite values (null where it has none), and the first and last value that arrived; NaN and infinities are counted, never averaged
 * away. Every point of the range is in exactly one bucket.
 */
export const Buckets = z
  .object({
    run: z.string(),
    metric: z.string(),
    x: z.string(),
    rank: z.number(),
    /** Points in the range. */
    count: z.number(),
    /** Smallest and largest x of the bucket's points. */
    x0: z.array(PointNumber),
    x1: z.array(PointNumber),
    min: z.array(z.number().nullable()),
    max: z.array(z.number().nullable()),
    mean: z.array(z.number().nullable()),
    first: z.array(PointNumber),
    last: z.array(PointNumber),
    n: z.array(z.number()),
    nan: z.array(z.number()),
    inf: z.array(z.number()),
    ninf: z.array(z.number()),
  })
  .meta({ id: "Buckets" });
export type Buckets = z.infer<typeof Buckets>;
