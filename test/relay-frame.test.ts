import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { MAX_BODY_BYTES, type Frame } from "../src/relay/contract.ts";
import { Encoding } from "../src/entry.ts";
import { packBatch, type MetricBatch } from "../src/metric/batch.ts";
import { decodeFrames, encodeFrames } from "../src/relay/frame.ts";

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

  test("records come out byte by byte, whatever numbers they hold, together with entries of all kinds", () => {
    const number = fc.oneof(
      fc.double(),
      fc.integer().map(Number),
      fc.constantFrom(NaN, -0, Infinity, -Infinity, 5e-324, Number.MAX_VALUE),
    );
    const batch = fc
      .record({
        ordinal: fc.nat(),
        rank: fc.nat({ max: 3 }),
        rows: fc.array(fc.array(number, { minLength: 4, maxLength: 4 }), { minLength: 1, maxLength: 12 }),
        sparse: fc.boolean(),
        axes: fc.boolean(),
        text: fc.option(fc.string()),
      })
      .map(({ ordinal, rank, rows, sparse, axes, text }): MetricBatch => {
        const column = (of: number) => Float64Array.from(rows, (row) => row[of]!);
        const values = column(3);
        return {
          ordinal,
          rank,
          count: rows.length,
          step: column(0),
          time: column(1),
          numbers: [
            { key: "loss", index: null, values: column(2) },
            sparse && rows.length > 1
              ? { key: "é\u0000", index: Uint32Array.of(1), values: values.slice(0, 1) }
              : { key: "accuracy", index: null, values },
          ],
          texts:
            text === null ? [] : [{ key: "note", index: Uint32Array.of(0), json: [JSON.stringify(text)] }],
          axes: axes ? [{ keys: ["epoch"], index: null }] : [],
        };
      });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(batch, fc.uint8Array({ maxLength: 60 })), { maxLength: 12 }),
        (payloads) => {
          const frames = payloads.map((payload, at) =>
            frame({
              seq: 100 + at,
              clientSeq: at,
              encoding: Encoding.columns,
              payload: payload instanceof Uint8Array ? payload : packBatch(payload),
            }),
          );
          expect(decodeFrames(encodeFrames(frames))).toEqual(frames);
        },
      ),
    );
  });

  test("a payload that only looks like records stays what it is", () => {
    const packed = packBatch({
      ordinal: 0,
      rank: 0,
      count: 1,
      step: Float64Array.of(1),
      time: Float64Array.of(2),
      numbers: [{ key: "loss", index: null, values: Float64Array.of(3) }],
      texts: [],
      axes: [],
    });
    const lie = new TextDecoder().decode(packed).replace('["loss",1]', '["loss",9]');
    const payloads = [
      packed,
      packed.slice(0, -8),
      packed.slice(0, 20),
      Uint8Array.of(...packed, 1, 2, 3),
      new TextEncoder().encode(lie),
      Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1),
      Uint8Array.of(4, 0, 0, 0, ...new TextEncoder().encode("null")),
    ];
    const frames = payloads.map((payload) => frame({ encoding: Encoding.columns, payload }));
    expect(decodeFrames(encodeFrames(frames))).toEqual(frames);
  });

  test("nothing is no entries", () => expect(decodeFrames(encodeFrames([]))).toEqual([]));

  test("a body cut anywhere, or with more behind it, is refused", () => {
    const whole = encodeFrames([frame(), frame({ seq: 8, payload: new Uint8Array(40) })]);
    for (let length = 0; length < whole.length; length++)
      expect(refusalOf(whole.slice(0, length))).toStartWith("invalid:");
    expect(refusalOf(Uint8Array.of(...whole, 0))).toStartWith("invalid:");
  });

  test("whatever bytes are refused in words, and never more is read than there is", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 400 }), (bytes) => {
        expect(refusalOf(bytes)).toMatch(/^(invalid|too-large): \S/);
      }),
    );
    const whole = encodeFrames([frame(), frame({ seq: 8, run: "b", payload: new Uint8Array(400) })]);
    fc.assert(
      fc.property(fc.nat({ max: whole.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
        const bent = whole.slice();
        bent[at] = byte;
        expect(refusalOf(bent)).toMatch(/^(none$|(invalid|too-large): \S)/);
      }),
      { numRuns: 2000 },
    );
  });

  test("what unpacks to more than a body may hold is refused before it takes the memory", () => {
    const bomb = encodeFrames([frame({ payload: new Uint8Array(MAX_BODY_BYTES + 1) })]);
    expect(bomb.length).toBeLessThan(10_000);
    expect(refusalOf(bomb)).toBe("invalid: The body can't be read: it unpacks to too much.");
    // A section that says less than it is.
    const liar = encodeFrames([frame({ payload: new Uint8Array(60 * 1024 * 1024) })]);
    const view = new DataView(liar.buffer);
    const rest = 16 + (view.getUint32(12, true) & 0x7fff_ffff);
    expect(view.getUint32(rest, true)).toBe(60 * 1024 * 1024);
    view.setUint32(rest, 1000, true);
    const before = process.memoryUsage().rss;
    expect(refusalOf(liar)).toBe("invalid: The body can't be read: a part of it does not unpack.");
    expect(process.memoryUsage().rss - before).toBeLessThan(20 * 1024 * 1024);
  });

  test("an entry's head is checked, and its fault named", () => {
    const refused = (more: Record<string, unknown>) => refusalOf(encodeFrames([frame(), frame(more)]));
    expect(refused({ seq: -1 })).toContain("the seq or count of entry 1");
    expect(refused({ seq: 1.5 })).toContain("the seq or count of entry 1");
    expect(refused({ count: NaN })).toContain("the seq or count of entry 1");
    expect(refused({ ordinal: 0.5 })).toContain("the clientSeq or ordinal of entry 1");
    expect(refused({ time: Infinity })).toContain("the time or nextStep of entry 1");
    expect(refused({ encoding: 9 })).toContain("its encoding");
    expect(refused({ run: "x".repeat(301) })).toContain("its run");
    expect(refused({ kind: 5 })).toContain("its kind");
  });

  test("too many entries, and too many bytes, are too large", () => {
    expect(refusalOf(encodeFrames(Array(20_001).fill(frame({ payload: new Uint8Array(0) }))))).toStartWith(
      "too-large:",
    );
    expect(refusalOf(new Uint8Array(MAX_BODY_BYTES + 1))).toStartWith("too-large:");
  });

  test("a record that came alone costs little more than one of many", () => {
    let loss = 2.5;
    const alone = (at: number) =>
      packBatch({
        ordinal: at,
        rank: 0,
        count: 1,
        step: Float64Array.of(at),
        time: Float64Array.of(1_700_000_000_000 + 7 * at),
        numbers: Array.from({ length: 10 }, (_, metric) => ({
          key: `metric_${metric}`,
          index: null,
          values: Float64Array.of((loss += Math.sin(at * 7.3 + metric) / 100)),
        })),
        texts: [],
        axes: [],
      });
    const frames = Array.from({ length: 1000 }, (_, at) =>
      frame({
        seq: at,
        client: `client-${(at * 13) % 64}`,
        clientSeq: at >> 6,
        ordinal: at,
        nextStep: at + 1,
        count: 1,
        time: 1_700_000_000_000 + 7 * at,
        encoding: Encoding.columns,
        payload: alone(at),
      }),
    );
    expect(encodeFrames(frames).length / 10_000).toBeLessThan(7.5);
  });
});
