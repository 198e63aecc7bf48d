import type { z } from "zod";
import { readText } from "../body.ts";
import { CollectorError } from "../error.ts";
import { fromZod } from "./error.ts";

/** The body as `schema` wants it. */
export async function readBody<T extends z.ZodType>(request: Request, schema: T): Promise<z.output<T>> {
  const parsed = check(schema, await readJson(request, parseExact));
  if (!parsed.success) throw fromZod(parsed.error);
  return parsed.data;
}

function check<T extends z.ZodType>(schema: T, body: unknown): z.ZodSafeParseResult<z.output<T>> {
  try {
    return schema.safeParse(body);
  } catch (error) {
    // JSON.parse goes as deep as it is asked to; what looks at the result recursively runs out of stack.
    if (!(error instanceof RangeError)) throw error;
    throw new CollectorError("invalid", "The body is nested too deeply.", { hint: "Flatten it." });
  }
}

const MAY_BE_ROUNDED = /\d{16}/;

/** Integers beyond 2^53 as strings of their digits, as our clients send them: JSON.parse would round an id in a config. */
function parseExact(text: string): unknown {
  if (!MAY_BE_ROUNDED.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value: unknown, ...context: unknown[]) => {
    // Newer than TypeScript's own library; every runtime of ours has it.
    const { source } = (context[0] ?? {}) as { source?: string };
    const isRounded = typeof value === "number" && !Number.isSafeInteger(value);
    return isRounded && source !== undefined && /^-?\d+$/.test(source) ? source : value;
  });
}

/** Parsed JSON, not validated. An empty body is an empty object. */
export async function readJson(
  request: Request,
  parse: (text: string) => unknown = JSON.parse,
): Promise<unknown> {
  const text = await readText(request);
  if (text === "") return {};
  try {
    return parse(text);
  } catch (error) {
    throw new CollectorError("invalid", `The body is not JSON: ${(error as Error).message.slice(0, 200)}`, {
      hint: "Send UTF-8 JSON; NaN and infinities as the strings NaN, Infinity and -Infinity.",
    });
  }
}
