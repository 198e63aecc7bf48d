/**
 * Entries as bytes, many of which are alike: what is said with each is said once, and their numbers go column by column, those of
 * records too (metric/batch.ts). So a record that came alone costs no more than one of a thousand. What comes out is what went in, byte
 * by byte: entries are known by their digests.
 *
 *   u32 mark, u32 number of entries, and sections (planes.ts): names as JSON; bytes; eight planes of numbers
 */
import { z } from "zod";
import { Encoding } from "../entry.ts";
import { CollectorError } from "../error.ts";
import { FrameHead, MAX_BODY_BYTES, UNREADABLE, type Frame } from "./contract.ts";
import { headerOf, layoutOf, layoutOfText, type Layout } from "./layout.ts";
import {
  createSectionReader,
  fromDifferences,
  fromPlanes,
  packSection,
  PLANES,
  release,
  toDifferences,
  toPlanes,
  Unreadable,
} from "./planes.ts";

const MARK = 0x316e6e62;
/** Far above what anybody sends at once: bounds what a body of nothing but heads costs. */
const MAX_FRAMES = 20_000;
/** Steps, times and values of these are numbers to us; another payload is bytes. */
const isColumns = ({ kind, version, encoding }: Pick<Frame, "kind" | "version" | "encoding">): boolean =>
  kind === "metric.appended" && version === 1 && encoding === Encoding.columns;

/** What entries have in common. */
const Head = FrameHead.pick({ kind: true, version: true, run: true, client: true, encoding: true }).extend({
  /** Which of clientSeq, ordinal and nextStep it has. */
  has: z.tuple([z.boolean(), z.boolean(), z.boolean()]),
});
type Head = z.infer<typeof Head>;
const Names = z.object({
  heads: z.array(Head),
  /** How payloads of columns begin. */
  layouts: z.array(z.string()),
  /** A digit a column: whether it holds differences. */
  modes: z.string().regex(/^[01]*$/),
});
type Names = z.infer<typeof Names>;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeFrames(frames: readonly Frame[]): Uint8Array<ArrayBuffer> {
  const heads = createDictionary<Head>();
  const layouts = createDictionary<string>();
  const layoutByIndex: Layout[] = [];
  const numbersOf = COLUMNS.map((): number[] => []);
  const [head, seq, count, time, layout, size, clientSeq, ordinal, nextStep] = numbersOf as NineColumns;
  const framesByLayout: Frame[][] = [];
  const rest: Uint8Array[] = [];
  for (const frame of frames) {
    const { kind, version, run, client, encoding, payload } = frame;
    const has: Head["has"] = [frame.clientSeq !== null, frame.ordinal !== null, frame.nextStep !== null];
    const common = { kind, version, run, client, encoding, has };
    head.push(heads.put(`${kind} ${version} ${encoding} ${has.join()} ${run}\n${client}`, common));
    seq.push(frame.seq);
    count.push(frame.count);
    time.push(frame.time);
    if (frame.clientSeq !== null) clientSeq.push(frame.clientSeq);
    if (frame.ordinal !== null) ordinal.push(frame.ordinal);
    if (frame.nextStep !== null) nextStep.push(frame.nextStep);
    const found = isColumns(frame) ? layoutOf(payload) : undefined;
    const index = found === undefined ? -1 : layouts.put(found.text, found.text);
    layout.push(index);
    if (found) {
      layoutByIndex[index] ??= found;
      (framesByLayout[index] ??= []).push(frame);
    }
    const bytes = found ? payload.subarray(found.start + 8 * found.floats) : payload;
    size.push(bytes.length);
    if (bytes.length > 0) rest.push(bytes);
  }
  const columns: Float64Array[] = numbersOf.map((numbers) => Float64Array.from(numbers));
  layoutByIndex.forEach((layout, index) => columns.push(...gather(layout, framesByLayout[index]!)));
  let modes = "";
  for (const column of columns) modes += toDifferences(column) ? "1" : "0";
  const names: Names = { heads: heads.values, layouts: layouts.values, modes };
  const numbers = joined(columns);
  const planes = toPlanes(numbers);
  const body = concat([
    Uint8Array.from(new Uint8Array(new Uint32Array([MARK, frames.length]).buffer)),
    ...packSection(encoder.encode(JSON.stringify(names))),
    ...packSection(concat(rest)),
    ...planes.flatMap(packSection),
  ]);
  for (const memory of [...columns, numbers, ...planes]) release(memory);
  return body;
}

/** Of each entry; the last three only where it has them. */
const COLUMNS = ["head", "seq", "count", "time", "layout", "size", "clientSeq", "ordinal", "nextStep"];
type NineColumns = [
  head: number[],
  seq: number[],
  count: number[],
  time: number[],
  layout: number[],
  size: number[],
  clientSeq: number[],
  ordinal: number[],
  nextStep: number[],
];

/** Each column of a layout, with the numbers of all entries that have it. */
function gather({ start, floats, lengths }: Layout, frames: readonly Frame[]): Float64Array[] {
  const columns = lengths.map((length) => new Float64Array(length * frames.length));
  frames.forEach(({ payload }, index) => {
    const bytes = payload.byteOffset % 8 === 0 ? payload : new Uint8Array(payload);
    const numbers = new Float64Array(bytes.buffer, bytes.byteOffset + start, floats);
    let at = 0;
    lengths.forEach((length, column) => {
      columns[column]!.set(numbers.subarray(at, at + length), index * length);
      at += length;
    });
  });
  return columns;
}

/** Throws a CollectorError ("invalid", "too-large") for whatever `encodeFrames` does not give. */
export function decodeFrames(bytes: Uint8Array): Frame[] {
  if (bytes.length > MAX_BODY_BYTES) throw tooLarge(`${bytes.length} bytes`);
  if (bytes.length < 8) throw foreign();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MARK) throw foreign();
  const length = view.getUint32(4, true);
  if (length > MAX_FRAMES) throw tooLarge(`more than ${MAX_FRAMES} entries`);
  try {
    return read(bytes, length);
  } catch (error) {
    if (error instanceof Unreadable) throw broken(error.message);
    throw error;
  }
}

function read(bytes: Uint8Array, length: number): Frame[] {
  const sections = createSectionReader(bytes, 8, MAX_BODY_BYTES);
  const names = readNames(sections.next());
  const rest = sections.next();
  const planes = Array.from({ length: PLANES }, () => sections.next());
  sections.end();
  if (planes.some((plane) => plane.length !== planes[0]!.length))
    throw new Unreadable("its planes are of different sizes");
  const numbers = fromPlanes(planes);
  const takeColumn = columnsOf(numbers, names.modes);

  const [head, seq, count, time, layout, size] = Array.from({ length: 6 }, () => takeColumn(length));
  const heads = Array.from({ length }, (_, index) => names.heads[head![index]!] ?? fail("a name is missing"));
  const [clientSeq, ordinal, nextStep] = [0, 1, 2].map((which) => {
    const numbers = takeColumn(heads.reduce((sum, { has }) => sum + (has[which] ? 1 : 0), 0));
    let at = 0;
    return (index: number) => (heads[index]!.has[which] ? numbers[at++]! : null);
  });
  const payloadOf = payloadsOf(names.layouts, layout!, takeColumn);
  let at = 0;
  const frames = heads.map(({ has: _, ...common }, index): Frame => {
    const end = at + size![index]!;
    if (!(end >= at && end <= rest.length)) throw new Unreadable("it ends in the middle");
    const bytes = rest.subarray(at, end);
    at = end;
    return checked(index, {
      seq: seq![index]!,
      ...common,
      clientSeq: clientSeq!(index),
      ordinal: ordinal!(index),
      nextStep: nextStep!(index),
      count: count![index]!,
      time: time![index]!,
      payload: payloadOf(index, bytes),
    });
  });
  if (at !== rest.length) throw new Unreadable("something follows its end");
  takeColumn.end();
  release(numbers);
  return frames;
}

function readNames(bytes: Uint8Array): Names {
  let json: unknown;
  try {
    json = JSON.parse(decoder.decode(bytes));
  } catch {
    throw new Unreadable("its names are not JSON");
  }
  const parsed = Names.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new Unreadable(`its ${path.at(-1)?.toString() ?? "names"}: ${message}`);
}

function columnsOf(numbers: Float64Array, modes: string) {
  let at = 0;
  let index = 0;
  const take = (length: number): Float64Array => {
    if (length > numbers.length - at) throw new Unreadable("it lacks numbers");
    const column = numbers.subarray(at, at + length);
    at += length;
    if (modes[index++] === "1") fromDifferences(column);
    return column;
  };
  return Object.assign(take, {
    end() {
      if (at !== numbers.length || index !== modes.length) throw new Unreadable("it has too many numbers");
    },
  });
}

/** Puts payloads together again, given what follows their columns. */
function payloadsOf(
  texts: readonly string[],
  layoutOfFrame: Float64Array,
  takeColumn: (length: number) => Float64Array,
): (frame: number, rest: Uint8Array) => Uint8Array {
  const used = texts.map(() => 0);
  for (const index of layoutOfFrame) {
    if (index === -1) continue;
    if (used[index] === undefined) throw new Unreadable("a layout is missing");
    used[index]!++;
  }
  const layouts = texts.map((text, index) => {
    const layout = layoutOfText(text) ?? fail("a layout makes no sense");
    return { layout, columns: layout.lengths.map((length) => takeColumn(length * used[index]!)), next: 0 };
  });
  return (frame, rest) => {
    const found = layouts[layoutOfFrame[frame]!];
    // The body's own memory goes on: nobody may change it, and it is not kept.
    if (!found) return rest;
    const { start, floats, lengths, text } = found.layout;
    const payload = new Uint8Array(start + 8 * floats + rest.length);
    payload.set(headerOf(text));
    const numbers = new Float64Array(payload.buffer, start, floats);
    let at = 0;
    lengths.forEach((length, column) => {
      const from = found.next * length;
      numbers.set(found.columns[column]!.subarray(from, from + length), at);
      at += length;
    });
    found.next++;
    payload.set(rest, start + 8 * floats);
    return payload;
  };
}

/** The names were checked with their heads. */
function checked(index: number, frame: Frame): Frame {
  const { seq, clientSeq, ordinal, nextStep, count, time } = frame;
  const wrong =
    !isCount(seq) || !isCount(count)
      ? "seq or count"
      : (clientSeq !== null && !Number.isSafeInteger(clientSeq)) ||
          (ordinal !== null && !Number.isSafeInteger(ordinal))
        ? "clientSeq or ordinal"
        : !Number.isFinite(time) || (nextStep !== null && !Number.isFinite(nextStep))
          ? "time or nextStep"
          : undefined;
  if (wrong !== undefined) throw new Unreadable(`the ${wrong} of entry ${index} is none`);
  return frame;
}

const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;

const fail = (why: string): never => {
  throw new Unreadable(why);
};

/** Values by their keys, in the order of their coming. */
function createDictionary<T>() {
  const indexByKey = new Map<string, number>();
  const values: T[] = [];
  return {
    values,
    put(key: string, value: T): number {
      let index = indexByKey.get(key);
      if (index === undefined) {
        index = values.length;
        indexByKey.set(key, index);
        values.push(value);
      }
      return index;
    },
  };
}

function joined(columns: readonly Float64Array[]): Float64Array {
  const numbers = new Float64Array(columns.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const column of columns) {
    numbers.set(column, at);
    at += column.length;
  }
  return numbers;
}

function concat(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Bounds a batch while it is gathered: as if its heads were said with each entry. */
export const frameBytes = ({ run, client, payload }: Frame): number =>
  160 + run.length + (client?.length ?? 0) + payload.length;

/** Not of the entries: they may be packed, and the header that says so lost on the way. */
const foreign = () =>
  new CollectorError("invalid", "The body can't be read: it is no body of entries.", {
    hint: "Send entries as the relay's contract says, with the Content-Encoding that they have.",
  });

const broken = (why: string) =>
  new CollectorError("invalid", `The body can't be read: ${why}.`, {
    hint: "Send entries as the relay's contract says.",
    details: { body: UNREADABLE },
  });

const tooLarge = (what: string) =>
  new CollectorError("too-large", `A body of ${what} is too large.`, { hint: "Send it in parts." });
