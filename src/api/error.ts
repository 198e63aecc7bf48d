import { z } from "zod";
import { CollectorError, type ErrorCode } from "../error.ts";
import { sayIssue } from "../issue.ts";
import { isUnreadable } from "../store/failure.ts";

const statusByCode: Record<ErrorCode, number> = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  "not-found": 404,
  conflict: 409,
  "sequence-gap": 409,
  "source-in-use": 409,
  circle: 409,
  gone: 410,
  epoch: 412,
  "too-large": 413,
  unsupported: 415,
  beyond: 416,
  misdirected: 421,
  "unknown-kind": 422,
  "unknown-run": 422,
  busy: 503,
  "disk-full": 507,
  damaged: 500,
  unreachable: 503,
  internal: 500,
};

/** RFC 9457. `hint` says what to do next; further members belong to the code, such as `expected` of a sequence gap. */
export const Problem = z
  .looseObject({
    type: z.string(),
    title: z.string(),
    status: z.number(),
    detail: z.string(),
    hint: z.string().optional(),
  })
  .meta({ id: "Problem" });
export type Problem = z.infer<typeof Problem>;

export const statusOf = (code: ErrorCode): number => statusByCode[code];

/** The one place where an error becomes an answer. What we did not foresee says nothing: its message may hold SQL. */
export function toResponse(error: unknown, onUnforeseen: (error: unknown) => void): Response {
  const known = foresee(error);
  if (known.code === "internal" || (known.cause !== undefined && isUnreadable(known.cause)))
    onUnforeseen(error);
  // No code of its own: to a client both mean that this collector will never take it.
  const allow = known.code === "not-found" ? known.details?.["allow"] : undefined;
  const status = Array.isArray(allow) ? 405 : statusByCode[known.code];
  const problem: Problem = {
    ...known.details,
    type: `urn:binnacle:${known.code}`,
    title: status === 405 ? "Method not allowed" : titleByCode[known.code],
    status,
    detail: known.code === "internal" ? "Something went wrong in the collector." : known.message,
    ...(known.code === "internal"
      ? { hint: "Its diagnostics say what; please report it." }
      : known.hint !== undefined && { hint: known.hint }),
  };
  const headers: Record<string, string> = { "content-type": "application/problem+json" };
  if (status === 401) headers["www-authenticate"] = 'Bearer realm="binnacle"';
  if (Array.isArray(allow)) headers["allow"] = allow.join(", ");
  if (status === 416) headers["content-range"] = `bytes */${String(known.details?.["size"])}`;
  if (status === 503) headers["retry-after"] = "1";
  return new Response(JSON.stringify(problem), { status, headers });
}

const titleByCode: Record<ErrorCode, string> = {
  invalid: "Invalid request",
  unauthorized: "No valid token",
  forbidden: "Not allowed",
  "not-found": "Not found",
  conflict: "Conflict",
  "sequence-gap": "A batch is missing",
  "source-in-use": "Another source has this id",
  epoch: "Another epoch is needed",
  circle: "The data goes in a circle",
  "unknown-kind": "Unknown kind of entry",
  "unknown-run": "Unknown run",
  gone: "Deleted",
  "too-large": "Too large",
  unsupported: "Unsupported content",
  beyond: "No such range",
  misdirected: "Unknown host",
  busy: "Busy",
  "disk-full": "Disk full",
  damaged: "Damaged",
  unreachable: "Shutting down",
  internal: "Internal error",
};

function foresee(error: unknown): CollectorError {
  if (error instanceof CollectorError) return error;
  if (error instanceof z.ZodError) return fromZod(error);
  // drizzle's errors have it within.
  const cause = [error, (error as Error | undefined)?.cause].find(isUnreadable);
  if (cause !== undefined)
    return new CollectorError("damaged", "A part of the database can't be read.", {
      hint: "`binnacle doctor` says what is damaged, and what to do.",
      cause,
    });
  return new CollectorError("internal", "unforeseen", { cause: error });
}

/** Names the first things that are wrong, each by its path. */
export function fromZod(error: z.ZodError): CollectorError {
  const issues = error.issues.slice(0, 5).map((issue) => {
    const path = issue.path.map(String).join(".");
    const text = sayIssue(issue);
    return path === "" ? `It ${text}` : `${shorten(path)}: ${text}`;
  });
  return new CollectorError("invalid", issues.join("; "), {
    hint: "See /api/v1/openapi.json for what is accepted.",
  });
}

const shorten = (text: string) => (text.length > 200 ? `${text.slice(0, 200)}…` : text);
