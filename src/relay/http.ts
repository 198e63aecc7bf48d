import { createHash } from "node:crypto";
import { isLoopbackHost } from "../config.ts";
import { CollectorError } from "../error.ts";
import { send } from "../runtime.ts";
import { createResolver, type Resolve } from "./address.ts";
import { MAX_ANSWER_BYTES, RELAY_PATH } from "./contract.ts";
import { Refusal } from "./ports.ts";

export interface HttpOptions {
  /** As `checkAddress` gave it. */
  url: string;
  /** Asked for each request: it may be renewed. */
  token: () => string | undefined;
  ca?: string | undefined;
  /** What is secret of the address: no error says it. */
  hidden?: string | undefined;
  resolve?: Resolve | undefined;
  /** How long the shortest request may take. */
  timeoutMs?: number | undefined;
  /** What is spoken there; absent: our own contract. */
  dialect?: Dialect | undefined;
}

export interface Dialect {
  /** Where it stands under the address. */
  root: string;
  accept: string;
  maxAnswerBytes: number;
  /** What a refusal says, where it is no problem document. */
  readRefusal: (type: string, bytes: Uint8Array) => string | undefined;
}

const OWN: Dialect = {
  root: RELAY_PATH,
  accept: "application/json",
  maxAnswerBytes: MAX_ANSWER_BYTES,
  readRefusal: () => undefined,
};

export interface HttpRequest {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** Below /relay/v1, or what the dialect has in its place. */
  path: string;
  headers?: Record<string, string>;
  body?: Uint8Array<ArrayBuffer> | undefined;
  signal: AbortSignal;
  /** Where the platform has more to do than to take what it is sent. */
  timeoutMs?: number | undefined;
}

export interface Answer {
  status: number;
  headers: Headers;
  /** Parsed; undefined where it is no JSON. */
  json: unknown;
  bytes: Uint8Array;
}

/** The way to one platform: with its token, to its address alone, bounded in time and size. */
export interface Http {
  /** Resolves with what is 2xx. Rejects with a Refusal where the platform says no, with a CollectorError ("unreachable") where nobody does. */
  request(request: HttpRequest): Promise<Answer>;
  /** The same with JSON out. */
  postJson(path: string, body: unknown, signal: AbortSignal): Promise<Answer>;
}

const WAITS = "All data waits here until it answers.";

const TIMEOUT_MS = 15_000;
/** And so much longer for each byte: a line of half a megabit is slow, and not dead. */
const BYTES_PER_MS = 64;

export function createHttp(options: HttpOptions): Http {
  const { url, token, ca, hidden, resolve, timeoutMs = TIMEOUT_MS, dialect = OWN } = options;
  const { maxAnswerBytes } = dialect;
  const { host, hostname } = new URL(url);
  const checkName = createResolver(url, resolve);
  const direct = isLoopbackHost(hostname);

  async function request({
    method,
    path,
    headers = {},
    body,
    signal,
    timeoutMs: own,
  }: HttpRequest): Promise<Answer> {
    const within = (own ?? timeoutMs) + (body?.length ?? 0) / BYTES_PER_MS;
    const ending = new AbortController();
    const end = () => ending.abort(signal.reason);
    const timer = setTimeout(() => ending.abort(new TimedOut()), within);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    const secret = token();
    try {
      await checkName();
      const response = await send(
        url + dialect.root + path,
        {
          method,
          headers: {
            accept: dialect.accept,
            "accept-encoding": "identity",
            ...(secret !== undefined && { authorization: `Bearer ${secret}` }),
            ...headers,
          },
          ...(body !== undefined && { body }),
          signal: ending.signal,
        },
        { ca, direct },
      );
      return await readAnswer(response);
    } catch (error) {
      signal.throwIfAborted();
      throw withoutSecret(withoutSecret(toError(error, within), secret), hidden);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
  }

  async function readAnswer(response: Response): Promise<Answer> {
    const { status, headers } = response;
    if (status >= 300 && status < 400) {
      await response.body?.cancel();
      throw unreachable(`${host} answers with a redirect, and what is relayed goes nowhere else.`, {
        hint: redirectedTo(response),
      });
    }
    const bytes = await readBounded(response);
    const json = parse(bytes);
    if (status >= 200 && status < 300) return { status, headers, json, bytes };
    throw toRefusal(status, headers, json, dialect.readRefusal(headers.get("content-type") ?? "", bytes));
  }

  function redirectedTo({ headers }: Response): string {
    const location = headers.get("location") ?? "";
    const { origin } = URL.canParse(location, url) ? new URL(location, url) : { origin: "null" };
    if (origin === new URL(url).origin)
      return "It sends on within itself: check the address, and what stands before the platform.";
    const where = origin === "null" ? "" : `, if ${printable(origin, 200)} is right`;
    return `Add it under its own address${where}.`;
  }

  async function readBounded(response: Response): Promise<Uint8Array> {
    const { headers, body } = response;
    const encoding = headers.get("content-encoding") ?? "identity";
    const isTooLarge = Number(headers.get("content-length") ?? 0) > maxAnswerBytes;
    if (encoding !== "identity" || isTooLarge) {
      await body?.cancel();
      throw garbage(isTooLarge ? "more than an answer is" : `something in ${printable(encoding, 40)}`);
    }
    const chunks: Uint8Array[] = [];
    let size = 0;
    if (body)
      // Leaving the loop cancels the rest of it.
      for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
        size += chunk.byteLength;
        if (size > maxAnswerBytes) throw garbage("more than an answer is");
        chunks.push(chunk);
      }
    return Buffer.concat(chunks, size);
  }

  function toRefusal(status: number, headers: Headers, json: unknown, words: string | undefined): Refusal {
    const {
      type,
      detail = words && `${host} answered ${status}: ${words}`,
      ...details
    } = isObject(json) ? json : {};
    if (typeof details["hint"] === "string") details["hint"] = printable(details["hint"], 500);
    const named = typeof type === "string" ? /^urn:binnacle:([a-z-]{1,60})$/.exec(type)?.[1] : undefined;
    const message =
      typeof detail === "string" && detail !== ""
        ? printable(detail, 500)
        : status === 404 && dialect === OWN
          ? `${host} has no place for relays: it is no platform.`
          : `${host} answered ${status}.`;
    if (status === 404 && dialect === OWN)
      details["hint"] ??= "Check the address. A collector becomes a platform by --role platform.";
    const retryAfter = retryAfterMs(headers);
    return new Refusal(status, named ?? String(status), message, {
      details,
      ...(retryAfter !== undefined && { retryAfterMs: retryAfter }),
    });
  }

  function toError(error: unknown, within: number): Error {
    if (error instanceof Refusal || error instanceof CollectorError) return error;
    if (error instanceof TimedOut || (error as Error | undefined)?.name === "TimeoutError")
      return unreachable(`${host} did not answer within ${Math.round(within / 1000)} s.`, { hint: WAITS });
    const code = codeOf(error);
    if (code === "ENOTFOUND" || code === "EAI_AGAIN")
      return unreachable(`The name ${hostname} is not known (${code}).`, {
        hint: "Check the address, and how this machine finds names.",
      });
    if (/CERT|SIGNED|SIGNATURE|ISSUER/.test(code ?? ""))
      return unreachable(`The certificate of ${host} is not to be trusted (${code}).`, {
        hint: CERTIFICATE_HINTS.find(([pattern]) => pattern.test(code!))![1],
      });
    if (code === "EPROTO" || /SSL|TLS/.test(code ?? ""))
      return unreachable(`${host} does not speak TLS as we do (${code}).`, {
        hint: "Is it http, or another port?",
      });
    return unreachable(`Nobody answers at ${host}${code === undefined ? "" : ` (${code})`}.`, {
      hint: `Is it running, and the address right${url.startsWith("http:") ? ", or is it https" : ""}? ${WAITS}`,
    });
  }

  const garbage = (what: string) =>
    unreachable(`${host} answered with ${what}: that is no platform.`, { hint: "Check the address." });

  return {
    request,
    postJson: (path, body, signal) =>
      request({
        method: "POST",
        path,
        headers: { "content-type": "application/json" },
        body: new TextEncoder().encode(JSON.stringify(body)),
        signal,
      }),
  };
}

const CERTIFICATE_HINTS: [RegExp, string][] = [
  [
    /EXPIRED|NOT_YET_VALID/,
    "Its time is over or has not come: look at it, and at the clocks of both machines.",
  ],
  [/ALTNAME/, "It is for other names than this one: use one of those."],
  [/./, "If an authority of your own signed it, add the destination with --ca-file."],
];

class TimedOut extends Error {}

const unreachable = (message: string, options: { hint?: string } = {}) =>
  new CollectorError("unreachable", message, options);

/** Whatever the platform, or a library, puts into its words: never the token, nor the address's secret. */
function withoutSecret(error: Error, secret: string | undefined): Error {
  if (secret === undefined || secret.length < 8) return error;
  // Names of hosts come in small letters.
  const anyCase = new RegExp(secret.replaceAll(/\W/g, "\\$&"), "gi");
  error.message = error.message.replaceAll(anyCase, "…");
  if (error instanceof CollectorError && error.hint !== undefined)
    return new CollectorError(error.code, error.message, { hint: error.hint.replaceAll(anyCase, "…") });
  if (error instanceof Refusal && JSON.stringify(error.details).includes(secret))
    return new Refusal(error.status, error.type, error.message, {
      ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
    });
  return error;
}

/** Bun puts the code on the error, Deno on its cause. */
function codeOf(error: unknown): string | undefined {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: { code?: unknown } };
  return [code, cause?.code].find((found): found is string => typeof found === "string");
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Others' words, fit to be shown: one line, no control characters, not long. */
export const printable = (text: string, length: number): string =>
  // Also C1 and what changes the direction of text.
  text.replaceAll(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+/g, " ").slice(0, length);

/** By the platform's own clock: ours may be years off. */
export function retryAfterMs(headers: Headers): number | undefined {
  const text = headers.get("retry-after")?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const until = Date.parse(text);
  const from = Date.parse(headers.get("date") ?? "");
  return Number.isNaN(until - from) || !/[a-z]{3}/i.test(text) ? undefined : Math.max(0, until - from);
}

/** RFC 9530, over what is sent. */
export const contentDigest = (body: Uint8Array): string =>
  `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
