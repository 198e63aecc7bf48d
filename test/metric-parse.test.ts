import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { CollectorError } from "../src/error.ts";
import { packBatch, toRecords, unpackBatch } from "../src/metric/batch.ts";
import { parseRecords } from "../src/metric/parse.ts";
import { AppendRecords } from "../src/metric/schema.ts";

function accepts(body: unknown): boolean {
  try {
    parseRecords(body);
    return true;
  } catch (error) {
    if (error instanceof CollectorError && error.code === "invalid") return false;
    throw error;
  }
}

const good = { client: "c1", seq: 1, items: [{ step: 0, time: 5, metrics: { loss: 0.5 } }] };
const withItem = (item: unknown) => ({ ...good, items: [good.items[0], item] });
const withValue = (value: unknown) => withItem({ metrics: { loss: value } });

const cases: [name: string, body: unknown, accepted: boolean][] = [
  ["a plain batch", good, true],
  ["no items", { ...good, items: [] }, true],
  ["unknown fields", { ...good, colour: "red" }, true],
  ["a list", [], false],
  ["null", null, false],
  ["a client of another alphabet", { ...good, client: "a/b" }, false],
  ["an empty client", { ...good, client: "" }, false],
  ["a client of 129 characters", { ...good, client: "c".repeat(129) }, false],
  ["seq 0", { ...good, seq: 0 }, false],
  ["seq 1.5", { ...good, seq: 1.5 }, false],
  ["seq 2^53", { ...good, seq: 2 ** 53 }, false],
  ["seq as text", { ...good, seq: "1" }, false],
  ["rank 7", { ...good, rank: 7 }, true],
  ["rank null", { ...good, rank: null }, false],
  ["rank -1", { ...good, rank: -1 }, false],
  ["a rank above a million", { ...good, rank: 1_000_001 }, false],
  ["items missing", { client: "c", seq: 1 }, false],
  ["an item that is a list", withItem([]), false],
  ["an item without metrics", withItem({ step: 1 }), false],
  ["metrics as a list", withItem({ metrics: [1] }), false],
  ["no metrics in a record", withItem({ metrics: {} }), true],
  ["step -3.5", withItem({ step: -3.5, metrics: {} }), true],
  ["step 1e308", withItem({ step: 1e308, metrics: {} }), false],
  ["step 2^53", withItem({ step: 2 ** 53, metrics: {} }), false],
  ["step null", withItem({ step: null, metrics: {} }), false],
  ["step NaN", withItem({ step: NaN, metrics: {} }), false],
  ["a negative time", withItem({ time: -1, metrics: {} }), false],
  ["a time after the year 9999", withItem({ time: 253_402_300_800_000, metrics: {} }), false],
  ["x as a name", withItem({ x: "epoch", metrics: {} }), true],
  ["x as names", withItem({ x: ["a", "b"], metrics: {} }), true],
  ["x as an empty list", withItem({ x: [], metrics: {} }), true],
  ["x as an empty name", withItem({ x: "", metrics: {} }), false],
  ["17 x axes", withItem({ x: Array(17).fill("a"), metrics: {} }), false],
  ["x as a number", withItem({ x: 3, metrics: {} }), false],
  ["an empty key", withItem({ metrics: { "": 1 } }), false],
  ["a key of 500 characters", withItem({ metrics: { ["k".repeat(500)]: 1 } }), true],
  ["a key of 501 characters", withItem({ metrics: { ["k".repeat(501)]: 1 } }), false],
  ["a key with a newline", withItem({ metrics: { "a\nb": 1 } }), false],
  ["a key with U+0085", withItem({ metrics: { "a\u0085b": 1 } }), false],
  ["a key with half a surrogate pair", withItem({ metrics: { "a\ud800": 1 } }), false],
  ["a key in Greek with an emoji", withItem({ metrics: { "σ🙂": 1 } }), true],
  ["a key named constructor", withItem({ metrics: { constructor: 1 } }), true],
  [
    "10,001 keys",
    withItem({ metrics: Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`k${i}`, 1])) }),
    false,
  ],
  ["NaN as text", withValue("NaN"), true],
  ["-Infinity as text", withValue("-Infinity"), true],
  ["NaN itself", withValue(NaN), false],
  ["Infinity itself", withValue(JSON.parse("1e400")), false],
  ["text", withValue("hello"), true],
  ["null", withValue(null), true],
  ["true", withValue(true), true],
  ["nested JSON", withValue({ a: [1, { b: null }] }), true],
  ["nested NaN", withValue([NaN]), false],
  ["undefined", withValue(undefined), false],
  ["a bigint", withValue(3n), false],
];

test.each(cases)("%s: parser and schema agree", (_name, body, accepted) => {
  expect({ parser: accepts(body), schema: AppendRecords.safeParse(body).success }).toEqual({
    parser: accepted,
    schema: accepted,
  });
});

const oneOf = fc.oneof;
const key = oneOf(
  fc.constantFrom("loss", "acc", "", "a\tb", "a/b", "toString"),
  fc.string({ unit: "binary", maxLength: 8 }),
).filter((text) => text !== "__proto__");
const odd = fc.constantFrom<unknown>(
  null,
  true,
  -1,
  0,
  1,
  1.5,
  2 ** 53,
  1e308,
  NaN,
  Infinity,
  "",
  "x",
  [],
  {},
  ["a"],
);
const item = fc.record(
  {
    step: oneOf({ weight: 4, arbitrary: fc.integer() }, { weight: 1, arbitrary: odd }),
    time: oneOf({ weight: 4, arbitrary: fc.nat() }, { weight: 1, arbitrary: odd }),
    x: oneOf(key, fc.array(key, { maxLength: 18 }), odd),
    metrics: oneOf(
      {
        weight: 8,
        arbitrary: fc.dictionary(key, oneOf(fc.double(), fc.jsonValue(), fc.constantFrom("NaN", "Infinity"))),
      },
      { weight: 1, arbitrary: odd },
    ),
  },
  { requiredKeys: [] },
);
const body = fc.record(
  {
    client: oneOf({ weight: 6, arbitrary: fc.constant("client-1") }, { weight: 1, arbitrary: odd }),
    seq: oneOf({ weight: 6, arbitrary: fc.integer({ min: 1 }) }, { weight: 1, arbitrary: odd }),
    rank: oneOf({ weight: 6, arbitrary: fc.nat(9) }, { weight: 1, arbitrary: odd }),
    items: oneOf(
      {
        weight: 8,
        arbitrary: fc.array(oneOf({ weight: 9, arbitrary: item }, { weight: 1, arbitrary: odd }), {
          maxLength: 6,
        }),
      },
      { weight: 1, arbitrary: odd },
    ),
  },
  { requiredKeys: ["client", "seq", "items"] },
);

test("parser and schema accept the same bodies", () => {
  let accepted = 0;
  fc.assert(
    fc.property(body, (body) => {
      const ours = accepts(body);
      if (ours) accepted++;
      expect(ours).toBe(AppendRecords.safeParse(body).success);
    }),
    { numRuns: 3000 },
  );
  expect(accepted).toBeGreaterThan(100);
});

const value = oneOf(
  fc.double({ noDefaultInfinity: true, noNaN: true }),
  fc.constantFrom("NaN", "-Infinity"),
  fc.jsonValue(),
);
const goodKey = fc.constantFrom("loss", "acc", "lr", "val/loss", "__proto__", "7");
const goodItem = fc
  .tuple(fc.integer(), fc.nat(), fc.option(goodKey), fc.array(fc.tuple(goodKey, value), { maxLength: 5 }))
  .map(([step, time, x, metrics]) => ({
    step,
    time,
    ...(x === null ? {} : { x }),
    metrics: JSON.parse(
      `{${[...new Map(metrics)].map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join()}}`,
    ) as object,
  }));

test("a batch comes back from its packed form as the records it was made of", () => {
  fc.assert(
    fc.property(fc.array(goodItem, { maxLength: 40 }), (items) => {
      const { batch } = parseRecords({ client: "c", seq: 1, rank: 3, items });
      const packed = packBatch(batch);
      // As a pooled buffer may hand it out.
      const misaligned = Buffer.concat([Buffer.alloc(3), packed]).subarray(3);
      expect(toRecords(unpackBatch(misaligned, 17))).toEqual(toRecords(unpackBatch(packed, 17)));
      const again = unpackBatch(packed, 17);
      const records = toRecords(again);
      const expected = items.map(({ x, ...item }: any, i) => ({
        ...item,
        ordinal: 17 + i,
        ...(x ? { x: [x] } : {}),
      }));
      // -0 is 0 to JSON.stringify, and the order of keys is no part of a record.
      const sorted = (list: object[]) =>
        list.map((record: any) => ({
          ...record,
          metrics: Object.entries(record.metrics).sort(([a], [b]) => (a < b ? -1 : 1)),
        }));
      expect(
        JSON.stringify(sorted(records).map((r: any) => [r.ordinal, r.step, r.time, r.x, r.metrics])),
      ).toBe(JSON.stringify(sorted(expected).map((r: any) => [r.ordinal, r.step, r.time, r.x, r.metrics])));
    }),
  );
});
