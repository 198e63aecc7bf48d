import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { BATCH_BYTES, MAX_BODY_BYTES, type Frame } from "../src/relay/contract.ts";
import { decodeFrames, encodeFrames, frameBytes } from "../src/relay/frame.ts";

const frame = (more: Partial<Frame> = {}): Frame => ({
  seq: 7,
  kind: "metric.appended",
  version: 1,
  run: "brave-otter",
  client: "c1",
  clientSeq: 3,
  ordinal: 20,
  nextStep: 30,
  count: 10,
  time: 1_700_000_000_000.5,
  encoding: 3,
  payload: Uint8Array.from([1, 2, 3]),
  ...more,
});

const anyFrame: fc.Arbitrary<Frame> = fc.record({
  seq: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  kind: fc.string({ maxLength: 64 }),
  version: fc.integer({ min: 1, max: 1000 }),
  run: fc.string({ unit: "grapheme", maxLength: 40 }),
  client: fc.option(fc.string({ unit: "binary", maxLength: 40 })),
  clientSeq: fc.option(fc.integer()),
  ordinal: fc.option(fc.nat()),
  nextStep: fc.option(fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0)),
  count: fc.nat(),
  time: fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
  encoding: fc.integer({ min: 0, max: 3 }),
  payload: fc.uint8Array({ maxLength: 300 }),
});

const refusalOf = (bytes: Uint8Array): string => {
  try {
    decodeFrames(bytes);
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`;
  }
  return "none";
};

describe("entries on the wire", () => {
  test("come out as they went in, whatever they hold", () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 20 }), (frames) => {
        expect(decodeFrames(encodeFrames(frames))).toEqual(frames);
      }),
    );
  });

  test("nothing is no entries", () => expect(decodeFrames(new Uint8Array(0))).toEqual([]));

  test("a body cut anywhere but between two entries is refused", () => {
    const frames = [frame(), frame({ seq: 8, payload: new Uint8Array(40) })];
    const whole = encodeFrames(frames);
    const first = encodeFrames(frames.slice(0, 1)).length;
    for (let length = 1; length < whole.length; length++) {
      const refusal = refusalOf(whole.slice(0, length));
      if (length === first) expect(refusal).toBe("none");
      else expect(refusal).toStartWith("invalid:");
    }
  });

  test("whatever bytes are refused in words, and never more is read than there is", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 400 }), (bytes) => {
        expect(refusalOf(bytes)).toMatch(/^(invalid|too-large): \S/);
      }),
    );
  });

  test("an entry's head is checked, and its fault named", () => {
    const refused = (more: Record<string, unknown>) => refusalOf(encodeFrames([frame(), frame(more)]));
    expect(refused({ seq: -1 })).toContain("Entry 1 of the body can't be read: its seq");
    expect(refused({ encoding: 9 })).toContain("its encoding");
    expect(refused({ run: "x".repeat(301) })).toContain("its run");
    expect(refused({ kind: 5 })).toContain("its kind");
    expect(refused({ time: "now" })).toContain("its time");
    expect(refused({ client: "x".repeat(20_000) })).toContain("its head is too long");
    const noJson = encodeFrames([frame()]);
    noJson[8] = 0xff;
    expect(refusalOf(noJson)).toContain("its head is not JSON");
  });

  test("too many entries, and too many bytes, are too large", () => {
    expect(refusalOf(encodeFrames(Array(20_001).fill(frame({ payload: new Uint8Array(0) }))))).toStartWith(
      "too-large:",
    );
    expect(refusalOf(new Uint8Array(MAX_BODY_BYTES + 1))).toStartWith("too-large:");
  });

  test("a batch gathered by estimate stays near its bound", () => {
    const small = frame({ run: "r".repeat(300), client: "c".repeat(300), payload: new Uint8Array(0) });
    expect(encodeFrames([small]).length).toBeLessThan(1.2 * frameBytes(small));
    const large = frame({ payload: new Uint8Array(BATCH_BYTES) });
    expect(encodeFrames([large]).length).toBeLessThan(1.01 * frameBytes(large));
  });
});
