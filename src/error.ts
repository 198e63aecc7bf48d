/**
 * What can go wrong, by name. The HTTP edge maps a code to a status (api/error.ts),
 * the CLI maps it to an exit code (cli/error.ts); nobody else does.
 */
export type ErrorCode =
  | "invalid" // the request says something impossible
  | "unauthorized" // no token, or a wrong one
  | "forbidden" // the token does not reach this far
  | "misdirected" // a Host header we do not answer to
  | "not-found"
  | "gone" // deleted, and late writes arrive
  | "conflict"
  | "sequence-gap" // a batch is missing between this one and the last
  | "source-in-use" // another installation with this id is alive
  | "epoch" // the source's numbers belong to another life of it
  | "circle" // the platform is on the way that the data takes
  | "unknown-kind" // an entry that this platform is too old for
  | "unknown-run" // an entry of a run that is not here
  | "too-large"
  | "unsupported" // content type or encoding
  | "beyond" // a range that begins after the end
  | "busy" // come back later
  | "disk-full"
  | "damaged" // bytes on our disk are not what they were
  | "unreachable" // client side: no collector answers
  | "internal";

/** An error that tells the person what happened and, in `hint`, what to do next. */
export class CollectorError extends Error {
  override readonly name = "CollectorError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  /** Extra members of the problem document, such as `expected` of a sequence gap. */
  readonly details: Record<string, unknown> | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    { hint, details, cause }: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, { cause });
    this.code = code;
    this.hint = hint;
    this.details = details;
  }
}
