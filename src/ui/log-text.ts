import type { Collector } from "../collector.ts";
import { queryLogs } from "../log/query.ts";
import { QueryLogs, type LogPage } from "../log/schema.ts";

/** A line may be a megabyte long. */
const PAGE = 500;

/** A run's output as the bytes it was, line by line, fetched as fast as it is taken. */
export function logText(collector: Collector, run: string): ReadableStream<Uint8Array> {
  let after: number | null = 0;
  return new ReadableStream({
    async pull(controller) {
      // Until there is something to give: a pull that gives nothing is not followed by another.
      for (let given = false; !given && after !== null;) {
        const page: LogPage = await queryLogs(collector, run, QueryLogs.parse({ after, limit: PAGE }));
        given = page.lines.length > 0;
        if (given) controller.enqueue(encodeBytes(page.lines.map(({ text }) => `${text}\n`).join("")));
        after = page.next;
      }
      if (after === null) controller.close();
    },
  });
}

/** UTF-8, with lone surrogates U+DC80…U+DCFF turned back into the bytes they stand for. */
export function encodeBytes(text: string): Uint8Array {
  if (!/[\udc80-\udcff]/.test(text)) return new TextEncoder().encode(text);
  const parts: Uint8Array[] = [];
  const encoder = new TextEncoder();
  // With /u a well-formed pair is one character, so only lone ones match.
  for (const piece of text.split(/([\udc80-\udcff])/u)) {
    const code = piece.length === 1 ? piece.charCodeAt(0) : 0;
    parts.push(code >= 0xdc80 && code <= 0xdcff ? Uint8Array.of(code - 0xdc00) : encoder.encode(piece));
  }
  return Buffer.concat(parts);
}
