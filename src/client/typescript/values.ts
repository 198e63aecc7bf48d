import { sayIssue } from "../../issue.ts";
import {
  MAX_KEYS_PER_RECORD,
  MAX_STEP,
  MetricKey,
  type MetricRecord,
  type MetricValue,
} from "../../metric/schema.ts";
import type { Config } from "../../run/schema.ts";

/** What `log` takes: numbers are charted; text, booleans, null and lists are kept; an object becomes keys joined by `/`. */
export type Metrics = { [key: string]: Loggable };
export type Loggable = number | bigint | string | boolean | null | Loggable[] | { [key: string]: Loggable };

const MAX_DEPTH = 64;
const CACHED_KEYS = 20_000;
const knownKeys = new Set<string>();

/**
 * The metrics of one call as they travel. A value that can't be recorded is an error in this call, on the line that logged it:
 * later the collector would refuse the whole batch.
 */
export function encodeMetrics(metrics: Metrics): MetricRecord["metrics"] {
  if (typeof metrics !== "object" || metrics === null || Array.isArray(metrics))
    throw new TypeError(`metrics must be an object such as {loss: 0.3}, not ${nameOf(metrics)}`);
  const encoded = Object.create(null) as MetricRecord["metrics"];
  flatten("", metrics, encoded, 0);
  if (Object.keys(encoded).length > MAX_KEYS_PER_RECORD)
    throw new RangeError(`more than ${MAX_KEYS_PER_RECORD} metrics in one call`);
  return encoded;
}

function flatten(prefix: string, metrics: Metrics, encoded: MetricRecord["metrics"], depth: number): void {
  if (depth > MAX_DEPTH) throw new RangeError(`metric ${prefix} is nested too deeply, or contains itself`);
  for (const [name, value] of Object.entries(metrics)) {
    const key = prefix + name;
    if (isPlain(value)) flatten(`${key}/`, value, encoded, depth + 1);
    else encoded[checkedKey(key)] = encodeValue(value, key, 0);
  }
}

function checkedKey(key: string): string {
  if (knownKeys.has(key)) return key;
  const checked = MetricKey.safeParse(key);
  if (!checked.success)
    throw new RangeError(
      `metric name ${JSON.stringify(key.slice(0, 80))}: ${sayIssue(checked.error.issues[0]!)}`,
    );
  if (knownKeys.size >= CACHED_KEYS) knownKeys.clear();
  knownKeys.add(key);
  return key;
}

function encodeValue(value: unknown, key: string, depth: number): MetricValue {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? value : (String(value) as MetricValue);
    case "string":
    case "boolean":
      return value;
    case "bigint":
      return encodeValue(Number(value), key, depth);
    case "object":
      break;
    default:
      throw new TypeError(
        `metric ${key}: cannot log ${nameOf(value)}; log numbers, text, booleans, null or lists`,
      );
  }
  if (value === null) return null;
  if (depth > MAX_DEPTH) throw new RangeError(`metric ${key} is nested too deeply, or contains itself`);
  if (Array.isArray(value)) return value.map((item) => encodeValue(item, key, depth + 1)) as MetricValue;
  if (isPlain(value))
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, encodeValue(item, key, depth + 1)]),
    ) as MetricValue;
  if (ArrayBuffer.isView(value) && Symbol.iterator in value)
    return encodeValue(Array.from(value as unknown as Iterable<number>), key, depth);
  // Number, String, and what other libraries wrap a single number in.
  const primitive: unknown = (value as object).valueOf();
  if (typeof primitive === "number" || typeof primitive === "string" || typeof primitive === "boolean")
    return encodeValue(primitive, key, depth);
  throw new TypeError(`metric ${key}: cannot log ${nameOf(value)}; log single numbers, such as its mean`);
}

function isPlain(value: unknown): value is Metrics {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function nameOf(value: unknown): string {
  if (value === null || typeof value !== "object") return value === null ? "null" : `a ${typeof value}`;
  return Array.isArray(value) ? "an array" : `a ${value.constructor?.name ?? "object"}`;
}

export function checkedStep(step: number | bigint): number {
  const number = Number(step);
  if (typeof step !== "number" && typeof step !== "bigint")
    throw new TypeError(`step must be a number, not ${nameOf(step)}`);
  if (!(Math.abs(number) <= MAX_STEP))
    throw new RangeError(`step must lie within ±(2^53 - 1), not ${number}`);
  return number;
}

/** A config as JSON: integers above 2^53 exactly (as text), NaN and the infinities by name, what is no JSON as its text. */
export function encodeConfig(config: Record<string, unknown>): Config {
  return encodeConfigValue(config, 0) as Config;
}

function encodeConfigValue(value: unknown, depth: number): Config[string] {
  if (depth > MAX_DEPTH) throw new RangeError("config is nested too deeply, or contains itself");
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value === "bigint") return Math.abs(Number(value)) <= MAX_STEP ? Number(value) : String(value);
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (value instanceof Set || value instanceof Map) return encodeConfigValue([...value], depth);
  if (Array.isArray(value)) return value.map((item) => encodeConfigValue(item, depth + 1));
  if (isPlain(value)) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    return Object.fromEntries(entries.map(([key, item]) => [key, encodeConfigValue(item, depth + 1)]));
  }
  return value instanceof Date ? value.toISOString() : String(value);
}
