/** Entries as bytes: u32 length of the head, u32 length of the payload (little-endian), the head as JSON, the payload; again and again. */
import type { z } from "zod";
import { CollectorError } from "../error.ts";
import { sayIssue } from "../issue.ts";
import { FrameHead, MAX_BODY_BYTES, type Frame } from "./contract.ts";

const PREFIX_BYTES = 8;
/** Names of 300 characters, each of which JSON may write as six. */
const MAX_HEAD_BYTES = 8 * 1024;
/** Far above what anybody sends at once: bounds what a body of nothing but heads costs. */
const MAX_FRAMES = 20_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeFrames(frames: readonly Frame[]): Uint8Array<ArrayBuffer> {
  const heads = frames.map(encodeHead);
  const size = frames.reduce(
    (sum, { payload }, at) => sum + PREFIX_BYTES + heads[at]!.length + payload.length,
    0,
  );
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  frames.forEach(({ payload }, index) => {
    const head = heads[index]!;
    view.setUint32(at, head.length, true);
    view.setUint32(at + 4, payload.length, true);
    bytes.set(head, at + PREFIX_BYTES);
    bytes.set(payload, at + PREFIX_BYTES + head.length);
    at += PREFIX_BYTES + head.length + payload.length;
  });
  return bytes;
}

/** Always the same members in the same order: heads that follow each other are almost alike, and zstd sees it. */
const encodeHead = (frame: Frame): Uint8Array =>
  encoder.encode(
    JSON.stringify({
      seq: frame.seq,
      kind: frame.kind,
      version: frame.version,
      run: frame.run,
      client: frame.client,
      clientSeq: frame.clientSeq,
      ordinal: frame.ordinal,
      nextStep: frame.nextStep,
      count: frame.count,
      time: frame.time,
      encoding: frame.encoding,
    }),
  );

/** What `encodeFrames` makes of it, or a little less: bounds a batch while it is gathered. */
export const frameBytes = ({ run, client, payload }: Frame): number =>
  PREFIX_BYTES + 160 + run.length + (client?.length ?? 0) + payload.length;

/** Throws a CollectorError ("invalid", "too-large") for whatever is no sequence of whole frames. Payloads are views of `bytes`. */
export function decodeFrames(bytes: Uint8Array): Frame[] {
  if (bytes.length > MAX_BODY_BYTES) throw tooLarge(`${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: Frame[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (frames.length >= MAX_FRAMES) throw tooLarge(`more than ${MAX_FRAMES} entries`);
    if (bytes.length - at < PREFIX_BYTES) throw broken(frames.length, "it ends in the middle");
    const headBytes = view.getUint32(at, true);
    const payloadBytes = view.getUint32(at + 4, true);
    at += PREFIX_BYTES;
    if (headBytes > MAX_HEAD_BYTES) throw broken(frames.length, "its head is too long");
    if (headBytes + payloadBytes > bytes.length - at) throw broken(frames.length, "it ends in the middle");
    const head = decodeHead(bytes.subarray(at, at + headBytes), frames.length);
    at += headBytes;
    frames.push({ ...head, payload: bytes.subarray(at, at + payloadBytes) });
    at += payloadBytes;
  }
  return frames;
}

function decodeHead(bytes: Uint8Array, index: number): z.infer<typeof FrameHead> {
  let json: unknown;
  try {
    json = JSON.parse(decoder.decode(bytes));
  } catch {
    throw broken(index, "its head is not JSON");
  }
  const parsed = FrameHead.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw broken(index, `its ${issue.path.join(".") || "head"} ${sayIssue(issue)}`);
}

const broken = (index: number, why: string) =>
  new CollectorError("invalid", `Entry ${index} of the body can't be read: ${why}.`, {
    hint: "Send entries as the relay's contract says.",
  });

const tooLarge = (what: string) =>
  new CollectorError("too-large", `A body of ${what} is too large.`, { hint: "Send it in parts." });
