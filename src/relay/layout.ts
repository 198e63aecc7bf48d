/** Where a packed batch of records (metric/batch.ts) has which numbers. */
export interface Layout {
  /** Its header with the padding behind it. */
  text: string;
  /** Where its numbers begin. */
  start: number;
  floats: number;
  /** Of steps, times, and the values of each metric. */
  lengths: number[];
}

/** Longer ones hold texts of their own, and are like no other. */
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_REMEMBERED = 1000;
const MAX_LENGTH = 2 ** 24;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Those seen lately: batches of a training all look alike. */
const layoutByText = new Map<string, Layout | undefined>();

/** undefined where it is none that could be put together again as it was. */
export function layoutOf(payload: Uint8Array): Layout | undefined {
  if (payload.length < 4) return undefined;
  const size = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true);
  if (size > MAX_HEADER_BYTES || 4 + size > payload.length) return undefined;
  let text: string;
  try {
    text = decoder.decode(payload.subarray(4, 4 + size));
  } catch {
    return undefined;
  }
  const layout = layoutOfText(text);
  return layout && layout.start + 8 * layout.floats <= payload.length ? layout : undefined;
}

export function layoutOfText(text: string): Layout | undefined {
  if (text.length > MAX_HEADER_BYTES) return undefined;
  if (layoutByText.has(text)) return layoutByText.get(text);
  const layout = read(text);
  if (layoutByText.size >= MAX_REMEMBERED) layoutByText.clear();
  layoutByText.set(text, layout);
  return layout;
}

function read(text: string): Layout | undefined {
  const start = headerOf(text).length;
  if (start % 8 !== 0) return undefined;
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { count, numbers } = (header ?? {}) as { count?: unknown; numbers?: unknown };
  if (!Array.isArray(numbers)) return undefined;
  const lengths = [
    count,
    count,
    ...numbers.map((column: unknown) => (Array.isArray(column) ? column[1] : null)),
  ];
  if (!lengths.every(isLength)) return undefined;
  return { text, start, floats: lengths.reduce((sum, length) => sum + length, 0), lengths };
}

const isLength = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_LENGTH;

/** As it stands at the beginning of a payload. */
export function headerOf(text: string): Uint8Array {
  const json = encoder.encode(text);
  const bytes = new Uint8Array(4 + json.length);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 4);
  return bytes;
}
