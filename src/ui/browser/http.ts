/** What the collector answered instead of doing as asked; the message is fit to be shown. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Integers beyond 2^53 come as they were written, where the browser tells us how they were (older ones round). */
function keepBigIntegers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value) || !Number.isInteger(value)) return value;
  const source = context?.source;
  return source !== undefined && /^-?\d+$/.test(source) ? source : value;
}

const parseExact = (text: string) => JSON.parse(text, keepBigIntegers as Parameters<typeof JSON.parse>[1]);

export interface RequestOptions {
  method?: "GET" | "PATCH" | "POST" | "DELETE";
  body?: unknown;
  signal?: AbortSignal;
}

/** A call of the API with the cookie of this browser. */
export async function request<T>(
  path: string,
  { method = "GET", body, signal }: RequestOptions = {},
): Promise<T> {
  const response = await send(path, method, body, signal);
  const text = await response.text();
  if (response.status === 401) {
    // The cookie has run out: the page itself says how to sign in again.
    location.reload();
    throw new Refusal(401, "Signed out.");
  }
  if (!response.ok) throw new Refusal(response.status, explain(text, response.status));
  return (text === "" ? undefined : parseExact(text)) as T;
}

async function send(
  path: string,
  method: string,
  body: unknown,
  signal: AbortSignal | undefined,
): Promise<Response> {
  try {
    return await fetch(path, {
      method,
      headers: {
        accept: "application/json",
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, "The collector does not answer. Is it still running?");
  }
}

export function explain(text: string, status: number): string {
  try {
    const { detail, hint } = JSON.parse(text) as { detail?: string; hint?: string };
    const typed = detail === undefined ? undefined : aboutField(detail);
    return typed ?? ([detail, hint].filter(Boolean).join(" ") || `The collector answered ${status}.`);
  } catch {
    return `The collector answered ${status}.`;
  }
}

/** What is wrong with what somebody has typed, without the names that programs use. */
function aboutField(detail: string): string | undefined {
  const [prefix, name] = /^(\w+)(?:\.\d+)?: (?=must |has |is )/.exec(detail) ?? [];
  if (prefix === undefined || name === undefined) return undefined;
  const word = /^(add|remove)_aliases$/.test(name) ? "alias" : name.replaceAll("_", " ");
  return `The ${word} ${detail.slice(prefix.length)}.`;
}

export const isAbort = (error: unknown) => error instanceof DOMException && error.name === "AbortError";
