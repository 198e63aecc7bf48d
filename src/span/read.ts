import { Encoding, type Entry } from "../entry.ts";
import { decompress } from "../store/zstd.ts";
import type { SpanRow } from "./schema.ts";

const decoder = new TextDecoder();

/** What an entry of ours says. */
export function readSpans({ encoding, payload }: Pick<Entry, "encoding" | "payload">): SpanRow[] {
  const json = encoding === Encoding.jsonZstd ? decompress(payload) : payload;
  return JSON.parse(decoder.decode(json)) as SpanRow[];
}
