import { Encoding } from "../entry.ts";
import { LogLine, MAX_PREFIX_LENGTH } from "../log/schema.ts";
import { MAX_TIME } from "../metric/schema.ts";
import { MAX_BODY_BYTES, type Frame } from "../relay/contract.ts";
import { unpackLines } from "../store/log-chunk.ts";
import { decompressWithin } from "../store/zstd.ts";
import { bad, reading } from "./refuse.ts";

const MAX_LINES = 100_000;
const MAX_LENGTH = 1_048_576;
const MAX_RANK = 1_000_000;

const decoder = new TextDecoder("utf-8", { fatal: true });

const isRank = (value: unknown) =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= MAX_RANK;

const isPrefix = (value: unknown) => typeof value === "string" && value.length <= MAX_PREFIX_LENGTH;

/** The lines of a frame that another installation has packed (see packLines). */
export function readLines({ encoding, payload, ordinal, count, version }: Frame): LogLine[] {
  if (version !== 1) throw bad(`Its version is ${version}.`);
  if (ordinal === null || !(ordinal >= 1) || !Number.isSafeInteger(ordinal + count))
    throw bad("It has no line's number.");
  if (count > MAX_LINES) throw bad(`It has ${count} lines, more than ${MAX_LINES}.`);
  const json = reading("lines", () =>
    encoding === Encoding.jsonZstd ? decompressWithin(payload, MAX_BODY_BYTES) : payload,
  );
  reading("lines", () => check(JSON.parse(decoder.decode(json)), ordinal, count));
  return unpackLines({ encoding: Encoding.json, payload: json });
}

function check(packed: unknown, ordinal: number, count: number): void {
  const { first, time, stream, level, rank, prefix, text } = packed as Record<string, unknown>;
  // An empty batch, which only takes its client's number, counts from 1.
  if (first !== ordinal && count > 0)
    throw bad(`Its lines begin with ${String(first).slice(0, 20)}, not ${ordinal}.`);
  if (!Array.isArray(text) || text.length !== count || !Array.isArray(time) || time.length !== count)
    throw bad(`It has not the ${count} lines that it says.`);
  if (typeof stream !== "string" || stream.length !== count || !/^[oe]*$/.test(stream))
    throw bad("Its lines have no stream.");
  if (typeof level !== "string" || level.length !== count || !/^[-0-4]*$/.test(level))
    throw bad("Its lines have an unknown level.");
  if (Array.isArray(rank) ? rank.length !== count || !rank.every(isRank) : !isRank(rank))
    throw bad("Its lines have an impossible rank.");
  for (const at of time)
    if (typeof at !== "number" || !(at >= 0 && at <= MAX_TIME)) throw bad("A line has an impossible time.");
  if (prefix !== undefined && !(Array.isArray(prefix) && prefix.length === count && prefix.every(isPrefix)))
    throw bad("What stands before its lines is no text, or too much.");
  for (const line of text)
    if (typeof line !== "string" || line.length > MAX_LENGTH) throw bad("A line has no text, or too much.");
}
