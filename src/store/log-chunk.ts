import { LogLevel } from "../log/schema.ts";
import type { LogLine } from "../log/schema.ts";
import { Encoding } from "../entry.ts";
import { compress, decompress } from "./zstd.ts";

/** Characters of text in a chunk: little enough that one line costs little to read, much enough to compress well. */
export const CHUNK_SIZE = 65_536;
/** What a line costs beside its text, in a chunk and in memory. */
const LINE_OVERHEAD = 24;
/** Below this zstd only adds a header. */
const MIN_COMPRESSED = 512;

const LEVELS = LogLevel.options;

/** Lines as columns. JSON, because only it carries lone surrogates (bytes that were no UTF-8) through unharmed. */
interface PackedLines {
  first: number;
  time: number[];
  /** One character a line: "o" stdout, "e" stderr. */
  stream: string;
  /** One character a line: "-" none, else the index in LEVELS. */
  level: string;
  /** One for all lines where they agree. */
  rank: number | number[];
  /** "": none. Absent where no line has one. */
  prefix?: string[];
  text: string[];
}

export interface Packed {
  encoding: Encoding;
  payload: Uint8Array;
}

export const sizeOf = (line: LogLine): number =>
  line.text.length + (line.prefix?.length ?? 0) + LINE_OVERHEAD;

/** Bit of a level in a chunk's mask; lines without one have bit 0. */
export const levelBit = (level: LogLevel | null): number => (level === null ? 1 : 2 << LEVELS.indexOf(level));

/** Mask of a level and those worse than it. */
export function levelMask(level: LogLevel): number {
  let mask = 0;
  for (let index = LEVELS.indexOf(level); index < LEVELS.length; index++) mask |= 2 << index;
  return mask;
}

/** Lines must be numbered without a gap. */
export function packLines(lines: LogLine[]): Packed {
  let stream = "";
  let level = "";
  for (const line of lines) {
    stream += line.stream === "stdout" ? "o" : "e";
    level += line.level === null ? "-" : LEVELS.indexOf(line.level);
  }
  const rank = lines[0]?.rank ?? 0;
  const packed: PackedLines = {
    first: lines[0]?.line ?? 1,
    time: lines.map((line) => line.time),
    stream,
    level,
    rank: lines.every((line) => line.rank === rank) ? rank : lines.map((line) => line.rank),
    ...(lines.some((line) => line.prefix !== undefined) && {
      prefix: lines.map((line) => line.prefix ?? ""),
    }),
    text: lines.map((line) => line.text),
  };
  const json = Buffer.from(JSON.stringify(packed));
  if (json.byteLength < MIN_COMPRESSED) return { encoding: Encoding.json, payload: json };
  return { encoding: Encoding.jsonZstd, payload: compress(json) };
}

export function unpackLines({ encoding, payload }: Packed): LogLine[] {
  const json = encoding === Encoding.jsonZstd ? decompress(payload) : payload;
  const packed = JSON.parse(new TextDecoder().decode(json)) as PackedLines;
  const { first, time, stream, level, rank, prefix, text } = packed;
  return text.map((line, index) => ({
    line: first + index,
    time: time[index]!,
    stream: stream[index] === "o" ? "stdout" : "stderr",
    level: level[index] === "-" ? null : LEVELS[Number(level[index])]!,
    rank: typeof rank === "number" ? rank : rank[index]!,
    ...(prefix?.[index] && { prefix: prefix[index] }),
    text: line,
  }));
}
