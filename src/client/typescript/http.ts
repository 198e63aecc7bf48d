import { CollectorError, type ErrorCode } from "../../error.ts";
import { isLoopback, type Connection } from "./connection.ts";

export interface RequestOptions {
  method?: string;
  query?: Record<string, string | number | boolean | undefined>;
  /** Sent as JSON; a string is JSON already, and bytes or a stream of them go as they are: `headers` say what they are. */
  body?: unknown;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
  /** ms until the collector counts as unreachable; 0: for ever (streams). */
  timeout?: number;
}

const DEFAULT_TIMEOUT = 30_000;

/** Bun sends even loopback requests to $HTTP_PROXY, which clusters set and which cannot reach this machine. */
const direct = { proxy: false } as RequestInit;

/** One request; resolves with the answer where it is 2xx, throws CollectorError otherwise. */
export async function request(
  connection: Pick<Connection, "url" | "token">,
  path: string,
  { method, query, body, signal, headers, timeout = DEFAULT_TIMEOUT }: RequestOptions = {},
): Promise<Response> {
  const url = addressOf(connection.url, path, query);
  const signals = [signal, timeout > 0 ? AbortSignal.timeout(timeout) : undefined].filter(
    (s) => s !== undefined,
  );
  let response: Response;
  try {
    response = await fetch(url, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        accept: "application/json",
        ...(connection.token ? { authorization: `Bearer ${connection.token}` } : {}),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: isSendable(body) ? body : JSON.stringify(body) }),
      ...(signals.length > 0 ? { signal: AbortSignal.any(signals) } : {}),
      ...(body instanceof ReadableStream ? halfDuplex : {}),
      redirect: "error",
      ...(isLoopback(connection.url) ? direct : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable(connection.url, error);
  }
  if (!response.ok) throw await problemOf(connection.url, response);
  return response;
}

const isSendable = (body: unknown): body is string | Uint8Array<ArrayBuffer> | ReadableStream =>
  typeof body === "string" || body instanceof Uint8Array || body instanceof ReadableStream;

/** Without it Node and Deno send no stream. */
const halfDuplex = { duplex: "half" } as RequestInit;

/** One request whose answer is JSON. */
export async function requestJson<T>(
  connection: Pick<Connection, "url" | "token">,
  path: string,
  options: RequestOptions = {},
): Promise<T> {
  const response = await request(connection, path, options);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw unreachable(connection.url, error);
  }
}

function addressOf(base: string, path: string, query: RequestOptions["query"]): URL {
  let url: URL;
  try {
    url = new URL(base + path);
  } catch {
    throw new CollectorError("invalid", `'${base}' is not a URL.`, {
      hint: `Give one such as http://127.0.0.1:7070 in --url or $BINNACLE_URL.`,
    });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw new CollectorError("invalid", `'${base}' is not an http or https URL.`, {
      hint: `Give one such as http://127.0.0.1:7070 in --url or $BINNACLE_URL.`,
    });
  for (const [name, value] of Object.entries(query ?? {}))
    if (value !== undefined) url.searchParams.set(name, String(value));
  return url;
}

function unreachable(url: string, cause: unknown): CollectorError {
  const slow = cause instanceof Error && cause.name === "TimeoutError";
  const code = codeOf(cause);
  // Refused is what everybody expects; a certificate or a name that does not resolve is not.
  const why = code === undefined || /refused$/i.test(code) ? "" : ` (${code})`;
  return new CollectorError(
    "unreachable",
    slow ? `The collector at ${url} does not answer in time.` : `No collector answers at ${url}${why}.`,
    {
      hint: /CERT|SIGNED|SIGNATURE|ISSUER/.test(code ?? "")
        ? "Trust its certificate with NODE_EXTRA_CA_CERTS=FILE."
        : "Start one with `binnacle start`, or name another with --url or $BINNACLE_URL.",
      cause,
    },
  );
}

/** Bun puts the code on the error, Node and Deno on its cause. */
function codeOf(error: unknown): string | undefined {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } };
  return [code, cause?.code].find((found) => typeof found === "string");
}

const codes = new Set<string>([
  "invalid",
  "unauthorized",
  "forbidden",
  "misdirected",
  "not-found",
  "gone",
  "conflict",
  "sequence-gap",
  "too-large",
  "unsupported",
  "busy",
  "disk-full",
  "damaged",
  "unreachable",
  "internal",
] satisfies ErrorCode[]);

/**
 * What a status means where a proxy or something else answers. Its 404 must not pass for the collector's: a client would
 * take its data for refused.
 */
const codeByForeignStatus: Record<number, ErrorCode> = {
  401: "unauthorized",
  403: "forbidden",
  429: "busy",
  503: "busy",
};

/** A problem document (RFC 9457) as the error it was. */
async function problemOf(url: string, response: Response): Promise<CollectorError> {
  const text = await response.text().catch(() => "");
  let problem: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (parsed !== null && typeof parsed === "object") problem = parsed as Record<string, unknown>;
  } catch {
    // Not a collector's answer: the status is all there is.
  }
  const { type, title, status, detail, hint, ...details } = problem;
  const wait = Number(response.headers.get("retry-after") ?? NaN);
  const retryAfter = Number.isFinite(wait) && wait >= 0 ? { retryAfter: wait } : {};
  const named = typeof type === "string" ? type.replace("urn:binnacle:", "") : "";
  if (!codes.has(named))
    return new CollectorError(
      codeByForeignStatus[response.status] ?? "unreachable",
      `What answers at ${url} is no collector (HTTP ${response.status}).`,
      {
        hint: "Name the collector with --url or $BINNACLE_URL.",
        details: { status: response.status, ...retryAfter },
      },
    );
  return new CollectorError(named as ErrorCode, String(detail ?? title ?? named), {
    ...(named === "unauthorized" ? { hint: TOKEN_HINT } : typeof hint === "string" ? { hint } : {}),
    details: { ...details, status, ...retryAfter },
  });
}

const TOKEN_HINT =
  "Set $BINNACLE_TOKEN (`binnacle token` prints it), or name the collector's data folder with --data.";
