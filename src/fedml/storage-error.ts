import { CollectorError, type ErrorCode } from "../error.ts";

/** An error in S3's words, which its clients understand. */
export class StorageError extends Error {
  override readonly name = "StorageError";
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Clients try again after 500 and 503, and after nothing else. */
const wordByCode: Partial<Record<ErrorCode, [number, string]>> = {
  invalid: [400, "InvalidRequest"],
  forbidden: [403, "AccessDenied"],
  "not-found": [404, "NoSuchKey"],
  gone: [410, "NoSuchRun"],
  conflict: [409, "OperationAborted"],
  "too-large": [400, "EntityTooLarge"],
  beyond: [416, "InvalidRange"],
  busy: [503, "SlowDown"],
  damaged: [500, "InternalError"],
  "disk-full": [507, "InsufficientStorage"],
};

/** undefined: nobody foresaw it. */
export function toStorageError(error: unknown): StorageError | undefined {
  if (error instanceof StorageError) return error;
  if (!(error instanceof CollectorError)) return undefined;
  const [status, code] = wordByCode[error.code] ?? [];
  if (status === undefined) return undefined;
  return new StorageError(status, code!, [error.message, error.hint].filter(Boolean).join(" "));
}

export function toXml({ status, code, message }: StorageError, resource: string): Response {
  const text = xml("Error", { Code: code, Message: message, Resource: resource });
  return new Response(text, {
    status,
    headers: { "content-type": "application/xml", ...(status === 503 && { "retry-after": "1" }) },
  });
}

/** A document of one level. */
export function xml(root: string, members: Record<string, string>): string {
  const inner = Object.entries(members).map(([name, value]) => `<${name}>${escape(value)}</${name}>`);
  const namespace = root === "Error" ? "" : ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"';
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${root}${namespace}>${inner.join("")}</${root}>`;
}

const escape = (text: string) =>
  text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    // XML has no way to say these.
    .replace(/[\0-\x08\x0b\x0c\x0e-\x1f]/g, "�");
