import { createHash } from "node:crypto";

/** Edges whose last batch is remembered. */
const MAX_REMEMBERED = 10_000;
/** A time this exact is no two lines': below it lines may well be alike. */
const EXACT_TIME = /\] \[[^\]]*:\d\d\.\d{9}\] /;

interface LastBatch {
  count: number;
  /** Of its first and its last line: with a time this exact they are no other batch's. */
  digest: string;
}

/**
 * What of a batch came before. Clients number nothing: one that did not see our answer sends the same lines again, and those that
 * came meanwhile behind them. A batch that begins with the whole of the last one, exact times and all, is taken for that.
 */
export interface LogRepeats {
  /** How many of the first lines are known; undefined where nothing is remembered of the edge. */
  known(edge: string, lines: readonly string[]): number | undefined;
  /** They are durable. */
  took(edge: string, lines: readonly string[]): void;
}

export function createRepeats(): LogRepeats {
  const lastByEdge = new Map<string, LastBatch>();
  return {
    known(edge, lines) {
      const last = lastByEdge.get(edge);
      if (!last) return undefined;
      if (last.count === 0 || lines.length < last.count) return 0;
      return digestOf(lines, last.count) === last.digest ? last.count : 0;
    },
    took(edge, lines) {
      lastByEdge.delete(edge);
      const count = isDistinct(lines) ? lines.length : 0;
      lastByEdge.set(edge, { count, digest: count > 0 ? digestOf(lines, count) : "" });
      if (lastByEdge.size > MAX_REMEMBERED) lastByEdge.delete(lastByEdge.keys().next().value!);
    },
  };
}

/** A line without such a time may well be like another: it tells nothing of a repetition. */
const isDistinct = (lines: readonly string[]) => EXACT_TIME.test(lines[0] ?? "");

/** The same by what is stored, for the first batch after a start: how many of the first lines the stored ones end with. */
export function knownOf(stored: readonly string[], lines: readonly string[]): number {
  if (!isDistinct(lines)) return 0;
  const isSame = (stored: string, line: string) => line === stored || line.trimEnd() === stored.trimEnd();
  for (let from = Math.max(0, stored.length - lines.length); from < stored.length; from++) {
    let count = 0;
    while (from + count < stored.length && isSame(stored[from + count]!, lines[count]!)) count++;
    if (from + count === stored.length) return count;
  }
  return 0;
}

const digestOf = (lines: readonly string[], count: number) =>
  createHash("sha1")
    .update(`${lines[0]}\n${lines[count - 1]}`)
    .digest("base64");
