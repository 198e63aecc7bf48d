import { CollectorError } from "../error.ts";
import { MAX_TIME } from "../metric/schema.ts";

export type Payload = Record<string, unknown>;

/** A message's body, which is an object. */
export function readPayload(payload: unknown): Payload {
  if (typeof payload === "object" && payload !== null && !Array.isArray(payload)) return payload as Payload;
  throw new CollectorError("invalid", "The message is no JSON object.", {
    hint: "Send an object, as FedML's client does.",
  });
}

/** ms since the epoch; undefined where it is no time. */
export const readTime = (value: unknown): number | undefined =>
  typeof value === "number" && value > 0 && value <= MAX_TIME ? value : undefined;

/** A text of at most so many characters; undefined where there is none. */
export const readText = (value: unknown, most: number): string | undefined =>
  typeof value === "string" && value.trim() !== "" ? value.slice(0, most) : undefined;

/** JSON has no NaN and no infinities: the store's are words. Inner ones, too. */
export function toJson(value: unknown): unknown {
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(toJson);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toJson(inner)]));
}
