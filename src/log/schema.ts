import { z } from "zod";
import { ClientId } from "../run/schema.ts";

const MAX_LINE_LENGTH = 1_048_576;
const MAX_LINES_PER_BATCH = 100_000;
export const MAX_PREFIX_LENGTH = 1000;

/** What stood before the text, where a line was taken apart: with it in front the line is as it came. */
const Prefix = z.string().min(1, "must not be empty").max(MAX_PREFIX_LENGTH).optional();

export const LogLevel = z.enum(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]);
export type LogLevel = z.infer<typeof LogLevel>;

export const LogStream = z.enum(["stdout", "stderr"]);
export type LogStream = z.infer<typeof LogStream>;

/** A line of a run's output. Bytes that are no UTF-8 travel as lone surrogates U+DC80…U+DCFF (Python's surrogateescape). */
export const LogItem = z
  .object({
    time: z.number().min(0).max(253_402_300_799_999).optional(),
    stream: LogStream.optional(),
    /** Absent: recognised from the text. */
    level: LogLevel.optional(),
    prefix: Prefix,
    text: z.string().max(MAX_LINE_LENGTH),
  })
  .meta({ id: "LogItem" });
export type LogItem = z.infer<typeof LogItem>;

/** POST /api/v1/runs/{id}/logs. `seq` counts a client's batches (records and logs alike) from 1. */
export const AppendLogs = z
  .object({
    client: ClientId,
    seq: z.int().min(1),
    rank: z.int().min(0).max(1_000_000).optional(),
    items: z.array(LogItem).max(MAX_LINES_PER_BATCH),
    /** State of a line that is still being rewritten (a progress bar); shown live, never stored. null: it is gone. */
    open: z
      .object({ stdout: z.string().max(10_000).nullish(), stderr: z.string().max(10_000).nullish() })
      .optional(),
  })
  .meta({ id: "AppendLogs" });
export type AppendLogs = z.infer<typeof AppendLogs>;

/** A stored line. `line` counts from 1 in the order of arrival. */
export const LogLine = z
  .object({
    line: z.number(),
    time: z.number(),
    stream: LogStream,
    level: LogLevel.nullable(),
    rank: z.number(),
    prefix: Prefix,
    text: z.string(),
  })
  .meta({ id: "LogLine" });
export type LogLine = z.infer<typeof LogLine>;

/** GET …/logs. Filters combine; `after`/`before` page by line number, exclusive. */
export const QueryLogs = z.object({
  /** At most so many lines: the first after `after`, else the last before `before`, else the last of all. Of very long ones fewer. */
  limit: z.coerce.number().int().min(1).max(10_000).default(1000),
  after: z.coerce.number().int().min(0).optional(),
  before: z.coerce.number().int().min(1).optional(),
  /** This level and worse. */
  level: LogLevel.optional(),
  stream: LogStream.optional(),
  rank: z.coerce.number().int().min(0).optional(),
  /** A regular expression (RE2). */
  grep: z.string().max(1000).optional(),
  /** ms since the epoch, inclusive. */
  since: z.coerce.number().optional(),
});
export type QueryLogs = z.infer<typeof QueryLogs>;

export const LogPage = z
  .object({
    run: z.string(),
    /** Lines stored in all. */
    total: z.number(),
    lines: z.array(LogLine),
    /** Pass as `after` / `before` to go on; null at that end. A search that ran out of time stops here, too. */
    next: z.number().nullable(),
    previous: z.number().nullable(),
    /** Lines still being rewritten, newest state; by stream. */
    open: z.object({ stdout: z.string().nullable(), stderr: z.string().nullable() }),
  })
  .meta({ id: "LogPage" });
export type LogPage = z.infer<typeof LogPage>;
